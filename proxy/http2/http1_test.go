package http2_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"

	"sluice/proxy/http1"
	"sluice/proxy/http2"
)

// handlerFunc is a handler of the engine behind the streams.
type handlerFunc func(c *http1.Conn)

func (f handlerFunc) Handle(c *http1.Conn) { f(c) }

// startFront serves HTTP/1.1 and HTTP/2 on one port, as sluice does.
func startFront(t testing.TB, handle func(c *http1.Conn)) (front *http1.Server, addr string, shutdown func() error) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	streams := &http2.Server{Log: log}
	front = &http1.Server{Handler: handlerFunc(handle), Log: log, BodyTimeout: 5 * time.Second, Grace: 50 * time.Millisecond}
	front.HTTP2 = func(nc net.Conn, o http1.Origin, drain <-chan struct{}) {
		o.HTTP2 = true
		streams.Serve(nc, drain, func(s *http2.Stream) { front.ServeStream(s, o) })
	}
	ln, err := http1.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- front.Serve(ln) }()
	shutdown = sync.OnceValue(func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		return errors.Join(front.Shutdown(ctx), <-ended)
	})
	t.Cleanup(func() {
		if err := shutdown(); err != nil {
			t.Error(err)
		}
	})
	return front, ln.Addr().String(), shutdown
}

// newClient speaks HTTP/2 in cleartext.
func newClient(t testing.TB) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

// respond answers with a body of known length.
func respond(c *http1.Conn, status int, body string) {
	if c.WriteHead([]byte(fmt.Sprintf("HTTP/1.1 %d X\r\nContent-Type: text/plain\r\n", status)), int64(len(body))) == nil {
		_, _ = io.WriteString(c, body)
		_ = c.Finish(nil)
	}
}

// echo answers with what was asked.
func echo(c *http1.Conn) {
	if string(c.Head().Target()) == "/refuse" {
		respond(c, 413, "too much")
		return
	}
	body, err := io.ReadAll(c.Body())
	if err != nil {
		c.Abort()
		return
	}
	h := c.Head()
	respond(c, 200, fmt.Sprintf("%s %s %s %s %q", h.Method(), h.Target(), h.Host(), h.Get("cookie"), body))
}

func TestRequestsThroughTheEngine(t *testing.T) {
	_, addr, _ := startFront(t, echo)
	client := newClient(t)
	large := strings.Repeat("x", 300<<10)
	tests := []struct {
		name, method, body string
		chunked            bool
	}{
		{"GET", "GET", "", false},
		{"length", "POST", "hello", false},
		{"chunked", "POST", "hello", true},
		{"large", "PUT", large, false},
		{"large, chunked", "PUT", large, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var body io.Reader = strings.NewReader(test.body)
			if test.chunked {
				body = io.MultiReader(body) // whose length net/http cannot tell
			}
			r, _ := http.NewRequest(test.method, "http://"+addr+"/p?q=1", body)
			r.Header["Cookie"] = []string{"a=1", "b=2"}
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, err := io.ReadAll(resp.Body)
			if want := fmt.Sprintf("%s /p?q=1 %s a=1; b=2 %q", test.method, addr, test.body); string(got) != want || err != nil || resp.ProtoMajor != 2 {
				t.Errorf("%s %.100q, %v", resp.Proto, got, err)
			}
		})
	}
}

// What HTTP/1.1 refuses is refused with its own answers.
func TestRefusalsOfTheEngine(t *testing.T) {
	_, addr, _ := startFront(t, echo)
	client := newClient(t)
	many, _ := http.NewRequest("GET", "http://"+addr+"/", nil)
	for i := range 150 {
		many.Header.Set(fmt.Sprintf("a%d", i), "b")
	}
	expect, _ := http.NewRequest("POST", "http://"+addr+"/", strings.NewReader("x"))
	expect.Header.Set("Expect", "something")
	host, _ := http.NewRequest("GET", "http://"+addr+"/", nil)
	host.Host = "a..b"
	connect := &http.Request{Method: "CONNECT", URL: many.URL, Host: "a.example:443", Header: http.Header{}}
	for want, r := range map[int]*http.Request{431: many, 417: expect, 405: connect} {
		resp, err := client.Do(r)
		if err != nil {
			t.Error(want, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%d, want %d", resp.StatusCode, want)
		}
	}
}

func TestStreamingThroughTheEngine(t *testing.T) {
	proceed := make(chan struct{})
	_, addr, _ := startFront(t, func(c *http1.Conn) {
		_ = c.WriteInterim([]byte("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"))
		_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\n"), http1.BodyChunked)
		for range 3 {
			_, _ = io.WriteString(c, "event\n")
			<-proceed
		}
		_ = c.Finish([]byte("X-Sum: 3\r\n"))
	})
	resp, err := newClient(t).Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for range 3 {
		p := make([]byte, 6)
		if _, err := io.ReadFull(resp.Body, p); string(p) != "event\n" || err != nil {
			t.Fatalf("%q, %v", p, err)
		}
		proceed <- struct{}{}
	}
	if rest, err := io.ReadAll(resp.Body); len(rest) > 0 || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	if got := resp.Trailer.Get("X-Sum"); got != "3" {
		t.Errorf("trailer %q", got)
	}
}

// A response that its handler breaks off never looks complete.
func TestAbort(t *testing.T) {
	for name, length := range map[string]int64{"length": 10, "chunked": http1.BodyChunked} {
		t.Run(name, func(t *testing.T) {
			_, addr, _ := startFront(t, func(c *http1.Conn) {
				_ = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), length)
				_, _ = io.WriteString(c, "half")
				c.Abort()
			})
			resp, err := newClient(t).Get("http://" + addr)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			b, err := io.ReadAll(resp.Body)
			var reset h2.StreamError
			if !errors.As(err, &reset) || reset.Code != h2.ErrCodeInternal {
				t.Errorf("%q, %v", b, err)
			}
		})
	}
}

// The engine hears at once that a stream's client has gone; other streams go on.
func TestClientLeaves(t *testing.T) {
	told := make(chan time.Time, 1)
	begun := make(chan struct{})
	_, addr, _ := startFront(t, func(c *http1.Conn) {
		if string(c.Head().Target()) != "/leave" {
			respond(c, 200, "here")
			return
		}
		gone := make(chan struct{})
		c.SetGone(func() { close(gone) })
		close(begun)
		if !c.Gone() {
			<-gone
		}
		told <- time.Now()
		c.Abort()
	})
	client := newClient(t)
	ctx, cancel := context.WithCancel(context.Background())
	r, _ := http.NewRequestWithContext(ctx, "GET", "http://"+addr+"/leave", nil)
	go func() { <-begun; cancel() }()
	if _, err := client.Do(r); err == nil {
		t.Fatal("answered")
	}
	left := time.Now()
	select {
	case at := <-told:
		if at.Sub(left) > 250*time.Millisecond {
			t.Errorf("after %v", at.Sub(left))
		}
	case <-time.After(5 * time.Second):
		t.Fatal("not told")
	}
	resp, err := client.Get("http://" + addr)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
}

// A shutdown ends requests under way and loses none.
func TestShutdown(t *testing.T) {
	var served atomic.Int64
	front, addr, shutdown := startFront(t, func(c *http1.Conn) {
		time.Sleep(100 * time.Millisecond)
		served.Add(1)
		respond(c, 200, "late")
	})
	client := newClient(t)
	results := make(chan error, 20)
	for range cap(results) {
		go func() {
			resp, err := client.Get("http://" + addr)
			if err == nil {
				var b []byte
				if b, err = io.ReadAll(resp.Body); err == nil && string(b) != "late" {
					err = fmt.Errorf("%q", b)
				}
				resp.Body.Close()
			}
			results <- err
		}()
	}
	for open, _ := front.Conns(); open == 0; open, _ = front.Conns() {
		time.Sleep(time.Millisecond)
	}
	time.Sleep(20 * time.Millisecond)
	begun := time.Now()
	if err := shutdown(); err != nil {
		t.Error(err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("took %v", took)
	}
	for range cap(results) {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	if served.Load() != int64(cap(results)) {
		t.Errorf("%d served", served.Load())
	}
}

// Programs that speak HTTP/2 by other hands.
func TestOtherClients(t *testing.T) {
	_, addr, _ := startFront(t, echo)
	file := t.TempDir() + "/upload"
	if err := os.WriteFile(file, bytes.Repeat([]byte("x"), 200<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"curl", "-sS", "--http2-prior-knowledge", "-d", "hello", "http://" + addr + "/p"}, `POST /p ` + addr + `  "hello"`},
		{[]string{"curl", "-sS", "--http2-prior-knowledge", "-H", "Expect: 100-continue", "-d", "hello", "http://" + addr + "/p"}, `"hello"`},
		{[]string{"curl", "-sS", "--http2-prior-knowledge", "-d", "hello", "http://" + addr + "/refuse"}, "too much"},
		{[]string{"curl", "-sS", "--http2-prior-knowledge", "-T", file, "http://" + addr + "/refuse"}, "too much"},
		{[]string{"curl", "-sS", "--http1.1", "-d", "hello", "http://" + addr + "/p"}, `"hello"`},
		{[]string{"curl", "-sS", "--http2-prior-knowledge", "-I", "-w", "%{http_version} %{http_code}", "http://" + addr + "/p"}, "2 200"},
		{[]string{"nghttp", "-v", "http://" + addr + "/p"}, `GET /p ` + addr},
		{[]string{"h2load", "-n", "2000", "-c", "4", "-m", "100", "http://" + addr + "/p"}, "2000 succeeded, 0 failed, 0 errored, 0 timeout"},
		{[]string{"h2load", "-n", "200", "-c", "2", "-m", "10", "-d", file, "http://" + addr + "/p"}, "200 succeeded, 0 failed, 0 errored, 0 timeout"},
	}
	for _, test := range tests {
		t.Run(strings.Join(test.args[:len(test.args)-1], " "), func(t *testing.T) {
			path := http2.Tool(t, test.args[0])
			ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
			defer cancel()
			out, err := exec.CommandContext(ctx, path, test.args[1:]...).CombinedOutput()
			if err != nil || !bytes.Contains(out, []byte(test.want)) {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// The engine behind the streams takes nothing away from what h2spec asks for, but that a wrong preface is answered in HTTP/1.1: it
// could be that.
func TestH2SpecThroughTheEngine(t *testing.T) {
	h2spec := http2.Tool(t, "h2spec")
	body := strings.Repeat("x", 4096)
	_, addr, _ := startFront(t, func(c *http1.Conn) {
		_, _ = io.Copy(io.Discard, c.Body())
		respond(c, 200, body)
	})
	said := http2.Conforms(t, h2spec, "145", addr)
	if _, failures, _ := strings.Cut(said, "Failures:"); !strings.Contains(failures, "× 2: Sends invalid connection preface") {
		t.Error(failures)
	}
}
