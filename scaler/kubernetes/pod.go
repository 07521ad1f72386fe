package kubernetes

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	corev1 "k8s.io/api/core/v1"

	"sluice/scaler"
)

// failing are the reasons for which a container waits that time alone does not mend.
var failing = map[string]bool{
	"CrashLoopBackOff": true, "ImagePullBackOff": true, "ErrImagePull": true, "ErrImageNeverPull": true, "InvalidImageName": true,
	"ImageInspectError": true, "RegistryUnavailable": true, "CreateContainerConfigError": true, "CreateContainerError": true, "RunContainerError": true,
}

// endedMemory is how long a pod that ended for good (evicted, lost with its node) is listed as failed. The controller
// has made another by then, and the remains stay until Kubernetes collects them.
const endedMemory = time.Minute

// replicas are the pods as the loop sees them, and what is to be said of them. spec is how many there should be.
func (w workload) replicas(pods []corev1.Pod, spec int, now time.Time) ([]scaler.Replica, []string) {
	newest := revisionOf(pods)
	// Those of the newest revision first: what a rollout has too many of is what is on its way out.
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int {
		return cmp.Or(order(b.Labels[revisionLabel] == newest, a.Labels[revisionLabel] == newest),
			a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(ordinal(&a), ordinal(&b)), cmp.Compare(a.Name, b.Name))
	})
	rollout := w.rollingOut(pods, newest)
	var notes []string
	if rollout {
		notes = append(notes, "a rollout of "+w.String()+" is under way: nothing is scaled down until it ends")
	}

	var all []scaler.Replica
	top, live := -1, 0
	for i := range pods {
		pod := &pods[i]
		r := scaler.Replica{ID: serverID(string(pod.UID)), Addr: addrOf(pod), Fixed: rollout}
		why, waits := trouble(pod)
		switch {
		case ended(pod):
			if now.Sub(endOf(pod)) > endedMemory {
				continue
			}
			r.State, r.Reason = scaler.ReplicaFailed, why
		case pod.DeletionTimestamp != nil:
			r.State = scaler.ReplicaStopping
		case why != "":
			r.State, r.Reason = scaler.ReplicaFailed, why
		case rollout && live >= spec:
			r.State = scaler.ReplicaStopping
		case pod.Status.Phase == corev1.PodRunning:
			r.State = scaler.ReplicaRunning
		default:
			r.State = scaler.ReplicaStarting
		}
		if r.State == scaler.ReplicaRunning || r.State == scaler.ReplicaStarting {
			live++
		}
		if waits != "" {
			notes = append(notes, "pod "+pod.Name+": "+waits)
		}
		if w.kind == statefulSet {
			r.Index, r.Fixed = ordinal(pod)+1, true
			if active(pod) && (top < 0 || r.Index > all[top].Index) {
				top = len(all)
			}
		}
		all = append(all, r)
	}
	if top >= 0 {
		all[top].Fixed = false // the only one that can go
	}
	return all, notes
}

// revisionLabel tells the pods of one ReplicaSet of a Deployment from those of another.
const revisionLabel = "pod-template-hash"

// revisionOf is the revision that a rollout leads to: that of the youngest pod.
func revisionOf(pods []corev1.Pod) string {
	newest, at := "", time.Time{}
	for i := range pods {
		if t := pods[i].CreationTimestamp.Time; active(&pods[i]) && (newest == "" || t.After(at)) {
			newest, at = pods[i].Labels[revisionLabel], t
		}
	}
	return newest
}

// rollingOut reports whether there are pods of several revisions. The Deployment controller then divides every change
// of the number among them: to lower it takes healthy pods of the old revision for failing ones of the new.
func (w workload) rollingOut(pods []corev1.Pod, newest string) bool {
	return w.kind == deployment && slices.ContainsFunc(pods, func(p corev1.Pod) bool { return active(&p) && p.Labels[revisionLabel] != newest })
}

// active is a pod that its controller counts.
func active(pod *corev1.Pod) bool { return pod.DeletionTimestamp == nil && !ended(pod) }

// ended is a pod that will never run again.
func ended(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
}

// endOf is about when a pod ended.
func endOf(pod *corev1.Pod) time.Time {
	end := pod.CreationTimestamp.Time
	for _, c := range pod.Status.Conditions {
		if c.LastTransitionTime.After(end) {
			end = c.LastTransitionTime.Time
		}
	}
	for _, s := range pod.Status.ContainerStatuses {
		if t := s.State.Terminated; t != nil && t.FinishedAt.After(end) {
			end = t.FinishedAt.Time
		}
	}
	return end
}

// trouble says why a pod has failed, or what one that has not yet is waiting for; "" and "" when all is well.
func trouble(pod *corev1.Pod) (failed, waits string) {
	if ended(pod) {
		why := strings.TrimSpace(pod.Status.Reason + " " + pod.Status.Message)
		if last := lastEnd(pod.Status.ContainerStatuses); last != "" && why == "" {
			why = last
		}
		return cmp.Or(oneLine(why), "ended ("+string(pod.Status.Phase)+")"), ""
	}
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
		for i := range statuses {
			s := &statuses[i]
			if s.State.Waiting == nil || !failing[s.State.Waiting.Reason] {
				continue
			}
			why := s.State.Waiting.Reason
			if last := lastEnd(statuses[i : i+1]); last != "" {
				why += ": " + last
			} else if s.State.Waiting.Message != "" {
				why += ": " + s.State.Waiting.Message
			}
			if strings.Contains(why, "mage") {
				why += " (image " + s.Image + ")"
			}
			return oneLine(why), ""
		}
	}
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && active(pod) {
			waits = oneLine(c.Reason + ": " + c.Message)
		}
	}
	return "", waits
}

// lastEnd says how a container last ended.
func lastEnd(statuses []corev1.ContainerStatus) string {
	for _, s := range statuses {
		t := s.LastTerminationState.Terminated
		if s.State.Terminated != nil {
			t = s.State.Terminated
		}
		switch {
		case t == nil:
		case t.Reason == "OOMKilled":
			return "out of memory"
		case t.ExitCode != 0 || t.Reason != "":
			return strings.TrimSpace(fmt.Sprintf("exit status %d %s", t.ExitCode, t.Message))
		}
	}
	return ""
}

// addrOf is where a pod answers when it declares one TCP port; "" otherwise. Discovery knows better.
func addrOf(pod *corev1.Pod) string {
	port := 0
	for _, c := range pod.Spec.Containers {
		for _, p := range c.Ports {
			if p.Protocol != corev1.ProtocolTCP && p.Protocol != "" {
				continue
			}
			if port != 0 {
				return ""
			}
			port = int(p.ContainerPort)
		}
	}
	if port == 0 || pod.Status.PodIP == "" {
		return ""
	}
	return net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(port))
}

// serverID is the ID that discovery gives the server in the pod of that UID.
func serverID(uid string) string {
	id := strings.ReplaceAll(uid, "-", "")
	return id[:min(12, len(id))]
}

// ordinal is the number at the end of the name of a StatefulSet's pod, from 0; -1 when there is none.
func ordinal(pod *corev1.Pod) int {
	n, err := strconv.Atoi(pod.Name[strings.LastIndexByte(pod.Name, '-')+1:])
	if err != nil {
		return -1
	}
	return n
}

// order compares two bools, false first.
func order(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}

// oneLine makes text fit for a reason: one line of printable characters, 300 bytes at most.
func oneLine(text string) string {
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }), " ")
	if len(text) > 300 {
		text = strings.ToValidUTF8(text[:300], "") + "…"
	}
	return text
}
