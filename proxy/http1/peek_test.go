package http1

import (
	"bufio"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Whatever a server does with a kept connection until the request is sent: none of the request goes out on it, by whichever way it
// would go, it is found out at once, and what the server sent answers nobody. As the only request, and as one of many.
func TestNothingIsSentOnAStaleConnection(t *testing.T) {
	t.Run("one", func(t *testing.T) { nothingIsSentOnAStaleConnection(t, nil) })
	if amongMany != nil {
		t.Run("many", func(t *testing.T) { nothingIsSentOnAStaleConnection(t, amongMany) })
	}
}

// amongMany makes the next look at u one for many requests, where there is such a thing.
var amongMany func(u *UpConn)

func nothingIsSentOnAStaleConnection(t *testing.T, prepare func(u *UpConn)) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\n"
	large := "X: " + strings.Repeat("x", 2*outSize) + "\r\n"
	requests := []struct{ name, head, body, later, echo string }{
		{"GET", getRoot, "", "", ""},
		{"GET, large head", "GET / HTTP/1.1\r\nHost: a\r\n" + large + "\r\n", "", "", ""},
		{"POST", post + "Content-Length: 5\r\n\r\n", "hello", "", "hello"},
		{"POST, large head", post + large + "Content-Length: 5\r\n\r\n", "hello", "", "hello"},
		{"POST, body to come", post + "Content-Length: 10\r\n\r\n", "hello", "world", "helloworld"},
		{"POST, chunks", post + "Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n0\r\n\r\n", "", "hello"},
		{"POST, chunks to come", post + "Transfer-Encoding: chunked\r\n\r\n", "5\r\nhello\r\n", "5\r\nworld\r\n0\r\n\r\n", "helloworld"},
	}
	poison := okBody("poison")
	acts := []struct {
		name string
		act  func(nc *client)
		want peekResult
	}{
		{"half-closed", func(nc *client) { _ = nc.CloseWrite() }, peekEnd},
		{"closed", func(nc *client) { _ = nc.Close() }, peekEnd},
		{"reset", func(nc *client) { _ = nc.SetLinger(0); _ = nc.Close() }, peekEnd},
		{"bytes", func(nc *client) { nc.send(poison) }, peekData},
		{"bytes and an end", func(nc *client) { nc.send(poison); _ = nc.CloseWrite() }, peekData},
	}
	for _, act := range acts {
		for _, req := range requests {
			t.Run(act.name+", "+req.name, func(t *testing.T) {
				var conns atomic.Int32
				now, got := make(chan struct{}), make(chan string, 1)
				tr := NewTransport(script(t, func(nc *client) {
					if conns.Add(1) > 1 {
						if r, err := http.ReadRequest(bufio.NewReader(nc)); err == nil {
							b, _ := io.ReadAll(r.Body)
							nc.send(okBody(string(b)))
						}
						return
					}
					if _, err := nc.readHead(); err != nil {
						t.Error(err)
					}
					nc.send(okEmpty)
					<-now
					act.act(nc)
					rest, _ := nc.rest()
					got <- rest
				}), TransportConfig{KeepAlive: time.Minute, FirstByte: 10 * time.Second})
				t.Cleanup(tr.Close)
				u := exchange(t, tr, nil, getRoot)
				if _, err := u.ReadHead([]byte("GET")); err != nil {
					t.Fatal(err)
				}
				u.Release(time.Now())

				stale := make(chan struct{})
				f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
					method := c.Head().Method()
					again, err := tr.Get(nil, time.Now())
					if err != nil || again != u || !again.Reused() {
						t.Error("not the kept connection")
					}
					close(now)
					eventually(t, "it is here", func() bool { return peek(again.in.raw) == act.want })
					if prepare != nil {
						prepare(again)
					}
					if err = again.Send([]byte(req.head), c.Body()); err == nil {
						_, err = again.ReadHead(method)
					}
					if !errors.Is(err, ErrServerClosed) || again.Sent() || again.Delivered() || again.Begun() {
						t.Errorf("%v, sent %v, begun %v", err, again.Sent(), again.Begun())
					}
					if _, err = again.ReadHead(method); !errors.Is(err, ErrServerClosed) {
						t.Error("asked again:", err)
					}
					again.Close()
					if short := tr.brief.short.Load(); (short == 1) != (act.want == peekEnd) {
						t.Errorf("%d connections count as short", short)
					}
					close(stale)
					if !c.Body().Rewindable() {
						t.Error("the body is lost")
					}
					c.Body().Rewind()
					if again, err = tr.Get(nil, time.Now()); err == nil {
						err = again.Send([]byte(req.head), c.Body())
					}
					if err == nil {
						_, err = again.ReadHead(method)
					}
					if err != nil || again.Reused() {
						t.Error(err, again.Reused())
					}
					body, _ := io.ReadAll(again.Body())
					again.Release(time.Now())
					reply(c, string(body))
				})})
				c := f.dial(t)
				c.send(req.head + req.body)
				<-stale
				c.send(req.later)
				if resp, body := c.response(req.head[:strings.IndexByte(req.head, ' ')]); resp.StatusCode != 200 || body != req.echo {
					t.Errorf("%d %q", resp.StatusCode, body)
				}
				if rest := <-got; rest != "" {
					t.Errorf("%.40q was sent", rest)
				}
			})
		}
	}
}

// A new connection that its server ended before the first request, and one on which it said what it had to say: neither end nor bytes
// make an edge any more when the wait for the answer begins.
func TestNewConnectionThatWasSpokenOn(t *testing.T) {
	for _, row := range []struct {
		act  func(nc *client)
		want peekResult
		err  error
	}{
		{func(nc *client) { _ = nc.CloseWrite() }, peekEnd, ErrServerClosed},
		{func(nc *client) { nc.send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n") }, peekData, nil},
	} {
		tr := NewTransport(script(t, func(nc *client) {
			row.act(nc)
			_, _ = nc.rest()
		}), TransportConfig{FirstByte: 10 * time.Second})
		u, err := tr.Get(nil, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		eventually(t, "it is here", func() bool { return peek(u.in.raw) == row.want })
		if err := u.Send([]byte(getRoot), nil); err != nil {
			t.Fatal(err)
		}
		h, err := u.ReadHead([]byte("GET"))
		if !errors.Is(err, row.err) || err == nil && h.Status() != 503 {
			t.Error(err)
		}
		if row.err != nil && edges && u.Delivered() {
			t.Error("sent all the same")
		}
		u.Close()
	}
}

// A connection that we closed ourselves, as Cancel does, teaches nothing of how long its server keeps them.
func TestOwnCloseTeachesNothing(t *testing.T) {
	large := "GET / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("x", 2*outSize) + "\r\n\r\n"
	for _, request := range []string{getRoot, large} {
		tr := NewTransport(script(t, answering(func(string) string { return okEmpty })), TransportConfig{KeepAlive: time.Minute})
		u := exchange(t, tr, nil, getRoot)
		if _, err := u.ReadHead([]byte("GET")); err != nil {
			t.Fatal(err)
		}
		u.Release(time.Now())
		u.since -= 20 * time.Second
		if _, err := tr.Get(nil, time.Now()); err != nil || !u.Reused() {
			t.Fatal("not the kept connection")
		}
		_ = u.nc.Close()
		err := u.Send([]byte(request), nil)
		if err == nil {
			_, err = u.ReadHead([]byte("GET"))
		}
		if !errors.Is(err, ErrServerClosed) || u.Delivered() {
			t.Error(err, u.Delivered())
		}
		if tr.keepFor(uptime()) != time.Minute {
			t.Errorf("kept for %v", tr.keepFor(uptime()))
		}
		u.Close()
	}
}
