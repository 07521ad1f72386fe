package kubernetes

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"sluice/scaler"
)

// pod makes a pod "NAME[!][~][*][/REVISION][@AGE]": ! is failing, ~ starting, * being stopped.
func pod(text string) corev1.Pod {
	text, age, _ := strings.Cut(text, "@")
	text, revision, _ := strings.Cut(text, "/")
	name := strings.TrimRight(text, "!~*")
	seconds, _ := strconv.Atoi(age)
	p := corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(strings.ReplaceAll(name, "-", "")), Labels: map[string]string{revisionLabel: revision}, CreationTimestamp: metav1.NewTime(time.Unix(1e6-int64(seconds), 0))},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning},
	}
	if strings.Contains(text, "~") {
		p.Status.Phase = corev1.PodPending
	}
	if strings.Contains(text, "!") {
		p.Status.Phase = corev1.PodPending
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Image: "x:1", State: corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ImagePullBackOff"}}}}
	}
	if strings.Contains(text, "*") {
		p.DeletionTimestamp = &p.CreationTimestamp
	}
	return p
}

func podsOf(text string) (all []corev1.Pod) {
	for name := range strings.FieldsSeq(text) {
		all = append(all, pod(name))
	}
	return all
}

func TestPlan(t *testing.T) {
	for _, one := range []struct {
		what, kind, pods string
		spec, n          int
		victims          string
		want             int
		mark             string
	}{
		{"up", deployment, "a b", 2, 4, "", 4, ""},
		{"nothing to do", deployment, "a b", 2, 2, "", 2, ""},
		{"down", deployment, "a b c d", 4, 2, "c a", 2, "c a"},
		{"down, asked again before they are gone", deployment, "a b c d", 2, 2, "c a", 2, ""},
		{"a victim that is gone", deployment, "a b", 2, 2, "x", 2, ""},
		{"victims do not suffice", deployment, "a b c", 3, 1, "b", 1, "b"},
		{"a broken one is replaced: down first", deployment, "a b c", 3, 3, "b", 2, "b"},
		{"and asked again before it is gone", deployment, "a b c", 2, 3, "b", 3, ""},
		{"and then up", deployment, "a b* c", 2, 3, "", 3, ""},
		{"more are wanted than there are: those first", deployment, "a b c", 3, 5, "b", 5, ""},
		{"what was asked for is not made yet", deployment, "a b", 4, 4, "b", 3, "b"},
		{"failed ones are cleared, and go before victims", deployment, "a b! c", 3, 1, "c", 1, "b c"},
		{"to zero", deployment, "a", 1, 0, "a", 0, "a"},
		{"a rollout that fails: no healthy one goes for it", deployment, "a/1@9 b/1@9 c!/2@1", 3, 2, "", 3, ""},
		{"up in a rollout", deployment, "a/1@9 b/1@9 c~/2@1", 3, 5, "", 5, ""},
		{"from zero", deployment, "", 0, 1, "", 1, ""},
		{"the highest ordinal goes", statefulSet, "w-0 w-1 w-2", 3, 2, "w2", 2, ""},
		{"no other goes for one that failed", statefulSet, "w-0 w-1! w-2", 3, 2, "", 3, ""},
		{"a failed one on top goes", statefulSet, "w-0 w-1 w-2!", 3, 2, "", 2, ""},
		{"fewer than victims allow", statefulSet, "w-0 w-1 w-2", 3, 1, "", 1, ""},
		{"to zero", statefulSet, "w-0", 1, 0, "w0", 0, ""},
		{"up", statefulSet, "w-0", 1, 3, "", 3, ""},
	} {
		p := workload{kind: one.kind, name: "w"}.plan(podsOf(one.pods), one.spec, one.n, strings.Fields(one.victims))
		var mark []string
		for _, pod := range p.mark {
			mark = append(mark, pod.Name)
		}
		if p.replicas != one.want || strings.Join(mark, " ") != one.mark {
			t.Errorf("%s (%s): %d replicas, first %v; want %d, %q", one.what, one.kind, p.replicas, mark, one.want, one.mark)
		}
	}
}

// A cost of ours on a pod that stays is taken away; anybody else's is not.
func TestCostsAreTakenBack(t *testing.T) {
	pods := podsOf("a b c")
	pods[0].Annotations = map[string]string{costAnnotation: strconv.Itoa(math.MinInt32 + 1)}
	pods[1].Annotations = map[string]string{costAnnotation: "-100"}
	p := workload{kind: deployment}.plan(pods, 3, 3, nil)
	if len(p.unmark) != 1 || p.unmark[0].Name != "a" {
		t.Errorf("taken back: %v", p.unmark)
	}
}

func TestReplicas(t *testing.T) {
	for _, one := range []struct {
		what, kind, pods string
		spec             int
		want, notes      string
	}{
		{"all states", deployment, "a/1 b~/1 c*/1 d!/1", 3, "a running, b starting, c stopping, d failed ImagePullBackOff (image x:1)", ""},
		{"a rollout: none is a victim, and what is too many is on its way out", deployment, "a/1@9 b/1@8 c~/2@1", 2, "c starting fixed, a running fixed, b stopping fixed", "rollout"},
		{"a rollout that ends", deployment, "a*/1@9 c/2@1", 1, "c running, a stopping", ""},
		{"a StatefulSet", statefulSet, "w-0@9 w-1@8 w-10~@1", 3, "w0 running 1 fixed, w1 running 2 fixed, w10 starting 11", ""},
		{"a StatefulSet that loses one", statefulSet, "w-0 w-1 w-2*", 2, "w0 running 1 fixed, w1 running 2, w2 stopping 3 fixed", ""},
	} {
		replicas, notes := workload{kind: one.kind, name: "w"}.replicas(podsOf(one.pods), one.spec, time.Unix(1e6, 0))
		var got []string
		for _, r := range replicas {
			text := strings.TrimSpace(r.ID + " " + r.State + " " + r.Reason)
			if r.Index > 0 {
				text += fmt.Sprint(" ", r.Index)
			}
			if r.Fixed {
				text += " fixed"
			}
			got = append(got, text)
		}
		if strings.Join(got, ", ") != one.want || !strings.Contains(strings.Join(notes, " "), one.notes) {
			t.Errorf("%s:\n got %s %q\nwant %s", one.what, strings.Join(got, ", "), notes, one.want)
		}
	}
}

func TestWhyAPodFailed(t *testing.T) {
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	for want, status := range map[string]corev1.PodStatus{
		"ErrImagePull: not found (image x:1)":   {Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{Image: "x:1", State: waiting("ErrImagePull", "not\nfound")}}},
		"CrashLoopBackOff: exit status 3 bang":  {Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{State: waiting("CrashLoopBackOff", "back-off 10s"), LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 3, Message: "bang"}}}}},
		"CrashLoopBackOff: out of memory":       {Phase: corev1.PodRunning, ContainerStatuses: []corev1.ContainerStatus{{State: waiting("CrashLoopBackOff", ""), LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}}}}},
		"CreateContainerConfigError: no Secret": {Phase: corev1.PodPending, InitContainerStatuses: []corev1.ContainerStatus{{State: waiting("CreateContainerConfigError", "no Secret")}}},
		"Evicted The node was low on memory":    {Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on memory"},
		"":                                      {Phase: corev1.PodPending, ContainerStatuses: []corev1.ContainerStatus{{State: waiting("ContainerCreating", "")}}},
	} {
		if got, _ := trouble(&corev1.Pod{Status: status}); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	unschedulable := corev1.PodStatus{Phase: corev1.PodPending, Conditions: []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable", Message: "0/3 nodes are available"}}}
	if why, waits := trouble(&corev1.Pod{Status: unschedulable}); why != "" || waits != "Unschedulable: 0/3 nodes are available" {
		t.Errorf("unschedulable: %q, %q", why, waits)
	}
	old := pod("a@7200")
	old.Status = corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted"}
	if all, _ := (workload{kind: deployment}).replicas([]corev1.Pod{old}, 1, time.Unix(1e6, 0)); len(all) != 0 {
		t.Errorf("a pod that ended hours ago is listed: %+v", all)
	}
	var _ scaler.Driver = (*Driver)(nil)
}

func TestOwner(t *testing.T) {
	owned := func(kind, name, hash string) corev1.Pod {
		return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p", Labels: map[string]string{revisionLabel: hash}, OwnerReferences: []metav1.OwnerReference{{Kind: kind, Name: name, Controller: new(true)}}}}
	}
	for _, one := range []struct {
		pods      []corev1.Pod
		want, err string
	}{
		{nil, "/", ""},
		{[]corev1.Pod{owned("ReplicaSet", "api-6b7c", "6b7c"), owned("ReplicaSet", "api-99aa", "99aa")}, "deployment/api", ""},
		{[]corev1.Pod{owned("StatefulSet", "db", "")}, "statefulset/db", ""},
		{[]corev1.Pod{owned("ReplicaSet", "api-6b7c", "6b7c"), owned("ReplicaSet", "canary-6b7c", "6b7c")}, "/", "deployment/api deployment/canary"},
		{[]corev1.Pod{owned("ReplicaSet", "bare", "")}, "/", "the ReplicaSet bare"},
		{[]corev1.Pod{owned("DaemonSet", "log", "")}, "/", "the DaemonSet log"},
		{[]corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Name: "alone"}}}, "/", "alone belongs to no workload"},
	} {
		w, err := ownerOf(one.pods)
		if w.String() != one.want || (err == nil) != (one.err == "") || err != nil && !strings.Contains(err.Error(), one.err) {
			t.Errorf("%s, %v; want %s, %q", w, err, one.want, one.err)
		}
	}
}
