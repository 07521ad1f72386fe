package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/balancer"
)

// rawServer answers each connection by itself: serve gets it and whether it is the first.
func rawServer(t testing.TB, serve func(c net.Conn, r *bufio.Reader, n int)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	wg.Go(func() {
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open = append(open, c)
			mu.Unlock()
			wg.Go(func() {
				defer c.Close()
				serve(c, bufio.NewReader(c), n)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// deadPort is an address that refuses connections.
func deadPort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func roundRobin() balancer.Config {
	cfg := balancer.DefaultConfig()
	cfg.Balance = "round_robin"
	cfg.Outlier.Errors = 0
	return cfg
}

// Nothing was written to a server that refuses: any method goes to another one.
func TestRetryWhenRefused(t *testing.T) {
	var served atomic.Int64
	g := newGateway(t, roundRobin(), DefaultUpstreamConfig(), one(RouteConfig{}), deadPort(t), serve(t, func(w http.ResponseWriter, r *http.Request) {
		served.Add(1)
		_, _ = io.Copy(w, r.Body)
	}))
	for range 10 {
		if r := g.do("POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi"); r.StatusCode != http.StatusOK || r.body != "hi" {
			t.Fatalf("%d %q", r.StatusCode, r.body)
		}
	}
	if served.Load() != 10 {
		t.Errorf("%d delivered", served.Load())
	}
	if s := g.proxy.Stats().Upstreams[0]; s.Upstream != "a" || s.Retries == 0 {
		t.Errorf("%+v", s)
	}
}

func TestRefusedEverywhere(t *testing.T) {
	g := newGateway(t, roundRobin(), DefaultUpstreamConfig(), one(RouteConfig{}), deadPort(t), deadPort(t))
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 502, ReasonConnectRefused)
	if line := g.lines(1)[0]; line["tries"] != 3.0 {
		t.Errorf("%v tries, want one and two more", line["tries"])
	}
}

// A server that reads the request and closes: an idempotent one is tried elsewhere, any other is not.
func TestRetryRules(t *testing.T) {
	var mu sync.Mutex
	ledger := map[string]int{}
	note := func(id string) {
		mu.Lock()
		defer mu.Unlock()
		ledger[id]++
	}
	closes := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
		if req, err := http.ReadRequest(r); err == nil {
			_, _ = io.Copy(io.Discard, req.Body)
			note(req.URL.Path)
		}
	})
	works := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
		note(r.URL.Path)
	})
	up := DefaultUpstreamConfig()
	up.Retry.Budget = 1
	g := newGateway(t, roundRobin(), up, one(RouteConfig{}), closes, works)
	failed := 0
	for i := range 20 {
		for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "POST", "PATCH"} {
			id := fmt.Sprintf("/%s/%d", method, i)
			body := ""
			if method == "PUT" || method == "POST" {
				body = "hello"
			}
			r := g.do(fmt.Sprintf("%s %s HTTP/1.1\nHost: x\nContent-Length: %d\n\n%s", method, id, len(body), body))
			switch {
			case r.StatusCode == http.StatusBadGateway && (method == "POST" || method == "PATCH"):
				r.wants(t, 502, ReasonServerClosed)
				failed++
			case r.StatusCode != http.StatusOK || method == "PUT" && r.body != body:
				t.Errorf("%s: %d %q", id, r.StatusCode, r.body)
			}
			mu.Lock()
			if n := ledger[id]; n > 1 && (method == "POST" || method == "PATCH") {
				t.Errorf("%s was delivered %d times", id, n)
			}
			mu.Unlock()
		}
	}
	if failed == 0 {
		t.Error("no POST met the server that closes: the test shows nothing")
	}
}

// A kept connection that the server closed is not a try, for any method.
func TestStaleConnections(t *testing.T) {
	var delivered atomic.Int64
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		_, _ = io.Copy(io.Discard, req.Body)
		delivered.Add(1)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") // and closes without a word
	})
	up := DefaultUpstreamConfig()
	up.Retry.Attempts = 0
	g := newGateway(t, roundRobin(), up, one(RouteConfig{}), addr)
	c := g.dial()
	defer c.Close()
	const requests = 300
	failed := 0
	for range requests {
		if r := c.do("POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi"); r.StatusCode != http.StatusOK {
			failed++
		}
	}
	t.Logf("%d of %d failed", failed, requests)
	if n := int(delivered.Load()); n != requests-failed || failed > requests/20 {
		t.Errorf("%d of %d failed, %d delivered", failed, requests, n)
	}
}

func TestRetriesKeepToTheBudget(t *testing.T) {
	var tries atomic.Int64
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(r); err == nil {
			tries.Add(1)
		}
	})
	g := newGateway(t, roundRobin(), DefaultUpstreamConfig(), one(RouteConfig{}), addr)
	const requests = 300
	for range requests {
		g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 502, ReasonServerClosed)
	}
	if n := tries.Load(); n > requests*12/10+3 {
		t.Errorf("%d tries of %d requests", n, requests)
	}
}

// A backend is killed under load: nobody who asked for something idempotent notices.
func TestKilledServer(t *testing.T) {
	slow := func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(5 * time.Millisecond)
		_, _ = io.WriteString(w, "ok")
	}
	victim := &http.Server{Handler: http.HandlerFunc(slow)}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- victim.Serve(l) }()
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), l.Addr().String(), serve(t, slow), serve(t, slow))
	var wg sync.WaitGroup
	var sent, failed atomic.Int64
	var killed atomic.Bool
	for range 16 {
		wg.Go(func() {
			c := g.dial()
			defer c.Close()
			for after := 0; after < 20; {
				sent.Add(1)
				if r := c.do("GET / HTTP/1.1\nHost: x\n\n"); r.StatusCode != http.StatusOK || r.body != "ok" {
					failed.Add(1)
					t.Errorf("%d %q", r.StatusCode, r.Header.Get("X-Sluice-Reason"))
				}
				if killed.Load() {
					after++
				}
			}
		})
	}
	g.eventually("load", func() bool { return sent.Load() > 100 })
	_ = victim.Close() // listener and connections, in the middle of their requests
	<-ended
	killed.Store(true)
	wg.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d failed", failed.Load(), sent.Load())
	}
}

func TestTimeouts(t *testing.T) {
	up := DefaultUpstreamConfig()
	up.Timeouts.FirstByte, up.Timeouts.Idle = 300*time.Millisecond, 200*time.Millisecond
	quit := make(chan bool)
	g := newGateway(t, roundRobin(), up, []RouteConfig{{Name: "r", Upstream: "a"}}, serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/half" {
			w.Header().Set("Content-Length", "10")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-quit:
		case <-r.Context().Done():
		}
	}))
	defer close(quit)
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 504, ReasonFirstByteTimeout)
	r := g.do("GET /half HTTP/1.1\nHost: x\n\n")
	if r.StatusCode != http.StatusOK || r.body != "half" || r.err == nil {
		t.Errorf("%d %q %v, want a response that is cut visibly", r.StatusCode, r.body, r.err)
	}
	if silent := g.line(2, "path", "/"); silent["tries"] != 1.0 {
		t.Errorf("%v tries of a request that the server may be at work on", silent["tries"])
	}
	if half := g.line(2, "path", "/half"); half["status"] != 200.0 || half["reason"] != ReasonIdleTimeout {
		t.Errorf("logged %v", half)
	}
}

// What a bad server sends never looks like a whole answer.
func TestBadResponses(t *testing.T) {
	for _, c := range []struct {
		name, answer, reason string
		status               int
		cut                  bool
	}{
		{"no HTTP", "hello\r\n\r\n", ReasonBadResponse, 502, false},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\na", ReasonBadResponse, 502, false},
		{"length and chunks", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", ReasonBadResponse, 502, false},
		{"unasked switch", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ReasonBadResponse, 502, false},
		{"nothing", "", ReasonServerClosed, 502, false},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-", ReasonServerClosed, 502, false},
		{"short body", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", "", 200, true},
		{"short chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n", "", 200, true},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0x1\r\na\r\n0\r\n\r\n", "", 200, true},
		{"until close", "HTTP/1.1 200 OK\r\n\r\nwhole", "", 200, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := rawServer(t, func(conn net.Conn, r *bufio.Reader, _ int) {
				if _, err := http.ReadRequest(r); err == nil {
					_, _ = io.WriteString(conn, c.answer)
				}
			})
			up := DefaultUpstreamConfig()
			up.Retry.Attempts = 0
			g := newGateway(t, roundRobin(), up, one(RouteConfig{}), addr)
			conn := g.dial()
			defer conn.Close()
			conn.send("GET / HTTP/1.1\nHost: x\n\n")
			got, err := http.ReadResponse(conn.r, nil)
			if c.cut && err != nil {
				return // cut before anything of it went out
			}
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(got.Body)
			(&response{Response: got, body: string(body)}).wants(t, c.status, c.reason)
			if cut := err != nil; cut != c.cut {
				t.Errorf("body %q, %v", body, err)
			}
			g.eventually("slot free", func() bool { return g.ups["a"].InFlight() == 0 })
		})
	}
}

func TestManyInterimResponses(t *testing.T) {
	addr := rawServer(t, func(conn net.Conn, r *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		for range 11 {
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	})
	g := newGateway(t, roundRobin(), DefaultUpstreamConfig(), one(RouteConfig{}), addr)
	c := g.dial()
	defer c.Close()
	c.send("GET / HTTP/1.1\nHost: x\n\n")
	for range 10 {
		if r := c.head("GET"); r.StatusCode != http.StatusEarlyHints || r.Header.Get("Link") != "</a>" {
			t.Fatalf("got %d", r.StatusCode)
		}
	}
	(&response{Response: c.head("GET")}).wants(t, 502, ReasonBadResponse)
}

func TestBreakerOpens(t *testing.T) {
	var asked atomic.Int64
	cfg := roundRobin()
	cfg.Breaker = &balancer.BreakerConfig{FailureRatio: 0.5, MinRequests: 4, OpenFor: time.Minute}
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{}), serve(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	for range 4 {
		g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 500, "")
	}
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 503, ReasonBreakerOpen)
	if asked.Load() != 4 {
		t.Errorf("%d requests reached the server", asked.Load())
	}
}
