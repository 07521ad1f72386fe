package http1

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestBadRequestsOverSockets(t *testing.T) {
	var handled atomic.Int32
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) { handled.Add(1); reply(c, "") })})
	for _, row := range badRequests {
		c := f.dial(t)
		c.send(row.head)
		resp, _ := c.response("GET")
		if resp.StatusCode != row.status || !resp.Close || resp.Header.Get("X-Sluice-Reason") == "" {
			t.Errorf("%s: %d, close %v, reason %q", row.name, resp.StatusCode, resp.Close, resp.Header.Get("X-Sluice-Reason"))
		}
		_ = c.Close()
	}
	if n := handled.Load(); n != 0 {
		t.Errorf("%d reached the handler", n)
	}
}

// Each refused head behind a good pipelined request: that one is answered, the bad one ends the connection.
func TestBadRequestBehindGoodOne(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "ok") })})
	c := f.dial(t)
	c.send(getRoot + "GET / HTTP/1.1\r\nHost: a\r\nBad Name: x\r\n\r\n" + getRoot)
	if resp, body := c.response("GET"); resp.StatusCode != 200 || body != "ok" {
		t.Errorf("%d %q", resp.StatusCode, body)
	}
	if resp, _ := c.response("GET"); resp.StatusCode != 400 {
		t.Errorf("%d", resp.StatusCode)
	}
	c.wantClosed()
}

func TestHeadByteByByte(t *testing.T) {
	f := startFront(t, &Server{HeaderTimeout: 10 * time.Second, Handler: handlerFunc(func(c *Conn) { reply(c, string(c.Head().Get("x"))) })})
	c := f.dial(t)
	_ = c.SetNoDelay(true)
	for _, b := range []byte("GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n") {
		c.send(string(b))
	}
	if _, body := c.response("GET"); body != "y" {
		t.Errorf("%q", body)
	}
	long := "POST / HTTP/1.1\r\nHost: a\r\nX: " + strings.Repeat("y", 30<<10) + "\r\nContent-Length: 3\r\n\r\nabc"
	for len(long) > 0 { // through every size of buffer
		n := min(len(long), 700)
		c.send(long[:n])
		long = long[n:]
		time.Sleep(100 * time.Microsecond)
	}
	if _, body := c.response("GET"); len(body) != 30<<10 || strings.Trim(body, "y") != "" {
		t.Errorf("%d bytes", len(body))
	}
}

// A head near the limit does not fit the first buffer; the body that follows must not move it.
func TestLargeHead(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		x := c.Head().Get("x")
		n, err := io.Copy(io.Discard, c.Body())
		reply(c, strconv.Itoa(len(x))+" "+strconv.Itoa(bytes.Count(x, []byte("x")))+" "+strconv.Itoa(int(n))+" "+strconv.FormatBool(err == nil))
	})})
	for _, size := range []int{10 << 10, 14 << 10, 16<<10 - 70, 16<<10 - 40, 17 << 10, 31 << 10} {
		c := f.dial(t)
		for range 2 {
			c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 50000\r\nX: " + strings.Repeat("x", size) + "\r\n\r\n" + strings.Repeat("b", 50000))
			want := strconv.Itoa(size) + " " + strconv.Itoa(size) + " 50000 true"
			if _, body := c.response("GET"); body != want {
				t.Errorf("%d: %q", size, body)
			}
		}
	}
}
