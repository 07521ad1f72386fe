package proxy

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/balancer"
)

// Requests of one upstream wait by their route's priority, and those of a key take turns with others.
func TestRoutesOrderTheQueue(t *testing.T) {
	var mu sync.Mutex
	var order []string
	turn := make(chan struct{})
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = 1
	g := newGateway(t, cfg, DefaultUpstreamConfig(), []RouteConfig{
		{Path: "/fair", Upstream: "a", FairBy: "header:X-Tenant"},
		{Path: "/also", Upstream: "a", FairBy: "header:x-tenant"},
		{Path: "/plain", Upstream: "a"},
		{Path: "/low", Upstream: "a", Priority: "low"},
		{Path: "/high", Upstream: "a", Priority: "high", FairBy: "client_ip"},
	}, serve(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		order = append(order, r.URL.Path[1:])
		mu.Unlock()
		<-turn
		_, _ = io.WriteString(w, "ok")
	}))
	var done sync.WaitGroup
	ask := func(path, tenant string) {
		c := g.dial()
		waiting := g.ups["a"].Queued()
		c.send("GET /" + path + " HTTP/1.1\nHost: h\nX-Tenant: " + tenant + "\nConnection: close\n\n")
		done.Go(func() {
			defer c.Close()
			if _, err := io.ReadAll(c); err != nil {
				t.Error(err)
			}
		})
		g.eventually(path, func() bool {
			mu.Lock()
			defer mu.Unlock()
			return g.ups["a"].Queued() == waiting+1 || len(order) == 1 && path == "plain/first"
		})
	}
	ask("plain/first", "")
	for _, r := range []struct{ path, tenant string }{
		{"low/1", ""}, {"fair/a1", "a"}, {"fair/a2", "a"}, {"also/a3", "a"}, {"fair/b1", "b"}, {"plain/1", ""}, {"fair/b2", "b"}, {"high/1", ""},
	} {
		ask(r.path, r.tenant)
	}
	for range 9 {
		turn <- struct{}{}
	}
	done.Wait()
	if got, want := strings.Join(order, " "), "plain/first high/1 fair/a1 fair/b1 plain/1 fair/a2 fair/b2 also/a3 low/1"; got != want {
		t.Errorf("served in the order\n%s, want\n%s", got, want)
	}
}

func TestFairKeysAreOfTheirKind(t *testing.T) {
	key := func(source, route, header string) uint64 {
		k, err := parseLimitKey(source)
		if err != nil {
			t.Fatal(err)
		}
		q := Question{Host: "h", Header: []string{header}, Client: netip.MustParseAddr("192.0.2.1")}
		head, err := q.head()
		if err != nil {
			t.Fatal(err)
		}
		return newFairKey(k, route).of(q.Client, head)
	}
	same := [][2]uint64{
		{key("client_ip", "r", "X-A: 1"), key("client_ip", "s", "X-A: 2")},
		{key("header:X-A", "r", "X-A: 1"), key("header:x-a", "s", "X-A: 1")},
		{key("route", "r", "X-A: 1"), key("route", "r", "X-A: 2")},
	}
	for i, k := range same {
		if k[0] != k[1] || k[0] == 0 {
			t.Errorf("pair %d: keys %x and %x, want the same", i, k[0], k[1])
		}
	}
	seen := map[uint64]int{}
	for i, k := range []uint64{
		key("client_ip", "r", "X-A: 1"), key("header:X-A", "r", "X-A: 1"), key("header:X-B", "r", "X-B: 1"), key("header:X-A", "r", "X-A: 2"),
		key("cookie:X-A", "r", "Cookie: X-A=1"), key("route", "r", "X-A: 1"), key("route", "s", "X-A: 1"),
	} {
		if j, twice := seen[k]; twice {
			t.Errorf("keys %d and %d are the same", j, i)
		}
		seen[k] = i
	}
}

// A request that would wait longer than it may is refused at once and told when to come again.
func TestHopelessRequestIsRefusedAtOnce(t *testing.T) {
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = 1
	cfg.Queue = balancer.QueueConfig{Size: 100, Timeout: time.Second}
	hold := make(chan struct{})
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{}), serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hold" {
			<-hold
		}
		time.Sleep(150 * time.Millisecond)
		_, _ = io.WriteString(w, "ok")
	}))
	for range 10 {
		g.do("GET / HTTP/1.1\nHost: h\n\n").wants(t, 200, "")
	}
	var held []*client
	for i := range 40 {
		c := g.dial()
		defer c.Close()
		c.send(fmt.Sprintf("GET /hold HTTP/1.1\nHost: h\nX-N: %d\n\n", i))
		held = append(held, c)
	}
	g.eventually("refusals", func() bool { return g.rejected("r", ReasonQueueTimeout) > 0 && g.ups["a"].Queued() > 0 })
	begun := time.Now()
	r := g.do("GET / HTTP/1.1\nHost: h\n\n")
	took := time.Since(begun)
	r.wants(t, 503, ReasonQueueTimeout)
	if took > cfg.Queue.Timeout/2 {
		t.Errorf("refused after %v", took)
	}
	if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 3 {
		t.Errorf("Retry-After %q with about a second of requests waiting", r.Header.Get("Retry-After"))
	}
	close(hold)
	for _, c := range held {
		c.head("GET")
	}
}

func TestExplainTellsTheQueue(t *testing.T) {
	ups := map[string]*Upstream{"a": readyUpstream("a", balancer.DefaultConfig(), DefaultUpstreamConfig())}
	table, err := NewTable(TableConfig{Routes: one(RouteConfig{Priority: "low", FairBy: "header:X-Tenant"}), Upstreams: ups}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(table.Explain(Question{Host: "h"}).Limits, "; "), "priority: low in the queue of a; fair_by: the queue of a is shared by header:X-Tenant"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	for _, r := range []RouteConfig{{Priority: "urgent", Upstream: "a"}, {FairBy: "uri", Upstream: "a"}, {Priority: "low", Respond: &RespondConfig{Status: 200}}} {
		if err := CheckRoutes([]RouteConfig{r}); err == nil {
			t.Errorf("%+v is taken", r)
		}
	}
}

// An answer teaches the learned limit when it begins.
func TestAnswersTeachWhenTheyBegin(t *testing.T) {
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = balancer.AutoSlots
	begin, end := make(chan struct{}), make(chan struct{})
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{}), serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-begin
		_, _ = io.WriteString(w, "data: 1\n\n")
		w.(http.Flusher).Flush()
		<-end
	}))
	c := g.dial()
	defer c.Close()
	c.send("GET / HTTP/1.1\nHost: h\n\n")
	r := c.head("GET")
	if n := g.ups["a"].Servers()[0].Taught(); n != 0 {
		t.Errorf("%d were counted at the head", n)
	}
	close(begin)
	if _, err := r.Body.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	g.eventually("the first byte counts", func() bool { return g.ups["a"].Servers()[0].Taught() == 1 })
	close(end)
	if _, err := io.ReadAll(r.Body); err != nil {
		t.Fatal(err)
	}
	g.eventually("the slot is given back", func() bool { return g.ups["a"].InFlight() == 0 })
	if n := g.ups["a"].Servers()[0].Taught(); n != 1 {
		t.Errorf("%d were counted at the end", n)
	}
}
