package http1

import (
	"bytes"
	"strings"
	"testing"
)

func TestResponsesWithoutBody(t *testing.T) {
	rows := []struct {
		request, head string
		length        int64
		want          string
	}{
		{"HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n", 5, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\n", 5, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
		{"HEAD / HTTP/1.1", "HTTP/1.1 200 OK\r\n", BodyChunked, "HTTP/1.1 200 OK\r\n\r\n"},
		{"GET / HTTP/1.1", "HTTP/1.1 204 No Content\r\nContent-Length: 0\r\nA: b\r\n", BodyNone, "HTTP/1.1 204 No Content\r\nA: b\r\n\r\n"},
		{"GET / HTTP/1.1", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n", BodyNone, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
		{"GET / HTTP/1.1", "HTTP/1.1 304 Not Modified\r\n", 0, "HTTP/1.1 304 Not Modified\r\n\r\n"},
		{"GET / HTTP/1.1", "HTTP/1.1 200 OK\r\n", BodyNone, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
		{"GET / HTTP/1.1", "HTTP/1.1 200\r\n", 0, "HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n"},
	}
	for _, row := range rows {
		f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
			if string(c.Head().Path()) == "/end" {
				c.CloseAfter()
				reply(c, "")
				return
			}
			if err := c.WriteHead([]byte(row.head), row.length); err != nil {
				t.Error(err)
			}
			if c.bodyless {
				if n, err := c.Write([]byte("xxxxx")); n != 5 || err != nil {
					t.Error(n, err)
				}
			}
			if err := c.Finish([]byte("X: y\r\n")); err != nil {
				t.Error(err)
			}
		})})
		c := f.dial(t)
		c.send(row.request + "\r\nHost: a\r\n\r\n" + "GET /end HTTP/1.1\r\nHost: a\r\n\r\n")
		all, err := c.rest()
		if want := row.want + "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"; err != nil || all != want {
			t.Errorf("%s, %q: %q, %v", row.request, row.head, all, err)
		}
	}
}

func TestWriteHeadRules(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if _, err := c.Write([]byte("x")); err != ErrNotStarted {
			t.Error(err)
		}
		if err := c.Finish(nil); err != ErrNotStarted {
			t.Error(err)
		}
		if err := c.WriteHead([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n"), 3); err != ErrBodyLength {
			t.Error(err)
		}
		if err := c.WriteHead([]byte("HTTP/1.1 200 OK\r\nContent-Length: 4\r\nA: b\r\n"), BodyChunked); err != nil {
			t.Error(err)
		}
		if err := c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), 0); err != ErrHeadSent {
			t.Error(err)
		}
		if err := c.WriteInterim([]byte("HTTP/1.1 103 x\r\n\r\n")); err != ErrHeadSent {
			t.Error(err)
		}
		_, _ = c.Write(nil) // does not end the body
		_, _ = c.Write([]byte("abc"))
		_, _ = c.Write(bytes.Repeat([]byte("d"), 5000))
		_ = c.Finish([]byte("X-T: 1\r\n"))
	})})
	c := f.dial(t)
	c.send(getRoot)
	_ = c.CloseWrite()
	all, _ := c.rest()
	if want := "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1388\r\n" + strings.Repeat("d", 5000) + "\r\n0\r\nX-T: 1\r\n\r\n"; all != want {
		t.Errorf("%.200q", all)
	}
}

func TestDeclaredLengthIsKept(t *testing.T) {
	for _, n := range []int{3, 7} {
		f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
			_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), 5)
			_, werr := c.Write(make([]byte, n))
			ferr := c.Finish(nil)
			if n > 5 && werr != ErrBodyLength || ferr != ErrBodyLength {
				t.Error(werr, ferr)
			}
		})})
		c := f.dial(t)
		c.send(getRoot)
		if _, err := c.rest(); !isReset(err) {
			t.Errorf("%d bytes of 5: %v", n, err)
		}
	}
}

func isReset(err error) bool { return err != nil && strings.Contains(err.Error(), "reset by peer") }
