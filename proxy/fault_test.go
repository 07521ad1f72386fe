package proxy

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/balancer"
)

// Clients and servers that leave at any moment: every slot and place comes back, every request is
// counted once, no answer reaches the wrong client, no POST is delivered twice and no goroutine stays.
func TestFaultsLeaveNothingBehind(t *testing.T) {
	var mu sync.Mutex
	ledger := map[string]int{}
	server := func(seed uint64) string {
		return rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
			rnd := rand.New(rand.NewPCG(seed, uint64(n)))
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				if rnd.IntN(20) == 0 {
					return // before the body was read
				}
				if _, err := io.Copy(io.Discard, req.Body); err != nil {
					return
				}
				id := req.URL.Path
				mu.Lock()
				ledger[req.Method+id]++
				mu.Unlock()
				time.Sleep(time.Duration(rnd.IntN(3)) * time.Millisecond)
				switch rnd.IntN(12) {
				case 0:
					return
				case 1:
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n%s", id)
					return
				case 2:
					fmt.Fprintf(c, "HTTP/1.1 503 Busy\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(id), id)
				case 3:
					fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n%s", id)
					return
				default:
					fmt.Fprintf(c, "HTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(id), id)
				}
			}
		})
	}
	cfg := balancer.DefaultConfig()
	cfg.MaxConns, cfg.Queue = 2, balancer.QueueConfig{Size: 6, Timeout: 20 * time.Millisecond}
	cfg.Outlier.EjectFor = 5 * time.Millisecond
	cfg.Breaker = &balancer.BreakerConfig{FailureRatio: 0.9, MinRequests: 5, OpenFor: 5 * time.Millisecond}
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{LimitConn: &LimitConnConfig{Max: 14, Key: "route", Status: 503}}), server(1), server(2), server(3))
	goroutines := runtime.NumGoroutine()

	var wg sync.WaitGroup
	var answered, cut, refused int
	for n := range 16 {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(7, uint64(n)))
			for i := range 60 {
				id := fmt.Sprintf("/%d/%d", n, i)
				request := "GET " + id + " HTTP/1.1\r\nHost: x\r\n\r\n"
				if rnd.IntN(2) == 0 {
					body := strings.Repeat("b", rnd.IntN(40_000))
					request = fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", id, len(body), body)
				}
				c := g.dial()
				if rnd.IntN(8) == 0 {
					request = request[:rnd.IntN(len(request))]
				}
				if _, err := io.WriteString(c, request); err != nil || rnd.IntN(8) == 0 || !strings.Contains(request, "\r\n\r\n") {
					_ = c.Close()
					continue
				}
				_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // cut requests are not answered
				r, err := http.ReadResponse(c.r, nil)
				var body []byte
				if err == nil {
					if r.StatusCode == http.StatusEarlyHints {
						r, err = http.ReadResponse(c.r, nil)
					}
				}
				if err == nil {
					body, err = io.ReadAll(r.Body)
				}
				mu.Lock()
				switch {
				case err != nil:
					cut++
				case r.Header.Get("X-Sluice-Reason") != "":
					refused++
				case string(body) != id:
					t.Errorf("%s got %q", id, body)
				default:
					answered++
				}
				mu.Unlock()
				_ = c.Close()
			}
		})
	}
	wg.Wait()
	t.Logf("%d answered, %d refused, %d cut", answered, refused, cut)
	if answered < 100 {
		t.Errorf("only %d requests were answered: the test shows little", answered)
	}
	for id, n := range ledger {
		if strings.HasPrefix(id, "POST") && n > 1 {
			t.Errorf("%s was delivered %d times", id, n)
		}
	}
	u := g.ups["a"]
	g.eventually("all slots free", func() bool { return u.InFlight() == 0 && u.Queued() == 0 })
	for _, s := range u.Servers() {
		if s.InFlight() != 0 {
			t.Errorf("%d in flight on %s", s.InFlight(), s.ID())
		}
	}
	g.eventually("all places free", func() bool { return g.places() == 0 })
	var counted uint64
	for _, r := range g.proxy.Stats().Routes {
		for _, n := range r.Requests {
			counted += n
		}
	}
	if lines := len(g.lines(int(counted))); lines != int(counted) {
		t.Errorf("%d requests are counted and %d logged", counted, lines)
	}
	g.eventually("goroutines end", func() bool {
		for _, s := range u.Servers() {
			s.Attached().(interface{ CloseIdle() }).CloseIdle()
		}
		return runtime.NumGoroutine() <= goroutines+2
	})
}
