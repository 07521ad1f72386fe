package http1

import (
	"bytes"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

const getRoot = "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

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
			u, err := tr.Get(nil)
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

// failingListener fails its first accepts as a process without descriptors does.
type failingListener struct {
	net.Listener
	left atomic.Int32
	err  error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", l.err)}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvivesLackOfDescriptors(t *testing.T) {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED} {
		inner, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := &failingListener{Listener: inner, err: errno}
		l.left.Store(8)
		f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "ok") })}, l)
		c := f.dial(t)
		c.send(getRoot)
		if resp, body := c.response("GET"); resp.StatusCode != 200 || body != "ok" {
			t.Errorf("%v: %d", errno, resp.StatusCode)
		}
	}
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &failingListener{Listener: inner, err: syscall.EBADF}
	l.left.Store(1)
	f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) {})}, l)
	if err := <-f.done; err == nil {
		t.Error("an error that will not pass was swallowed")
	}
}

// With every descriptor taken, a client is told so instead of being left to wait.
func TestRefusalWithoutDescriptors(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &failingListener{Listener: inner, err: syscall.EMFILE}
	l.left.Store(1)
	f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "ok") })}, l)
	c := f.dial(t) // the accept for the refusal succeeds, as it does when the spare descriptor was given up
	c.send(getRoot)
	resp, _ := c.response("GET")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d", resp.StatusCode)
	}
	c = f.dial(t)
	c.send(getRoot)
	if resp, _ := c.response("GET"); resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
}

// shortListener has a descriptor for every other accept only, the one that is kept for refusals.
type shortListener struct {
	net.Listener
	full    atomic.Bool
	accepts atomic.Int32
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.full.Load() && l.accepts.Add(1)%2 == 1 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// A storm of connections is refused about as fast as it comes, not one a second.
func TestRefusalsKeepUpWithAStorm(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &shortListener{Listener: inner}
	l.full.Store(true)
	f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "ok") })}, l)
	t.Cleanup(func() { // before the server is shut down
		l.full.Store(false)
		if c, err := net.Dial("tcp", inner.Addr().String()); err == nil {
			c.Close()
		}
	})
	begun := time.Now()
	for range 20 {
		c := f.dial(t)
		c.send(getRoot)
		if resp, _ := c.response("GET"); resp.StatusCode != 503 {
			t.Fatalf("%d", resp.StatusCode)
		}
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("20 refusals took %s", took)
	}
}

func TestNamedListenerAndAddresses(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) {
		reply(c, c.Listener()+" "+c.RemoteAddr().String()+" "+c.LocalAddr().String())
	})}, NamedListener{l, ":8080"})
	c := f.dial(t)
	c.send(getRoot)
	if _, body := c.response("GET"); body != ":8080 "+c.LocalAddr().String()+" "+f.addr {
		t.Errorf("%q", body)
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
