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
)

// A server that ends its side of kept connections, or speaks on them unasked, and reads on: a request goes to it on a new connection, whole
// and once, without a retry, and what was said unasked answers nobody.
func TestStaleConnectionIsNotUsed(t *testing.T) {
	acts := map[string]func(c net.Conn){
		"half-closed": func(c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() },
		"bytes":       func(c net.Conn) { answerAs(c, "length", "poison") },
	}
	post := "POST /post HTTP/1.1\nHost: x\n"
	long := strings.Repeat("x", 200<<10)
	requests := []struct{ request, body string }{
		{"GET /post HTTP/1.1\nHost: x\n\n", ""},
		{post + "Content-Length: 5\n\nhello", "hello"},
		{post + "Content-Length: " + strconv.Itoa(len(long)) + "\n\n" + long, long},
		{post + "Transfer-Encoding: chunked\n\n5\nhello\n0\n\n", "hello"},
	}
	for name, act := range acts {
		for _, req := range requests {
			var mu sync.Mutex
			var got []string
			unasked := make(chan bool)
			addr := rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
				for {
					in, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					body, _ := io.ReadAll(in.Body)
					if in.URL.Path == "/post" {
						mu.Lock()
						got = append(got, string(body))
						mu.Unlock()
					}
					answerAs(c, "length", "ok")
					if n == 0 && in.URL.Path != "/post" {
						<-unasked
						act(c)
						unasked <- true
					}
				}
			})
			up := noRetries()
			up.Timeouts.FirstByte = 10 * time.Second
			g := newGateway(t, roundRobin(), up, one(RouteConfig{}), addr)
			c := g.dial()
			c.do(get+"\n").wants(t, 200, "")
			g.eventually("the connection is kept", func() bool { return idleConnections(g) == 1 })
			unasked <- true
			<-unasked
			time.Sleep(10 * time.Millisecond) // it crosses loopback
			if r := c.do(req.request); r.StatusCode != 200 || r.body != "ok" {
				t.Errorf("%s: %s %q", name, r.Status, r.body)
			}
			mu.Lock()
			if len(got) != 1 || got[0] != req.body {
				t.Errorf("%s: delivered %d times", name, len(got))
			}
			mu.Unlock()
			_ = c.Close()
		}
	}
}
