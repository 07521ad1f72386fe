package http1

import (
	"io"
	"strings"
	"testing"
	"time"
)

func TestHeaderTimeout(t *testing.T) {
	f := startFront(t, &Server{HeaderTimeout: 50 * time.Millisecond, Handler: handlerFunc(func(c *Conn) { reply(c, "") })})
	c := f.dial(t)
	c.send("GET / HTTP/1.1\r\nHost")
	if resp, _ := c.response("GET"); resp.StatusCode != 408 {
		t.Errorf("%d", resp.StatusCode)
	}
	c.wantClosed()
	silent := f.dial(t)
	silent.wantClosed()
}

func TestKeepAliveTimeout(t *testing.T) {
	f := startFront(t, &Server{HeaderTimeout: time.Minute, KeepAlive: 50 * time.Millisecond, Handler: handlerFunc(func(c *Conn) { reply(c, "") })})
	c := f.dial(t)
	c.send(getRoot)
	c.response("GET")
	c.wantClosed()
	eventually(t, "connection forgotten", func() bool { open, _ := f.Conns(); return open == 0 })
}

func TestBodyTimeoutAndCutBodies(t *testing.T) {
	errs := make(chan error, 1)
	handler := handlerFunc(func(c *Conn) {
		_, err := io.ReadAll(c.Body())
		errs <- err
		reply(c, "")
	})
	impatient := startFront(t, &Server{BodyTimeout: 50 * time.Millisecond, Handler: handler})
	patient := startFront(t, &Server{BodyTimeout: time.Minute, Handler: handler}) // what is wrong is seen without it
	rows := []struct {
		name, body string
		hangUp     bool
		want       string
	}{
		{"length, silent", "Content-Length: 5\r\n\r\nabc", false, ErrIdleTimeout.Error()},
		{"chunked, silent", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", false, ErrIdleTimeout.Error()},
		{"length, cut", "Content-Length: 5\r\n\r\nabcd", true, ErrBodyCut.Error()},
		{"chunked, cut in data", "Transfer-Encoding: chunked\r\n\r\n5\r\nabc", true, ErrBodyCut.Error()},
		{"chunked, cut before the end", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n", true, ErrBodyCut.Error()},
		{"chunked, bad", "Transfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n", false, faultChunkSize.Error()},
	}
	for _, row := range rows {
		f := patient
		if row.want == ErrIdleTimeout.Error() {
			f = impatient
		}
		c := f.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: a\r\n" + row.body)
		if row.hangUp {
			_ = c.CloseWrite()
		}
		err := <-errs
		if _, fromClient := err.(ErrClient); !fromClient || !strings.Contains(err.Error(), row.want) {
			t.Errorf("%s: %v", row.name, err)
		}
		resp, _ := c.response("POST")
		if !resp.Close {
			t.Errorf("%s: connection lives on", row.name)
		}
	}
}
