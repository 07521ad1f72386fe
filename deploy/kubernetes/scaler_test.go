package kubernetes_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"

	"sluice/scaler"
	scalerkubernetes "sluice/scaler/kubernetes"
)

const templateHash = "6b7c8d"

// workloads makes the objects of a namespace as users and controllers would.
type workloads struct {
	t  *testing.T
	s  *apiServer
	ns string
}

func template(app string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": app}},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "api", Image: "registry.test/api:1", Ports: []corev1.ContainerPort{{ContainerPort: 8080}}}}},
	}
}

func (w workloads) deployment(name, app string, replicas int32) {
	w.t.Helper()
	d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.DeploymentSpec{Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, Template: template(app)}}
	must[*appsv1.Deployment](w.t)(w.s.admin.AppsV1().Deployments(w.ns).Create(w.t.Context(), d, metav1.CreateOptions{}))
}

func (w workloads) statefulSet(name, app string, replicas int32) {
	w.t.Helper()
	d := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: appsv1.StatefulSetSpec{ServiceName: name, Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": app}}, Template: template(app)}}
	must[*appsv1.StatefulSet](w.t)(w.s.admin.AppsV1().StatefulSets(w.ns).Create(w.t.Context(), d, metav1.CreateOptions{}))
}

func (w workloads) service(name, app string) {
	w.t.Helper()
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": app}, Ports: []corev1.ServicePort{{Port: 80}}}}
	must[*corev1.Service](w.t)(w.s.admin.CoreV1().Services(w.ns).Create(w.t.Context(), svc, metav1.CreateOptions{}))
}

// pod makes a running pod of the workload, as its controller and a kubelet would, and returns the id of its server.
func (w workloads) pod(kind, owner, name, app string) string {
	w.t.Helper()
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": app}}, Spec: template(app).Spec}
	ref := metav1.OwnerReference{APIVersion: "apps/v1", Kind: kind, Name: owner, UID: uuid.NewUUID(), Controller: new(true)}
	if kind == "ReplicaSet" {
		ref.Name += "-" + templateHash
		pod.Labels["pod-template-hash"] = templateHash
	}
	pod.OwnerReferences = []metav1.OwnerReference{ref}
	pods := w.s.admin.CoreV1().Pods(w.ns)
	pod = must[*corev1.Pod](w.t)(pods.Create(w.t.Context(), pod, metav1.CreateOptions{}))
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "10.9.0.1", PodIPs: []corev1.PodIP{{IP: "10.9.0.1"}}, Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	must[*corev1.Pod](w.t)(pods.UpdateStatus(w.t.Context(), pod, metav1.UpdateOptions{}))
	return strings.ReplaceAll(string(pod.UID), "-", "")[:12]
}

func (w workloads) cost(name string) string {
	w.t.Helper()
	return must[*corev1.Pod](w.t)(w.s.admin.CoreV1().Pods(w.ns).Get(w.t.Context(), name, metav1.GetOptions{})).Annotations["controller.kubernetes.io/pod-deletion-cost"]
}

func (w workloads) wantReplicas(kind, name string, want int32) {
	w.t.Helper()
	var scale *autoscalingv1.Scale
	var err error
	if kind == "statefulset" {
		scale, err = w.s.admin.AppsV1().StatefulSets(w.ns).GetScale(w.t.Context(), name, metav1.GetOptions{})
	} else {
		scale, err = w.s.admin.AppsV1().Deployments(w.ns).GetScale(w.t.Context(), name, metav1.GetOptions{})
	}
	if err != nil || scale.Spec.Replicas != want {
		w.t.Errorf("%s/%s: %d replicas, %v; want %d", kind, name, scale.Spec.Replicas, err, want)
	}
}

func (w workloads) driver(cli scalerkubernetes.Client, service string) *scalerkubernetes.Driver {
	return scalerkubernetes.New(cli, scalerkubernetes.Options{Namespace: w.ns, Service: service, Log: logger(w.t)})
}

func ids(replicas []scaler.Replica) (all []string) {
	for _, r := range replicas {
		all = append(all, r.ID)
	}
	slices.Sort(all)
	return all
}

// TestScale takes a Deployment whose name is not the Service's from 2 to 4 to 1 to 0 and back.
func TestScale(t *testing.T) {
	s := server(t)
	w := workloads{t, s, s.namespace(t)}
	w.service("api", "api")
	w.deployment("api-server", "api", 2)
	d := w.driver(s.cluster(t, w.ns).scaling, "api")
	a, b := w.pod("ReplicaSet", "api-server", "a", "api"), w.pod("ReplicaSet", "api-server", "b", "api")
	w.pod("ReplicaSet", "stranger", "x", "other")

	list := must[[]scaler.Replica](t)(d.List(t.Context()))
	want := []string{a, b}
	slices.Sort(want)
	if got := ids(list); !slices.Equal(got, want) || list[0].State != scaler.ReplicaRunning || list[0].Addr != "10.9.0.1:8080" || !list[0].Asked.IsZero() {
		t.Fatalf("listed %+v, want %v", list, want)
	}
	asked := time.Now()
	if err := d.Scale(t.Context(), 4, nil); err != nil {
		t.Fatal(err)
	}
	w.wantReplicas("deployment", "api-server", 4)
	c, e := w.pod("ReplicaSet", "api-server", "c", "api"), w.pod("ReplicaSet", "api-server", "e", "api")
	for _, r := range must[[]scaler.Replica](t)(d.List(t.Context())) {
		if isNew := r.ID == c || r.ID == e; isNew != r.Asked.After(asked) {
			t.Errorf("%s was asked for at %v", r.ID, r.Asked)
		}
	}

	if err := d.Scale(t.Context(), 1, []string{c, a, b}); err != nil {
		t.Fatal(err)
	}
	w.wantReplicas("deployment", "api-server", 1)
	if got := fmt.Sprint(w.cost("c"), w.cost("a"), w.cost("b"), w.cost("e")); got != "-2147483648-2147483647-2147483646" {
		t.Errorf("costs %s", got)
	}
	// They are to stay after all.
	if err := d.Scale(t.Context(), 4, nil); err != nil {
		t.Fatal(err)
	}
	w.wantReplicas("deployment", "api-server", 4)
	if got := w.cost("c") + w.cost("a") + w.cost("b"); got != "" {
		t.Errorf("costs are left: %s", got)
	}
	if err := d.Scale(t.Context(), 0, []string{a, b, c, e}); err != nil {
		t.Fatal(err)
	}
	w.wantReplicas("deployment", "api-server", 0)
	if err := s.admin.CoreV1().Pods(w.ns).DeleteCollection(t.Context(), metav1.DeleteOptions{GracePeriodSeconds: new(int64(0))}, metav1.ListOptions{}); err != nil {
		t.Fatal(err)
	}
	if list := must[[]scaler.Replica](t)(d.List(t.Context())); len(list) != 0 {
		t.Errorf("at zero: %+v", list)
	}
	if err := d.Scale(t.Context(), 1, nil); err != nil {
		t.Fatal(err)
	}
	w.wantReplicas("deployment", "api-server", 1)
}

func TestScaleStatefulSet(t *testing.T) {
	s := server(t)
	w := workloads{t, s, s.namespace(t)}
	w.statefulSet("db", "db", 3) // no Service: found by name
	d := w.driver(s.cluster(t, w.ns).scaling, "db")
	var all []string
	for i := range 3 {
		all = append(all, w.pod("StatefulSet", "db", fmt.Sprintf("db-%d", i), "db"))
	}
	for _, r := range must[[]scaler.Replica](t)(d.List(t.Context())) {
		if r.Fixed != (r.ID != all[2]) {
			t.Errorf("%+v: only the highest ordinal can go", r)
		}
	}
	if err := d.Scale(t.Context(), 2, all[2:]); err != nil {
		t.Fatal(err)
	}
	w.wantReplicas("statefulset", "db", 2)
	if err := d.Scale(t.Context(), 5, nil); err != nil {
		t.Fatal(err)
	}
	w.wantReplicas("statefulset", "db", 5)
}

// contended is a client whose writes of a scale always come after somebody else's.
type contended struct {
	scalerkubernetes.Client
	before func()
}

func (c contended) UpdateScale(ctx context.Context, namespace, resource string, scale *autoscalingv1.Scale) (*autoscalingv1.Scale, error) {
	c.before()
	return c.Client.UpdateScale(ctx, namespace, resource, scale)
}

func TestVersionConflicts(t *testing.T) {
	s := server(t)
	w := workloads{t, s, s.namespace(t)}
	w.deployment("api", "api", 2)
	patch := func(text string) {
		must[*appsv1.Deployment](t)(s.admin.AppsV1().Deployments(w.ns).Patch(t.Context(), "api", types.MergePatchType, []byte(text), metav1.PatchOptions{}))
	}
	writes, conflicts := 0, 3
	d := w.driver(contended{s.cluster(t, w.ns).scaling, func() {
		if writes++; writes <= conflicts {
			patch(fmt.Sprintf(`{"metadata":{"annotations":{"test":"%d"}}}`, writes))
		}
	}}, "api")
	must[[]scaler.Replica](t)(d.List(t.Context()))
	if err := d.Scale(t.Context(), 4, nil); err != nil {
		t.Fatal(err)
	}
	w.wantReplicas("deployment", "api", 4)
	if writes != conflicts+1 {
		t.Errorf("%d writes", writes)
	}

	// The number itself was changed: that is somebody's decision, and is not overwritten unseen.
	writes, conflicts = 0, 0
	patch(`{"spec":{"replicas":6}}`)
	err := d.Scale(t.Context(), 1, nil)
	if err == nil || !strings.Contains(err.Error(), "somebody else set it to 6") {
		t.Errorf("set to 6 since it was listed: %v", err)
	}
	w.wantReplicas("deployment", "api", 6)
	must[[]scaler.Replica](t)(d.List(t.Context()))
	d2 := w.driver(contended{s.cluster(t, w.ns).scaling, func() { patch(`{"spec":{"replicas":7}}`) }}, "api")
	must[[]scaler.Replica](t)(d2.List(t.Context()))
	if err := d2.Scale(t.Context(), 1, nil); err == nil || !strings.Contains(err.Error(), "somebody else set it to 7") {
		t.Errorf("set to 7 just before the write: %v", err)
	}
	w.wantReplicas("deployment", "api", 7)

	// Somebody who never stops.
	writes, conflicts = 0, 1000
	must[[]scaler.Replica](t)(d.List(t.Context()))
	if err := d.Scale(t.Context(), 1, nil); err == nil || !strings.Contains(err.Error(), "something else writes to it") {
		t.Errorf("changed all the time: %v", err)
	}
	w.wantReplicas("deployment", "api", 7)
}

func TestSecondWriterIsRefused(t *testing.T) {
	s := server(t)
	w := workloads{t, s, s.namespace(t)}
	w.deployment("api", "api", 2)
	hpas := s.admin.AutoscalingV2().HorizontalPodAutoscalers(w.ns)
	hpa := func(name, target string) {
		must[*autoscalingv2.HorizontalPodAutoscaler](t)(hpas.Create(t.Context(), &autoscalingv2.HorizontalPodAutoscaler{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       autoscalingv2.HorizontalPodAutoscalerSpec{ScaleTargetRef: autoscalingv2.CrossVersionObjectReference{APIVersion: "apps/v1", Kind: "Deployment", Name: target}, MaxReplicas: 9},
		}, metav1.CreateOptions{}))
	}
	hpa("of-another", "web")
	d := w.driver(s.cluster(t, w.ns).scaling, "api")
	if err := d.Scale(t.Context(), 3, nil); err != nil {
		t.Fatal(err)
	}
	hpa("old-one", "api")
	err := d.Scale(t.Context(), 5, nil)
	if !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), "HorizontalPodAutoscaler old-one scales deployment/api as well") {
		t.Errorf("with an HPA: %v", err)
	}
	if _, err := d.List(t.Context()); !errors.Is(err, scaler.ErrRefused) {
		t.Errorf("listing with an HPA: %v", err)
	}
	w.wantReplicas("deployment", "api", 3)
	observer := scalerkubernetes.New(s.cluster(t, w.ns).scaling, scalerkubernetes.Options{Namespace: w.ns, Service: "api", Observe: true, Log: logger(t)})
	must[[]scaler.Replica](t)(observer.List(t.Context()))
	if notes := strings.Join(observer.Notes(), " "); !strings.Contains(notes, "old-one") {
		t.Errorf("an observer's notes: %s", notes)
	}
	if err := observer.Scale(t.Context(), 5, nil); !errors.Is(err, scaler.ErrRefused) {
		t.Errorf("an observer scales: %v", err)
	}
	if err := hpas.Delete(t.Context(), "old-one", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := d.Scale(t.Context(), 5, nil); err != nil {
		t.Error(err)
	}
	w.wantReplicas("deployment", "api", 5)
}

func TestWhatCannotBeScaled(t *testing.T) {
	s := server(t)
	w := workloads{t, s, s.namespace(t)}
	cluster := s.cluster(t, w.ns).scaling
	w.service("nothing", "nothing")
	w.service("both", "both")
	w.pod("ReplicaSet", "blue", "blue", "both")
	w.pod("ReplicaSet", "green", "green", "both")
	w.service("alone", "alone")
	w.pod("ReplicaSet", "gone", "alone", "alone")
	for service, want := range map[string]string{
		"nothing": "neither a Deployment nor a StatefulSet nothing",
		"none":    "neither a Deployment nor a StatefulSet none",
		"both":    "several workloads (deployment/blue deployment/green)",
		"alone":   "seem to be of deployment/gone, which is not there",
	} {
		d := w.driver(cluster, service)
		if _, err := d.List(t.Context()); !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", service, err, want)
		}
	}
}

// TestPodOfAnotherUID: the driver takes this answer for "the pod is gone, and another has its name".
func TestPodOfAnotherUID(t *testing.T) {
	s := server(t)
	w := workloads{t, s, s.namespace(t)}
	w.pod("StatefulSet", "db", "db-0", "db")
	patch, _ := json.Marshal(map[string]any{"metadata": map[string]any{"uid": uuid.NewUUID(), "annotations": map[string]string{"a": "b"}}})
	_, err := s.admin.CoreV1().Pods(w.ns).Patch(t.Context(), "db-0", types.MergePatchType, patch, metav1.PatchOptions{})
	if !apierrors.IsInvalid(err) {
		t.Errorf("a patch for another UID: %v", err)
	}
}
