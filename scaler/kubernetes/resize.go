package kubernetes

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

// Allowances is scaler.Resizer's. Of a pod its requests are sized, and its limits with them.
func (d *Driver) Allowances(ctx context.Context) (scaler.Allowances, error) {
	o := d.options()
	w, scale, err := d.look(ctx, o)
	if err != nil {
		return scaler.Allowances{}, err
	}
	pods, err := d.pods(ctx, o, w, scale.Status.Selector)
	if err != nil {
		return scaler.Allowances{}, err
	}
	var all scaler.Allowances
	for i := range pods {
		pod := &pods[i]
		if !active(pod) || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		c, err := only(pod)
		if err != nil {
			return scaler.Allowances{}, err
		}
		all.Replicas = append(all.Replicas, scaler.Allowance{
			Replica: serverID(string(pod.UID)), Has: amounts(c.Resources.Requests), Limit: amounts(c.Resources.Limits), RanOut: ranOut(pod), Waits: pending(pod),
		})
	}
	return all, nil
}

// only is the one container of a pod. Of several the metrics tell, but not which of them the recommendation is for.
func only(pod *corev1.Pod) (*corev1.Container, error) {
	n := len(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways { // it runs beside them
			n++
		}
	}
	if n != 1 {
		return nil, fmt.Errorf("%w: the pod %s has %d containers, and only pods of one are sized", scaler.ErrNoResize, pod.Name, n)
	}
	return &pod.Spec.Containers[0], nil
}

func amounts(list corev1.ResourceList) vertical.Resources {
	return vertical.Resources{CPUs: float64(list.Cpu().MilliValue()) / 1e3, Memory: list.Memory().Value()}
}

// ranOut is when the pod's container was last killed for want of memory.
func ranOut(pod *corev1.Pod) (at time.Time) {
	for _, s := range pod.Status.ContainerStatuses {
		for _, t := range []*corev1.ContainerStateTerminated{s.LastTerminationState.Terminated, s.State.Terminated} {
			if t != nil && t.Reason == "OOMKilled" && t.FinishedAt.After(at) {
				at = t.FinishedAt.Time
			}
		}
	}
	return at
}

// pending says why the node has not done what was asked for. Infeasible is for good: the node is too small.
func pending(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Status != corev1.ConditionTrue {
			continue
		}
		switch c.Type {
		case corev1.PodResizePending:
			return "its node does not give it what it requests (" + oneLine(cmp.Or(c.Reason, "pending")+": "+c.Message) + ")"
		case corev1.PodResizeInProgress:
			if c.Reason != "" || c.Message != "" {
				return "its change goes on (" + oneLine(c.Reason+": "+c.Message) + ")"
			}
			return "its change goes on"
		}
	}
	return ""
}

// Resize is scaler.Resizer's, by the subresource resize of the pod, which Kubernetes has from 1.33 on.
func (d *Driver) Resize(ctx context.Context, replica string, to vertical.Resources) error {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	o, w, scale, err := d.lookToWrite(ctx)
	if err != nil {
		return err
	}
	pods, err := d.pods(ctx, o, w, scale.Status.Selector)
	if err != nil {
		return err
	}
	for i := range pods {
		pod := &pods[i]
		if serverID(string(pod.UID)) != replica || !active(pod) {
			continue
		}
		patch, err := resizePatch(pod, to)
		if err != nil {
			return err
		}
		err = d.cli.ResizePod(ctx, o.Namespace, pod.Name, patch)
		if err == nil {
			o.Log.Info("pod resized", "workload", w.String(), "pod", pod.Name, "to", to.String())
		}
		return d.resizeWords(o, pod.Name, err)
	}
	return nil // gone
}

// resizePatch is a strategic merge patch that makes the requests of the pod's container what to says, and its limits as
// many times that as they are now. It has the version of the pod: what was decided on must be what is changed.
func resizePatch(pod *corev1.Pod, to vertical.Resources) ([]byte, error) {
	c, err := only(pod)
	if err != nil {
		return nil, err
	}
	requests, limits := map[corev1.ResourceName]string{}, map[corev1.ResourceName]string{}
	for _, one := range []struct {
		name corev1.ResourceName
		to   float64
		text func(float64) string
	}{
		{corev1.ResourceCPU, to.CPUs, func(v float64) string {
			return resource.NewMilliQuantity(int64(math.Ceil(v*1e3-1e-6)), resource.DecimalSI).String()
		}},
		{corev1.ResourceMemory, float64(to.Memory), func(v float64) string {
			return resource.NewQuantity(int64(math.Ceil(v-1e-3)), resource.BinarySI).String()
		}},
	} {
		request := c.Resources.Requests[one.name]
		if one.to <= 0 || request.IsZero() {
			continue
		}
		for _, p := range c.ResizePolicy {
			if p.ResourceName == one.name && p.RestartPolicy == corev1.RestartContainer {
				return nil, fmt.Errorf("%w: the pod %s has a resizePolicy by which its container restarts when its %s changes", scaler.ErrNoResize, pod.Name, one.name)
			}
		}
		requests[one.name] = one.text(one.to)
		if limit, ok := c.Resources.Limits[one.name]; ok {
			limits[one.name] = one.text(one.to * limit.AsApproximateFloat64() / request.AsApproximateFloat64())
		}
	}
	return json.Marshal(map[string]any{
		"metadata": map[string]string{"resourceVersion": pod.ResourceVersion},
		"spec":     map[string]any{"containers": []any{map[string]any{"name": c.Name, "resources": map[string]any{"requests": requests, "limits": limits}}}},
	})
}

// resizeWords says why a pod was not changed; nil for one that is gone.
func (d *Driver) resizeWords(o Options, pod string, err error) error {
	var status apierrors.APIStatus
	ok := errors.As(err, &status)
	switch {
	case err == nil:
		return nil
	case apierrors.IsNotFound(err) && ok && status.Status().Details != nil && status.Status().Details.Name == pod && status.Status().Details.Kind == "pods":
		return nil
	case apierrors.IsNotFound(err), apierrors.IsMethodNotSupported(err):
		return fmt.Errorf("%w: the cluster has no pods/resize, which Kubernetes has from 1.33 on", scaler.ErrNoResize)
	case apierrors.IsForbidden(err) && ok && status.Status().Details != nil && len(status.Status().Details.Causes) == 0 && status.Status().Details.Kind == "pods":
		return fmt.Errorf("%w: the account may not resize the pod %s in the namespace %s (deploy/kubernetes/vertical has the Role), or something else does not let it: %w", scaler.ErrRefused, pod, o.Namespace, err)
	case apierrors.IsConflict(err):
		return fmt.Errorf("the pod %s changed just now: %w", pod, err)
	}
	return d.words(o, workload{}, "resize the pod "+pod, err)
}

// StartWith is scaler.Resizer's: new pods begin with what their workload says, and are changed then.
func (d *Driver) StartWith(vertical.Recommendation) {}
