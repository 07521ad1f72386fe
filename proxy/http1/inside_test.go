package http1

import (
	"io"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The end of the client's side makes no edge of its own when it came with the request: the watcher must tell of it.
func TestEndThatComesWithARequestIsSeen(t *testing.T) {
	f := startFront(t, &Server{KeepAlive: time.Minute, Handler: handlerFunc(func(c *Conn) { reply(c, "ok") })})
	for range 200 {
		c := f.dial(t)
		c.send(getRoot)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if resp, body := c.response("GET"); resp.StatusCode != 200 || body != "ok" {
			t.Fatal(resp.StatusCode, body)
		}
		if c.wantClosed(); t.Failed() { // within the 20 s of the client, not after KeepAlive
			return
		}
	}
	eventually(t, "all closed", func() bool { open, _ := f.Conns(); return open == 0 })
}

// The same when the end comes while the request is handled.
func TestEndDuringARequestIsSeen(t *testing.T) {
	f := startFront(t, &Server{KeepAlive: time.Minute, Handler: handlerFunc(func(c *Conn) {
		eventually(t, "end seen", c.Gone)
		reply(c, "ok")
	})})
	for range 20 {
		c := f.dial(t)
		c.send(getRoot)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		c.response("GET")
		c.wantClosed()
	}
}

// Abort takes effect at once, although the connection can be closed only when its handler has returned.
func TestAbortDoesNotWaitForTheHandler(t *testing.T) {
	release := make(chan struct{})
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), 10) == nil {
			_, _ = c.Write([]byte("hello"))
		}
		c.Abort()
		<-release
	})})
	c := f.dial(t)
	c.send(getRoot)
	_, err := io.ReadAll(c.r)
	close(release)
	if !isReset(err) {
		t.Error(err)
	}
	eventually(t, "closed", func() bool { open, _ := f.Conns(); return open == 0 })
}

// Whatever comes in one read or in several: each request is answered once and in order.
func TestRequestsInOneReadAndInPieces(t *testing.T) {
	f := startFront(t, &Server{KeepAlive: time.Minute, Handler: handlerFunc(func(c *Conn) {
		body, err := io.ReadAll(c.Body())
		if err != nil {
			t.Error(err)
		}
		reply(c, string(c.Head().Path())+" "+string(body))
	})})
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }
	post := func(path, body string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	large := strings.Repeat("x", 40<<10)
	all := get("/1") + get("/2") + post("/3", "abc") + get("/4") + post("/5", large) + get("http://a") +
		"POST /6 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n" + get("/7")
	want := []string{"/1 ", "/2 ", "/3 abc", "/4 ", "/5 " + large, "/ ", "/6 abc", "/7 "}
	for _, piece := range []int{len(all), 16 << 10, 1000, 77} {
		c := f.dial(t)
		go func() {
			for rest := all; len(rest) > 0; {
				n := min(piece, len(rest))
				if _, err := c.Write([]byte(rest[:n])); err != nil {
					return
				}
				rest = rest[n:]
				if piece < 1<<10 {
					time.Sleep(100 * time.Microsecond)
				}
			}
		}()
		for i, w := range want {
			if resp, body := c.response("GET"); resp.StatusCode != 200 || body != w {
				t.Fatalf("pieces of %d: answer %d: %d %.40q", piece, i+1, resp.StatusCode, body)
			}
		}
	}
}
