package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/balancer"
)

// Clients that close their half of the connection once they have asked are served as nginx serves them: answers of the gateway itself
// reach them, also refusals; a request that waits for a server is given up (499), as the gateway cannot tell them from clients that left.
func TestHalfClosedClients(t *testing.T) {
	arrived, canceled := make(chan bool, 1), make(chan bool, 1)
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- true
		select {
		case <-r.Context().Done():
			canceled <- true
		case <-time.After(10 * time.Second):
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), []RouteConfig{
		{Name: "up", Path: "/up", Upstream: "a"},
		{Name: "fixed", Path: "/fixed", Respond: &RespondConfig{Status: 200, Body: strings.Repeat("x", 100_000)}},
		{Name: "to", Path: "/to", Redirect: &RedirectConfig{To: "https://x/", Status: 302}},
		{Name: "denied", Path: "/denied", Upstream: "a", Deny: []string{"127.0.0.0/8"}},
		{Name: "small", Path: "/small", Upstream: "a", MaxBody: 1},
		{Name: "limited", Path: "/limited", Upstream: "a", RateLimit: &RateLimitConfig{Rate: 0.001, Burst: 1, Key: "route", Status: 429}},
	}, backend)
	halfClosed := func(request string) *client {
		c := g.dial()
		c.send(request)
		_ = c.Conn.(*net.TCPConn).CloseWrite()
		return c
	}
	first := g.dial()
	first.send("GET /limited HTTP/1.1\nHost: x\n\n") // takes the only token
	<-arrived
	for _, row := range []struct {
		request string
		status  int
		reason  string
	}{
		{"GET /fixed HTTP/1.1\nHost: x\n\n", 200, ""},
		{"GET /to HTTP/1.1\nHost: x\n\n", 302, ""},
		{"GET /nowhere HTTP/1.1\nHost: x\n\n", 404, ReasonNoRoute},
		{"GET /denied HTTP/1.1\nHost: x\n\n", 403, ReasonDenied},
		{"GET /limited HTTP/1.1\nHost: x\n\n", 429, ReasonRateLimited},
		{"POST /small HTTP/1.1\nHost: x\nContent-Length: 2\n\nab", 413, ReasonBodyTooLarge},
		{"GET / HTTP/1.1\nHost: x\nHost: y\n\n", 400, ReasonBadRequest},
		{"GET / HTTP/3.0\nHost: x\n\n", 505, ReasonBadRequest},
	} {
		for _, pause := range []time.Duration{0, 20 * time.Millisecond} {
			c := g.dial()
			head, rest := row.request[:5], row.request[5:]
			c.send(head)
			time.Sleep(pause)
			c.send(rest)
			_ = c.Conn.(*net.TCPConn).CloseWrite()
			r, err := http.ReadResponse(c.r, nil)
			if err != nil {
				t.Errorf("%q: %v", row.request, err)
				continue
			}
			b, err := io.ReadAll(r.Body)
			if err != nil {
				t.Errorf("%q: %v", row.request, err)
			}
			(&response{Response: r, body: string(b)}).wants(t, row.status, row.reason)
			_ = c.Close()
		}
	}
	_ = first.Close()
	<-canceled
	c := halfClosed("GET /up HTTP/1.1\nHost: x\n\n")
	defer c.Close()
	if all, _ := c.ends(); all != "" {
		t.Errorf("got %q", all)
	}
	g.eventually("the slot is free", func() bool { return g.ups["a"].InFlight() == 0 })
	if line := g.line(18, "path", "/up"); line["status"] != 499.0 || line["reason"] != ReasonClientClosed {
		t.Errorf("logged %v", line)
	}
}

// A client that leaves while its request waits in the queue, for a connection, for the first byte or for more of the body frees what it
// holds within 250 ms, and the server is told; the next in the queue gets the slot.
func TestLeavingFreesTheSlotAtOnce(t *testing.T) {
	arrived, canceled := make(chan string, 8), make(chan string, 8)
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = 1
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{}), serve(t, func(w http.ResponseWriter, r *http.Request) {
		arrived <- r.URL.Path
		if strings.HasPrefix(r.URL.Path, "/body") {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		canceled <- r.URL.Path
	}))
	const soon = time.Second // four times what is promised, for a busy machine
	var slowest time.Duration
	took := func(what string, begun time.Time) {
		t.Helper()
		d := time.Since(begun)
		slowest = max(slowest, d)
		if d > soon {
			t.Errorf("%s after %v", what, d)
		}
	}
	u := g.ups["a"]
	for round := range 5 {
		for _, path := range []string{"/first", "/body"} {
			path = fmt.Sprintf("%s/%d", path, round)
			holder := g.dial()
			holder.send("GET " + path + " HTTP/1.1\nHost: x\n\n")
			<-arrived
			if strings.HasPrefix(path, "/body") {
				holder.head("GET")
			}
			waits, leaves := g.dial(), g.dial()
			leaves.send("GET /leaves HTTP/1.1\nHost: x\n\n")
			g.eventually("one waits", func() bool { return u.Queued() == 1 })
			waits.send("GET /waits HTTP/1.1\nHost: x\n\n")
			g.eventually("two wait", func() bool { return u.Queued() == 2 })

			begun := time.Now()
			_ = leaves.Close()
			g.eventually("one waits", func() bool { return u.Queued() == 1 })
			took("out of the queue", begun)

			begun = time.Now()
			_ = holder.Close()
			if next := <-arrived; next != "/waits" {
				t.Errorf("%s has the slot", next)
			}
			took("the next has the slot", begun)
			if told := <-canceled; told != path {
				t.Errorf("%s was canceled", told)
			}
			took("the server is told", begun)

			begun = time.Now()
			_ = waits.Close()
			g.eventually("the slot is free", func() bool { return u.InFlight() == 0 })
			took("free", begun)
			<-canceled
		}
	}
	t.Logf("%v at most", slowest)
}

// Whenever a client leaves after it has asked, on a new or a kept connection, by a close or of its half, it is noticed
// at once: there is no moment in which its FIN passes unseen.
func TestLeavingAtAnyMoment(t *testing.T) {
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/waits" {
			<-r.Context().Done()
		}
	})
	u := g.ups["a"]
	free := func() bool { return u.InFlight() == 0 }
	var slowest time.Duration
	for round := range 400 {
		c := g.dial()
		if round%2 == 0 {
			c.do("GET / HTTP/1.1\nHost: x\n\n")
		}
		pause := time.Duration(round/4) * 5 * time.Microsecond
		c.send("GET /waits HTTP/1.1\nHost: x\n\n")
		for begun := time.Now(); time.Since(begun) < pause; {
		}
		begun := time.Now()
		if round%4 < 2 {
			_ = c.Close()
		} else {
			_ = c.Conn.(*net.TCPConn).CloseWrite()
		}
		g.eventually("the connection is over", func() bool { open, _ := g.server.Conns(); return open == 0 && free() })
		slowest = max(slowest, time.Since(begun))
		_ = c.Close()
	}
	if t.Logf("%v at most", slowest); slowest > time.Second { // four times what is promised, for a busy machine
		t.Errorf("noticed after %v", slowest)
	}
}

// A client that does not read holds no slot for a small answer: once all of it was read the server is free, also to be asked again on
// the same connection, and what the client cannot take yet is kept for it. A large answer is not kept in memory.
func TestSlowClientHoldsNoSlotForASmallAnswer(t *testing.T) {
	for _, framing := range []string{"length", "chunked"} {
		for _, size := range []int{1 << 10, 6 << 10, 15 << 10, 200 << 10, 1 << 20, 4 << 20} {
			if framing == "chunked" && size == 1<<20 {
				continue // how long it is was not known
			}
			t.Run(fmt.Sprint(framing, " ", size), func(t *testing.T) {
				body := strings.Repeat("0123456789abcdef", size/16)
				arrived, sent := make(chan bool), make(chan bool)
				addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
					if _, err := http.ReadRequest(r); err == nil {
						close(arrived)
						answerAs(c, framing, body)
						close(sent)
					}
				})
				g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), addr)
				c := g.dialSlow()
				defer c.Close()
				c.send(get + "Connection: close\n\n")
				<-arrived // with a slot
				if size <= 1<<20 {
					<-sent
					begun := time.Now()
					g.eventually("the slot is free", func() bool { return g.ups["a"].InFlight() == 0 && idleConnections(g) == 1 })
					if d := time.Since(begun); d > time.Second { // four times what is promised, for a busy machine
						t.Errorf("the slot is free after %v", d)
					}
				} else {
					time.Sleep(200 * time.Millisecond)
					if n := g.ups["a"].InFlight(); n != 1 {
						t.Errorf("%d slots are held: the whole answer is kept in memory", n)
					}
				}
				if b, err := io.ReadAll(c.head("GET").Body); string(b) != body || err != nil {
					t.Fatalf("%d bytes, %v", len(b), err)
				}
			})
		}
	}
}

func answerAs(c net.Conn, framing, body string) {
	switch framing {
	case "length":
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	case "chunked":
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body)
	}
}

// dialSlow gives a connection that takes little: the buffers on both of its ends are small.
func (g *gateway) dialSlow() *client {
	g.t.Helper()
	small := func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) {
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
			_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4096)
		})
	}
	listen := net.ListenConfig{Control: small}
	l, err := listen.Listen(g.t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		g.t.Fatal(err)
	}
	go func() { _ = g.server.Serve(l) }()
	dial := net.Dialer{Control: small}
	nc, err := dial.Dial("tcp", l.Addr().String())
	if err != nil {
		g.t.Fatal(err)
	}
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{nc, g, bufio.NewReaderSize(nc, 4096)}
}
