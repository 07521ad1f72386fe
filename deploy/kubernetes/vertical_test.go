package kubernetes_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

// sizedPod makes a running pod of the Deployment api that requests half of its limits, and returns the id of its server.
func (w workloads) sizedPod(name string) string {
	w.t.Helper()
	pods := w.s.admin.CoreV1().Pods(w.ns)
	pod := must[*corev1.Pod](w.t)(pods.Create(w.t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": "api", "pod-template-hash": templateHash}, OwnerReferences: []metav1.OwnerReference{
			{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "api-" + templateHash, UID: "u", Controller: new(true)},
		}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "api", Image: "registry.test/api:1", Ports: []corev1.ContainerPort{{ContainerPort: 8000}}, Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("500m"), corev1.ResourceMemory: resource.MustParse("100Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1"), corev1.ResourceMemory: resource.MustParse("200Mi")},
		}}}},
	}, metav1.CreateOptions{}))
	pod.Status.Phase = corev1.PodRunning
	must[*corev1.Pod](w.t)(pods.UpdateStatus(w.t.Context(), pod, metav1.UpdateOptions{}))
	return strings.ReplaceAll(string(pod.UID), "-", "")[:12]
}

// TestPodsAreResized: the API server takes what is written to pods/resize, from an account that has the Role for it and
// from no other, and a node that cannot do it is told of.
func TestPodsAreResized(t *testing.T) {
	s := server(t)
	ns, elsewhere := s.namespace(t), s.namespace(t)
	s.kubectl(t, render(t, ns, []string{"base", "demo"}, []string{"scaling", "usage"}), "apply", "-f", "-")
	cfg, as := s.asAccount(t, ns)
	w := workloads{t, s, ns}
	id := w.sizedPod("one")
	d := w.driver(newRooms(t, cfg).scaling, "api")
	within(t, 10*time.Second, "the Role counts", func() bool { _, err := d.Allowances(t.Context()); return err == nil })
	to := vertical.Resources{CPUs: .25, Memory: 150 << 20}
	if err := d.Resize(t.Context(), id, to); !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), "deploy/kubernetes/vertical has the Role") {
		t.Errorf("without its Role: %v", err)
	}
	s.kubectl(t, render(t, ns, []string{"base", "demo"}, []string{"scaling", "usage", "vertical"}), "apply", "-f", "-")
	var last error
	within(t, 10*time.Second, "the Role counts", func() bool { last = d.Resize(t.Context(), id, to); return last == nil })
	if last != nil {
		t.Fatal(last)
	}
	all := must[scaler.Allowances](t)(d.Allowances(t.Context()))
	if len(all.Replicas) != 1 || all.Replicas[0].Has != to || all.Replicas[0].Limit != (vertical.Resources{CPUs: .5, Memory: 300 << 20}) {
		t.Errorf("then %+v", all)
	}
	pods := s.admin.CoreV1().Pods(ns)
	pod := must[*corev1.Pod](t)(pods.Get(t.Context(), "one", metav1.GetOptions{}))
	if pod.Spec.Containers[0].Image != "registry.test/api:1" || pod.Status.Phase != corev1.PodRunning {
		t.Errorf("something else changed: %+v", pod.Spec.Containers[0])
	}
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible, Message: "no room"})
	must[*corev1.Pod](t)(pods.UpdateStatus(t.Context(), pod, metav1.UpdateOptions{}))
	if all = must[scaler.Allowances](t)(d.Allowances(t.Context())); !strings.Contains(all.Replicas[0].Waits, "Infeasible: no room") {
		t.Errorf("one that is infeasible: %+v", all)
	}
	s.forbidden(t, as, ns, elsewhere, "with vertical", map[string]bool{"list pods": true})
}
