package kubernetes_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"sluice/balancer"
	discoverykubernetes "sluice/discovery/kubernetes"
)

// watched is a running source and what it last sent.
type watched struct {
	source *discoverykubernetes.Source

	mu   sync.Mutex // guards sets
	sets [][]balancer.ServerSpec
}

// watch runs a source until the test ends.
func watch(t *testing.T, cli *discoverykubernetes.Client, query discoverykubernetes.Query) *watched {
	w := &watched{source: discoverykubernetes.NewSource(cli, query, logger(t))}
	ctx, cancel := context.WithCancel(context.Background())
	sets := make(chan []balancer.ServerSpec)
	var done sync.WaitGroup
	done.Go(func() { _ = w.source.Run(ctx, sets) })
	done.Go(func() {
		for {
			select {
			case set := <-sets:
				w.mu.Lock()
				w.sets = append(w.sets, set)
				w.mu.Unlock()
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { cancel(); done.Wait() })
	return w
}

// last is the last set as "id=addr …", "none yet" before the first.
func (w *watched) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.sets) == 0 {
		return "none yet"
	}
	var all []string
	for _, s := range w.sets[len(w.sets)-1] {
		all = append(all, s.ID+"="+s.Addr)
	}
	return strings.Join(all, " ")
}

func (w *watched) sent() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.sets)
}

func (w *watched) notes() string { return fmt.Sprint(w.source.Notes()) }

// want waits for the set that those endpoints make at port.
func (w *watched) want(t *testing.T, limit time.Duration, port int, endpoints ...endpoint) {
	t.Helper()
	var all []string
	for _, e := range endpoints {
		all = append(all, fmt.Sprintf("%s=%s:%d", discoverykubernetes.ServerID(string(e.uid)), e.ip, port))
	}
	slices.Sort(all)
	want := strings.Join(all, " ")
	for end := time.Now().Add(limit); w.last() != want; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("servers within %s: %q, want %q; notes %s", limit, w.last(), want, w.notes())
		}
	}
}

// endpoint is what a controller knows of a pod.
type endpoint struct {
	ip                          string
	uid                         types.UID
	ready, serving, terminating bool
}

func newEndpoint(ip string) endpoint {
	return endpoint{ip: ip, uid: uuid.NewUUID(), ready: true, serving: true}
}

// writeSlice writes a slice as the EndpointSlice controller does.
func writeSlice(t *testing.T, cli kubernetes.Interface, namespace, service, name string, port int32, endpoints ...endpoint) {
	t.Helper()
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: map[string]string{discoveryv1.LabelServiceName: service}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: &port, Protocol: new(corev1.ProtocolTCP)}},
	}
	for _, e := range endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{e.ip},
			Conditions: discoveryv1.EndpointConditions{Ready: &e.ready, Serving: &e.serving, Terminating: &e.terminating},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: "pod-" + string(e.uid)[:5], UID: e.uid},
		})
	}
	api := cli.DiscoveryV1().EndpointSlices(namespace)
	if _, err := api.Update(t.Context(), slice, metav1.UpdateOptions{}); err != nil {
		if _, err := api.Create(t.Context(), slice, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestEndpointsAreFollowed(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	w := watch(t, s.cluster(t, ns).endpoints, discoverykubernetes.Query{Namespace: ns, Service: "api"})
	w.want(t, 10*time.Second, 0) // the first set: there are none
	if !strings.Contains(w.notes(), "no such Service") {
		t.Errorf("notes: %s", w.notes())
	}

	a, b, c := newEndpoint("10.1.0.1"), newEndpoint("10.1.0.2"), newEndpoint("10.1.0.3")
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, a, b)
	w.want(t, 2*time.Second, 8080, a, b)
	writeSlice(t, s.admin, ns, "other", "other-1", 8080, newEndpoint("10.1.0.9"))
	writeSlice(t, s.admin, ns, "api", "api-2", 8080, c)
	w.want(t, 2*time.Second, 8080, a, b, c)

	b.ready, b.serving = false, false
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, a, b)
	w.want(t, 2*time.Second, 8080, a, c)
	if !strings.Contains(w.notes(), "not ready") {
		t.Errorf("notes: %s", w.notes())
	}
	b.ready, b.serving = true, true
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, a, b)
	w.want(t, 2*time.Second, 8080, a, b, c)

	// It still serves, and gets no new requests.
	c.ready, c.terminating = false, true
	writeSlice(t, s.admin, ns, "api", "api-2", 8080, c)
	w.want(t, 2*time.Second, 8080, a, b)
	if !strings.Contains(w.notes(), "being stopped") {
		t.Errorf("notes: %s", w.notes())
	}
	if err := s.admin.DiscoveryV1().EndpointSlices(ns).Delete(t.Context(), "api-1", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	w.want(t, 2*time.Second, 8080)
}

// TestAddressReused: the address of a pod that is gone is given to another at once, in one change of the slice.
func TestAddressReused(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	w := watch(t, s.cluster(t, ns).endpoints, discoverykubernetes.Query{Namespace: ns, Service: "api"})
	upstream := balancer.NewUpstream("api", balancer.DefaultConfig())
	old := newEndpoint("10.1.0.1")
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, old)
	w.want(t, 10*time.Second, 8080, old)
	upstream.Update(w.sets[len(w.sets)-1], time.Now())
	before := upstream.Servers()[0]

	reused := newEndpoint("10.1.0.1")
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, reused)
	w.want(t, 2*time.Second, 8080, reused)
	upstream.Update(w.sets[len(w.sets)-1], time.Now())
	if after := upstream.Servers()[0]; after == before || after.Addr() != before.Addr() {
		t.Errorf("the server of the new pod is the old one: %v", after == before)
	}

	// Both at once, as the controller writes them while the old one ends.
	gone, again := reused, newEndpoint("10.1.0.1")
	gone.ready, gone.terminating = false, true
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, gone, again)
	w.want(t, 2*time.Second, 8080, again)
}

// TestEndpointsBeyondOneSlice: more endpoints than a slice holds, and one that two slices list while it is moved.
func TestEndpointsBeyondOneSlice(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	w := watch(t, s.cluster(t, ns).endpoints, discoverykubernetes.Query{Namespace: ns, Service: "api"})
	var all []endpoint
	for i := range 150 {
		all = append(all, newEndpoint(fmt.Sprintf("10.2.0.%d", i+1)))
	}
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, all[:100]...)
	writeSlice(t, s.admin, ns, "api", "api-2", 8080, all[100:]...)
	w.want(t, 10*time.Second, 8080, all...)
	sent := w.sent()
	writeSlice(t, s.admin, ns, "api", "api-2", 8080, all[99:]...)
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, all[:99]...)
	time.Sleep(500 * time.Millisecond)
	w.want(t, time.Second, 8080, all...)
	if w.sent() != sent {
		t.Errorf("%d sets for an endpoint that was moved, want none", w.sent()-sent)
	}
}

func TestPortByName(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	api := s.cluster(t, ns)
	two := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "api-1", Namespace: ns, Labels: map[string]string{discoveryv1.LabelServiceName: "api"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080))}, {Name: new("metrics"), Port: new(int32(9100))}, {Name: new("dns"), Port: new(int32(53)), Protocol: new(corev1.ProtocolUDP)}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.1.0.1"}}},
	}
	must[*discoveryv1.EndpointSlice](t)(s.admin.DiscoveryV1().EndpointSlices(ns).Create(t.Context(), two, metav1.CreateOptions{}))
	for _, one := range []struct {
		query      discoverykubernetes.Query
		want, note string
	}{
		{discoverykubernetes.Query{}, "", "several ports (8080 http, 9100 metrics)"},
		{discoverykubernetes.Query{Port: 9100}, "10.1.0.1:9100=10.1.0.1:9100", ""},
		{discoverykubernetes.Query{PortName: "http"}, "10.1.0.1:8080=10.1.0.1:8080", ""},
		{discoverykubernetes.Query{Port: 80}, "", "no port 80 in its pods"},
	} {
		one.query.Namespace, one.query.Service = ns, "api"
		w := watch(t, api.endpoints, one.query)
		within(t, 10*time.Second, fmt.Sprintf("%+v gives %q, not %q", one.query, one.want, w.last()), func() bool { return w.last() == one.want })
		if !strings.Contains(w.notes(), one.note) {
			t.Errorf("%+v: notes %s, want %q", one.query, w.notes(), one.note)
		}
	}
}

// TestAPIServerAway: the set stays while the API server hangs, and while it is gone, and what changed meanwhile is seen
// soon after.
func TestAPIServerAway(t *testing.T) {
	away := 30 * time.Second
	if testing.Short() {
		away = 3 * time.Second
	}
	s := ownServer(t)
	ns := s.namespace(t)
	cluster := s.cluster(t, ns)
	w := watch(t, cluster.endpoints, discoverykubernetes.Query{Namespace: ns, Service: "api"})
	a, b := newEndpoint("10.1.0.1"), newEndpoint("10.1.0.2")
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, a, b)
	w.want(t, 10*time.Second, 8080, a, b)
	sent := w.sent()

	begun := time.Now()
	s.signal(t, syscall.SIGSTOP)
	if !testing.Short() {
		within(t, 25*time.Second, "the notes say that the API server hangs", func() bool { return strings.Contains(w.notes(), "are kept") })
		t.Logf("said after %s: %s", time.Since(begun).Round(time.Second), w.notes())
	}
	time.Sleep(away - time.Since(begun))
	if w.sent() != sent {
		t.Errorf("while the API server hung, %d sets were sent: %s", w.sent()-sent, w.last())
	}
	s.signal(t, syscall.SIGCONT)
	within(t, 15*time.Second, "the notes have nothing more to say: "+w.notes(), func() bool { return w.notes() == "[]" })
	c := newEndpoint("10.1.0.3")
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, a, c)
	w.want(t, 5*time.Second, 8080, a, c)

	begun, sent = time.Now(), w.sent()
	s.signal(t, syscall.SIGKILL)
	within(t, 15*time.Second, "the notes say that the API server is gone", func() bool { return strings.Contains(w.notes(), "are kept") })
	time.Sleep(away - time.Since(begun))
	if w.sent() != sent {
		t.Errorf("while the API server was gone, %d sets were sent: %s", w.sent()-sent, w.last())
	}
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, b, c)
	w.want(t, 10*time.Second, 8080, b, c)
	t.Logf("followed again %s after it was back", time.Since(back).Round(time.Millisecond))
	within(t, 5*time.Second, "the notes have nothing more to say: "+w.notes(), func() bool { return w.notes() == "[]" })
}

// TestWatchCut: connections to the API server are cut again and again; nothing is lost and nothing falls out meanwhile.
func TestWatchCut(t *testing.T) {
	s := server(t)
	ns := s.namespace(t)
	front := newCutter(t, s.config)
	w := watch(t, newRooms(t, &rest.Config{Host: front.url}).endpoints, discoverykubernetes.Query{Namespace: ns, Service: "api"})
	all := []endpoint{newEndpoint("10.1.0.1")}
	writeSlice(t, s.admin, ns, "api", "api-1", 8080, all...)
	w.want(t, 10*time.Second, 8080, all...)
	for i := range 8 {
		front.cut()
		all = append(all, newEndpoint(fmt.Sprintf("10.1.0.%d", i+2)))
		writeSlice(t, s.admin, ns, "api", "api-1", 8080, all...)
		w.want(t, 12*time.Second, 8080, all...)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := 1; i < len(w.sets); i++ {
		if len(w.sets[i]) < len(w.sets[i-1]) {
			t.Errorf("set %d has %d servers after %d", i, len(w.sets[i]), len(w.sets[i-1]))
		}
	}
}

// cutter passes requests on to the API server, as the administrator, and cuts all its connections when told to.
type cutter struct {
	url string

	mu    sync.Mutex // guards conns
	conns map[net.Conn]bool
}

func newCutter(t *testing.T, to *rest.Config) *cutter {
	t.Helper()
	target := must[*url.URL](t)(url.Parse(to.Host))
	transport := must[http.RoundTripper](t)(rest.TransportFor(to))
	ln := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	c := &cutter{url: "http://" + ln.Addr().String(), conns: make(map[net.Conn]bool)}
	proxy := &http.Server{
		Handler: &httputil.ReverseProxy{
			Rewrite:       func(r *httputil.ProxyRequest) { r.SetURL(target) },
			Transport:     transport,
			FlushInterval: -1,
			ErrorHandler:  func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) },
		},
		ReadHeaderTimeout: 10 * time.Second,
		ConnState: func(conn net.Conn, state http.ConnState) {
			c.mu.Lock()
			defer c.mu.Unlock()
			switch state {
			case http.StateNew:
				c.conns[conn] = true
			case http.StateClosed, http.StateHijacked:
				delete(c.conns, conn)
			}
		},
	}
	go func() { _ = proxy.Serve(ln) }()
	t.Cleanup(func() { proxy.Close() })
	return c
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for conn := range c.conns {
		conn.Close()
	}
}
