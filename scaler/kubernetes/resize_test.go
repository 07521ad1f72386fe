package kubernetes

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/rest"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

var _ scaler.Resizer = (*Driver)(nil)

// resizingAPI is a fakeAPI that resizes, or answers with a status in its place.
type resizingAPI struct {
	fakeAPI
	refuse  string // a Status in JSON
	patches []string
}

func (f *resizingAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name, ok := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, "/api/v1/namespaces/ns/pods/"), "/resize")
	if !ok {
		f.fakeAPI.ServeHTTP(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	body, _ := io.ReadAll(r.Body)
	f.patches = append(f.patches, name+" "+r.Header.Get("Content-Type")+" "+string(body))
	w.Header().Set("Content-Type", "application/json")
	if f.refuse != "" {
		var status metav1.Status
		_ = json.Unmarshal([]byte(f.refuse), &status)
		w.WriteHeader(int(status.Code))
		fmt.Fprint(w, f.refuse)
		return
	}
	for i := range f.pods {
		if f.pods[i].Name != name {
			continue
		}
		was, _ := json.Marshal(f.pods[i])
		is, err := strategicpatch.StrategicMergePatch(was, body, corev1.Pod{})
		if err == nil {
			f.pods[i] = corev1.Pod{}
			err = json.Unmarshal(is, &f.pods[i])
		}
		if err != nil {
			http.Error(w, err.Error(), 500)
			return
		}
		f.pods[i].TypeMeta = metav1.TypeMeta{Kind: "Pod", APIVersion: "v1"}
		_ = json.NewEncoder(w).Encode(f.pods[i])
	}
}

func resizing(t *testing.T, pods ...corev1.Pod) (*resizingAPI, *Driver) {
	t.Helper()
	api := &resizingAPI{fakeAPI: fakeAPI{pods: pods}}
	server := httptest.NewServer(api)
	t.Cleanup(server.Close)
	cli, err := NewClient(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return api, New(cli, Options{Namespace: "ns", Service: "api", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
}

// limited is requesting, with limits.
func limited(name, requests, cpu, memory string) corev1.Pod {
	p := requesting(name, requests)
	p.ResourceVersion = "7"
	p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	return p
}

func TestResizeOfPods(t *testing.T) {
	a, b := limited("a", "200m 64Mi", "400m", "64Mi"), requesting("b", "- 100Mi")
	killed := metav1.NewTime(time.Now().Add(-time.Minute).Truncate(time.Second))
	a.Status.ContainerStatuses = []corev1.ContainerStatus{{LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Reason: "OOMKilled", FinishedAt: killed}}}}
	api, d := resizing(t, a, b)
	all, err := d.Allowances(t.Context())
	if err != nil || len(all.Replicas) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	if got, want := all.Replicas[0], (scaler.Allowance{Replica: serverID(string(a.UID)), Has: vertical.Resources{CPUs: .2, Memory: 64 << 20}, Limit: vertical.Resources{CPUs: .4, Memory: 64 << 20}, RanOut: killed.Time}); got.Replica != want.Replica || got.Has != want.Has || got.Limit != want.Limit || !got.RanOut.Equal(want.RanOut) || got.Waits != "" {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := all.Replicas[1]; got.Has != (vertical.Resources{Memory: 100 << 20}) || got.Limit != (vertical.Resources{}) {
		t.Errorf("%+v", got)
	}

	if err := d.Resize(t.Context(), all.Replicas[0].Replica, vertical.Resources{CPUs: .127, Memory: 96 << 20}); err != nil {
		t.Fatal(err)
	}
	if want := `a application/strategic-merge-patch+json {"metadata":{"resourceVersion":"7"},"spec":{"containers":[{"name":"c0","resources":{"limits":{"cpu":"254m","memory":"96Mi"},"requests":{"cpu":"127m","memory":"96Mi"}}}]}}`; len(api.patches) != 1 || api.patches[0] != want {
		t.Errorf("patched: %q", api.patches)
	}
	if all, err = d.Allowances(t.Context()); err != nil || all.Replicas[0].Has != (vertical.Resources{CPUs: .127, Memory: 96 << 20}) || all.Replicas[0].Limit != (vertical.Resources{CPUs: .254, Memory: 96 << 20}) {
		t.Errorf("then %+v, %v", all, err)
	}
	if err := d.Resize(t.Context(), all.Replicas[1].Replica, vertical.Resources{CPUs: 1, Memory: 200 << 20}); err != nil || !strings.HasSuffix(api.patches[1], `{"limits":{},"requests":{"memory":"200Mi"}}}]}}`) {
		t.Errorf("without limits, and without a request of CPU: %q, %v", api.patches, err)
	}
	if err := d.Resize(t.Context(), "gone", vertical.Resources{CPUs: 1}); err != nil || len(api.patches) != 2 {
		t.Errorf("one that is gone: %v, %q", err, api.patches[2:])
	}

	for _, one := range []struct {
		what, status, want string
		is                 error
	}{
		{"an old cluster", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"the server could not find the requested resource","details":{}}`, "from 1.33 on", scaler.ErrNoResize},
		{"no right", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"pods \"a\" is forbidden","details":{"name":"a","kind":"pods"}}`, "deploy/kubernetes/vertical has the Role", scaler.ErrRefused},
		{"not valid", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Invalid","code":422,"message":"Pod \"a\" is invalid: memory limits cannot be decreased","details":{"name":"a","kind":"Pod"}}`, "memory limits cannot be decreased", scaler.ErrRefused},
		{"changed meanwhile", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Conflict","code":409,"message":"modified","details":{"name":"a","kind":"pods"}}`, "changed just now", nil},
		{"gone meanwhile", `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"NotFound","code":404,"message":"pods \"a\" not found","details":{"name":"a","kind":"pods"}}`, "", nil},
	} {
		api.set(func() { api.refuse = one.status })
		err := d.Resize(t.Context(), all.Replicas[0].Replica, vertical.Resources{CPUs: .5})
		if (err == nil) != (one.want == "") || err != nil && !strings.Contains(err.Error(), one.want) || one.is != nil && !errors.Is(err, one.is) {
			t.Errorf("%s: %v", one.what, err)
		}
	}
	api.set(func() { api.refuse = "" })

	n := len(api.patches)
	d.Configure(Options{Namespace: "ns", Service: "api", Observe: true, Log: slog.New(slog.DiscardHandler)})
	if err := d.Resize(t.Context(), all.Replicas[0].Replica, vertical.Resources{CPUs: .5}); !errors.Is(err, scaler.ErrRefused) || len(api.patches) != n {
		t.Errorf("while observing: %v", err)
	}
}

func TestPodsThatAreNotResized(t *testing.T) {
	restarts := limited("r", "200m 64Mi", "200m", "64Mi")
	restarts.Spec.Containers[0].ResizePolicy = []corev1.ContainerResizePolicy{{ResourceName: corev1.ResourceMemory, RestartPolicy: corev1.RestartContainer}}
	if _, err := resizePatch(&restarts, vertical.Resources{Memory: 1 << 30}); !errors.Is(err, scaler.ErrNoResize) || !strings.Contains(err.Error(), "restarts when its memory changes") {
		t.Errorf("one that would restart: %v", err)
	}
	if _, err := resizePatch(&restarts, vertical.Resources{CPUs: 1}); err != nil {
		t.Errorf("its CPU is no matter: %v", err)
	}
	_, d := resizing(t, requesting("two", "1 1Gi", "1 1Gi"))
	if _, err := d.Allowances(t.Context()); !errors.Is(err, scaler.ErrNoResize) || !strings.Contains(err.Error(), "2 containers") {
		t.Errorf("two containers: %v", err)
	}
	beside := requesting("beside", "1 1Gi")
	beside.Spec.InitContainers = []corev1.Container{{Name: "proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}, {Name: "first"}}
	if _, err := only(&beside); err == nil || !strings.Contains(err.Error(), "2 containers") {
		t.Errorf("one that runs beside: %v", err)
	}
	for _, one := range []struct {
		c    corev1.PodCondition
		want string
	}{
		{corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonInfeasible, Message: "Node didn't have enough capacity: cpu"}, "(Infeasible: Node didn't have enough capacity: cpu)"},
		{corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionTrue, Reason: corev1.PodReasonDeferred, Message: "not now"}, "(Deferred: not now)"},
		{corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue}, "its change goes on"},
		{corev1.PodCondition{Type: corev1.PodResizeInProgress, Status: corev1.ConditionTrue, Reason: "Error", Message: "memory in use"}, "(Error: memory in use)"},
		{corev1.PodCondition{Type: corev1.PodResizePending, Status: corev1.ConditionFalse, Reason: "x"}, ""},
	} {
		p := requesting("p", "1 1Gi")
		p.Status.Conditions = []corev1.PodCondition{one.c}
		if got := pending(&p); (got == "") != (one.want == "") || !strings.Contains(got, one.want) {
			t.Errorf("%+v: %q", one.c, got)
		}
	}
}
