package proxy

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"sluice/balancer"
)

// stoppable is a server of HTTP/2 by prior knowledge that can be shut down in order, and counts its connections.
func stoppable(t *testing.T, handler http.HandlerFunc) (addr string, s *http.Server, open *atomic.Int32) {
	t.Helper()
	open = new(atomic.Int32)
	s = &http.Server{Handler: handler, Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	s.Protocols.SetUnencryptedHTTP2(true)
	s.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		}
	}
	l := must(t, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String(), s, open
}

// A server that goes away in order costs no request, whatever the method: what its GOAWAY leaves out is sent again.
func TestServerOfHTTP2GoesAway(t *testing.T) {
	var mu sync.Mutex
	seen := map[string]int{}
	handler := func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		mu.Lock()
		seen[string(b)]++
		mu.Unlock()
		_, _ = w.Write(b)
	}
	first, going, _ := stoppable(t, handler)
	second, _, _ := stoppable(t, handler)
	up := h2c()
	up.Retry.Budget = 1
	g := newGateway(t, roundRobin(), up, one(RouteConfig{}), first, second)
	var wg sync.WaitGroup
	var sent atomic.Int32
	for n := range 8 {
		wg.Go(func() {
			c := g.dial()
			defer c.Close()
			for i := range 150 {
				body := fmt.Sprintf("%02d %03d", n, i)
				if r := c.do("POST / HTTP/1.1\nHost: x\nContent-Length: 6\n\n" + body); r.StatusCode != 200 || r.body != body {
					t.Errorf("%s: %d %q %s", body, r.StatusCode, r.body, r.Header.Get("X-Sluice-Reason"))
				}
				sent.Add(1)
			}
		})
	}
	g.eventually("a third is sent", func() bool { return sent.Load() > 400 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_ = going.Shutdown(ctx)
	wg.Wait()
	for body, n := range seen {
		if n != 1 {
			t.Errorf("%s was delivered %d times", body, n)
		}
	}
	if len(seen) != 8*150 {
		t.Errorf("%d delivered", len(seen))
	}
}

// Clients that leave at any time leave nothing behind, and disturb nobody on the same connection.
func TestManyStreamsAndClientsThatLeave(t *testing.T) {
	block := strings.Repeat("0123456789abcdef", 4<<10)
	addr, _, open := stoppable(t, func(w http.ResponseWriter, r *http.Request) {
		for range 8 {
			if _, err := io.WriteString(w, block); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), h2c(), one(RouteConfig{}), addr)
	var wg sync.WaitGroup
	for n := range 40 {
		wg.Go(func() {
			for range 5 {
				c := g.dial()
				if n%2 == 0 { // leaves somewhere within the response
					c.send("GET / HTTP/1.1\nHost: x\n\n")
					_, _ = io.CopyN(io.Discard, c.r, rand.Int64N(8*int64(len(block))))
				} else if r := c.do("GET / HTTP/1.1\nHost: x\n\n"); r.err != nil || len(r.body) != 8*len(block) {
					t.Errorf("%d: %d bytes, %v", r.StatusCode, len(r.body), r.err)
				}
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	g.eventually("nothing in flight", func() bool { return g.ups["a"].InFlight() == 0 })
	if n := open.Load(); n > 2 {
		t.Errorf("%d connections for 40 clients", n)
	}
	// A server that leaves the set takes its connections along.
	g.ups["a"].Update(nil, time.Now())
	g.eventually("no connection", func() bool { return open.Load() == 0 })
}

// What a client does not read is held within bounds, and those on the same connection go on.
func TestSlowClientOnASharedConnection(t *testing.T) {
	var written atomic.Int64
	addr, _, open := stoppable(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/endless" {
			_, _ = io.WriteString(w, "quick")
			return
		}
		block := make([]byte, 32<<10)
		for r.Context().Err() == nil {
			n, err := w.Write(block)
			if written.Add(int64(n)); err != nil {
				return
			}
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), h2c(), one(RouteConfig{}), addr)
	var slow []*client
	for range 3 {
		c := g.dial()
		_ = c.Conn.(*net.TCPConn).SetReadBuffer(4 << 10)
		c.send("GET /endless HTTP/1.1\nHost: x\n\n")
		slow = append(slow, c)
	}
	last, since := int64(-1), time.Now()
	g.eventually("the server has to wait", func() bool {
		if now := written.Load(); now != last {
			last, since = now, time.Now()
		}
		return last > 0 && time.Since(since) > 200*time.Millisecond
	})
	if last > 3*(8<<20) { // sockets' buffers in between, and what is read ahead
		t.Errorf("%d bytes of three responses that nobody reads", last)
	}
	for range 20 {
		if r := g.do("GET / HTTP/1.1\nHost: x\n\n"); r.body != "quick" {
			t.Errorf("%d %q", r.StatusCode, r.body)
		}
	}
	if n := open.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	for _, c := range slow {
		_ = c.Close()
	}
	g.eventually("nothing in flight", func() bool { return g.ups["a"].InFlight() == 0 })
}

// A server that has begun to answer, be it by an interim response, has looked at the request, whatever it says of that afterwards. The
// client has heard of it, so nothing is sent again.
func TestNoRetryBehindAnInterimResponse(t *testing.T) {
	for name, refuse := range map[string]func(fr *h2.Framer, id uint32){
		"REFUSED_STREAM": func(fr *h2.Framer, id uint32) { _ = fr.WriteRSTStream(id, h2.ErrCodeRefusedStream) },
		"GOAWAY":         func(fr *h2.Framer, id uint32) { _ = fr.WriteGoAway(0, h2.ErrCodeNo, nil) }, // and the end of the connection
	} {
		for _, method := range []string{"GET", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				var seen atomic.Int32
				passed := make(chan bool)
				addr := h2Server(t, func(fr *h2.Framer, head func(uint32, bool, ...string), _ int) {
					id := nextRequest(fr)
					if seen.Add(1) > 1 {
						head(id, true, ":status=204")
						return
					}
					head(id, false, ":status=103", "link=</a>")
					select {
					case <-passed:
						refuse(fr, id)
					case <-t.Context().Done():
					}
				})
				g := newGateway(t, roundRobin(), h2c(), one(RouteConfig{}), addr)
				c := g.dial()
				defer c.Close()
				c.send(method + " / HTTP/1.1\nHost: x\nContent-Length: 0\n\n")
				if r := c.head(method); r.StatusCode != http.StatusEarlyHints || r.Header.Get("Link") != "</a>" {
					t.Fatalf("got %d", r.StatusCode)
				}
				close(passed)
				(&response{Response: c.head(method)}).wants(t, 502, ReasonServerClosed)
				if n := seen.Load(); n != 1 {
					t.Errorf("%d delivered", n)
				}
			})
		}
	}
}
