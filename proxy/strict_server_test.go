package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"sluice/balancer"
)

const good = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood"

// badServer answers the first request with answer, then listens, and answers "good" on every other connection. What comes on the
// first connection behind that request is counted: there is none, for such a connection is closed.
type badServer struct {
	addr   string
	later  atomic.Int32
	closed chan bool // the gateway has closed the first connection
}

func startBadServer(t testing.TB, answer string, hangUp bool) *badServer {
	s := &badServer{closed: make(chan bool, 1)}
	s.addr = rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			if n > 0 {
				_, _ = io.WriteString(c, good)
				continue
			}
			_, _ = io.WriteString(c, answer)
			if hangUp {
				_ = c.(*net.TCPConn).CloseWrite()
			}
			b, _ := io.ReadAll(r)
			s.later.Add(int32(len(b)))
			s.closed <- true
			return
		}
	})
	return s
}

// after fails unless the first connection was closed and the next request is answered on another one.
func (s *badServer) after(g *gateway) {
	g.t.Helper()
	select {
	case <-s.closed:
	case <-time.After(5 * time.Second):
		g.t.Error("the connection to the server is kept")
	}
	g.eventually("the slot is free", func() bool { return g.ups["a"].InFlight() == 0 })
	if r := g.do("GET /next HTTP/1.1\nHost: x\n\n"); r.StatusCode != 200 || r.body != "good" || r.err != nil {
		g.t.Errorf("the next request got %d %q, %v", r.StatusCode, r.body, r.err)
	}
	if n := s.later.Load(); n != 0 {
		g.t.Errorf("%d bytes more reached the bad connection", n)
	}
}

func noRetries() UpstreamConfig {
	up := DefaultUpstreamConfig()
	up.Retry.Attempts = 0
	return up
}

// Answers that break HTTP/1.1 become a 502; nothing of them reaches the client.
func TestBadAnswersBecome502(t *testing.T) {
	const more = "\n\nX-Evil-Body"
	for _, row := range []struct{ row, answer string }{
		{"two CL", "HTTP/1.1 200 OK\nX-Evil: 1\nContent-Length: 11\nContent-Length: 5" + more},
		{"two equal CL", "HTTP/1.1 200 OK\nContent-Length: 11\nContent-Length: 11" + more},
		{"CL 11, 11", "HTTP/1.1 200 OK\nContent-Length: 11, 11" + more},
		{"CL +11", "HTTP/1.1 200 OK\nContent-Length: +11" + more},
		{"CL -1", "HTTP/1.1 200 OK\nContent-Length: -1" + more},
		{"CL empty", "HTTP/1.1 200 OK\nContent-Length:" + more},
		{"CL of letters", "HTTP/1.1 200 OK\nContent-Length: eleven" + more},
		{"CL over 64 bits", "HTTP/1.1 200 OK\nContent-Length: 18446744073709551627" + more},
		{"CL and TE", "HTTP/1.1 200 OK\nContent-Length: 11\nTransfer-Encoding: chunked\n\n0\n\n"},
		{"TE on HTTP/1.0", "HTTP/1.0 200 OK\nTransfer-Encoding: chunked\n\n0\n\n"},
		{"TE gzip, chunked", "HTTP/1.1 200 OK\nTransfer-Encoding: gzip, chunked\n\n0\n\n"},
		{"TE identity", "HTTP/1.1 200 OK\nTransfer-Encoding: identity" + more},
		{"TE twice", "HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n"},
		{"NUL in a value", "HTTP/1.1 200 OK\nX: a\x00b\nContent-Length: 11" + more},
		{"NUL in the reason", "HTTP/1.1 200 O\x00K\nContent-Length: 11" + more},
		{"bare CR in a value", "HTTP/1.1 200 OK\nX: a\rSet-Cookie: evil\nContent-Length: 11" + more},
		{"bare CR in the reason", "HTTP/1.1 200 OK\rX: y\nContent-Length: 11" + more},
		{"bare LF", "HTTP/1.1 200 OK\x00LFContent-Length: 11" + more},
		{"obs-fold", "HTTP/1.1 200 OK\nX: y\n z\nContent-Length: 11" + more},
		{"space before the colon", "HTTP/1.1 200 OK\nContent-Length : 11" + more},
		{"space in a name", "HTTP/1.1 200 OK\nX Y: z\nContent-Length: 11" + more},
		{"line without colon", "HTTP/1.1 200 OK\nXY\nContent-Length: 11" + more},
		{"HTTP/0.9", "<html>hello</html>\n\n"},
		{"HTTP/2", "HTTP/2 200 OK\nContent-Length: 11" + more},
		{"another protocol", "SSH-2.0-OpenSSH_9.2\n\n"},
		{"TLS alert", "\x15\x03\x01\x00\x02\x02\x16"},
		{"status 099", "HTTP/1.1 099 Low\nContent-Length: 11" + more},
		{"status 999", "HTTP/1.1 999 High\nContent-Length: 11" + more},
		{"status 000", "HTTP/1.1 000 Zero\nContent-Length: 11" + more},
		{"status of two digits", "HTTP/1.1 20 OK\nContent-Length: 11" + more},
		{"status of four digits", "HTTP/1.1 2000 OK\nContent-Length: 11" + more},
		{"unasked 101", "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: websocket" + more},
		{"101 to h2c", "HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: h2c" + more},
		{"101 without Upgrade", "HTTP/1.1 101 Switching Protocols" + more},
		{"too large a head", "HTTP/1.1 200 OK\nX: " + strings.Repeat("y", 70<<10) + more},
		{"too many fields", "HTTP/1.1 200 OK\n" + strings.Repeat("X: y\n", 300) + more},
	} {
		t.Run(row.row, func(t *testing.T) {
			s := startBadServer(t, onTheWire(row.answer), false)
			g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), s.addr)
			c := g.dial()
			defer c.Close()
			r := c.do(get + "\n")
			r.wants(t, 502, ReasonBadResponse)
			if strings.Contains(r.body, "vil") || r.Header.Get("X-Evil") != "" || r.Header.Get("X") != "" {
				t.Errorf("the client got %v %q", r.Header, r.body)
			}
			s.after(g)
			c.lives() // the client is not to blame
		})
	}
}

// A WebSocket that is asked for is only granted by a 101 that grants one.
func TestBadUpgradesBecome502(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 101 Switching Protocols\nConnection: Upgrade\nUpgrade: h2c\n\nevil",
		"HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\n\nevil",
		"HTTP/1.1 101 Switching Protocols\n\nevil",
	} {
		s := startBadServer(t, onTheWire(answer), false)
		g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), s.addr)
		g.do(get+"Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: x\n\n").wants(t, 502, ReasonBadResponse)
		s.after(g)
	}
}

// Bytes that belong to no answer end the connection they came on; the answer before them stands.
func TestBytesBeyondTheAnswer(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, row := range []struct{ row, method, answer, body string }{
		{"behind a length", "GET", good + evil, "good"},
		{"one byte", "GET", good + "x", "good"},
		{"a CRLF", "GET", good + "\r\n", "good"},
		{"behind chunks", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + evil, "good"},
		{"behind no body", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + evil, ""},
		{"an interim answer", "GET", good + "HTTP/1.1 103 Early Hints\r\n\r\n", "good"},
		{"body of a HEAD", "HEAD", good, ""},
		{"chunked body of a HEAD", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", ""},
		{"body of a 204", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", ""},
		{"chunked body of a 204", "GET", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nevil\r\n0\r\n\r\n", ""},
		{"body of a 304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\n\r\nevil", ""},
	} {
		t.Run(row.row, func(t *testing.T) {
			s := startBadServer(t, row.answer, false)
			g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), s.addr)
			c := g.dial()
			defer c.Close()
			if r := c.do(row.method + " / HTTP/1.1\nHost: x\n\n"); r.StatusCode >= 500 || r.body != row.body || r.err != nil {
				t.Errorf("%d %q, %v", r.StatusCode, r.body, r.err)
			}
			s.after(g)
			c.lives()
		})
	}
}

// Over HTTP/2 it is the stream that they end.
func TestBytesBeyondTheAnswerOverHTTP2(t *testing.T) {
	for _, row := range []struct{ method, status, length string }{{"HEAD", "200", "4"}, {"GET", "204", "4"}, {"GET", "304", "4"}, {"GET", "200", "0"}} {
		t.Run(row.method+" "+row.status, func(t *testing.T) {
			addr := h2Server(t, func(fr *h2.Framer, head func(uint32, bool, ...string), _ int) {
				for id := nextRequest(fr); id != 0; id = nextRequest(fr) {
					head(id, false, ":status="+row.status, "content-length="+row.length)
					_ = fr.WriteData(id, true, []byte("evil"))
				}
			})
			g := newGateway(t, roundRobin(), h2c(), one(RouteConfig{}), addr)
			c := g.dial()
			defer c.Close()
			for range 100 { // the reader of the head is before the surplus or behind it
				if r := c.do(row.method + " / HTTP/1.1\nHost: x\n\n"); fmt.Sprint(r.StatusCode) != row.status || r.body != "" || r.err != nil {
					t.Fatalf("%d %q, %v", r.StatusCode, r.body, r.err)
				}
			}
		})
	}
}

// What comes while nobody asks ends the connection, and nobody gets it.
func TestBytesOnAnIdleConnection(t *testing.T) {
	for _, evil := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", "x", "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", ""} {
		said := make(chan bool)
		addr := rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
			for {
				if _, err := http.ReadRequest(r); err != nil {
					return
				}
				_, _ = io.WriteString(c, good)
				if n == 0 {
					time.Sleep(50 * time.Millisecond) // the gateway keeps the connection meanwhile
					if evil == "" {
						_ = c.(*net.TCPConn).CloseWrite()
					}
					_, _ = io.WriteString(c, evil)
					close(said)
					n++
				}
			}
		})
		g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), addr)
		g.do("POST / HTTP/1.1\nHost: x\nContent-Length: 1\n\na").wants(t, 200, "")
		<-said
		time.Sleep(20 * time.Millisecond) // loopback delivers at once
		for range 3 {
			if r := g.do("POST / HTTP/1.1\nHost: x\nContent-Length: 1\n\na"); r.StatusCode != 200 || r.body != "good" {
				t.Errorf("%q: %d %q", evil, r.StatusCode, r.body)
			}
		}
	}
}

// A body that is cut anywhere or framed badly never looks whole: the client's connection breaks.
func TestCutAnswersShow(t *testing.T) {
	const chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n"
	for _, row := range []struct{ row, answer string }{
		{"no body", "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n"},
		{"one byte short", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\ngood"},
		{"a large one", "HTTP/1.1 200 OK\r\nContent-Length: 1000001\r\n\r\n" + strings.Repeat("good", 100_000)},
		{"no chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"between chunks", chunked},
		{"in a size", chunked + "4"},
		{"in a chunk", chunked + "4\r\ngo"},
		{"before the last CRLF", chunked + "0\r\n"},
		{"in the last CRLF", chunked + "0\r\n\r"},
		{"in a trailer", chunked + "0\r\nX: y\r\n"},
		{"0x5", chunked + "0x5\r\nhello\r\n0\r\n\r\n"},
		{"+5", chunked + "+5\r\nhello\r\n0\r\n\r\n"},
		{"5 and a space", chunked + "5 \r\nhello\r\n0\r\n\r\n"},
		{"overflow", chunked + "10000000000000000\r\n\r\n0\r\n\r\n"},
		{"LF in an extension", chunked + "5;a\nhello\r\n0\r\n\r\n"},
		{"LF at the end", chunked + "0\r\n\n"},
		{"CR at the end", chunked + "0\r\n\r\r"},
		{"longer than said", chunked + "4\r\ngoods\r\n0\r\n\r\n"},
		{"an answer instead of a chunk", chunked + good},
	} {
		t.Run(row.row, func(t *testing.T) {
			for _, version := range []string{"1.1", "1.0"} {
				s := startBadServer(t, row.answer, true)
				g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), s.addr)
				c := g.dial()
				defer c.Close()
				c.send("GET / HTTP/" + version + "\nHost: x\n\n" + smuggled)
				all, reset := c.ends()
				if strings.Contains(all, "0\r\n\r\n") || strings.Count(all, "HTTP/1.1") > 1 {
					t.Errorf("the client got %.200q", all)
				}
				if !reset { // for HTTP/1.0 an end in order would mean that the body is whole
					t.Errorf("HTTP/%s: ended in order after %.200q", version, all)
				}
				s.after(g)
			}
		})
	}
}

// Interim answers: ten pass, an eleventh and endless ones are too many, and none can frame or end the exchange.
func TestInterimFlood(t *testing.T) {
	hint := "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
	for _, row := range []struct {
		row, answer string
		passed      int
		status      int
	}{
		{"ten", strings.Repeat(hint, 10) + good, 10, 200},
		{"eleven", strings.Repeat(hint, 11) + good, 10, 502},
		{"a thousand", strings.Repeat(hint, 1000) + good, 10, 502},
		{"a hundred 100", strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 100) + good, 0, 502},
		{"with a length", "HTTP/1.1 103 Early Hints\r\nContent-Length: 4\r\n\r\n" + good, 1, 200},
		{"with chunks", "HTTP/1.1 103 Early Hints\r\nTransfer-Encoding: chunked\r\n\r\n" + good, 1, 200},
		{"with Connection: close", "HTTP/1.1 103 Early Hints\r\nConnection: close\r\n\r\n" + good, 1, 200},
	} {
		t.Run(row.row, func(t *testing.T) {
			addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
				if _, err := http.ReadRequest(r); err == nil {
					_, _ = io.WriteString(c, row.answer)
					_, _ = io.Copy(io.Discard, r)
				}
			})
			g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), addr)
			c := g.dial()
			defer c.Close()
			c.send(get + "\n")
			for range row.passed {
				r := c.head("GET")
				if r.StatusCode != 103 {
					t.Fatalf("got %d", r.StatusCode)
				}
				for _, name := range []string{"Content-Length", "Transfer-Encoding", "Connection"} {
					if r.Header.Get(name) != "" || len(r.TransferEncoding) > 0 {
						t.Errorf("an interim answer with %s", name)
					}
				}
			}
			if r := c.head("GET"); r.StatusCode != row.status {
				t.Errorf("got %d, want %d", r.StatusCode, row.status)
			}
		})
	}
}
