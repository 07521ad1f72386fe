package http1

import (
	"testing"
	"time"
)

// Beyond MaxConns an idle connection makes room for a new one; when none is idle the new one is told to come back later.
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

// A descriptor is left for the server of each client that has or is about to have a request, and a share for all else: of 1000, 141.
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
