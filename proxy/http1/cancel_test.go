package http1

import (
	"io"
	"net/http"
	"testing"
	"time"
)

// exchange gets a connection and sends one request.
func exchange(t *testing.T, tr *Transport, c *Cancel, request string) *UpConn {
	t.Helper()
	u, err := tr.Get(c, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := u.Send([]byte(request), nil); err != nil {
		t.Fatal(err)
	}
	return u
}

func TestCancelWhileWaiting(t *testing.T) {
	seen := make(chan struct{}, 2)
	addr := script(t, func(nc *client) {
		head, err := nc.readHead()
		if err != nil {
			return
		}
		if requestPath(head) == "/body" {
			nc.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
		}
		seen <- struct{}{}
		_, _ = nc.rest()
		seen <- struct{}{} // the server sees that it was given up
	})
	tr := NewTransport(addr, TransportConfig{})
	var c Cancel
	u := exchange(t, tr, &c, getRoot)
	go func() { <-seen; c.Cancel() }()
	if _, err := u.ReadHead([]byte("GET")); err != ErrCanceled {
		t.Error(err)
	}
	u.Close()
	<-seen

	c.Reset()
	u = exchange(t, tr, &c, "GET /body HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := u.ReadHead([]byte("GET")); err != nil {
		t.Fatal(err)
	}
	go func() { <-seen; c.Cancel() }()
	if b, err := io.ReadAll(u.Body()); err != ErrCanceled || len(b) > 5 {
		t.Error(b, err)
	}
	u.Release(time.Now())
	if tr.Idle() != 0 || tr.Live() != 0 {
		t.Errorf("idle %d, live %d", tr.Idle(), tr.Live())
	}
	<-seen
}

// A Cancel that comes after the exchange has ended does not hit the next one on the same connection.
func TestLateCancelHitsNobody(t *testing.T) {
	tr := NewTransport(script(t, answering(func(string) string { return okEmpty })), TransportConfig{})
	var first, second Cancel
	u := exchange(t, tr, &first, getRoot)
	if _, err := u.ReadHead([]byte("GET")); err != nil {
		t.Fatal(err)
	}
	u.Release(time.Now())
	again := exchange(t, tr, &second, getRoot)
	if again != u || !again.Reused() {
		t.Fatal("not the same connection")
	}
	first.Cancel()
	if _, err := again.ReadHead([]byte("GET")); err != nil {
		t.Error(err)
	}
	again.Release(time.Now())
	again.Release(time.Now())
	again.Close()
	if tr.Idle() != 1 || tr.Live() != 1 {
		t.Errorf("%d kept of %d", tr.Idle(), tr.Live())
	}
	if third, err := tr.Get(nil, time.Now()); err != nil || third != u {
		t.Error("releasing twice spoiled the connection", err)
	}
}

func TestClientGoneWhileWaiting(t *testing.T) {
	entered, given := make(chan struct{}), make(chan struct{})
	addr := script(t, func(nc *client) {
		if _, err := nc.readHead(); err == nil {
			close(entered)
			_, _ = nc.rest()
			close(given)
		}
	})
	f, h := startRelay(t, addr)
	c := f.dial(t)
	c.send(getRoot)
	<-entered
	_ = c.Close()
	<-given
	eventually(t, "exchange ended", func() bool { open, _ := f.Conns(); return open == 0 && h.last() == ErrCanceled })
}

func TestClientGoneWhileUploading(t *testing.T) {
	given := make(chan error, 1)
	entered := make(chan struct{})
	addr := startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		_, err := io.Copy(io.Discard, r.Body)
		given <- err
	}))
	f, h := startRelay(t, addr)
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
	<-entered
	_ = c.Close()
	if err := <-given; err == nil {
		t.Error("cut upload taken for whole")
	}
	eventually(t, "exchange ended", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
}
