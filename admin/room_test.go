package admin

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// crowd opens more connections than there is room for; each sends this, and nothing is read.
func crowd(t *testing.T, addr, text string) {
	t.Helper()
	for range maxConns + 20 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := c.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
	}
}

// A probe is answered whoever else is connected, as it decides whether sluice is started again.
func TestProbesAreAnsweredInACrowd(t *testing.T) {
	const head = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	for what, text := range map[string]string{
		"ask for nothing":      "",
		"do not end the head":  head,
		"do not end the body":  "POST /api/v1/reload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n{",
		"wait after an answer": "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			g, _ := newGateway(t)
			s := start(t, g, Config{Listen: "127.0.0.1:0"}, MetricsConfig{Listen: "127.0.0.1:0"})
			for _, addr := range []string{s.Addr(), s.MetricsAddr()} {
				crowd(t, addr, text)
				for _, path := range []string{"/healthz", "/readyz", "/metrics"} {
					begun := time.Now()
					send(t, addr, "GET", path, "").is(t, 200)
					if took := time.Since(begun); took > 5*time.Second {
						t.Errorf("%s took %s", path, took)
					}
				}
			}
		})
	}
}

// The one that has waited longest makes room.
func TestLongestWaitMakesRoom(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	const ask = "GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
	all := make([]net.Conn, maxConns)
	answered := func(i int) bool {
		_ = all[i].SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := all[i].Write([]byte(ask)); err != nil {
			return false
		}
		resp, err := http.ReadResponse(bufio.NewReader(all[i]), nil)
		return err == nil && resp.StatusCode == 200
	}
	for i := range all {
		var err error
		if all[i], err = net.Dial("tcp", s.Addr()); err != nil {
			t.Fatal(err)
		}
		defer all[i].Close()
		if !answered(i) {
			t.Fatalf("connection %d is not answered", i)
		}
	}
	if !answered(0) { // it waits anew
		t.Fatal("the first connection is gone while there is room")
	}
	// An answer arrives before the server has noted that it was taken.
	noted := func() bool {
		l := s.admin.l
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.asked.Len() == maxConns
	}
	for until := time.Now().Add(5 * time.Second); !noted(); time.Sleep(time.Millisecond) {
		if time.Now().After(until) {
			t.Fatal("not all connections wait for a request")
		}
	}
	send(t, s.Addr(), "GET", "/healthz", "").is(t, 200)
	if answered(1) {
		t.Error("the one that has waited longest is still open")
	}
	if !answered(0) || !answered(2) {
		t.Error("another one made room")
	}
}

// pipes is a listener whose connections hold nothing: what is written waits until it is read.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	c, open := <-p
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.TCPAddr{} }

// Clients that ask and do not take the answer make room too.
func TestUntakenAnswersMakeRoom(t *testing.T) {
	g, _ := newGateway(t)
	p := make(pipes)
	e := newEndpoint(New(g, "1.2.3", slog.New(slog.DiscardHandler)), "", &listener{Listener: p, conns: map[*conn]struct{}{}})
	e.protect(newGuard(":1", "", true))
	e.start()
	t.Cleanup(func() { close(p); _ = e.close(t.Context()) })
	ask := func() net.Conn {
		client, server := net.Pipe()
		t.Cleanup(func() { client.Close() })
		p <- server
		_ = client.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := client.Write([]byte("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		return client
	}
	for range maxConns + 20 {
		ask()
	}
	resp, err := http.ReadResponse(bufio.NewReader(ask()), nil)
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("%v, %v", resp, err)
	}
}

// busyGateway is asked for its readiness and does not answer.
type busyGateway struct {
	*fakeGateway
	asked sync.WaitGroup
	wait  chan struct{}
}

func (g *busyGateway) Ready() error {
	g.asked.Done()
	<-g.wait
	return nil
}

// Requests that are under way are not cut for others: one that is too many is refused.
func TestRequestsUnderWayAreNotCut(t *testing.T) {
	fake, _ := newGateway(t)
	g := &busyGateway{fakeGateway: fake, wait: make(chan struct{})}
	s := local(t, g)
	g.asked.Add(maxRequests)
	var all []net.Conn
	for range maxRequests {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write([]byte("GET /readyz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	g.asked.Wait()
	crowd(t, s.Addr(), "")
	refused := send(t, s.Addr(), "GET", "/healthz", "")
	refused.is(t, 503, `"busy"`)
	if refused.header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	close(g.wait)
	for _, c := range all {
		_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != 200 {
			t.Fatalf("a request that was under way: %v %v", resp, err)
		}
	}
	send(t, s.Addr(), "GET", "/healthz", "").is(t, 200)
}
