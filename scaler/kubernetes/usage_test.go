package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"sluice/scaler"
)

var _ scaler.Gauge = (*Driver)(nil)

// fakeAPI answers as an API server does that has a Deployment api with pods, and perhaps metrics of them.
type fakeAPI struct {
	mu      sync.Mutex // guards all below
	pods    []corev1.Pod
	metrics string // the items, in JSON; "" is 404
	status  int    // instead of an answer of the metrics API; 0 is none
	asked   []string
}

func (f *fakeAPI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	refuse := func(status int) {
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","code":%d,"reason":%q,"message":"refused"}`, status, map[int]string{403: "Forbidden", 404: "NotFound", 503: "ServiceUnavailable"}[status])
	}
	switch r.URL.Path {
	case "/apis/apps/v1/namespaces/ns/deployments/api/scale":
		fmt.Fprintf(w, `{"kind":"Scale","apiVersion":"autoscaling/v1","metadata":{"name":"api"},"spec":{"replicas":%d},"status":{"selector":"app=api"}}`, len(f.pods))
	case "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers":
		fmt.Fprint(w, `{"kind":"HorizontalPodAutoscalerList","apiVersion":"autoscaling/v2"}`)
	case "/api/v1/namespaces/ns/pods":
		_ = json.NewEncoder(w).Encode(corev1.PodList{TypeMeta: metav1.TypeMeta{Kind: "PodList", APIVersion: "v1"}, Items: f.pods})
	case "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods":
		f.asked = append(f.asked, r.URL.Query().Get("labelSelector"))
		switch {
		case f.status != 0:
			refuse(f.status)
		case f.metrics == "":
			refuse(http.StatusNotFound)
		default:
			fmt.Fprintf(w, `{"kind":"PodMetricsList","apiVersion":"metrics.k8s.io/v1beta1","metadata":{},"items":[%s]}`, f.metrics)
		}
	default:
		refuse(http.StatusNotFound)
	}
}

func (f *fakeAPI) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// requesting is a running pod of the Deployment api whose containers request that, as "250m 64Mi".
func requesting(name string, containers ...string) corev1.Pod {
	p := pod(name + "/hash")
	p.UID = types.UID("0000000" + name + "-1111-2222-3333-444444444444")
	p.Labels = map[string]string{"app": "api", "pod-template-hash": "hash"}
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "ReplicaSet", Name: "api-hash", Controller: new(true)}}
	for i, c := range containers {
		requests := corev1.ResourceList{}
		cpu, memory, _ := strings.Cut(c, " ")
		if cpu != "-" {
			requests[corev1.ResourceCPU] = resource.MustParse(cpu)
		}
		if memory != "-" {
			requests[corev1.ResourceMemory] = resource.MustParse(memory)
		}
		p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: fmt.Sprint("c", i), Resources: corev1.ResourceRequirements{Requests: requests}})
	}
	return p
}

// metricsOf is a PodMetrics as a metrics-server gives it.
func metricsOf(name string, at time.Time, cpu, memory string) string {
	return fmt.Sprintf(`{"metadata":{"name":%q,"namespace":"ns"},"timestamp":%q,"window":"15s","containers":[{"name":"c0","usage":{"cpu":%q,"memory":%q}},{"name":"c1","usage":{"cpu":"1m","memory":"1Mi"}}]}`,
		name, at.UTC().Format(time.RFC3339), cpu, memory)
}

func TestUsageFromTheMetricsAPI(t *testing.T) {
	at := time.Now().Add(-10 * time.Second).Truncate(time.Second)
	api := &fakeAPI{pods: []corev1.Pod{requesting("a", "200m 64Mi", "50m 36Mi"), requesting("b", "200m -", "50m 36Mi")}}
	server := httptest.NewServer(api)
	defer server.Close()
	cli, err := NewClient(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	d := New(cli, Options{Namespace: "ns", Service: "api", Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	list, err := d.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Fatalf("%+v, %v", list, err)
	}
	// asks makes the gauge, which does not ask by itself yet, ask once and gives what it tells then.
	ctx := quiet(&d.gauge, time.Now())
	asks := func() []scaler.Usage {
		t.Helper()
		d.Usage()
		d.gauge.ask(ctx)
		return d.Usage()
	}
	for status, want := range map[int]string{
		404: "the cluster's metrics API, as of a metrics-server, does not answer: ",
		503: "the cluster's metrics API, as of a metrics-server, does not answer: ",
		403: "the account may not list what pods use (deploy/kubernetes/usage has the Role): ",
	} {
		api.set(func() { api.status = status })
		if us := asks(); len(us) != 2 || !us[0].At.IsZero() || !strings.HasPrefix(us[0].Why, want) || us[1].Why == "" {
			t.Errorf("%d: %+v", status, us)
		}
	}
	api.set(func() {
		api.status = 0
		api.metrics = metricsOf("a", at, "149m", "49Mi") + "," + metricsOf("b", at, "249m", "9Mi") + "," + metricsOf("stranger", at, "9", "9Gi")
	})
	us := asks()
	if len(us) != 2 {
		t.Fatalf("%+v", us)
	}
	a, b := us[0], us[1]
	if a.Replica != list[0].ID || !a.At.Equal(at) || a.Why != "" || math.Abs(a.CPU-0.15) > 1e-9 || math.Abs(a.CPUShare-0.6) > 1e-9 || a.Memory != 50<<20 || math.Abs(a.MemoryShare-0.5) > 1e-9 || a.Of != "request" {
		t.Errorf("a: %+v", a)
	}
	if math.Abs(b.CPUShare-1) > 1e-9 || !math.IsNaN(b.MemoryShare) || b.Memory != 10<<20 {
		t.Errorf("b, one of whose containers requests no memory: %+v", b)
	}
	if !a.Fresh(at.Add(80*time.Second)) || a.Fresh(at.Add(2*time.Minute)) {
		t.Error("it is old after three measurements")
	}
	api.set(func() {
		for _, selector := range api.asked {
			if selector != "app=api" {
				t.Errorf("asked for %q", selector)
			}
		}
		api.pods = api.pods[1:]
	})
	if _, err := d.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if us := d.Usage(); len(us) != 1 || us[0].Replica != b.Replica {
		t.Errorf("of what is left: %+v", us)
	}
	d.gauge.listening.End()
	if ctx = quiet(&d.gauge, time.Now().Add(-scaler.GaugeIdle-time.Second)); d.gauge.ask(ctx) {
		t.Error("nobody wants to know, and it goes on")
	}

	// Asked again, it asks by itself.
	for began := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if us := d.Usage(); len(us) == 1 && us[0].At.Equal(at) {
			break
		}
		if time.Since(began) > 10*time.Second {
			t.Fatalf("it does not ask: %+v", d.Usage())
		}
	}
	d.gauge.mu.Lock()
	d.gauge.listening.End()
	d.gauge.mu.Unlock()
}

// quiet makes g one that was asked at that time and asks nothing by itself; the context is that of its asking.
func quiet(g *gauge, at time.Time) context.Context {
	begun := make(chan context.Context)
	g.listening.Asked(at, func(ctx context.Context) { begun <- ctx })
	return <-begun
}
