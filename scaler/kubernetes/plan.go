package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// plan is what one Scale does.
type plan struct {
	replicas int           // to be written
	mark     []*corev1.Pod // to go first, in this order
	unmark   []*corev1.Pod // were to go and are not any more
	down     bool          // fewer than before
}

// costAnnotation is read by the ReplicaSet controller: of pods that are ready alike, the lowest goes first; absent is 0.
// https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#pod-deletion-cost
const costAnnotation = "controller.kubernetes.io/pod-deletion-cost"

// Costs that are ours: lower than what anybody would choose.
const (
	costFirst = math.MinInt32
	costLast  = costFirst + 100000
)

// plan says what to write where spec replicas are asked for now, n are wanted and victims are to go. It goes by the
// pods that are there, and may be carried out any number of times.
//
// A victim that is to be replaced (n is not lower) goes by a lower number first and a higher one with the next call,
// when it is gone. While more are wanted than there are, those come first.
func (w workload) plan(pods []corev1.Pod, spec, n int, victims []string) plan {
	var count, live int // that the controller counts; that the loop counts
	var broken, chosen []*corev1.Pod
	for i := range pods {
		pod := &pods[i]
		if !active(pod) {
			continue
		}
		count++
		switch why, _ := trouble(pod); {
		case slices.Contains(victims, serverID(string(pod.UID))):
			chosen = append(chosen, pod)
			if why == "" {
				live++
			}
		case why != "":
			broken = append(broken, pod)
		default:
			live++
		}
	}
	slices.SortStableFunc(chosen, func(a, b *corev1.Pod) int {
		return cmp.Compare(slices.Index(victims, serverID(string(a.UID))), slices.Index(victims, serverID(string(b.UID))))
	})
	p := plan{replicas: max(n, 0), mark: append(broken, chosen...)}
	if n <= spec {
		leaving := max(count-spec, 0) // what the controller is about to remove already
		p.replicas = max(min(n, spec-max(len(chosen)-leaving, 0)), 0)
	}
	if w.kind == statefulSet {
		p.mark = nil
		if n >= live-len(chosen) { // nobody asked for more than the victims
			p.replicas = max(p.replicas, spec-removable(pods, broken, chosen)-max(spec-count, 0))
		}
	}
	if w.rollingOut(pods, revisionOf(pods)) {
		p.replicas = max(p.replicas, spec)
	}
	p.down = p.replicas < spec
	for i := range pods {
		if pod := &pods[i]; active(pod) && ours(pod) && !slices.Contains(p.mark, pod) {
			p.unmark = append(p.unmark, pod)
		}
	}
	if !p.down {
		p.mark = nil
	}
	return p
}

// removable counts the pods of a StatefulSet, from the highest ordinal on, that are broken or chosen.
func removable(pods []corev1.Pod, broken, chosen []*corev1.Pod) int {
	var all []*corev1.Pod
	for i := range pods {
		if active(&pods[i]) {
			all = append(all, &pods[i])
		}
	}
	slices.SortFunc(all, func(a, b *corev1.Pod) int { return cmp.Compare(ordinal(b), ordinal(a)) })
	for n, pod := range all {
		if !slices.Contains(broken, pod) && !slices.Contains(chosen, pod) {
			return n
		}
	}
	return len(all)
}

// ours reports whether the pod bears a cost that this driver put on it.
func ours(pod *corev1.Pod) bool {
	cost, err := strconv.ParseInt(pod.Annotations[costAnnotation], 10, 64)
	return err == nil && cost <= costLast
}

// setCosts makes the pods that are to go the cheapest, and those that are to stay after all as dear as any.
func (d *Driver) setCosts(ctx context.Context, o Options, p plan) error {
	changed := false
	for i, pod := range p.mark {
		cost := strconv.Itoa(costFirst + min(i, costLast-costFirst))
		if pod.Annotations[costAnnotation] == cost {
			continue
		}
		changed = true
		if err := d.setCost(ctx, o, pod, &cost); err != nil {
			return err
		}
	}
	for _, pod := range p.unmark {
		if err := d.setCost(ctx, o, pod, nil); err != nil {
			return err
		}
	}
	if !changed {
		return nil
	}
	select {
	case <-time.After(costLead):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// setCost writes the annotation of one pod, or removes it. A pod that is gone, or is another by now, is none of ours.
func (d *Driver) setCost(ctx context.Context, o Options, pod *corev1.Pod, cost *string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": pod.UID, "annotations": map[string]*string{costAnnotation: cost}}})
	if err != nil {
		return err
	}
	err = d.cli.PatchPod(ctx, o.Namespace, pod.Name, patch)
	if apierrors.IsNotFound(err) || apierrors.IsInvalid(err) { // invalid: a UID cannot be changed
		return nil
	}
	return d.words(o, workload{}, "set the deletion cost of the pod "+pod.Name, err)
}
