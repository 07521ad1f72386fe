package admin

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/proxy"
	"sluice/proxy/https"
	"sluice/scaler"
	"sluice/scaler/vertical"
)

// fakeGateway has real upstreams and counted traffic that does not change.
type fakeGateway struct {
	mu        sync.Mutex // guards all below
	ready     error
	running   Running
	upstreams []Upstream
	traffic   proxy.Stats
	reload    error
	reloads   int
	asked     proxy.Question
}

func (g *fakeGateway) Ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ready
}

func (g *fakeGateway) Running() Running {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.running
}

func (g *fakeGateway) DumpConfig() ([]byte, error) {
	return []byte("[admin]\ntoken = \"(secret)\"\n"), nil
}

func (g *fakeGateway) Upstreams() []Upstream {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.upstreams
}

func (g *fakeGateway) Traffic() proxy.Stats { return g.traffic }

func (g *fakeGateway) Reload(context.Context) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.reloads++
	g.running.Config.TriedAt = g.running.Config.TriedAt.Add(time.Second)
	if g.reload != nil {
		g.running.Config.Error = g.reload.Error()
		return g.reload
	}
	g.running.Config.Generation++
	return nil
}

func (g *fakeGateway) Explain(q proxy.Question) proxy.Explanation {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.asked = q
	if q.Host == "old.example" {
		return proxy.Explanation{Route: "old", Upstream: "old"}
	}
	return proxy.Explanation{Route: "api", Upstream: "demo"}
}

type fakeScaler struct {
	mu     sync.Mutex // guards all below
	status scaler.Status
	recent []scaler.Event
}

func (s *fakeScaler) Recent() []scaler.Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.recent
}

func (s *fakeScaler) Status() scaler.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *fakeScaler) Pin(n int, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Pinned, s.status.Wanted, s.status.Until = true, n, until
}

func (s *fakeScaler) Unpin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Pinned, s.status.Until = false, time.Time{}
}

var loaded = time.Date(2026, 3, 1, 12, 0, 0, 500e6, time.UTC)

// newGateway has "demo", scaled, with one ready and one starting server, and "old" with a fixed one.
func newGateway(t *testing.T) (*fakeGateway, *fakeScaler) {
	t.Helper()
	now := time.Now()
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = 4
	cfg.Breaker = &balancer.BreakerConfig{FailureRatio: 0.5, MinRequests: 2, OpenFor: time.Hour}
	demo := balancer.NewUpstream("demo", cfg)
	demo.Update([]balancer.ServerSpec{{ID: "demo-1", Addr: "127.0.0.1:40001"}, {ID: "demo/2", Addr: "127.0.0.1:40002"}}, now)
	demo.Server("demo-1").Probe(nil, 1, 2, now)
	old := balancer.NewUpstream("old", balancer.DefaultConfig())
	old.Update([]balancer.ServerSpec{{ID: "10.0.0.1:80", Addr: "10.0.0.1:80", Weight: 3}}, now)
	t.Cleanup(func() { demo.Close(); old.Close() })
	told := scaler.ServerReading{
		Server: "demo-1", At: now, Queue: 12, Tasks: 3, Running: 4, CacheUsage: 0.25, ModelsLoaded: 1, VectorCollections: 2, VectorPendingOperations: 0,
		Models: []scaler.ModelMemory{{Model: "gemma3:4b", Bytes: 6.59e9}},
	}
	stale := told
	stale.Server, stale.At = "demo/2", now.Add(-time.Hour)
	s := &fakeScaler{status: scaler.Status{
		Usage: []scaler.Usage{
			{Replica: "demo-1", At: time.Now(), CPU: 0.75, Memory: 50 << 20, CPUShare: 0.5, MemoryShare: math.NaN(), Every: time.Minute},
			{Replica: "demo-2", At: time.Now().Add(-time.Minute), CPU: 9},
			{Replica: "demo-3", Why: "never heard of"},
		},
		Vertical: &scaler.VerticalStatus{
			Mode: "apply", Known: true, Reason: "replica demo-1: 1 cores to 0.5 cores", Trouble: "busy",
			Recommendation: vertical.Recommendation{
				Target: vertical.Resources{CPUs: .5, Memory: 100 << 20}, Lower: vertical.Resources{CPUs: .25, Memory: 64 << 20}, Upper: vertical.Resources{CPUs: 2, Memory: 200 << 20}, Days: 1.5,
			},
			Replicas: []scaler.Allowance{{Replica: "demo-1", Has: vertical.Resources{CPUs: .5, Memory: 128 << 20}, Waits: "no room"}},
		},
		External: scaler.External{Fresh: 10 * time.Minute, Servers: []scaler.ServerReading{told, stale, scaler.Untold("demo-3")}},
		Wanted:   3, Ready: 1, Starting: 2, Coming: []string{"demo/2", "demo-3"}, Min: 1, Max: 6, Mode: "apply", Reason: "queue 12 at 4 per replica", At: loaded,
		Decisions: map[[2]string]uint64{{"up", "queue"}: 2}, Errors: 1,
		StartSeconds: balancer.HistogramReading{Bounds: []float64{1, 5}, Counts: []uint64{1, 1, 1}, Sum: 12, Count: 3},
	}}
	g := &fakeGateway{
		running: Running{
			Config: ConfigStatus{File: "config.toml", Generation: 3, LoadedAt: loaded},
			Engine: EngineStatus{Kind: "none", Why: "no Docker socket"},
		},
		upstreams: []Upstream{
			{Upstream: old},
			{Upstream: demo, Scaler: s, Driver: "process", Notes: []Note{{"web-1", "no network is shared"}}},
		},
		traffic: proxy.Stats{
			TLS: https.Stats{
				Handshakes: []https.Handshakes{{Version: "1.3", Result: "ok", Count: 4}, {Result: "timeout", Count: 1}},
				Expiries:   map[string]time.Time{"*.example.com": time.Now().Add(time.Hour)},
				Failures:   map[string]uint64{"api.example.com": 2},
			},
			Routes: []proxy.RouteStats{
				{Route: "", Requests: map[int]uint64{404: 2}, Rejected: map[string]uint64{"no_route": 2}},
				{Route: "api", Upstream: "demo", Requests: map[int]uint64{200: 7, 499: 1}, Duration: proxy.DurationStats{Buckets: cumulative(3), Count: 8, Seconds: 4.5}},
			},
			Upstreams: []proxy.UpstreamStats{{Upstream: "demo", Retries: 5}},
			Protocols: []proxy.ProtocolStats{{Protocol: "http2", TLS: "1.3", Requests: 6}},
		},
	}
	return g, s
}

// cumulative is a histogram with all n below its first bound.
func cumulative(n uint64) (b [len(proxy.DurationBuckets)]uint64) {
	for i := range b {
		b[i] = n
	}
	return b
}

func start(t *testing.T, g Gateway, cfg Config, m MetricsConfig) *Server {
	t.Helper()
	s := New(g, "1.2.3", slog.New(slog.DiscardHandler))
	s.events.period = 5 * time.Millisecond
	if err := s.Configure(cfg, m); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		s.Shutdown(ctx)
	})
	return s
}

func local(t *testing.T, g Gateway) *Server {
	t.Helper()
	return start(t, g, Config{Listen: "127.0.0.1:0"}, MetricsConfig{})
}

type answer struct {
	status int
	header http.Header
	body   string
}

// send makes one request; fields are "Name: value".
func send(t *testing.T, addr, method, path, body string, fields ...string) answer {
	t.Helper()
	var dial net.Dialer
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if path, ok := socketPath(addr); ok {
				return dial.DialContext(ctx, "unix", path)
			}
			return dial.DialContext(ctx, "tcp", addr)
		},
	}}
	host := addr
	if _, ok := socketPath(addr); ok {
		host = "localhost"
	}
	req, err := http.NewRequest(method, "http://"+host+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "Host" {
			req.Host = value
		}
		req.Header.Set(name, value)
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(bufio.NewReader(resp.Body))
	if err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, resp.Header, string(b)}
}

func (a answer) is(t *testing.T, status int, words ...string) {
	t.Helper()
	if a.status != status {
		t.Errorf("status %d, want %d; body %s", a.status, status, a.body)
	}
	for _, w := range words {
		if !strings.Contains(a.body, w) {
			t.Errorf("body lacks %q: %s", w, a.body)
		}
	}
}

func TestStatusOfVerticalSizing(t *testing.T) {
	g, s := newGateway(t)
	addr := local(t, g).Addr()
	a := send(t, addr, "GET", "/api/v1/status", "")
	a.is(t, 200)
	for _, want := range []string{
		`"vertical":{"mode":"apply","target":{"cpus":0.5,"memory":104857600},"lower":{"cpus":0.25,"memory":67108864},"upper":{"cpus":2,"memory":209715200},"days":1.5,` +
			`"replicas":[{"id":"demo-1","cpus":0.5,"memory":134217728,"waits":"no room"}],"reason":"replica demo-1: 1 cores to 0.5 cores","failure":"busy"}`,
	} {
		if flat := strings.Join(strings.Fields(a.body), ""); !strings.Contains(flat, strings.ReplaceAll(want, " ", "")) {
			t.Errorf("no %s in %s", want, a.body)
		}
	}
	s.status.Vertical = &scaler.VerticalStatus{Mode: "recommend"}
	if a = send(t, addr, "GET", "/api/v1/status", ""); strings.Contains(a.body, `"target"`) || !strings.Contains(a.body, `"recommend"`) {
		t.Errorf("nothing is known: %s", a.body)
	}
	if text, _ := scrape(t, addr); strings.Contains(text, "sluice_vertical_") {
		t.Error("nothing is known, and there are metrics")
	}
}
