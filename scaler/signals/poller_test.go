package signals

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

// waitFor calls f until it is true, at most for 20 s.
func waitFor(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// run makes and runs a poller until the test ends.
func run(t *testing.T, u *balancer.Upstream, cfg scaler.Config) *Poller {
	t.Helper()
	p := New(u, cfg, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { p.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return p
}

// engine is a server whose queue and status a test can set.
type engine struct {
	*httptest.Server
	queue, status atomic.Int64
	asked         atomic.Int64
}

func serve(t *testing.T) *engine {
	m := &engine{}
	m.status.Store(200)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.asked.Add(1)
		if r.URL.Path != "/metrics" {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.WriteHeader(int(m.status.Load()))
		fmt.Fprintf(w, "vllm:num_requests_waiting{engine=\"0\"} %d\n", m.queue.Load())
	}))
	t.Cleanup(m.Close)
	return m
}

func (m *engine) addr() string { return strings.TrimPrefix(m.URL, "http://") }

func vllm(interval, timeout time.Duration) scaler.Config {
	return scaler.Config{Signals: &scaler.SignalsConfig{Preset: "vllm", Interval: interval, Timeout: timeout}}
}

func TestServersAreAsked(t *testing.T) {
	a, b, c := serve(t), serve(t), serve(t)
	u := balancer.NewUpstream("u", balancer.DefaultConfig())
	u.Update([]balancer.ServerSpec{{ID: "a", Addr: a.addr()}, {ID: "b", Addr: b.addr()}, {ID: "c", Addr: c.addr()}}, time.Now())
	for _, id := range []string{"a", "b"} {
		u.Server(id).Probe(nil, 1, 1, time.Now())
	}
	a.queue.Store(3)
	b.queue.Store(4)
	p := run(t, u, vllm(50*time.Millisecond, 5*time.Second))
	heard := func() map[string]scaler.ServerReading {
		all := map[string]scaler.ServerReading{}
		for _, r := range p.Heard().Servers {
			all[r.Server] = r
		}
		return all
	}
	waitFor(t, "both queues are heard", func() bool { h := heard(); return h["a"].Queue == 3 && h["b"].Queue == 4 })
	if e := p.Heard(); !e.Queue || e.Tasks || len(e.Servers) != 2 || c.asked.Load() != 0 {
		t.Errorf("heard %+v; the server that was never ready was asked %d times", e, c.asked.Load())
	}
	at := heard()["b"].At
	b.status.Store(503)
	waitFor(t, "a refusal is heard", func() bool { return heard()["b"].Why == "/metrics answers 503" })
	if h := heard()["b"]; h.Queue != 4 || h.At.Before(at) || time.Since(h.At) > time.Minute {
		t.Errorf("after a refusal the last answer is kept with its age: %+v", h)
	}
	b.status.Store(200)
	b.queue.Store(9)
	waitFor(t, "it answers again", func() bool { h := heard()["b"]; return h.Queue == 9 && h.Why == "" })

	// One that is no longer ready is not asked, and its place is not taken for empty.
	u.Server("b").Probe(fmt.Errorf("down"), 1, 1, time.Now())
	if _, ok := heard()["b"]; !ok {
		t.Error("a server that is not ready any more is not counted")
	}
	// One that drains has no part in what is wanted; one that left is forgotten.
	u.Server("b").Drain()
	if _, ok := heard()["b"]; ok {
		t.Error("a server that drains counts")
	}
	u.Update([]balancer.ServerSpec{{ID: "a", Addr: a.addr()}}, time.Now())
	waitFor(t, "the others are forgotten", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.servers) == 1
	})

	// Another configuration forgets; none asks nothing.
	p.Configure(scaler.Config{Signals: &scaler.SignalsConfig{Queue: "missing", Interval: 50 * time.Millisecond, Timeout: 5 * time.Second}})
	waitFor(t, "what is missing is said", func() bool {
		h := heard()["a"]
		return h.At.IsZero() && strings.Contains(h.Why, "missing: not in the answer")
	})
	p.Configure(scaler.Config{})
	if e := p.Heard(); len(e.Servers) != 0 || e.Queue {
		t.Errorf("heard %+v", e)
	}
}

// Servers that hang, more than are asked at a time, keep nobody from being heard.
func TestHangingServers(t *testing.T) {
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	good := serve(t)
	good.queue.Store(5)
	u := balancer.NewUpstream("u", balancer.DefaultConfig())
	specs := []balancer.ServerSpec{{ID: "good", Addr: good.addr()}}
	for i := range 2 * maxAsked {
		specs = append(specs, balancer.ServerSpec{ID: fmt.Sprint("h", i), Addr: strings.TrimPrefix(hanging.URL, "http://")})
	}
	u.Update(specs, time.Now())
	for _, s := range u.Servers() {
		s.Probe(nil, 1, 1, time.Now())
	}
	p := run(t, u, vllm(time.Second, 300*time.Millisecond))
	waitFor(t, "every hanging server is said to hang, and the good one heard", func() bool {
		silent, heard := 0, false
		for _, r := range p.Heard().Servers {
			if r.Why == "no answer within 300ms" {
				silent++
			}
			heard = heard || r.Server == "good" && r.Queue == 5
		}
		return silent == 2*maxAsked && heard
	})
}

func TestQueryIsKept(t *testing.T) {
	var answer atomic.Value
	answer.Store(`{"status":"success","data":{"resultType":"scalar","result":[1,"42"]}}`)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer.Load()) }))
	cfg := scaler.Config{Prometheus: &scaler.PrometheusConfig{URL: s.URL, Query: "x", PerReplica: 1, Interval: 50 * time.Millisecond, Timeout: 5 * time.Second}}
	p := run(t, balancer.NewUpstream("u", balancer.DefaultConfig()), cfg)
	waitFor(t, "the value", func() bool {
		q := p.Heard().Query
		return q.Value == 42 && q.Why == "" && time.Since(q.At) < time.Minute
	})
	answer.Store(`{"status":"success","data":{"resultType":"vector","result":[]}}`)
	waitFor(t, "no series any more", func() bool { q := p.Heard().Query; return q.Value == 42 && q.Why == "no series" })
	at := p.Heard().Query.At
	s.Close()
	waitFor(t, "nobody listens", func() bool { return strings.Contains(p.Heard().Query.Why, "connection refused") })
	if q := p.Heard().Query; q.At != at {
		t.Errorf("a failure made the value younger: %v, %v", q.At, at)
	}
	again := *cfg.Prometheus // the same configuration, read again
	p.Configure(scaler.Config{Prometheus: &again})
	if p.Heard().Query.At != at {
		t.Error("a reload that changed nothing forgot the value")
	}
	again.Query = "y"
	p.Configure(scaler.Config{Prometheus: &again})
	if q := p.Heard().Query; !q.At.IsZero() || q.Value != 0 {
		t.Errorf("the value of another query is kept: %+v", q)
	}
}

// A panic over an answer costs this answer.
func TestPanicCostsOneAnswer(t *testing.T) {
	u := balancer.NewUpstream("u", balancer.DefaultConfig())
	u.Update([]balancer.ServerSpec{{ID: "a", Addr: "127.0.0.1:1"}}, time.Now())
	u.Server("a").Probe(nil, 1, 1, time.Now())
	cfg := vllm(time.Hour, time.Second)
	cfg.Prometheus = &scaler.PrometheusConfig{URL: "http://127.0.0.1:1", Query: "up", Interval: time.Hour, Timeout: time.Second}
	p := New(u, cfg, slog.New(slog.DiscardHandler))
	var asked sync.WaitGroup
	p.askPrometheus(t.Context(), nil, &asked, time.Now()) // there is no client to ask with
	p.askServers(t.Context(), nil, &asked, make(chan struct{}, 1), time.Now())
	asked.Wait()
	e := p.Heard()
	if len(e.Servers) != 1 || !strings.Contains(e.Servers[0].Why, "internal fault") || !strings.Contains(e.Query.Why, "internal fault") {
		t.Errorf("%+v", e)
	}
}
