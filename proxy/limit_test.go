package proxy

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
)

func ok(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") }

func TestAnswersOfItsOwn(t *testing.T) {
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), []RouteConfig{
		{Path: "/move", Redirect: &RedirectConfig{To: "https://$host$request_uri", Status: 308}, Headers: HeadersConfig{Response: map[string]string{"X-A": "1"}}},
		{Path: "/hello", Respond: &RespondConfig{Status: 203, Body: "hello", ContentType: "text/plain"}},
		{Path: "/empty", Respond: &RespondConfig{Status: 204}},
		{Path: "/nobody", Upstream: "b", Headers: HeadersConfig{Response: map[string]string{"Access-Control-Allow-Origin": "*"}}},
	})
	c := g.dial()
	defer c.Close()
	if r := c.do("GET /move?x=1 HTTP/1.1\nHost: h.test\n\n"); r.StatusCode != http.StatusPermanentRedirect || r.Header.Get("Location") != "https://h.test/move?x=1" || r.Header.Get("X-A") != "1" {
		t.Errorf("redirect %d %v", r.StatusCode, r.Header)
	}
	if r := c.do("GET /hello HTTP/1.1\nHost: h\n\n"); r.StatusCode != http.StatusNonAuthoritativeInfo || r.body != "hello" || r.Header.Get("Content-Type") != "text/plain" || r.Header.Get("Date") == "" {
		t.Errorf("respond %d %q %v", r.StatusCode, r.body, r.Header)
	}
	if r := c.do("HEAD /hello HTTP/1.1\nHost: h\n\n"); r.body != "" || r.ContentLength != 5 {
		t.Errorf("HEAD: %q, length %d", r.body, r.ContentLength)
	}
	if r := c.do("GET /empty HTTP/1.1\nHost: h\n\n"); r.StatusCode != http.StatusNoContent || r.body != "" {
		t.Errorf("204: %d %q", r.StatusCode, r.body)
	}
	r := c.do("GET /else HTTP/1.1\nHost: h\nAccept: text/html, application/json;q=0.5\n\n")
	r.wants(t, 404, ReasonNoRoute)
	var e struct {
		Status                     int
		Reason, Message, RequestID string
	}
	if err := json.Unmarshal([]byte(r.body), &e); err != nil || e.Status != 404 || e.Reason != ReasonNoRoute || e.Message == "" {
		t.Errorf("%q: %v", r.body, err)
	}
	r = c.do("GET /nobody HTTP/1.1\nHost: h\n\n")
	r.wants(t, 503, ReasonNoHealthyServer)
	if !strings.Contains(r.body, ReasonNoHealthyServer) || r.Header.Get("Access-Control-Allow-Origin") != "*" {
		t.Errorf("%q %v", r.body, r.Header)
	}
	c.do("GET /public/%00 HTTP/1.1\nHost: h\n\n").wants(t, 400, ReasonBadRequest)
	for _, method := range []string{"OPTIONS", "TRACE"} {
		if r := c.do(method + " /a HTTP/1.1\nHost: h\nMax-Forwards: 0\n\n"); r.Header.Get("Allow") == "" || r.StatusCode != map[string]int{"OPTIONS": 204, "TRACE": 405}[method] {
			t.Errorf("%s that may go no further: %d %v", method, r.StatusCode, r.Header)
		}
	}
	if r := c.do("OPTIONS * HTTP/1.1\nHost: h\n\n"); r.StatusCode != http.StatusNoContent || r.Header.Get("Allow") == "" {
		t.Errorf("OPTIONS *: %d %v", r.StatusCode, r.Header)
	}
	if n := g.rejected("", ReasonNoRoute); n != 1 {
		t.Errorf("no_route counted %d times", n)
	}
	lines := g.lines(8)
	if lines[5]["reason"] != ReasonNoHealthyServer || lines[5]["upstream"] != "b" || lines[5]["status"] != 503.0 {
		t.Errorf("logged %v", lines[5])
	}
}

func TestProtocolErrorsHaveReasons(t *testing.T) {
	g := simple(t, RouteConfig{}, ok)
	for _, c := range []struct {
		request string
		status  int
		reason  string
	}{
		{"GET / HTTP/1.1\n\n", 400, ReasonBadRequest},
		{"GET / HTTP/1.1\nHost: x\nContent-Length: 1\nTransfer-Encoding: chunked\n\n", 400, ReasonBadRequest},
		{"CONNECT x:1 HTTP/1.1\nHost: x:1\n\n", 405, ReasonMethodNotAllowed},
		{"GET / HTTP/1.2\nHost: x\n\n", 505, ReasonBadRequest},
		{"GET / HTTP/1.1\nHost: x\nExpect: tea\n\n", 417, ReasonBadRequest},
		{"GET / HTTP/1.1\nHost: x\nX-Long: " + strings.Repeat("a", 40<<10) + "\n\n", 431, ReasonHeaderTooLarge},
	} {
		r := g.do(c.request)
		r.wants(t, c.status, c.reason)
		if !r.Close {
			t.Errorf("%d: the connection is kept", c.status)
		}
	}
	g.eventually("all counted", func() bool { return g.rejected("", ReasonBadRequest) == 4 })
}

func TestRateLimitOverSockets(t *testing.T) {
	g := simple(t, RouteConfig{RateLimit: &RateLimitConfig{Rate: 0.1, Burst: 2, Key: "header:X-User", Status: 429}}, ok)
	c := g.dial()
	defer c.Close()
	for range 2 {
		c.do("GET / HTTP/1.1\nHost: x\nX-User: a\n\n").wants(t, 200, "")
	}
	r := c.do("GET / HTTP/1.1\nHost: x\nX-User: a\n\n")
	r.wants(t, 429, ReasonRateLimited)
	if wait := r.Header.Get("Retry-After"); wait != "10" {
		t.Errorf("Retry-After %s at 0.1/s", wait)
	}
	c.do("GET / HTTP/1.1\nHost: x\nX-User: b\n\n").wants(t, 200, "")
	c.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 200, "")
	if n := g.rejected("r", ReasonRateLimited); n != 1 {
		t.Errorf("%d counted", n)
	}
	g.store(g.proxy.Table()) // a reload does not fill the buckets
	c.do("GET / HTTP/1.1\nHost: x\nX-User: a\n\n").wants(t, 429, ReasonRateLimited)
}

func TestConnLimit(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	g := simple(t, RouteConfig{LimitConn: &LimitConnConfig{Max: 1, Key: "client_ip", Status: 503}}, func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	})
	c := g.dial()
	defer c.Close()
	c.send("GET / HTTP/1.1\nHost: x\n\n")
	<-arrived
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 503, ReasonConnLimited)
	release <- true
	c.head("GET")
	g.eventually("the place is free", func() bool { return g.places() == 0 })
	go func() { <-arrived; release <- true }()
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 200, "")
}

func TestAllowDeny(t *testing.T) {
	g := simple(t, RouteConfig{Deny: []string{"127.0.0.1"}}, ok)
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 403, ReasonDenied)
	g = simple(t, RouteConfig{Allow: []string{"10.0.0.0/8"}}, ok)
	g.do("GET / HTTP/1.1\nHost: x\nX-Forwarded-For: 10.0.0.1\n\n").wants(t, 403, ReasonDenied)
	g.trust("127.0.0.0/8")
	g.do("GET / HTTP/1.1\nHost: x\nX-Forwarded-For: 10.0.0.1\n\n").wants(t, 200, "")
}

// What is refused is refused before the client is told to send its body.
func TestLimitsComeBefore100Continue(t *testing.T) {
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), []RouteConfig{
		{Name: "small", Path: "/small", Upstream: "a", MaxBody: 10},
		{Name: "limited", Path: "/limited", Upstream: "a", RateLimit: &RateLimitConfig{Rate: 0.001, Burst: 1, Key: "route", Status: 429}},
	}, serve(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	}))
	g.do("POST /small HTTP/1.1\nHost: x\nContent-Length: 11\nExpect: 100-continue\n\n").wants(t, 413, ReasonBodyTooLarge)
	c := g.dial()
	defer c.Close()
	c.send("POST /limited HTTP/1.1\nHost: x\nContent-Length: 2\nExpect: 100-continue\n\n")
	if r := c.head("POST"); r.StatusCode != http.StatusContinue {
		t.Fatalf("got %d before the body", r.StatusCode)
	}
	if r := c.do("hi"); r.StatusCode != http.StatusOK || r.body != "hi" {
		t.Errorf("%d %q", r.StatusCode, r.body)
	}
	g.do("POST /limited HTTP/1.1\nHost: x\nContent-Length: 2\nExpect: 100-continue\n\n").wants(t, 429, ReasonRateLimited)
}

// A body without a declared length is counted while it passes.
func TestMaxBodyOfChunkedBody(t *testing.T) {
	g := simple(t, RouteConfig{MaxBody: 10}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	})
	g.do("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n5\nabcde\n5\nabcde\n0\n\n").wants(t, 200, "")
	g.do("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n5\nabcde\n6\nabcdef\n0\n\n").wants(t, 413, ReasonBodyTooLarge)
	if s := g.ups["a"].Servers()[0]; s.InFlight() != 0 {
		t.Errorf("%d slots taken", s.InFlight())
	}
}

func TestQueueReasons(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	cfg := balancer.DefaultConfig()
	cfg.MaxConns, cfg.Queue = 1, balancer.QueueConfig{Size: 1, Timeout: 2 * time.Second}
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{}), serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		<-release
	}))
	busy := g.dial()
	defer busy.Close()
	busy.send("GET / HTTP/1.1\nHost: x\n\n")
	<-arrived
	waits := g.dial()
	defer waits.Close()
	waits.send("GET / HTTP/1.1\nHost: x\n\n")
	g.eventually("one waits", func() bool { return g.ups["a"].Queued() == 1 })
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 503, ReasonQueueFull)
	(&response{Response: waits.head("GET")}).wants(t, 503, ReasonQueueTimeout)
	next := g.dial()
	defer next.Close()
	next.send("GET / HTTP/1.1\nHost: x\n\n")
	g.eventually("one waits", func() bool { return g.ups["a"].Queued() == 1 })
	release <- true
	<-arrived
	release <- true
	if r := next.head("GET"); r.StatusCode != http.StatusOK {
		t.Errorf("the one that waited got %d", r.StatusCode)
	}
	waited := 0
	for _, line := range g.lines(4) {
		if line["status"] == 200.0 && line["t_queue"].(float64) > 0 {
			waited++
		}
	}
	if waited != 1 {
		t.Errorf("%d lines tell of a request that waited and was served", waited)
	}
}

func TestDraining(t *testing.T) {
	g := simple(t, RouteConfig{}, ok)
	c := g.dial()
	defer c.Close()
	c.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 200, "")
	g.proxy.SetDraining(true)
	c.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 503, ReasonDraining)
}

func TestKeysOfClients(t *testing.T) {
	hash := func(addr string) uint64 { return keySource{}.hash(netip.MustParseAddr(addr), nil) }
	if hash("2001:db8:1:2::1") != hash("2001:db8:1:2:ffff::2") {
		t.Error("two addresses of one /64 are two clients")
	}
	if hash("2001:db8:1:2::1") == hash("2001:db8:1:3::1") || hash("10.0.0.1") == hash("10.0.0.2") {
		t.Error("two clients are one")
	}
	if hash("::ffff:10.0.0.1") != hash("10.0.0.1") {
		t.Error("an IPv4 client is another one in IPv6 form")
	}
}
