package http1

import (
	"testing"
	"time"
)

// Only connections that were answered and wait make room; new ones and those at work do not.
func TestShedIdle(t *testing.T) {
	entered, release := make(chan bool), make(chan bool)
	f := startFront(t, &Server{HeaderTimeout: time.Minute, KeepAlive: time.Minute, Handler: handlerFunc(func(c *Conn) {
		if string(c.Head().Path()) == "/work" {
			entered <- true
			<-release
		}
		reply(c, "ok")
	})})
	fresh := f.dial(t)
	works := f.dial(t)
	works.send("GET /work HTTP/1.1\r\nHost: a\r\n\r\n")
	<-entered
	eventually(t, "both are known", func() bool { open, _ := f.Conns(); return open == 2 })
	if f.shedIdle(shedAtOnce) {
		t.Error("one that is new or at work makes room")
	}
	idle := f.dial(t)
	idle.send(getRoot)
	idle.response("GET")
	eventually(t, "one makes room", func() bool { return f.shedIdle(shedAtOnce) })
	idle.wantClosed()
	close(release)
	if _, body := works.response("GET"); body != "ok" {
		t.Errorf("%q", body)
	}
	fresh.send(getRoot)
	if _, body := fresh.response("GET"); body != "ok" {
		t.Errorf("%q", body)
	}
}

// A request that comes as its connection is to make room is served, and the next ones too.
func TestShedIdleLosesNoRequest(t *testing.T) {
	f := startFront(t, &Server{HeaderTimeout: time.Minute, BodyTimeout: time.Minute, KeepAlive: time.Minute, Handler: handlerFunc(func(c *Conn) {
		b := make([]byte, 3)
		_, err := c.Body().Read(b)
		if err != nil {
			t.Error(err)
		}
		reply(c, string(b))
	})})
	stop, stopped := make(chan bool), make(chan bool)
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				f.shedIdle(shedAtOnce)
				time.Sleep(50 * time.Microsecond)
			}
		}
	}()
	served := 0
	for range 100 {
		c := f.dial(t)
		for {
			_, _ = c.Write([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n"))
			time.Sleep(100 * time.Microsecond)
			_, _ = c.Write([]byte("abc"))
			if _, err := c.r.Peek(1); err != nil {
				break // it made room before the request had come
			}
			if resp, body := c.response("POST"); resp.StatusCode != 200 || body != "abc" {
				t.Fatalf("%d %q", resp.StatusCode, body)
			}
			served++
		}
		_ = c.Close()
	}
	close(stop)
	<-stopped
	if served < 100 {
		t.Errorf("%d requests were served on 100 connections", served)
	}
}
