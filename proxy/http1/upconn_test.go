package http1

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const okEmpty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func okBody(s string) string {
	return "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(s)) + "\r\n\r\n" + s
}

func requestPath(head string) string {
	if f := strings.Fields(head); len(f) > 1 {
		return f[1]
	}
	return ""
}

func TestKeptConnectionIsReused(t *testing.T) {
	var conns atomic.Int32
	addr := script(t, func(nc *client) {
		conns.Add(1)
		answering(func(string) string { return okBody("x") })(nc)
	})
	f, h := startRelay(t, addr)
	c := f.dial(t)
	for range 20 {
		c.send(getRoot)
		c.response("GET")
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	eventually(t, "connection kept", func() bool { return h.t.Idle() == 1 && h.t.Live() == 1 })
}

// What comes on an idle connection, or after a response, never becomes the answer to another request.
func TestPoisonedConnections(t *testing.T) {
	poison := okBody("poison")
	rows := []struct {
		name   string
		answer func(nc *client)
	}{
		{"behind the response", func(nc *client) { nc.send(okBody("good") + poison) }},
		{"a single byte behind", func(nc *client) { nc.send(okBody("good") + "x") }},
		{"later, while idle", func(nc *client) { nc.send(okBody("good")); time.Sleep(20 * time.Millisecond); nc.send(poison) }},
		{"behind chunks", func(nc *client) {
			nc.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + poison)
		}},
		{"second interim response of nobody", func(nc *client) {
			nc.send(okBody("good") + "HTTP/1.1 100 Continue\r\n\r\n")
		}},
		{"FIN", func(nc *client) { nc.send(okBody("good")); _ = nc.CloseWrite() }},
	}
	for _, row := range rows {
		sent := make(chan struct{}, 5)
		addr := script(t, func(nc *client) {
			if _, err := nc.readHead(); err == nil {
				row.answer(nc)
				sent <- struct{}{}
				_, _ = nc.rest()
			}
		})
		f, h := startRelay(t, addr)
		for range 5 {
			c := f.dial(t)
			c.send(getRoot)
			if _, body := c.response("GET"); body != "good" {
				t.Errorf("%s: %q", row.name, body)
			}
			_ = c.Close()
			<-sent
			time.Sleep(10 * time.Millisecond) // what the server sent is on its way; nothing tells when it is here
		}
		if h.failures() != 0 {
			t.Errorf("%s: %v", row.name, h.last())
		}
	}
}

func TestBodyAfterBodylessResponse(t *testing.T) {
	for _, row := range []struct{ method, answer string }{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\npoison"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"},
	} {
		var conns atomic.Int32
		addr := script(t, func(nc *client) { conns.Add(1); answering(func(string) string { return row.answer })(nc) })
		f, _ := startRelay(t, addr)
		c := f.dial(t)
		for range 3 {
			c.send(row.method + " / HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp, body := c.response(row.method); body != "" || resp.StatusCode == 502 {
				t.Errorf("%s: %d %q", row.answer, resp.StatusCode, body)
			}
		}
		if n := conns.Load(); n != 3 {
			t.Errorf("%q: %d connections for 3 requests", row.answer, n)
		}
	}
}

func TestFirstByteTimeout(t *testing.T) {
	tr := NewTransport(script(t, func(nc *client) { _, _ = nc.rest() }), TransportConfig{FirstByte: 20 * time.Millisecond})
	u := exchange(t, tr, nil, getRoot)
	if _, err := u.ReadHead([]byte("GET")); err != ErrFirstByteTimeout {
		t.Error(err)
	}
	if !u.Sent() || u.Begun() || !u.Delivered() || u.Reused() {
		t.Error("sent", u.Sent(), "begun", u.Begun(), "delivered", u.Delivered())
	}
	u.Close()
}

func TestServerClosedBeforeAnswer(t *testing.T) {
	// The request is read and then the connection closed: it may have been executed.
	tr := NewTransport(script(t, func(nc *client) { _, _ = nc.readHead() }), TransportConfig{})
	u := exchange(t, tr, nil, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	if _, err := u.ReadHead([]byte("POST")); !errors.Is(err, ErrServerClosed) || !u.Delivered() || u.Begun() {
		t.Error(err, u.Delivered(), u.Begun())
	}
	u.Close()
	// Half a head.
	tr = NewTransport(script(t, func(nc *client) { _, _ = nc.readHead(); nc.send("HTTP/1.1 20") }), TransportConfig{})
	u = exchange(t, tr, nil, getRoot)
	if _, err := u.ReadHead([]byte("GET")); !errors.Is(err, ErrServerClosed) || !u.Begun() {
		t.Error(err, u.Begun())
	}
	u.Close()
}

func TestIdleConnectionsExpire(t *testing.T) {
	tr := NewTransport(script(t, answering(func(string) string { return okEmpty })), TransportConfig{KeepAlive: 50 * time.Millisecond, MaxIdle: 2})
	var us []*UpConn
	for range 4 {
		us = append(us, exchange(t, tr, nil, getRoot))
	}
	for _, u := range us {
		if _, err := u.ReadHead([]byte("GET")); err != nil {
			t.Fatal(err)
		}
		u.Release(time.Now())
	}
	if tr.Idle() != 2 || tr.Live() != 2 {
		t.Errorf("idle %d, live %d", tr.Idle(), tr.Live())
	}
	u, err := tr.Get(nil, time.Now())
	if err != nil || u != us[1] {
		t.Error("not the one used last")
	}
	u.Close()
	eventually(t, "idle connection closed", func() bool { return tr.Live() == 0 })
}

// A server that says that it does not keep this connection says nothing of others.
func TestKeepAliveOfNoTime(t *testing.T) {
	tr := NewTransport(script(t, answering(func(head string) string {
		if strings.Contains(head, "/last") {
			return "HTTP/1.1 200 OK\r\nKeep-Alive: timeout=0\r\nContent-Length: 0\r\n\r\n"
		}
		return okEmpty
	})), TransportConfig{KeepAlive: 10 * time.Second})
	t.Cleanup(tr.Close)
	for _, ask := range []struct {
		path string
		kept int
	}{{"/last", 0}, {"/", 1}} {
		u := exchange(t, tr, nil, "GET "+ask.path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := u.ReadHead([]byte("GET")); err != nil {
			t.Fatal(err)
		}
		u.Release(time.Now())
		if tr.Idle() != ask.kept || tr.keepFor(uptime()) != 10*time.Second {
			t.Errorf("after %s %d kept, for %v", ask.path, tr.Idle(), tr.keepFor(uptime()))
		}
	}
}

func TestKeepAliveIsLearned(t *testing.T) {
	tr := NewTransport(script(t, answering(func(string) string {
		return "HTTP/1.1 200 OK\r\nKeep-Alive: max=5, timeout=2\r\nContent-Length: 0\r\n\r\n"
	})), TransportConfig{KeepAlive: 10 * time.Second})
	u := exchange(t, tr, nil, getRoot)
	if _, err := u.ReadHead([]byte("GET")); err != nil {
		t.Fatal(err)
	}
	u.Release(time.Now())
	if tr.keepFor(uptime()) != time.Second {
		t.Error(tr.keepFor(uptime()))
	}
	tr.learn(5*time.Second, uptime())
	if tr.keepFor(uptime()) != time.Second {
		t.Error("a longer time was taken over")
	}
	if d := tr.keepFor(uptime() + learnedFor); d != 10*time.Second {
		t.Errorf("kept for %v when nothing has confirmed it", d)
	}
	tr.SetConfig(TransportConfig{KeepAlive: 10 * time.Second})
	if tr.learn(5*time.Second, uptime()); tr.keepFor(uptime()) != 5*time.Second {
		t.Error("what was forgotten is in the way")
	}
	tr.SetConfig(TransportConfig{KeepAlive: -1})
	if tr.keepFor(uptime()) != -1 {
		t.Error(tr.keepFor(uptime()))
	}
	tr.Close()
}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A server that closed a connection which was unused for a while keeps them for less than that; a close after a moment
// tells nothing, as a restart closes connections of any age. One that was unused for longer than it is kept is not
// used, also when nobody has closed it yet.
func TestClosesAreLearnedFrom(t *testing.T) {
	closing := make(chan bool)
	tr := NewTransport(script(t, func(nc *client) {
		for {
			head, err := nc.readHead()
			if err != nil {
				return
			}
			nc.send(okEmpty)
			if requestPath(head) == "/last" {
				<-closing
				return
			}
		}
	}), TransportConfig{KeepAlive: time.Minute})
	defer tr.Close()
	ask := func(path string) *UpConn {
		t.Helper()
		for {
			u := exchange(t, tr, nil, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
			_, err := u.ReadHead([]byte("GET"))
			if err == nil {
				u.Release(time.Now())
				return u
			}
			if u.Sent() || !u.Reused() {
				t.Fatal(err)
			}
			u.Close()
		}
	}
	for _, one := range []struct{ unused, learned time.Duration }{{time.Second, time.Minute}, {20 * time.Second, 10 * time.Second}} {
		u := ask("/last")
		closing <- true
		eventually(t, "the end is there", func() bool { return peek(u.in.raw) == peekEnd })
		u.since -= one.unused
		if ask("/") == u {
			t.Fatal("a closed connection was used")
		}
		tr.CloseIdle()
		if d := tr.keepFor(uptime()) - one.learned; d < 0 || d > time.Second {
			t.Errorf("closed after %v: kept for %v", one.unused, tr.keepFor(uptime()))
		}
	}
	u := ask("/")
	if ask("/") != u {
		t.Fatal("not kept")
	}
	u.since -= 15 * time.Second
	if ask("/") == u {
		t.Error("one was used that is older than is learned")
	}
}
