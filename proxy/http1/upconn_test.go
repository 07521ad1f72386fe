package http1

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const okEmpty = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

func okBody(s string) string {
	return "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(s)) + "\r\n\r\n" + s
}

func requestPath(head string) string {
	if f := strings.Fields(head); len(f) > 1 {
		return f[1]
	}
	return ""
}

func TestRelayAgainstNetHTTP(t *testing.T) {
	addr := startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.Header.Get("X-Secret") != "" || r.Header.Get("Connection") != "" {
			t.Error("hop-by-hop field came through")
		}
		if r.URL.Path == "/chunked" {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
		}
		_, _ = w.Write(b)
	}))
	f, h := startRelay(t, addr)
	c := f.dial(t)
	for _, size := range []int{0, 1, 5, 4095, 4096, 15 << 10, 16 << 10, 40 << 10, 1 << 20} {
		body := bytes.Repeat([]byte("0123456789abcdef"), size/16+1)[:size]
		for _, path := range []string{"/", "/chunked"} {
			for _, framing := range []string{"length", "chunks"} {
				head := "POST " + path + " HTTP/1.1\r\nHost: a\r\nConnection: X-Secret\r\nX-Secret: 1\r\n"
				go func() {
					if framing == "length" {
						_, _ = fmt.Fprintf(c, "%sContent-Length: %d\r\n\r\n%s", head, size, body)
						return
					}
					_, _ = fmt.Fprintf(c, "%sTransfer-Encoding: chunked\r\n\r\n", head)
					for rest := body; len(rest) > 0; {
						n := min(len(rest), 7001)
						_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", n, rest[:n])
						rest = rest[n:]
					}
					_, _ = io.WriteString(c, "0\r\n\r\n")
				}()
				resp, got := c.response("POST")
				if resp.StatusCode != 200 || sha256.Sum256([]byte(got)) != sha256.Sum256(body) {
					t.Fatalf("%d bytes, %s, %s: %d, %d bytes back: %v", size, path, framing, resp.StatusCode, len(got), h.last())
				}
			}
		}
	}
	if h.failures() != 0 {
		t.Error(h.last())
	}
}

func TestKeptConnectionIsReused(t *testing.T) {
	var conns atomic.Int32
	addr := script(t, func(nc *client) {
		conns.Add(1)
		answering(func(string) string { return okBody("x") })(nc)
	})
	f, h := startRelay(t, addr)
	c := f.dial(t)
	for range 20 {
		c.send(getRoot)
		c.response("GET")
	}
	if n := conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	eventually(t, "connection kept", func() bool { return h.t.Idle() == 1 && h.t.Live() == 1 })
}

// What comes on an idle connection, or after a response, never becomes the answer to another request.
func TestPoisonedConnections(t *testing.T) {
	poison := okBody("poison")
	rows := []struct {
		name   string
		answer func(nc *client)
	}{
		{"behind the response", func(nc *client) { nc.send(okBody("good") + poison) }},
		{"a single byte behind", func(nc *client) { nc.send(okBody("good") + "x") }},
		{"later, while idle", func(nc *client) { nc.send(okBody("good")); time.Sleep(20 * time.Millisecond); nc.send(poison) }},
		{"behind chunks", func(nc *client) {
			nc.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n0\r\n\r\n" + poison)
		}},
		{"second interim response of nobody", func(nc *client) {
			nc.send(okBody("good") + "HTTP/1.1 100 Continue\r\n\r\n")
		}},
		{"FIN", func(nc *client) { nc.send(okBody("good")); _ = nc.CloseWrite() }},
	}
	for _, row := range rows {
		sent := make(chan struct{}, 5)
		addr := script(t, func(nc *client) {
			if _, err := nc.readHead(); err == nil {
				row.answer(nc)
				sent <- struct{}{}
				_, _ = nc.rest()
			}
		})
		f, h := startRelay(t, addr)
		for range 5 {
			c := f.dial(t)
			c.send(getRoot)
			if _, body := c.response("GET"); body != "good" {
				t.Errorf("%s: %q", row.name, body)
			}
			_ = c.Close()
			<-sent
			time.Sleep(10 * time.Millisecond) // what the server sent is on its way; nothing tells when it is here
		}
		if h.failures() != 0 {
			t.Errorf("%s: %v", row.name, h.last())
		}
	}
}

func TestBodyAfterBodylessResponse(t *testing.T) {
	for _, row := range []struct{ method, answer string }{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\npoison"},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 6\r\n\r\npoison"},
	} {
		var conns atomic.Int32
		addr := script(t, func(nc *client) { conns.Add(1); answering(func(string) string { return row.answer })(nc) })
		f, _ := startRelay(t, addr)
		c := f.dial(t)
		for range 3 {
			c.send(row.method + " / HTTP/1.1\r\nHost: a\r\n\r\n")
			if resp, body := c.response(row.method); body != "" || resp.StatusCode == 502 {
				t.Errorf("%s: %d %q", row.answer, resp.StatusCode, body)
			}
		}
		if n := conns.Load(); n != 3 {
			t.Errorf("%q: %d connections for 3 requests", row.answer, n)
		}
	}
}

func TestBadResponsesOverSockets(t *testing.T) {
	rows := append(badResponses[:len(badResponses):len(badResponses)], struct{ name, head string }{
		"101 not asked for", crlfs("HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: websocket\n\n"),
	}, struct{ name, head string }{"eleven interim", strings.Repeat("HTTP/1.1 103 x\r\n\r\n", 11) + okEmpty})
	for _, row := range rows {
		addr := script(t, answering(func(string) string { return row.head }))
		f, h := startRelay(t, addr)
		c := f.dial(t)
		c.send(getRoot)
		resp, _ := c.response("GET")
		for resp.StatusCode == 103 {
			resp, _ = c.response("GET")
		}
		var fault *ProtocolError
		if resp.StatusCode != 502 || !errors.As(h.last(), &fault) || fault.Reason != "bad_response" {
			t.Errorf("%s: %d, %v", row.name, resp.StatusCode, h.last())
		}
		eventually(t, "server connection closed", func() bool { return h.t.Live() == 0 })
		_ = c.Close()
	}
}

func TestInterimResponses(t *testing.T) {
	addr := script(t, answering(func(string) string {
		return "HTTP/1.1 100 Continue\r\n\r\n" + strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 9) + okBody("x")
	}))
	f, _ := startRelay(t, addr)
	c := f.dial(t)
	for range 2 {
		c.send(getRoot)
		for range 9 {
			if resp, _ := c.response("GET"); resp.StatusCode != 103 || resp.Header.Get("Link") == "" {
				t.Fatalf("%d", resp.StatusCode)
			}
		}
		if _, body := c.response("GET"); body != "x" {
			t.Errorf("%q", body)
		}
	}
	old := f.dial(t)
	old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	if all, _ := old.rest(); strings.Contains(all, "103") {
		t.Errorf("%q", all)
	}
}

// A response that is cut anywhere is never shown as complete; one that is whole is, however it is cut into packets.
func TestCutResponses(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
	} {
		cut := 0
		addr := script(t, func(nc *client) {
			if _, err := nc.readHead(); err == nil {
				nc.send(answer[:cut])
			}
		})
		f, h := startRelay(t, addr)
		for cut = range len(answer) {
			c := f.dial(t)
			c.send(getRoot)
			resp, err := http.ReadResponse(c.r, nil)
			if err == nil && resp.StatusCode == 200 {
				if b, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("cut at %d of %q: taken for %q", cut, answer, b)
				}
			}
			_ = c.Close()
			if begun := cut > strings.Index(answer, "\r\n\r\n")+3; begun {
				var up ErrUpstream
				if err := h.last(); !errors.As(err, &up) || !errors.Is(err, ErrBodyCut) {
					t.Errorf("cut at %d: %v", cut, err)
				}
			} else if err := h.last(); !errors.Is(err, ErrServerClosed) {
				t.Errorf("cut at %d: %v", cut, err)
			}
		}
		cut = len(answer)
		c := f.dial(t)
		c.send(getRoot)
		if _, body := c.response("GET"); body != "0123456789" {
			t.Errorf("%q", body)
		}
	}
}

func TestBadChunksFromServer(t *testing.T) {
	for _, row := range badChunks {
		addr := script(t, func(nc *client) {
			if _, err := nc.readHead(); err == nil {
				nc.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + row.in)
				_ = nc.CloseWrite()
				_, _ = nc.rest()
			}
		})
		f, h := startRelay(t, addr)
		c := f.dial(t)
		c.send(getRoot)
		resp, err := http.ReadResponse(c.r, nil)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		var up ErrUpstream
		if err == nil || !errors.As(h.last(), &up) {
			t.Errorf("%s: %v, %v", row.name, err, h.last())
		}
		_ = c.Close()
	}
}

// A request body that is cut or bad is never ended as if it were whole.
func TestBadRequestBodiesAreNotPassedOff(t *testing.T) {
	bodies := make(chan error, 1)
	addr := startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := io.ReadAll(r.Body)
		bodies <- err
	}))
	f, h := startRelay(t, addr)
	for _, row := range badChunks {
		c := f.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		c.send("3\r\nabc\r\n" + row.in)
		_ = c.CloseWrite()
		_, _ = c.rest()
		_ = c.Close()
		select {
		case err := <-bodies:
			if err == nil {
				t.Errorf("%s: taken for whole", row.name)
			}
		case <-time.After(20 * time.Millisecond): // refused before the server's handler began, which is as good
		}
	}
	eventually(t, "an error for each bad body", func() bool { return h.failures() == len(badChunks) })
	eventually(t, "server connections closed", func() bool { return h.t.Live() == 0 })
}

// Each event reaches the client before the server makes the next.
func TestEventsPassOneByOne(t *testing.T) {
	next := make(chan struct{})
	for _, framing := range []string{"chunked", "close", "length"} {
		addr := startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			switch framing {
			case "close":
				w.Header().Set("Connection", "close")
				w.Header().Set("Transfer-Encoding", "identity")
			case "length":
				w.Header().Set("Content-Length", strconv.Itoa(5*len("data: 0\n\n")))
			}
			for i := range 5 {
				_, _ = fmt.Fprintf(w, "data: %d\n\n", i)
				w.(http.Flusher).Flush()
				<-next
			}
		}))
		f, _ := startRelay(t, addr)
		c := f.dial(t)
		c.send(getRoot)
		resp, err := http.ReadResponse(c.r, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 5 {
			event := make([]byte, len("data: 0\n\n"))
			if _, err := io.ReadFull(resp.Body, event); err != nil || string(event) != fmt.Sprintf("data: %d\n\n", i) {
				t.Fatalf("%s: %q, %v", framing, event, err)
			}
			next <- struct{}{}
		}
		if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
			t.Errorf("%s: %q, %v", framing, rest, err)
		}
	}
}

// The server answers and goes on reading: both directions stream at once.
func TestFullDuplex(t *testing.T) {
	addr := script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
		for {
			size, err := nc.r.ReadString('\n')
			if err != nil {
				return
			}
			n, _ := strconv.ParseInt(strings.TrimSpace(size), 16, 32)
			data := make([]byte, n+2)
			_, _ = io.ReadFull(nc.r, data)
			nc.send(size + string(data))
			if n == 0 {
				return
			}
		}
	})
	f, h := startRelay(t, addr)
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		say := fmt.Sprintf("say %d", i)
		c.send(fmt.Sprintf("%x\r\n%s\r\n", len(say), say))
		echo := make([]byte, len(say))
		if _, err := io.ReadFull(resp.Body, echo); err != nil || string(echo) != say {
			t.Fatalf("%q, %v", echo, err)
		}
	}
	c.send("0\r\n\r\n")
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	c.send(getRoot) // the client's connection lives on
	_, _ = http.ReadResponse(c.r, nil)
	_ = h
}

// A server that answers without taking the body: its answer reaches the client, which is still sending.
func TestEarlyResponse(t *testing.T) {
	for _, closes := range []bool{false, true} {
		addr := script(t, func(nc *client) {
			if _, err := nc.readHead(); err != nil {
				return
			}
			nc.send("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
			if closes {
				_ = nc.CloseWrite()
			}
			_, _ = io.Copy(io.Discard, nc.r)
		})
		f, h := startRelay(t, addr)
		c := f.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n")
		c.send(strings.Repeat("x", 100<<10))
		if resp, body := c.response("POST"); resp.StatusCode != 413 || body != "big" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
		eventually(t, "server connection closed", func() bool { return h.t.Live() == 0 })
	}
}

func TestExpectThroughRelay(t *testing.T) {
	addr := script(t, func(nc *client) {
		head, err := nc.readHead()
		if err != nil {
			return
		}
		if strings.Contains(head, "Expect") {
			t.Error("Expect was forwarded")
		}
		body := make([]byte, 5)
		_, _ = io.ReadFull(nc.r, body)
		nc.send(okBody(string(body)))
	})
	f, _ := startRelay(t, addr)
	c := f.dial(t)
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

func TestTrailersThroughRelay(t *testing.T) {
	got := make(chan string, 1)
	addr := script(t, func(nc *client) {
		head, err := nc.readHead()
		if err != nil {
			return
		}
		_ = head
		var all strings.Builder
		for !strings.Contains(all.String(), "\r\n\r\n") || !strings.Contains(all.String(), "0\r\n") {
			line, err := nc.r.ReadString('\n')
			all.WriteString(line)
			if err != nil {
				break
			}
		}
		got <- all.String()
		nc.send("HTTP/1.1 200 OK\r\nTrailer: Grpc-Status, Content-Length, X-Forwarded-For\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nGrpc-Status: 0\r\nX-Not-Announced: 1\r\nContent-Length: 5\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n")
	})
	f, _ := startRelay(t, addr)
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n3\r\nabc\r\n0\r\nX-Sum:  7\r\nX-Forwarded-For: 1.2.3.4\r\nHost: evil\r\n\r\n")
	if s := <-got; s != "3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n" {
		t.Errorf("server got %q", s)
	}
	resp, body := c.response("POST")
	if body != "x" || len(resp.Trailer) != 1 || resp.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%q, %v", body, resp.Trailer)
	}
}

func TestDialErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	tr := NewTransport(l.Addr().String(), TransportConfig{Connect: time.Second})
	if _, err := tr.Get(nil); !errors.Is(err, ErrConnectRefused) {
		t.Error(err)
	}
	var c Cancel
	c.Cancel()
	if _, err := tr.Get(&c); err != ErrCanceled {
		t.Error(err)
	}
	tr.Close()
	if _, err := tr.Get(nil); err != ErrClosed {
		t.Error(err)
	}
	if _, err := NewTransport("127.0.0.1:bad", TransportConfig{}).Get(nil); !errors.Is(err, ErrConnect) {
		t.Error(err)
	}
}

// fullListener accepts nothing and has a full backlog, so that a dial hangs.
func fullListener(t *testing.T) string {
	t.Helper()
	l := listenBacklog(t, 0)
	for range 8 {
		nc, err := net.DialTimeout("tcp", l, 50*time.Millisecond)
		if err != nil {
			return l
		}
		t.Cleanup(func() { _ = nc.Close() })
	}
	t.Skip("the system takes more connections than the backlog says")
	return ""
}

func TestDialTimeoutAndCancel(t *testing.T) {
	addr := fullListener(t)
	tr := NewTransport(addr, TransportConfig{Connect: 50 * time.Millisecond})
	if _, err := tr.Get(nil); !errors.Is(err, ErrConnectTimeout) {
		t.Error(err)
	}
	tr.SetConfig(TransportConfig{Connect: time.Minute})
	var c Cancel
	time.AfterFunc(20*time.Millisecond, c.Cancel)
	if _, err := tr.Get(&c); err != ErrCanceled {
		t.Error(err)
	}
	if tr.Live() != 0 {
		t.Errorf("%d connections", tr.Live())
	}
}

// exchange gets a connection and sends one request.
func exchange(t *testing.T, tr *Transport, c *Cancel, request string) *UpConn {
	t.Helper()
	u, err := tr.Get(c)
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
	u.Release()
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
	u.Release()
	again := exchange(t, tr, &second, getRoot)
	if again != u || !again.Reused() {
		t.Fatal("not the same connection")
	}
	first.Cancel()
	if _, err := again.ReadHead([]byte("GET")); err != nil {
		t.Error(err)
	}
	again.Release()
	again.Release()
	again.Close()
	if tr.Idle() != 1 || tr.Live() != 1 {
		t.Errorf("%d kept of %d", tr.Idle(), tr.Live())
	}
	if third, err := tr.Get(nil); err != nil || third != u {
		t.Error("releasing twice spoiled the connection", err)
	}
}

func TestFirstByteTimeout(t *testing.T) {
	tr := NewTransport(script(t, func(nc *client) { _, _ = nc.rest() }), TransportConfig{FirstByte: 20 * time.Millisecond})
	u := exchange(t, tr, nil, getRoot)
	if _, err := u.ReadHead([]byte("GET")); err != ErrFirstByteTimeout {
		t.Error(err)
	}
	if !u.Sent() || u.Begun() || !u.Delivered() || u.Reused() {
		t.Error("sent", u.Sent(), "begun", u.Begun(), "delivered", u.Delivered())
	}
	u.Close()
}

func TestServerClosedBeforeAnswer(t *testing.T) {
	// The request is read and then the connection closed: it may have been executed.
	tr := NewTransport(script(t, func(nc *client) { _, _ = nc.readHead() }), TransportConfig{})
	u := exchange(t, tr, nil, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	if _, err := u.ReadHead([]byte("POST")); !errors.Is(err, ErrServerClosed) || !u.Delivered() || u.Begun() {
		t.Error(err, u.Delivered(), u.Begun())
	}
	u.Close()
	// Half a head.
	tr = NewTransport(script(t, func(nc *client) { _, _ = nc.readHead(); nc.send("HTTP/1.1 20") }), TransportConfig{})
	u = exchange(t, tr, nil, getRoot)
	if _, err := u.ReadHead([]byte("GET")); !errors.Is(err, ErrServerClosed) || !u.Begun() {
		t.Error(err, u.Begun())
	}
	u.Close()
}

func TestIdleConnectionsExpire(t *testing.T) {
	tr := NewTransport(script(t, answering(func(string) string { return okEmpty })), TransportConfig{KeepAlive: 50 * time.Millisecond, MaxIdle: 2})
	var us []*UpConn
	for range 4 {
		us = append(us, exchange(t, tr, nil, getRoot))
	}
	for _, u := range us {
		if _, err := u.ReadHead([]byte("GET")); err != nil {
			t.Fatal(err)
		}
		u.Release()
	}
	if tr.Idle() != 2 || tr.Live() != 2 {
		t.Errorf("idle %d, live %d", tr.Idle(), tr.Live())
	}
	u, err := tr.Get(nil)
	if err != nil || u != us[1] {
		t.Error("not the one used last")
	}
	u.Close()
	eventually(t, "idle connection closed", func() bool { return tr.Live() == 0 })
}

func TestKeepAliveIsLearned(t *testing.T) {
	tr := NewTransport(script(t, answering(func(string) string {
		return "HTTP/1.1 200 OK\r\nKeep-Alive: max=5, timeout=2\r\nContent-Length: 0\r\n\r\n"
	})), TransportConfig{KeepAlive: 10 * time.Second})
	u := exchange(t, tr, nil, getRoot)
	if _, err := u.ReadHead([]byte("GET")); err != nil {
		t.Fatal(err)
	}
	u.Release()
	if tr.keepFor() != time.Second {
		t.Error(tr.keepFor())
	}
	tr.SetConfig(TransportConfig{KeepAlive: -1})
	if tr.keepFor() != -1 {
		t.Error(tr.keepFor())
	}
	tr.Close()
}

// A server that closed a connection which was unused for a while keeps them for less than that; a close after a moment
// tells nothing, as a restart closes connections of any age. One that was unused for longer than it is kept is not
// used, also when nobody has closed it yet.
func TestClosesAreLearnedFrom(t *testing.T) {
	closing := make(chan bool)
	tr := NewTransport(script(t, func(nc *client) {
		for {
			head, err := nc.readHead()
			if err != nil {
				return
			}
			nc.send(okEmpty)
			if requestPath(head) == "/last" {
				<-closing
				return
			}
		}
	}), TransportConfig{KeepAlive: time.Minute})
	defer tr.Close()
	ask := func(path string) *UpConn {
		t.Helper()
		u := exchange(t, tr, nil, "GET "+path+" HTTP/1.1\r\nHost: a\r\n\r\n")
		if _, err := u.ReadHead([]byte("GET")); err != nil {
			t.Fatal(err)
		}
		u.Release()
		return u
	}
	for _, one := range []struct{ unused, learned time.Duration }{{time.Second, time.Minute}, {20 * time.Second, 10 * time.Second}} {
		u := ask("/last")
		closing <- true
		eventually(t, "the end is there", func() bool { return u.peek() == peekEnd })
		u.since -= one.unused
		if ask("/") == u {
			t.Fatal("a closed connection was used")
		}
		tr.CloseIdle()
		if d := tr.keepFor() - one.learned; d < 0 || d > time.Second {
			t.Errorf("closed after %v: kept for %v", one.unused, tr.keepFor())
		}
	}
	u := ask("/")
	if ask("/") != u {
		t.Fatal("not kept")
	}
	u.since -= 15 * time.Second
	if ask("/") == u {
		t.Error("one was used that is older than is learned")
	}
}

func TestRewind(t *testing.T) {
	for _, framing := range []string{"Content-Length: 5\r\n\r\nhello", "Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"} {
		dead, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			for {
				nc, err := dead.Accept()
				if err != nil {
					return
				}
				_ = nc.(*net.TCPConn).SetLinger(0)
				_ = nc.Close()
			}
		}()
		t.Cleanup(func() { _ = dead.Close() })
		good := NewTransport(startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })), TransportConfig{})
		bad := NewTransport(dead.Addr().String(), TransportConfig{})
		f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
			out := []byte("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
			if c.Head().Chunked() {
				out = []byte("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
			}
			for _, tr := range []*Transport{bad, bad, good} {
				u, err := tr.Get(nil)
				if err != nil {
					continue
				}
				if !c.Body().Rewindable() {
					t.Error("not rewindable")
				}
				c.Body().Rewind()
				err = u.Send(out, c.Body())
				if err == nil {
					_, err = u.ReadHead([]byte("POST"))
				}
				if err != nil {
					u.Close()
					continue
				}
				_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), u.Body().Remaining())
				_, _ = c.CopyBody(u, 0, nil)
				_ = c.Finish(nil)
				u.Release()
			}
		})})
		whole := "POST / HTTP/1.1\r\nHost: a\r\n" + framing
		for cut := strings.Index(whole, "\r\n\r\n") + 4; cut <= len(whole); cut++ {
			c := f.dial(t)
			c.send(whole[:cut])
			if cut < len(whole) {
				time.Sleep(time.Millisecond)
				c.send(whole[cut:])
			}
			if resp, body := c.response("POST"); resp.StatusCode != 200 || body != "hello" {
				t.Errorf("cut at %d: %d %q", cut, resp.StatusCode, body)
			}
			_ = c.Close()
		}
	}
}

func TestBodyLimit(t *testing.T) {
	var errs = make(chan error, 1)
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		err := c.Body().Limit(10)
		if err == nil {
			_, err = io.Copy(io.Discard, c.Body())
		}
		errs <- err
		_ = c.WriteHead([]byte("HTTP/1.1 413 Content Too Large\r\n"), 0)
		_ = c.Finish(nil)
	})})
	for body, want := range map[string]error{
		"Content-Length: 10\r\n\r\n0123456789":                                            nil,
		"Content-Length: 11\r\n\r\n0123456789a":                                           ErrBodyTooLarge,
		"Transfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n":                  nil,
		"Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\n":        ErrBodyTooLarge,
		"Transfer-Encoding: chunked\r\n\r\nffffff\r\n01234\r\n6\r\n56789a\r\n0\r\n\r\nxx": ErrBodyTooLarge,
	} {
		c := f.dial(t)
		c.send("POST / HTTP/1.1\r\nHost: a\r\n" + body)
		c.response("POST")
		if err := <-errs; err != want {
			t.Errorf("%q: %v", body, err)
		}
	}
}

// A body larger than any buffer passes without being held.
func TestLargeUploadAndDownload(t *testing.T) {
	const size = 64 << 20
	addr := startNetHTTP(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, err := io.Copy(io.Discard, r.Body)
		if err != nil || n != size {
			t.Error(n, err)
		}
		w.Header().Set("Content-Length", strconv.Itoa(size))
		_, _ = io.CopyN(w, zeros{}, size)
	}))
	f, h := startRelay(t, addr)
	c := f.dial(t)
	c.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: " + strconv.Itoa(size) + "\r\n\r\n")
	go func() { _, _ = io.CopyN(c, zeros{}, size) }()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
		t.Errorf("%d, %v, %v", n, err, h.last())
	}
	eventually(t, "connection kept", func() bool { return h.t.Idle() == 1 })
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

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
