package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deafen makes a connection drop whatever comes from now on, as if it was closed before that arrived.
func deafen(t testing.TB, c net.Conn) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	_ = raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
	if err != nil {
		t.Error(err)
	}
}

// A POST that is sent on a kept connection just as the server closes it: when the server's kernel took nothing of it,
// it goes to the server again, which is no retry; when a byte was acknowledged the answer is 502. Either way it is
// delivered once at most.
func TestPostMeetsOrderlyClose(t *testing.T) {
	for _, acked := range []bool{false, true} {
		for _, body := range []string{"hello", strings.Repeat("x", 12<<10)} {
			var mu sync.Mutex
			ledger := map[string]int{}
			ready := make(chan bool)
			closing := make(chan bool)
			addr := rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					mu.Lock()
					ledger[req.URL.Path]++
					mu.Unlock()
					if n == 0 && req.URL.Path == "/post" {
						return // read, and closed without a word
					}
					answerAs(c, "length", "ok")
					if n == 0 && !acked {
						<-ready // the answer was acknowledged
						deafen(t, c)
						ready <- true
						<-closing
						return
					}
				}
			})
			g := newGateway(t, roundRobin(), noRetries(), one(RouteConfig{}), addr)
			c := g.dial()
			if r := c.do(get + "\n"); r.StatusCode != 200 {
				t.Fatal(r.Status)
			}
			g.eventually("the connection is kept", func() bool { return idleConnections(g) == 1 })
			if !acked {
				time.Sleep(10 * time.Millisecond)
				ready <- true
				<-ready
				go func() {
					for g.ups["a"].InFlight() == 0 {
						time.Sleep(time.Millisecond)
					}
					time.Sleep(50 * time.Millisecond) // it was sent
					closing <- true
				}()
			}
			r := c.do("POST /post HTTP/1.1\nHost: x\nContent-Length: " + strconv.Itoa(len(body)) + "\n\n" + body)
			if acked {
				r.wants(t, 502, ReasonServerClosed)
			} else {
				r.wants(t, 200, "")
			}
			mu.Lock()
			if n := ledger["/post"]; n != 1 {
				t.Errorf("acked %v: delivered %d times", acked, n)
			}
			mu.Unlock()
			_ = c.Close()
		}
	}
}

// A retry goes out on a new connection: another kept one may be closing just the same.
func TestRetryTakesANewConnection(t *testing.T) {
	both := make(chan bool, 2)
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
		for first := true; ; first = false {
			if _, err := http.ReadRequest(r); err != nil || !first {
				return // the second request on each connection is read, and the connection closed
			}
			if n < 2 {
				both <- true
				for len(both) < 2 {
					time.Sleep(time.Millisecond)
				}
			}
			answerAs(c, "length", "ok")
		}
	})
	up := DefaultUpstreamConfig()
	up.Retry.Attempts = 1
	g := newGateway(t, roundRobin(), up, one(RouteConfig{}), addr)
	var done sync.WaitGroup
	for range 2 {
		done.Go(func() { g.do(get+"Connection: close\n\n").wants(t, 200, "") })
	}
	done.Wait()
	g.eventually("two connections are kept", func() bool { return idleConnections(g) == 2 })
	g.do(get+"Connection: close\n\n").wants(t, 200, "")
	if n := g.ups["a"].Servers()[0].Attached().(*server).Live(); n != 2 {
		t.Errorf("%d connections are open", n)
	}
}
