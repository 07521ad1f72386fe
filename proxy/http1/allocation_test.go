package http1

import (
	"io"
	"net"
	"net/http"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"
)

// echoServer answers each read with the same bytes and allocates nothing itself.
func echoServer(t *testing.T, answer string) string {
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
			go func() {
				defer nc.Close()
				buf, out := make([]byte, 64<<10), []byte(answer)
				for {
					if _, err := nc.Read(buf); err != nil {
						return
					}
					if _, err := nc.Write(out); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// A kept-alive request through both legs allocates nothing.
func TestProxiedRequestAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	small := strings.Repeat("x", 100)
	rows := []struct{ name, request, answer string }{
		{"GET", "GET / HTTP/1.1\r\nHost: a\r\nUser-Agent: b\r\nAccept: */*\r\n\r\n", okBody(small)},
		{"GET 12 KiB", getRoot, okBody(strings.Repeat("x", 12<<10))},
		{"GET 60 KiB, through a pipe", getRoot, okBody(strings.Repeat("x", 60<<10))},
		{"GET chunked", getRoot, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
		{"POST", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n" + small, okBody(small)},
		{"POST chunked", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", okBody(small)},
	}
	for _, row := range rows {
		f, h := startRelay(t, echoServer(t, row.answer))
		c := f.dial(t)
		request, buf := []byte(row.request), make([]byte, 64<<10)
		want := 0
		once := func() {
			if _, err := c.TCPConn.Write(request); err != nil {
				t.Fatal(err)
			}
			for got := 0; got < max(want, 1); {
				n, err := c.TCPConn.Read(buf)
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
		}
		c.send(row.request)
		time.Sleep(50 * time.Millisecond) // the length of the whole answer is what comes before silence
		n, err := c.TCPConn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		want = n
		for range 200 {
			once()
		}
		const rounds = 3000
		old := debug.SetGCPercent(-1)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range rounds {
			once()
		}
		runtime.ReadMemStats(&after)
		debug.SetGCPercent(old)
		// What the runtime and timers do now and then is not per request.
		if n := after.Mallocs - before.Mallocs; n > rounds/100 {
			t.Errorf("%s: %d allocations in %d requests", row.name, n, rounds)
		}
		if h.failures() > 0 {
			t.Error(h.last())
		}
		_ = c.Close()
	}
}

// An idle connection holds no buffers.
func TestIdleConnectionsAreSmall(t *testing.T) {
	f := startFront(t, &Server{KeepAlive: time.Minute, Handler: handlerFunc(func(c *Conn) { reply(c, "") })})
	c := f.dial(t)
	c.send(getRoot)
	c.response("GET")
	f.mu.Lock()
	defer f.mu.Unlock()
	for conn := range f.conns {
		eventually(t, "connection idle", func() bool {
			conn.mu.Lock()
			defer conn.mu.Unlock()
			return conn.idle
		})
	}
	if raceEnabled {
		return // the fields below belong to the connection's goroutine, which waits
	}
	for conn := range f.conns {
		eventually(t, "buffers given back", func() bool { return conn.in.b == nil && conn.out.held == nil && conn.message == nil })
	}
}

// A stream that is silent holds no buffer to write with, neither to its client nor to its server.
func TestSilentStreamsAreSmall(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	goOn := make(chan struct{})
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		_, _ = nc.Read(make([]byte, 4096))
		_, _ = io.WriteString(nc, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		<-goOn
		_, _ = io.WriteString(nc, "1\r\ny\r\n0\r\n\r\n")
	}()
	tr := NewTransport(l.Addr().String(), TransportConfig{})
	defer tr.Close()
	type legs struct {
		c *Conn
		u *UpConn
	}
	under := make(chan legs, 1)
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		u, err := tr.Get(nil, time.Now())
		if err != nil {
			t.Error(err)
			c.Abort()
			return
		}
		defer u.Release(time.Now())
		under <- legs{c, u}
		err = u.Send([]byte(getRoot), nil)
		if err == nil {
			_, err = u.ReadHead([]byte("GET"))
		}
		if err == nil {
			err = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), BodyChunked)
		}
		if err == nil {
			_, err = c.CopyBody(u, 0, nil)
		}
		if err == nil {
			err = c.Finish(nil)
		}
		if err != nil {
			t.Error(err)
		}
	})})
	c := f.dial(t)
	c.send(getRoot)
	resp, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 2)
	if _, err := io.ReadFull(resp.Body, got[:1]); err != nil {
		t.Fatal(err)
	}
	if both := <-under; !raceEnabled { // the fields belong to the connection's goroutine, which waits
		eventually(t, "buffers given back", func() bool { return both.c.out.held == nil && both.u.out.held == nil })
	}
	close(goOn)
	if _, err := io.ReadFull(resp.Body, got[1:]); err != nil || string(got) != "xy" {
		t.Errorf("%q, %v", got, err)
	}
	if _, err := resp.Body.Read(got); err != io.EOF {
		t.Errorf("no end: %v", err)
	}
}
