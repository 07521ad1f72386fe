package http1

import (
	"bufio"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// unixFront serves on a Unix socket.
func unixFront(t testing.TB, s *Server) (f *front, dial func() *unixClient) {
	t.Helper()
	path := socketPath(t)
	l, err := Listen(context.Background(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, s, NamedListener{Listener: l, Name: "unix:" + path}), func() *unixClient {
		t.Helper()
		nc, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
		return &unixClient{nc.(*net.UnixConn), bufio.NewReader(nc)}
	}
}

type unixClient struct {
	*net.UnixConn
	r *bufio.Reader
}

func (c *unixClient) response(t testing.TB) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(body), err)
	}
	return resp, string(body)
}

// unixServer is a server on a Unix socket.
func unixServer(t testing.TB, h http.Handler) (addr string) {
	t.Helper()
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
	return "unix:" + path
}

func echo(t testing.TB) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		if r.URL.Path == "/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		}
		_, _ = w.Write(b)
	})
}

// Bodies of all sizes, small ones in one write and large ones by splice, arrive whole over Unix sockets on both sides, on one
// connection each.
func TestRelayOverUnixSockets(t *testing.T) {
	h := &relayHandler{t: NewTransport(unixServer(t, echo(t)), TransportConfig{Connect: time.Second, KeepAlive: time.Minute}), idle: 5 * time.Second}
	t.Cleanup(h.t.Close)
	f, dial := unixFront(t, &Server{Handler: h, HeaderTimeout: 5 * time.Second, BodyTimeout: 5 * time.Second, KeepAlive: time.Minute})
	c := dial()
	for _, size := range []int{0, 1, 4096, 16 << 10, 40 << 10, 300 << 10, 5 << 20} {
		body := randomBytes(size)
		for _, path := range []string{"/length", "/chunks"} {
			for _, chunked := range []bool{false, true} {
				go func() {
					if !chunked {
						_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", path, size, body)
						return
					}
					_, _ = fmt.Fprintf(c, "POST %s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", path)
					for rest := body; len(rest) > 0; {
						n := min(len(rest), 70_001)
						_, _ = fmt.Fprintf(c, "%x\r\n%s\r\n", n, rest[:n])
						rest = rest[n:]
					}
					_, _ = io.WriteString(c, "0\r\n\r\n")
				}()
				if resp, got := c.response(t); resp.StatusCode != 200 || sha256.Sum256([]byte(got)) != sha256.Sum256(body) {
					t.Fatalf("%d bytes, %s, chunked %v: %d, %d bytes back: %v", size, path, chunked, resp.StatusCode, len(got), h.last())
				}
			}
		}
	}
	if open, _ := f.Conns(); h.failures() != 0 || h.t.Live() != 1 || open != 1 {
		t.Errorf("%v; %d connections to the server, %d of clients", h.last(), h.t.Live(), open)
	}
}

func TestUnixPeerHasNoAddress(t *testing.T) {
	_, dial := unixFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		reply(c, fmt.Sprint(c.Origin().Remote.IsValid(), c.Origin().Local.IsValid(), strings.HasPrefix(c.Listener(), "unix:/")))
	})})
	c := dial()
	_, _ = io.WriteString(c, getRoot)
	if _, body := c.response(t); body != "false false true" {
		t.Error(body)
	}
}

// A Unix socket cannot be reset, but Abort ends it at once all the same, although its handler has not returned.
func TestAbortEndsUnixSocketAtOnce(t *testing.T) {
	release := make(chan struct{})
	f, dial := unixFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		if c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), 10) == nil {
			_, _ = c.Write([]byte("hello"))
		}
		c.Abort()
		<-release
	})})
	c := dial()
	_, _ = io.WriteString(c, getRoot)
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	got, err := io.ReadAll(c.r)
	close(release)
	if errors.Is(err, os.ErrDeadlineExceeded) || !strings.HasSuffix(string(got), "hello") && err == nil {
		t.Errorf("%q, %v", got, err)
	}
	eventually(t, "closed", func() bool { open, _ := f.Conns(); return open == 0 })
}

func TestUnixClientThatLeavesIsSeen(t *testing.T) {
	for name, leave := range map[string]func(c *unixClient){
		"closes": func(c *unixClient) { _ = c.Close() }, "ends its side": func(c *unixClient) { _ = c.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			gone := make(chan struct{})
			entered := make(chan struct{})
			f, dial := unixFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
				c.SetGone(func() { close(gone) })
				close(entered)
				select {
				case <-gone:
				case <-time.After(5 * time.Second):
					t.Error("not seen")
				}
				c.Abort()
			})})
			c := dial()
			_, _ = io.WriteString(c, getRoot)
			<-entered
			leave(c)
			eventually(t, "closed", func() bool { open, _ := f.Conns(); return open == 0 })
		})
	}
}

func TestTunnelOverUnixSockets(t *testing.T) {
	addr := unixServer(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		nc, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		_, _ = io.Copy(nc, rw)
	}))
	h := &relayHandler{t: NewTransport(addr, TransportConfig{}), idle: 5 * time.Second}
	t.Cleanup(h.t.Close)
	f, dial := unixFront(t, &Server{Handler: h})
	c := dial()
	_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil || resp.StatusCode != 101 {
		t.Fatal(resp, err)
	}
	sent := randomBytes(1 << 20)
	go func() {
		_, _ = c.Write(sent)
		_ = c.CloseWrite()
	}()
	if got, err := io.ReadAll(c.r); err != nil || sha256.Sum256(got) != sha256.Sum256(sent) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	eventually(t, "both closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
}

func TestKeptUnixConnectionThatWasClosed(t *testing.T) {
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	closed := make(chan struct{}, 3)
	go func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(nc)); err == nil {
				_, _ = io.WriteString(nc, okEmpty)
			}
			_ = nc.Close()
			closed <- struct{}{}
		}
	}()
	tr := NewTransport("unix:"+path, TransportConfig{KeepAlive: time.Minute})
	defer tr.Close()
	stale := 0
	for range 5 {
		u := exchange(t, tr, nil, getRoot)
		_, err := u.ReadHead([]byte("GET"))
		if u.Reused() {
			stale++
			if !errors.Is(err, ErrServerClosed) || u.Delivered() {
				t.Fatalf("%v, delivered %v", err, u.Delivered())
			}
			u.Close()
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		u.Release(time.Now())
		<-closed
	}
	if stale != 2 {
		t.Errorf("%d connections were found closed", stale)
	}
}

func TestConnectToUnixSocket(t *testing.T) {
	path := socketPath(t)
	tr := NewTransport("unix:"+path, TransportConfig{Connect: 5 * time.Second})
	if _, err := tr.Get(nil, time.Now()); !errors.Is(err, ErrConnect) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no socket: %v", err)
	}
	// A full backlog is waited for, as with TCP.
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	if err := syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		t.Fatal(err)
	}
	if _, err := tr.Get(nil, time.Now()); !errors.Is(err, ErrConnectRefused) {
		t.Errorf("nobody listens: %v", err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	var filling []net.Conn
	for len(filling) < 100 {
		nc, err := net.Dial("unix", path)
		if err != nil {
			break
		}
		defer nc.Close()
		filling = append(filling, nc)
	}
	if len(filling) == 100 {
		t.Skip("the system has no small backlog")
	}
	tr.SetConfig(TransportConfig{Connect: 30 * time.Millisecond})
	if _, err := tr.Get(nil, time.Now()); !errors.Is(err, ErrConnectTimeout) {
		t.Errorf("a full backlog: %v", err)
	}
	tr.SetConfig(TransportConfig{})
	var c Cancel
	time.AfterFunc(20*time.Millisecond, c.Cancel)
	if _, err := tr.Get(&c, time.Now()); err != ErrCanceled {
		t.Errorf("canceled: %v", err)
	}
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	time.AfterFunc(20*time.Millisecond, func() {
		for range len(filling) + 1 {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			_ = nc.Close()
		}
	})
	u, err := tr.Get(nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	u.Close()
}
