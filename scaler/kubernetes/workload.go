package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	autoscalingv1 "k8s.io/api/autoscaling/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"sluice/scaler"
)

// workload is what the pods belong to, and what is scaled. The zero value is none.
type workload struct {
	kind string // deployment or statefulset
	name string
}

const (
	deployment  = "deployment"
	statefulSet = "statefulset"
)

func (w workload) String() string { return w.kind + "/" + w.name }

// resource is its name in the paths of the API.
func (w workload) resource() string { return w.kind + "s" }

func (w workload) read(ctx context.Context, cli Client, namespace string) (*autoscalingv1.Scale, error) {
	return cli.GetScale(ctx, namespace, w.resource(), w.name)
}

func (w workload) write(ctx context.Context, cli Client, namespace string, scale *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	return cli.UpdateScale(ctx, namespace, w.resource(), scale)
}

// targetMemory is how long the workload behind a Service is taken for the same without looking.
const targetMemory = 30 * time.Second

// look finds the workload and reads its scale.
func (d *Driver) look(ctx context.Context, o Options) (workload, *autoscalingv1.Scale, error) {
	d.mu.Lock()
	last, fresh := d.target, time.Since(d.foundAt) < targetMemory
	d.mu.Unlock()
	if fresh && last != (workload{}) {
		scale, err := last.read(ctx, d.cli, o.Namespace)
		if !apierrors.IsNotFound(err) {
			return last, scale, d.words(o, last, "read the scale of", err)
		}
	}
	w, scale, err := d.find(ctx, o, last)
	if err != nil {
		return w, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.target != w {
		d.rivalAt, d.spec = time.Time{}, -1
		o.Log.Info("what is scaled", "service", o.Service, "namespace", o.Namespace, "workload", w.String())
	}
	d.target, d.foundAt = w, time.Now()
	return w, scale, nil
}

// lookToWrite is look for a call that changes something: refused while only observing.
func (d *Driver) lookToWrite(ctx context.Context) (Options, workload, *autoscalingv1.Scale, error) {
	o := d.options()
	if o.Observe {
		return o, workload{}, nil, fmt.Errorf("%w: only observing", scaler.ErrRefused)
	}
	w, scale, err := d.look(ctx, o)
	return o, w, scale, err
}

// find resolves the service: the one owner of the pods it selects; while it has none, the last owner; else the
// Deployment or StatefulSet of its own name.
func (d *Driver) find(ctx context.Context, o Options, last workload) (workload, *autoscalingv1.Scale, error) {
	candidates := []workload{last, {deployment, o.Service}, {statefulSet, o.Service}}
	service, err := d.cli.GetService(ctx, o.Namespace, o.Service)
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return workload{}, nil, d.words(o, workload{}, "read the Service "+o.Service, err)
	case len(service.Spec.Selector) > 0:
		pods, err := d.listPods(ctx, o, labels.SelectorFromSet(service.Spec.Selector).String())
		if err != nil {
			return workload{}, nil, err
		}
		owner, err := ownerOf(pods)
		if err != nil {
			return workload{}, nil, fmt.Errorf("%w: the Service %s: %w", scaler.ErrRefused, o.Service, err)
		}
		if owner != (workload{}) {
			candidates = []workload{owner}
		}
	}
	for _, w := range candidates {
		if w == (workload{}) {
			continue
		}
		scale, err := w.read(ctx, d.cli, o.Namespace)
		if err == nil {
			return w, scale, nil
		}
		if !apierrors.IsNotFound(err) {
			return workload{}, nil, d.words(o, w, "read the scale of", err)
		}
	}
	if len(candidates) == 1 {
		return workload{}, nil, fmt.Errorf("%w: the pods of the Service %s seem to be of %s, which is not there", scaler.ErrRefused, o.Service, candidates[0])
	}
	return workload{}, nil, fmt.Errorf("%w: the Service %s has no pods that would tell whose they are, and the namespace %s has neither a Deployment nor a StatefulSet %s", scaler.ErrRefused, o.Service, o.Namespace, o.Service)
}

// ownerOf is the one workload whose pods these are; zero when there are no pods.
func ownerOf(pods []corev1.Pod) (workload, error) {
	owners := make(map[workload]bool)
	for i := range pods {
		if pods[i].DeletionTimestamp != nil || ended(&pods[i]) {
			continue
		}
		w, err := controllerOf(&pods[i])
		if err != nil {
			return workload{}, err
		}
		owners[w] = true
	}
	all := slices.SortedFunc(maps.Keys(owners), func(a, b workload) int { return cmp.Compare(a.String(), b.String()) })
	switch len(all) {
	case 0:
		return workload{}, nil
	case 1:
		return all[0], nil
	}
	return workload{}, fmt.Errorf("its pods are of several workloads (%s), and only one can be scaled: name a Service that selects the pods of one", strings.Trim(fmt.Sprint(all), "[]"))
}

// controllerOf is the workload of one pod. A ReplicaSet that a Deployment made is called like the Deployment and the
// hash of its template, which its pods bear as a label; so the ReplicaSet itself need not be read.
func controllerOf(pod *corev1.Pod) (workload, error) {
	ref := metav1.GetControllerOf(pod)
	if ref == nil {
		return workload{}, fmt.Errorf("the pod %s belongs to no workload and cannot be scaled", pod.Name)
	}
	switch ref.Kind {
	case "StatefulSet":
		return workload{statefulSet, ref.Name}, nil
	case "ReplicaSet":
		if hash := pod.Labels["pod-template-hash"]; hash != "" {
			if name, ok := strings.CutSuffix(ref.Name, "-"+hash); ok {
				return workload{deployment, name}, nil
			}
		}
	}
	return workload{}, fmt.Errorf("the pod %s belongs to the %s %s; only Deployments and StatefulSets are scaled", pod.Name, ref.Kind, ref.Name)
}

// pods lists the workload's pods: those that its selector selects and that are its own.
func (d *Driver) pods(ctx context.Context, o Options, w workload, selector string) ([]corev1.Pod, error) {
	all, err := d.listPods(ctx, o, selector)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(all, func(pod corev1.Pod) bool {
		owner, err := controllerOf(&pod)
		return err != nil || owner != w
	}), nil
}

func (d *Driver) listPods(ctx context.Context, o Options, selector string) ([]corev1.Pod, error) {
	list, err := d.cli.ListPods(ctx, o.Namespace, selector)
	if err != nil {
		return nil, d.words(o, workload{}, "list the pods of "+o.Service, err)
	}
	return list.Items, nil
}
