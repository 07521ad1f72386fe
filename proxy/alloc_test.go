package proxy

import (
	"bytes"
	"context"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// A request allocates nothing: routing, allow, rate limit, limit_conn, slots, breaker, edits, sticky
// cookie, X-Forwarded-*, counters and, in the second case, the access log. The heap as a whole is counted,
// with a client and a server that allocate nothing themselves.
func TestRequestsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	for _, c := range []struct {
		name, format string
		trusted      bool
		request      string
	}{
		{"log off", "off", false, "GET /api/v1/things?x=1 HTTP/1.1\r\n"},
		{"json log", "json", false, "GET /api/v1/things?x=1&token=secret HTTP/1.1\r\n"},
		{"logfmt, trusted peer", "logfmt", true, "GET /api/v1/things HTTP/1.1\r\nX-Forwarded-For: 192.0.2.7\r\nX-Request-Id: abc\r\n"},
		{"combined log, odd path", "combined", false, "GET /api//v1/caf%C3%A9/./x HTTP/1.1\r\nReferer: http://x/?key=1\r\n"},
		{"body", "json", false, "POST /api/v1/things HTTP/1.1\r\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nServer: raw\r\nContent-Length: 5\r\n\r\nhello")
			addr := rawLoop(t, answer)
			cfg := balancer.DefaultConfig()
			cfg.MaxConns = balancer.AutoSlots
			cfg.Breaker = &balancer.BreakerConfig{FailureRatio: 0.5, MinRequests: 20, OpenFor: time.Second}
			cfg.Sticky = &balancer.StickyConfig{Cookie: "sluice_server"}
			g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{
				Host: []string{"api.test"}, Path: "/api",
				Allow:     []string{"127.0.0.0/8", "192.0.2.0/24"},
				RateLimit: &RateLimitConfig{Rate: 1e6, Burst: 1e6, Key: "client_ip", Status: 429},
				LimitConn: &LimitConnConfig{Max: 100, Key: "client_ip", Status: 503},
				MaxBody:   1000,
				Priority:  "high",
				FairBy:    "header:User-Agent",
				Headers:   HeadersConfig{Request: map[string]string{"X-Env": "test", "Cookie": ""}, Response: map[string]string{"Server": ""}},
			}), addr)
			log, err := NewAccessLog(c.format, io.Discard)
			if err != nil {
				t.Fatal(err)
			}
			defer log.Close()
			g.proxy.SetAccessLog(log)
			if c.trusted {
				g.trust("127.0.0.0/8")
			}
			request := []byte(c.request + "Host: api.test\r\nUser-Agent: test\r\nAccept: */*\r\nCookie: a=b; sluice_server=zzz\r\n")
			if c.name == "body" {
				request = append(request, "Content-Length: 4\r\n\r\nbody"...)
			} else {
				request = append(request, "\r\n"...)
			}
			conn, err := net.Dial("tcp", g.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			buf := make([]byte, 4096)
			length := 0
			ask := func() {
				if _, err := conn.Write(request); err != nil {
					t.Fatal(err)
				}
				n := 0
				for length == 0 || n < length {
					got, err := conn.Read(buf[n:])
					if err != nil {
						t.Fatal(err)
					}
					n += got
					if length == 0 && bytes.HasSuffix(buf[:n], []byte("hello")) {
						length = n
					}
				}
				if !bytes.HasPrefix(buf, []byte("HTTP/1.1 200 ")) {
					t.Fatalf("%s", buf[:n])
				}
			}
			for range 2000 {
				ask()
			}
			defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties pools
			var before, after runtime.MemStats
			const requests = 5000
			runtime.ReadMemStats(&before)
			for range requests {
				ask()
			}
			runtime.ReadMemStats(&after)
			each := float64(after.Mallocs-before.Mallocs) / requests
			t.Logf("%.4f allocations, %.1f bytes a request", each, float64(after.TotalAlloc-before.TotalAlloc)/requests)
			if each >= 0.05 {
				t.Errorf("%.4f allocations a request", each)
			}
		})
	}
}

// rawLoop answers every request with the same bytes and allocates nothing doing so.
func rawLoop(t testing.TB, answer []byte) string {
	t.Helper()
	l, err := http1.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 8192)
				n := 0
				for {
					got, err := c.Read(buf[n:])
					if err != nil {
						return
					}
					n += got
					if bytes.HasSuffix(buf[:n], []byte("\r\n\r\n")) || bytes.HasSuffix(buf[:n], []byte("\r\n\r\nbody")) {
						n = 0
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// BenchmarkHandle is a whole request over two sockets, with client and server in the same process.
func BenchmarkHandle(b *testing.B) {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
	g := newGateway(b, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rawLoop(b, answer))
	g.proxy.SetAccessLog(nil)
	conn, err := net.Dial("tcp", g.addr)
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	request, buf := []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := conn.Write(request); err != nil {
			b.Fatal(err)
		}
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}
