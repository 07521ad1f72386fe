package kubernetes

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metricsv1beta1 "k8s.io/metrics/pkg/apis/metrics/v1beta1"

	"sluice/scaler"
)

const (
	// askEvery is between two questions to the metrics API, which measures as often by default.
	askEvery   = 15 * time.Second
	askTimeout = 10 * time.Second
	// measuresEvery is how far apart its measurements may be: a metrics-server may be set to measure less often.
	measuresEvery = 30 * time.Second
)

// gauge asks the metrics API what the pods use while somebody wants to know.
type gauge struct {
	cli Client

	mu        sync.Mutex // guards all below
	listening scaler.Listening
	namespace string
	selector  string
	pods      map[string]requests // by name, as last listed
	last      map[string]scaler.Usage
	why       string // why the API told nothing; "" when it did
}

// requests are what the containers of a pod request together; 0 where one requests nothing.
type requests struct {
	id     string
	cpu    float64
	memory float64
}

func requestsOf(pod *corev1.Pod) requests {
	r := requests{id: serverID(string(pod.UID))}
	all := slices.Clone(pod.Spec.Containers)
	for _, c := range pod.Spec.InitContainers {
		if c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways { // it runs beside them
			all = append(all, c)
		}
	}
	r.cpu, r.memory = sum(all, corev1.ResourceCPU), sum(all, corev1.ResourceMemory)
	return r
}

// sum is 0 when one of them requests nothing: a share of the rest would say nothing.
func sum(all []corev1.Container, resource corev1.ResourceName) (total float64) {
	for _, c := range all {
		q, ok := c.Resources.Requests[resource]
		if !ok || q.IsZero() {
			return 0
		}
		total += q.AsApproximateFloat64()
	}
	return total
}

// Usage is scaler.Gauge's. Pods are those of the last List; shares are of what their containers request, as those of a
// HorizontalPodAutoscaler.
func (d *Driver) Usage() []scaler.Usage { return d.gauge.usage(time.Now()) }

func (g *gauge) usage(now time.Time) []scaler.Usage {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listening.Asked(now, g.run) {
		g.last, g.why = make(map[string]scaler.Usage), ""
	}
	all := make([]scaler.Usage, 0, len(g.pods))
	for _, pod := range g.pods {
		u, known := g.last[pod.id]
		if !known {
			u = scaler.Unmeasured(pod.id)
		}
		u.Why = g.why
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b scaler.Usage) int { return cmp.Compare(a.Replica, b.Replica) })
	return all
}

// follow takes a listing.
func (g *gauge) follow(namespace, selector string, pods []corev1.Pod) {
	all := make(map[string]requests, len(pods))
	for i := range pods {
		if pod := &pods[i]; active(pod) {
			all[pod.Name] = requestsOf(pod)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.namespace, g.selector, g.pods = namespace, selector, all
}

// run asks until nobody wants to know any more.
func (g *gauge) run(ctx context.Context) {
	for g.ask(ctx) {
		select {
		case <-ctx.Done():
			return
		case <-time.After(g.pause()):
		}
	}
}

// pause is short until the first pods are listed.
func (g *gauge) pause() time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.pods) == 0 {
		return time.Second
	}
	return askEvery
}

// ask asks once; false when nobody wants to know.
func (g *gauge) ask(ctx context.Context) bool {
	g.mu.Lock()
	namespace, selector, any := g.namespace, g.selector, len(g.pods) > 0
	goesOn := g.listening.GoesOn(ctx, time.Now())
	g.mu.Unlock()
	if !goesOn || !any {
		return goesOn
	}
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	list, err := g.cli.ListPodMetrics(ctx, namespace, selector)
	g.took(list, err, time.Now())
	return true
}

func (g *gauge) took(list *metricsv1beta1.PodMetricsList, err error, now time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.why = metricsWords(err); g.why != "" {
		return
	}
	last := make(map[string]scaler.Usage, len(list.Items))
	for i := range list.Items {
		m := &list.Items[i]
		pod, ours := g.pods[m.Name]
		if !ours {
			continue
		}
		var cpu, memory float64
		for _, c := range m.Containers {
			cpu += c.Usage.Cpu().AsApproximateFloat64()
			memory += c.Usage.Memory().AsApproximateFloat64()
		}
		u := scaler.Usage{
			Replica: pod.id, At: m.Timestamp.Time, Every: measuresEvery, CPU: cpu, Memory: int64(memory),
			CPUShare: share(cpu, pod.cpu), MemoryShare: share(memory, pod.memory), Of: "request",
		}
		if u.At.After(now) { // the clocks differ
			u.At = now
		}
		last[pod.id] = u
	}
	g.last = last
}

// share is NaN where nothing is requested.
func share(used, requested float64) float64 {
	if requested <= 0 {
		return math.NaN()
	}
	return used / requested
}

// metricsWords says why the metrics API told nothing; "" when it did.
func metricsWords(err error) string {
	switch {
	case err == nil:
		return ""
	case apierrors.IsNotFound(err), apierrors.IsServiceUnavailable(err):
		return fmt.Sprintf("the cluster's metrics API, as of a metrics-server, does not answer: %v", err)
	case apierrors.IsForbidden(err):
		return fmt.Sprintf("the account may not list what pods use (deploy/kubernetes/usage has the Role): %v", err)
	}
	return fmt.Sprintf("the metrics API: %v", err)
}
