package http1

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// handlerFunc makes a Handler of a function.
type handlerFunc func(c *Conn)

func (f handlerFunc) Handle(c *Conn) { f(c) }

// reply answers 200 with body.
func reply(c *Conn, body string) {
	head := "HTTP/1.1 200 OK\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	if err := c.WriteHead([]byte(head), int64(len(body))); err != nil {
		panic(err)
	}
	_, _ = c.Write([]byte(body))
	_ = c.Finish(nil)
}

// front is a Server on a port of its own.
type front struct {
	*Server
	addr string
	done chan error
}

func startFront(t testing.TB, s *Server) *front {
	t.Helper()
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s, l)
}

func serveOn(t testing.TB, s *Server, l net.Listener) *front {
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	f := &front{Server: s, addr: l.Addr().String(), done: make(chan error, 1)}
	go func() { f.done <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		ctx, stop := context.WithCancel(context.Background())
		stop()
		if !s.draining.Load() {
			_ = s.Shutdown(ctx)
		}
	})
	return f
}

func (f *front) dial(t testing.TB) *client {
	t.Helper()
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{t: t, TCPConn: nc.(*net.TCPConn), r: bufio.NewReader(nc)}
}

// client is the raw end of a connection.
type client struct {
	t testing.TB
	*net.TCPConn
	r *bufio.Reader
}

func (c *client) send(s string) {
	c.t.Helper()
	if _, err := c.Write([]byte(s)); err != nil {
		c.t.Fatal(err)
	}
}

// response reads one response the way another implementation does.
func (c *client) response(method string) (*http.Response, string) {
	c.t.Helper()
	resp, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatalf("body %q: %v", body, err)
	}
	return resp, string(body)
}

// rest reads to the end of the connection.
func (c *client) rest() (string, error) {
	b, err := io.ReadAll(c.r)
	return string(b), err
}

// wantClosed fails unless the server has closed in order.
func (c *client) wantClosed() {
	c.t.Helper()
	if rest, err := c.rest(); err != nil || rest != "" {
		c.t.Errorf("not closed in order: %q, %v", rest, err)
	}
}

// relayHandler is a gateway with one server and no features: what the package is for. It counts what it did.
type relayHandler struct {
	t        *Transport
	prepared func(c *Conn) // called before anything is read of the body
	idle     time.Duration
	mu       sync.Mutex
	lastErr  error
	errs     int
}

type relayExchange struct {
	cancel Cancel
	out    []byte
	u      *UpConn
	whole  func() // lets go of u, made once
}

func (h *relayHandler) note(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lastErr = err
	h.errs++
}

func (h *relayHandler) last() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.lastErr
}

func (h *relayHandler) failures() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.errs
}

func (h *relayHandler) Handle(c *Conn) {
	x, _ := c.Data.(*relayExchange)
	if x == nil {
		x = &relayExchange{}
		x.whole = func() {
			x.u.Release(time.Now())
			x.u = nil
		}
		c.Data = x
		c.SetGone(x.cancel.Cancel)
	}
	x.cancel.Reset()
	if h.prepared != nil {
		h.prepared(c)
		if c.Started() {
			return
		}
	}
	head := c.Head()
	websocket := head.Websocket()
	head.DropHopByHop()
	out := append(x.out[:0], head.Method()...)
	out = append(out, ' ')
	out = append(out, head.Target()...)
	out = append(out, " HTTP/1.1\r\n"...)
	out = head.AppendKept(out)
	if head.Chunked() {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	if websocket {
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	x.out = append(out, "\r\n"...)
	var u *UpConn
	var r *Head
	for {
		var err error
		if u, err = h.t.Get(&x.cancel, time.Now()); err != nil {
			h.fail(c, err)
			return
		}
		if websocket {
			u.AllowUpgrade()
		}
		if err = u.Send(x.out, c.Body()); err == nil || errors.Is(err, ErrServerClosed) {
			r, err = u.ReadHead(head.Method())
		}
		if err == nil {
			break
		}
		stale := u.Reused() && !u.Delivered() && c.Body().Rewindable()
		u.Close()
		if !stale {
			h.fail(c, err)
			return
		}
		c.Body().Rewind()
	}
	for {
		r.DropHopByHop()
		out = append(x.out[:0], r.StatusLine()...)
		out = append(out, "\r\n"...)
		out = r.AppendKept(out)
		x.out = out
		if r.Status() == 101 {
			out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
			if err := c.WriteHead(out, BodyNone); err != nil {
				panic(err)
			}
			c.Tunnel(u, h.idle)
			return
		}
		if r.Status() < 200 {
			if err := c.WriteInterim(append(out, "\r\n"...)); err != nil {
				u.Close()
				h.fail(c, err)
				return
			}
			var err error
			if r, err = u.ReadHead(head.Method()); err != nil {
				u.Close()
				h.fail(c, err)
				return
			}
			continue
		}
		length := u.Body().Remaining()
		if err := c.WriteHead(out, length); err != nil {
			panic(err)
		}
		break
	}
	x.u = u
	u.WhenWhole(x.whole)
	if _, err := c.CopyBody(u, h.idle, nil); err != nil {
		if x.u != nil {
			u.Close()
		}
		h.note(err)
		c.Abort()
		return
	}
	var trailers []byte
	if x.u != nil {
		trailers = u.Body().Trailers()
	}
	err := c.Finish(trailers)
	if x.u != nil {
		u.Release(time.Now())
	}
	if err != nil {
		h.note(err)
	}
}

func (h *relayHandler) fail(c *Conn, err error) {
	h.note(err)
	if c.Gone() || c.WriteHead([]byte("HTTP/1.1 502 Bad Gateway\r\n"), 0) != nil {
		c.Abort()
		return
	}
	_ = c.Finish(nil)
}

// startRelay is a front before the server at addr.
func startRelay(t testing.TB, addr string) (*front, *relayHandler) {
	t.Helper()
	h := &relayHandler{t: NewTransport(addr, TransportConfig{Connect: time.Second, FirstByte: 5 * time.Second, Idle: 5 * time.Second, KeepAlive: 30 * time.Second}), idle: 5 * time.Second}
	t.Cleanup(h.t.Close)
	return startFront(t, &Server{Handler: h, HeaderTimeout: 5 * time.Second, BodyTimeout: 5 * time.Second, KeepAlive: 30 * time.Second}), h
}

// script is a server that runs f for each connection.
func script(t testing.TB, f func(nc *client)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
			go func() {
				defer nc.Close()
				f(&client{t: t, TCPConn: nc.(*net.TCPConn), r: bufio.NewReader(nc)})
			}()
		}
	}()
	return l.Addr().String()
}

// readHead reads to the empty line.
func (c *client) readHead() (string, error) {
	var b strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		b.WriteString(line)
		if err != nil {
			return b.String(), err
		}
		if line == "\r\n" {
			return b.String(), nil
		}
	}
}

// answering answers each request head with the bytes that answer gives; an empty answer ends the connection.
func answering(answer func(head string) string) func(*client) {
	return func(nc *client) {
		for {
			head, err := nc.readHead()
			if err != nil {
				return
			}
			a := answer(head)
			if a == "" {
				return
			}
			if _, err := nc.Write([]byte(a)); err != nil {
				return
			}
		}
	}
}

func startNetHTTP(t testing.TB, h http.Handler) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return l.Addr().String()
}

// eventually waits for what another goroutine is about to do.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not seen in time: " + what)
		}
	}
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
