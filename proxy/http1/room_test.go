package http1

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// Beyond MaxConns an idle connection makes room for a new one; when none is idle the new one is told to come back
// later.
func TestMaxConns(t *testing.T) {
	entered, release := make(chan bool), make(chan bool)
	f := startFront(t, &Server{MaxConns: 2, HeaderTimeout: time.Minute, KeepAlive: time.Minute, Handler: handlerFunc(func(c *Conn) {
		if string(c.Head().Path()) == "/work" {
			entered <- true
			<-release
		}
		reply(c, "ok")
	})})
	idle := f.dial(t)
	idle.send(getRoot)
	idle.response("GET")
	eventually(t, "waiting for another request", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for c := range f.conns {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.kept
		}
		return false
	})
	works := f.dial(t)
	works.send("GET /work HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	also := f.dial(t)
	also.send("GET /work HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	idle.wantClosed()
	for range 3 {
		refused := f.dial(t)
		refused.send(getRoot)
		if resp, _ := refused.response("GET"); resp.StatusCode != 503 || resp.Header.Get("X-Sluice-Reason") != reasonConnLimited || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%d %v", resp.StatusCode, resp.Header)
		}
	}
	eventually(t, "the idle one is gone", func() bool { open, _ := f.Conns(); return open == 2 }) // its client knows before we do
	f.Configure(Settings{MaxConns: 3, HeaderTimeout: time.Minute, KeepAlive: time.Minute})
	more := f.dial(t)
	more.send(getRoot)
	if resp, _ := more.response("GET"); resp.StatusCode != 200 {
		t.Errorf("%d after a reload", resp.StatusCode)
	}
	close(release)
	for _, c := range []*client{works, also} {
		if _, body := c.response("GET"); body != "ok" {
			t.Errorf("%q", body)
		}
	}
}

// A descriptor is left for the server of each client that has or is about to have a request, and a share for all else:
// of 1000, 141.
func TestRoomForServers(t *testing.T) {
	for _, one := range []struct {
		open, ask, servers, pipes int64
		room                      bool
	}{
		{0, 0, 0, 0, true},
		{857, 0, 0, 0, true}, // all idle
		{858, 0, 0, 0, false},
		{428, 428, 0, 0, true},
		{429, 429, 0, 0, false},
		{428, 428, 428, 0, true}, // they have their servers already
		{428, 100, 430, 0, false},
		{600, 257, 0, 0, true},
		{600, 258, 0, 0, false},
		{600, 237, 0, 10, true},
		{600, 238, 0, 10, false},
	} {
		if got := roomForOne(1000, one.open, one.ask, one.servers, one.pipes); got != one.room {
			t.Errorf("%+v: %v", one, got)
		}
	}
	if roomForOne(8, 0, 0, 0, 0) {
		t.Error("there is room where nothing would be left")
	}
}

// Clients that say nothing, or only a part of a head, take no descriptors for servers: others must not be refused for
// them.
func TestSilentClientsAskNothing(t *testing.T) {
	entered, release := make(chan bool), make(chan bool)
	f := startFront(t, &Server{HeaderTimeout: time.Minute, KeepAlive: time.Minute, Handler: handlerFunc(func(c *Conn) {
		entered <- true
		<-release
		reply(c, "ok")
	})})
	asking := func() int64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.asking(uptime())
	}
	for range 5 {
		f.dial(t)
		f.dial(t).send("GET / HTTP/1.1\r\n")
	}
	eventually(t, "all are known", func() bool { open, _ := f.Conns(); return open == 10 })
	eventually(t, "nobody asks", func() bool { return asking() == 0 })
	c := f.dial(t)
	c.send(getRoot)
	<-entered
	eventually(t, "one asks", func() bool { return asking() == 1 })
	close(release)
	c.response("GET")
	eventually(t, "nobody asks", func() bool { return asking() == 0 })
}

func TestRecently(t *testing.T) {
	var r recently
	at := func(ms int) time.Duration { return time.Hour + time.Duration(ms)*time.Millisecond }
	for range 3 {
		r.add(at(0))
	}
	r.add(at(150))
	for _, one := range []struct {
		ms   int
		want int64
	}{{150, 4}, {199, 4}, {200, 1}, {299, 1}, {300, 0}, {5000, 0}} {
		if got := r.count(at(one.ms)); got != one.want {
			t.Errorf("after %d ms: %d, want %d", one.ms, got, one.want)
		}
	}
}

// Where clients speak TLS a refusal in cleartext would be a fault to them.
func TestRefusedIsToldNothingInCleartext(t *testing.T) {
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	entered, release := make(chan bool), make(chan bool)
	f := serveOn(t, &Server{MaxConns: 1, HeaderTimeout: time.Minute, Handler: handlerFunc(func(c *Conn) {
		entered <- true
		<-release
		reply(c, "ok")
	})}, NamedListener{Listener: l, Encrypted: true, Open: func(nc net.Conn, _ *Origin) (net.Conn, error) { return nc, nil }})
	works := f.dial(t)
	works.send(getRoot)
	<-entered
	refused := f.dial(t)
	if b, _ := io.ReadAll(refused.r); len(b) > 0 {
		t.Errorf("told %q", b)
	}
	close(release)
	if _, body := works.response("GET"); body != "ok" {
		t.Errorf("%q", body)
	}
}
