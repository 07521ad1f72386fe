package http1

import (
	"bytes"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"
)

const getRoot = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

func TestRefuseHook(t *testing.T) {
	f := startFront(t, &Server{
		Handler: handlerFunc(func(c *Conn) { reply(c, "") }),
		Refuse: func(c *Conn, err *ProtocolError) {
			body := err.Reason + " for " + string(c.Head().Method()) + " " + string(c.Head().Target())
			_ = c.WriteHead([]byte("HTTP/1.1 400 Bad Request\r\n"), int64(len(body)))
			_, _ = c.Write([]byte(body))
			_ = c.Finish(nil)
		},
	})
	c := f.dial(t)
	c.send("GET /x HTTP/1.1\r\nBad Name: x\r\n\r\n")
	if resp, body := c.response("GET"); body != "bad_request for GET /x" || !resp.Close {
		t.Errorf("%q, close %v", body, resp.Close)
	}
}

func TestKeepAliveAndPipelining(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, string(c.Head().Path())) })})
	c := f.dial(t)
	for i := range 3 {
		c.send("GET /" + strconv.Itoa(i) + " HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, body := c.response("GET"); body != "/"+strconv.Itoa(i) {
			t.Errorf("%q", body)
		}
	}
	var all strings.Builder
	for i := range 200 {
		all.WriteString("GET /p" + strconv.Itoa(i) + " HTTP/1.1\r\nHost: a\r\nX-Fill: " + strings.Repeat("x", 300) + "\r\n\r\n")
	}
	go c.send(all.String())
	for i := range 200 {
		if _, body := c.response("GET"); body != "/p"+strconv.Itoa(i) {
			t.Fatalf("%d: %q", i, body)
		}
	}
	if open, _ := f.Conns(); open != 1 {
		t.Errorf("%d connections", open)
	}
}

// The first of two pipelined requests is answered while the second one waits.
func TestPipelinedAnswerIsNotHeldBack(t *testing.T) {
	release := make(chan struct{})
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if string(c.Head().Path()) == "/slow" {
			<-release
		}
		reply(c, "x")
	})})
	c := f.dial(t)
	c.send(getRoot + "GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
	c.response("GET")
	close(release)
	c.response("GET")
}

func TestContinue(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if string(c.Head().Path()) == "/refuse" {
			_ = c.WriteHead([]byte("HTTP/1.1 413 Content Too Large\r\n"), 0)
			_ = c.Finish(nil)
			return
		}
		b, _ := io.ReadAll(c.Body())
		reply(c, string(b))
	})})
	c := f.dial(t)
	for range 2 {
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
		if line, _ := c.r.ReadString('\n'); line != "HTTP/1.1 100 Continue\r\n" {
			t.Fatalf("%q", line)
		}
		_, _ = c.r.ReadString('\n')
		c.send("hello")
		if _, body := c.response("POST"); body != "hello" {
			t.Errorf("%q", body)
		}
	}
	c.send("POST /refuse HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
	if resp, _ := c.response("POST"); resp.StatusCode != 413 || !resp.Close {
		t.Errorf("%d, close %v", resp.StatusCode, resp.Close)
	}
	c.wantClosed()

	// A body that comes unasked makes the 100 needless, but harmless.
	c = f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello")
	if _, body := c.response("POST"); body != "hello" {
		t.Errorf("%q", body)
	}
}

func TestHTTP10(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if err := c.WriteInterim([]byte("HTTP/1.1 103 Early Hints\r\n\r\n")); err != nil {
			t.Error(err)
		}
		if string(c.Head().Path()) == "/stream" {
			_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), BodyChunked)
			_, _ = c.Write([]byte("abc"))
			_, _ = c.Write([]byte("def"))
			_ = c.Finish([]byte("X-T: 1\r\n"))
			return
		}
		reply(c, "x")
	})})
	c := f.dial(t)
	c.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
	if all, err := c.rest(); err != nil || all != "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcdef" {
		t.Errorf("%q, %v", all, err)
	}
	c = f.dial(t)
	c.send("GET / HTTP/1.0\r\n\r\n")
	if all, err := c.rest(); err != nil || !strings.Contains(all, "Connection: close\r\n") {
		t.Errorf("%q, %v", all, err)
	}
	c = f.dial(t)
	for range 2 {
		c.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
		if resp, body := c.response("GET"); body != "x" || resp.Header.Get("Connection") != "keep-alive" {
			t.Errorf("%q, %v", body, resp.Header)
		}
	}
}

func TestHandlerThatDoesNotFinish(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if string(c.Head().Path()) == "/half" {
			_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), BodyChunked)
			_, _ = c.Write([]byte("abc"))
		}
	})})
	c := f.dial(t)
	c.send(getRoot)
	if resp, _ := c.response("GET"); resp.StatusCode != 500 || !resp.Close {
		t.Errorf("%d", resp.StatusCode)
	}
	c = f.dial(t)
	c.send("GET /half HTTP/1.1\r\nHost: a\r\n\r\n")
	if _, err := c.rest(); !isReset(err) {
		t.Errorf("%v", err)
	}
}

// A handler that lets go of a request while its body is still streamed loses that request and nothing else.
func TestHandlerThatKeepsItsServerConnection(t *testing.T) {
	tr := NewTransport(script(t, func(nc *client) { _, _ = nc.rest() }), TransportConfig{})
	for _, path := range []string{"/", "/panic"} {
		f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
			u, err := tr.Get(nil, time.Now())
			if err == nil {
				err = u.Send([]byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n"), c.Body())
			}
			if err != nil {
				t.Error(err)
			}
			if path == "/panic" {
				panic("in the middle")
			}
			reply(c, "")
		})})
		c := f.dial(t)
		c.send("POST " + path + " HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nabc")
		if _, err := c.rest(); !isReset(err) {
			t.Errorf("%s: %v", path, err)
		}
		eventually(t, "connection forgotten", func() bool { open, _ := f.Conns(); return open == 0 })
	}
}

func TestPanicLosesOneRequest(t *testing.T) {
	var logged bytes.Buffer
	f := startFront(t, &Server{
		Log: slog.New(slog.NewTextHandler(&logged, nil)),
		Handler: handlerFunc(func(c *Conn) {
			if string(c.Head().Path()) == "/panic" {
				panic("at the disco")
			}
			reply(c, "ok")
		}),
	})
	c := f.dial(t)
	c.send("GET /panic HTTP/1.1\r\nHost: a\r\n\r\n")
	if all, err := c.rest(); all != "" || err == nil {
		t.Errorf("%q, %v", all, err)
	}
	eventually(t, "connection forgotten", func() bool { open, active := f.Conns(); return open == 0 && active == 0 })
	if !strings.Contains(logged.String(), "at the disco") {
		t.Error("not logged")
	}
	c = f.dial(t)
	c.send(getRoot)
	c.response("GET")
}

// A refusal before the body was read reaches a client that sends all of it first.
func TestRefusalBeforeTheBodyIsRead(t *testing.T) {
	f := startFront(t, &Server{BodyTimeout: 5 * time.Second, Handler: handlerFunc(func(c *Conn) {
		_ = c.WriteHead([]byte("HTTP/1.1 429 Too Many Requests\r\n"), 0)
		_ = c.Finish(nil)
	})})
	for _, size := range []int{100, 60 << 10, 300 << 10, 8 << 20} {
		c := f.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
		c.send(strings.Repeat("x", size))
		resp, _ := c.response("POST")
		if resp.StatusCode != 429 || resp.Close != (size > drainLimit) {
			t.Errorf("%d bytes: %d, close %v", size, resp.StatusCode, resp.Close)
		}
		if !resp.Close {
			c.send(getRoot)
			c.response("GET")
		}
		_ = c.Close()
	}
	// Chunked: how much comes is not known beforehand.
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	c.send("0\r\n\r\n" + getRoot)
	c.response("POST")
	c.response("GET")
}

func TestGone(t *testing.T) {
	left := make(chan struct{}, 10)
	entered := make(chan struct{})
	release := make(chan struct{})
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if c.Data == nil {
			c.Data = true
			c.SetGone(func() { left <- struct{}{} })
		}
		if string(c.Head().Path()) == "/wait" {
			close(entered)
			<-release
			if !c.Gone() {
				t.Error("not gone")
			}
		}
		reply(c, "")
	})})
	c := f.dial(t)
	c.send(getRoot)
	c.response("GET")
	// Unread bytes do not hide the FIN.
	c.send("GET /wait HTTP/1.1\r\nHost: a\r\n\r\n" + getRoot)
	<-entered
	select {
	case <-left:
		t.Fatal("called before the client left")
	default:
	}
	_ = c.CloseWrite()
	select {
	case <-left:
	case <-time.After(5 * time.Second):
		t.Fatal("not told")
	}
	close(release)
	eventually(t, "connection forgotten", func() bool { open, _ := f.Conns(); return open == 0 })

	// Leaving while idle calls nobody.
	c = f.dial(t)
	c.send(getRoot)
	c.response("GET")
	eventually(t, "request over", func() bool { _, active := f.Conns(); return active == 0 })
	_ = c.Close()
	eventually(t, "connection forgotten", func() bool { open, _ := f.Conns(); return open == 0 })
	if len(left) != 0 {
		t.Error("called while idle")
	}
}

func TestByteCounts(t *testing.T) {
	in, out := make(chan int64, 1), make(chan int64, 1)
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		_, _ = io.Copy(io.Discard, c.Body())
		reply(c, "hello")
		in <- c.BytesIn()
		out <- c.BytesOut()
	})})
	c := f.dial(t)
	for range 2 {
		request := "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
		c.send(request + "3\r\nabc\r\n0\r\n\r\n")
		c.response("POST")
		if n := <-in; n != int64(len(request)+3) {
			t.Errorf("in %d", n)
		}
		if n := <-out; n != int64(len("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")) {
			t.Errorf("out %d", n)
		}
	}
}
