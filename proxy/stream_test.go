package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"sluice/balancer"
)

// An event reaches the client before the server sends the next one.
func TestEventsArriveOneByOne(t *testing.T) {
	seen := make(chan bool)
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 20 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			_ = http.NewResponseController(w).Flush()
			select {
			case <-seen:
			case <-r.Context().Done():
				return
			}
		}
	})
	c := g.dial()
	defer c.Close()
	c.send("GET / HTTP/1.1\nHost: x\n\n")
	events := bufio.NewScanner(c.head("GET").Body)
	for i := range 20 {
		if !events.Scan() || events.Text() != fmt.Sprintf("data: %d", i) || !events.Scan() {
			t.Fatalf("event %d: %q %v", i, events.Text(), events.Err())
		}
		seen <- true
	}
	if events.Scan() {
		t.Errorf("%q after the end", events.Text())
	}
}

// Who is refused before most of the upload was read is told that the connection closes; a small rest is read, and it lives on.
func TestEarlyRefusalOfAnUpload(t *testing.T) {
	addr := rawServer(t, func(conn net.Conn, r *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(r); err == nil {
			_, _ = io.WriteString(conn, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
			_, _ = io.Copy(io.Discard, r)
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), addr)
	for length, closes := range map[int]bool{200_000: true, 60_000: false} {
		c := g.dial()
		c.send(fmt.Sprintf("POST / HTTP/1.1\nHost: x\nContent-Length: %d\n\n%s", length, strings.Repeat("x", 1000)))
		r := c.head("POST")
		if body, err := io.ReadAll(r.Body); r.StatusCode != 413 || string(body) != "no" || err != nil || r.Close != closes {
			t.Errorf("%d bytes: %d %q %v, closes: %v", length, r.StatusCode, body, err, r.Close)
		}
		c.Close()
	}
}

func TestInterimResponsesPass(t *testing.T) {
	addr := rawServer(t, func(conn net.Conn, r *bufio.Reader, _ int) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			_, _ = io.WriteString(conn, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: x-b\r\nX-B: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), addr)
	c := g.dial()
	defer c.Close()
	for range 2 {
		c.send("GET / HTTP/1.1\nHost: x\n\n")
		if r := c.head("GET"); r.StatusCode != http.StatusEarlyHints || r.Header.Get("Link") != "</a>" || r.Header.Get("X-B") != "" {
			t.Fatalf("%d %v", r.StatusCode, r.Header)
		}
		r := c.head("GET")
		if body, err := io.ReadAll(r.Body); r.StatusCode != http.StatusOK || string(body) != "ok" || err != nil {
			t.Fatalf("%d %q %v", r.StatusCode, body, err)
		}
	}
	if r := g.do("GET / HTTP/1.0\nHost: x\n\n"); r.StatusCode != http.StatusOK {
		t.Errorf("an HTTP/1.0 client got %d", r.StatusCode)
	}
}

func TestHTTP10AndBodylessResponses(t *testing.T) {
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Proto != "HTTP/1.1" {
			t.Errorf("the server is asked by %s", r.Proto)
		}
		switch r.URL.Path {
		case "/chunked":
			_, _ = io.WriteString(w, "a")
			_ = http.NewResponseController(w).Flush()
			_, _ = io.WriteString(w, "b")
		case "/204":
			w.WriteHeader(http.StatusNoContent)
		case "/304":
			w.Header().Set("ETag", `"x"`)
			w.WriteHeader(http.StatusNotModified)
		default:
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "ok")
		}
	})
	r := g.do("GET /chunked HTTP/1.0\nHost: x\n\n")
	if r.body != "ab" || len(r.TransferEncoding) != 0 || !r.Close {
		t.Errorf("1.0: %q %v close %v", r.body, r.TransferEncoding, r.Close)
	}
	c := g.dial()
	defer c.Close()
	for range 3 { // the connection lives on after each, so nothing of a body may follow
		if r := c.do("HEAD / HTTP/1.1\nHost: x\n\n"); r.ContentLength != 2 || r.body != "" {
			t.Errorf("HEAD %d %q", r.ContentLength, r.body)
		}
		if r := c.do("GET /204 HTTP/1.1\nHost: x\n\n"); r.StatusCode != http.StatusNoContent || r.body != "" {
			t.Errorf("204: %d %q", r.StatusCode, r.body)
		}
		if r := c.do("GET /304 HTTP/1.1\nHost: x\n\n"); r.StatusCode != http.StatusNotModified || r.Header.Get("ETag") != `"x"` {
			t.Errorf("304: %d", r.StatusCode)
		}
		if r := c.do("GET /chunked HTTP/1.1\nHost: x\n\n"); r.body != "ab" {
			t.Errorf("chunked: %q", r.body)
		}
		if r := c.do("GET / HTTP/1.0\nHost: x\nConnection: keep-alive\n\n"); r.body != "ok" || r.Close {
			t.Errorf("1.0 keep-alive: %q, close %v", r.body, r.Close)
		}
	}
}

// pattern gives and checks a stream without holding it.
type pattern struct{ at, end int64 }

func (p *pattern) fill(b []byte) int {
	n := int(min(int64(len(b)), p.end-p.at))
	for i := range n {
		b[i] = byte((p.at + int64(i)) * 31 >> 3)
	}
	p.at += int64(n)
	return n
}

func (p *pattern) Write(b []byte) (int, error) {
	for i, c := range b {
		if c != byte((p.at+int64(i))*31>>3) {
			return 0, fmt.Errorf("byte %d is wrong", p.at+int64(i))
		}
	}
	p.at += int64(len(b))
	return len(b), nil
}

func TestBigBodiesPassInConstantMemory(t *testing.T) {
	size := int64(256 << 20)
	if raceEnabled || testing.Short() {
		size = 32 << 20
	}
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			check, buf := &pattern{}, make([]byte, 64<<10)
			_, err = io.CopyBuffer(struct{ io.Writer }{check}, req.Body, buf)
			if err != nil || check.at != size {
				t.Errorf("the server got %d bytes, %v", check.at, err)
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
			for p := (&pattern{end: size}); p.at < size; {
				if _, err := c.Write(buf[:p.fill(buf)]); err != nil {
					return
				}
			}
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), addr)
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	before, peak := stats.HeapInuse, uint64(0)
	look := func() {
		runtime.ReadMemStats(&stats)
		peak = max(peak, stats.HeapInuse)
	}
	for _, chunked := range []bool{false, true} {
		c := g.dial()
		if chunked {
			c.send("POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n")
		} else {
			c.send("POST / HTTP/1.1\nHost: x\nContent-Length: " + strconv.FormatInt(size, 10) + "\n\n")
		}
		buf := make([]byte, 64<<10)
		for p, i := (&pattern{end: size}), 0; p.at < size; i++ {
			n := p.fill(buf)
			if chunked {
				fmt.Fprintf(c, "%x\r\n", n)
			}
			if _, err := c.Write(buf[:n]); err != nil {
				t.Fatal(err)
			}
			if chunked {
				_, _ = io.WriteString(c, "\r\n")
			}
			if i%64 == 0 {
				look()
			}
		}
		if chunked {
			_, _ = io.WriteString(c, "0\r\n\r\n")
		}
		r, check := c.head("POST"), &pattern{}
		if _, err := io.CopyBuffer(struct{ io.Writer }{check}, r.Body, buf); err != nil || check.at != size {
			t.Errorf("%d of %d bytes came back: %v", check.at, size, err)
		}
		look()
		_ = c.Close()
	}
	if grown := int64(peak) - int64(before); grown > 12<<20 {
		t.Errorf("the heap grew by %d MiB", grown>>20)
	}
}

func wsServer(t testing.TB) string {
	up := websocket.Upgrader{}
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Sec-WebSocket-Protocol") != "" {
			t.Error("a subprotocol that nobody asked for")
		}
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for {
			kind, message, err := c.ReadMessage()
			if err != nil {
				return
			}
			if err := c.WriteMessage(kind, message); err != nil {
				return
			}
		}
	})
}

func TestWebSocket(t *testing.T) {
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{Headers: HeadersConfig{Response: map[string]string{"X-A": "1"}}}), wsServer(t))
	c, r, err := websocket.DefaultDialer.Dial("ws://"+g.addr+"/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	if r.Header.Get("X-A") != "1" {
		t.Errorf("handshake fields %v", r.Header)
	}
	for _, size := range []int{0, 1, 125, 126, 70_000, 1 << 20} {
		message := strings.Repeat("x", size)
		if err := c.WriteMessage(websocket.TextMessage, []byte(message)); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.ReadMessage(); err != nil || string(got) != message {
			t.Fatalf("%d bytes: %d came back, %v", size, len(got), err)
		}
	}
	if n := g.ups["a"].InFlight(); n != 1 {
		t.Errorf("%d slots taken while the tunnel lives", n)
	}
	_ = c.Close()
	g.eventually("slot free", func() bool { return g.ups["a"].InFlight() == 0 })
	if line := g.lines(1)[0]; line["status"] != 101.0 || line["bytes_in"].(float64) < 1<<20 {
		t.Errorf("logged %v", line)
	}
}

// A server may refuse to switch; only WebSocket is passed on.
func TestUpgradeRefused(t *testing.T) {
	g := simple(t, RouteConfig{}, echoHead)
	c := g.dial()
	defer c.Close()
	r := c.do("GET / HTTP/1.1\nHost: x\nConnection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Key: a\nSec-WebSocket-Version: 13\n\n")
	has(t, r.body, "Connection: Upgrade", "Upgrade: websocket", "Sec-Websocket-Key: a")
	r = c.do("GET / HTTP/1.1\nHost: x\nConnection: Upgrade, HTTP2-Settings\nUpgrade: h2c\nHTTP2-Settings: AAMAAABkAAQAAP__\n\n")
	has(t, r.body, "!Connection", "!Upgrade", "!Http2-Settings")
}

func TestWebSocketIdleTimeout(t *testing.T) {
	up := DefaultUpstreamConfig()
	up.Timeouts.Idle = 150 * time.Millisecond
	g := newGateway(t, balancer.DefaultConfig(), up, one(RouteConfig{}), wsServer(t))
	c, _, err := websocket.DefaultDialer.Dial("ws://"+g.addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, _, err := c.ReadMessage(); err == nil {
		t.Error("a silent tunnel lived on")
	}
	g.eventually("slot free", func() bool { return g.ups["a"].InFlight() == 0 })
}

// A client that leaves the queue, or an exchange, frees what it had at once.
func TestClientLeaves(t *testing.T) {
	arrived, canceled, release := make(chan bool, 8), make(chan bool, 8), make(chan bool)
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = 1
	g := newGateway(t, cfg, DefaultUpstreamConfig(), one(RouteConfig{LimitConn: &LimitConnConfig{Max: 5, Key: "route", Status: 503}}), serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stream" {
			_, _ = io.WriteString(w, "begun")
			_ = http.NewResponseController(w).Flush()
		}
		arrived <- true
		select {
		case <-r.Context().Done():
			canceled <- true
		case <-release:
		}
	}))
	soon := 250 * time.Millisecond
	if raceEnabled {
		soon *= 4
	}
	within := func(what string, is func() bool) {
		t.Helper()
		start := time.Now()
		g.eventually(what, is)
		if took := time.Since(start); took > soon {
			t.Errorf("%s after %v", what, took)
		}
	}
	u := g.ups["a"]

	first := g.dial()
	first.send("GET / HTTP/1.1\nHost: x\n\n")
	<-arrived
	second := g.dial()
	second.send("GET / HTTP/1.1\nHost: x\n\n")
	g.eventually("one waits", func() bool { return u.Queued() == 1 })
	_ = second.Close()
	within("the queue is empty", func() bool { return u.Queued() == 0 })

	_ = first.Close()
	within("the slot is free", func() bool { return u.InFlight() == 0 })
	select {
	case <-canceled:
	case <-time.After(soon):
		t.Error("the server was not told")
	}

	stream := g.dial()
	stream.send("GET /stream HTTP/1.1\nHost: x\n\n")
	stream.head("GET")
	<-arrived
	_ = stream.Close()
	within("the slot is free", func() bool { return u.InFlight() == 0 })
	<-canceled

	// Unread bytes of a pipelined request do not hide that the client has left.
	piped := g.dial()
	piped.send("GET / HTTP/1.1\nHost: x\n\nGET / HTTP/1.1\nHost: x\n\n")
	<-arrived
	_ = piped.Close()
	within("the slot is free", func() bool { return u.InFlight() == 0 })

	statuses := map[any]int{}
	for _, line := range g.lines(4) {
		if line["reason"] != ReasonClientClosed {
			t.Errorf("logged %v", line)
		}
		statuses[line["status"]]++
	}
	if statuses[499.0] != 3 || statuses[200.0] != 1 {
		t.Errorf("logged %v", statuses)
	}
	if s := u.Servers()[0]; s.InFlight() != 0 {
		t.Errorf("%d in flight on the server", s.InFlight())
	}
	if n := g.places(); n != 0 {
		t.Errorf("%d places of limit_conn are still taken", n)
	}
	if n := g.rejected("r", ReasonClientClosed); n != 4 {
		t.Errorf("client_closed counted %d times", n)
	}
}

// An upload whose client leaves ends at the server as a cut body, never as a whole one.
func TestUploadCut(t *testing.T) {
	begun, got := make(chan struct{}, 1), make(chan error, 1)
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		_, err := io.Copy(io.Discard, r.Body)
		got <- err
	})
	for _, request := range []string{
		"POST / HTTP/1.1\nHost: x\nContent-Length: 100\n\nhalf",
		"POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n4\nhalf\n",
	} {
		c := g.dial()
		c.send(request)
		<-begun
		_ = c.Close()
		select {
		case err := <-got:
			if err == nil {
				t.Errorf("%q was delivered as whole", request)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("the server still waits")
		}
		g.eventually("slot free", func() bool { return g.ups["a"].InFlight() == 0 })
	}
}

// Reloads under load lose nothing, and a stream goes through all of them.
func TestReloadUnderLoad(t *testing.T) {
	next := make(chan bool)
	backend := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			_, _ = io.Copy(w, r.Body)
			return
		}
		for range 2 {
			_, _ = io.WriteString(w, "data\n")
			_ = http.NewResponseController(w).Flush()
			<-next
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{RateLimit: &RateLimitConfig{Rate: 0.0001, Burst: 100000, Key: "route", Status: 429}}), backend)
	stream := g.dial()
	defer stream.Close()
	stream.send("GET /stream HTTP/1.1\nHost: x\n\n")
	lines := bufio.NewScanner(stream.head("GET").Body)
	if !lines.Scan() {
		t.Fatal(lines.Err())
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	var sent atomic.Int64
	for range 4 {
		wg.Go(func() {
			c := g.dial()
			defer c.Close()
			for !stop.Load() {
				id := fmt.Sprintf("%06d", sent.Add(1))
				if r := c.do("POST / HTTP/1.1\nHost: x\nContent-Length: 6\n\n" + id); r.StatusCode != http.StatusOK || r.body != id {
					t.Errorf("%d %q", r.StatusCode, r.body)
				}
			}
		})
	}
	for i := range 100 {
		g.ups["a"].Upstream.Configure(balancer.DefaultConfig())
		up := DefaultUpstreamConfig()
		up.Timeouts.FirstByte = time.Duration(10+i) * time.Second
		g.ups["a"].Configure(up)
		g.store(g.proxy.Table())
		before := sent.Load()
		g.eventually("load goes on", func() bool { return sent.Load() > before })
	}
	stop.Store(true)
	wg.Wait()
	next <- true
	if !lines.Scan() || lines.Text() != "data" {
		t.Errorf("the stream broke: %q %v", lines.Text(), lines.Err())
	}
	next <- true
	g.eventually("all are counted", func() bool { return g.proxy.Stats().Routes[1].Requests[200] == uint64(sent.Load())+1 })
	if left := g.proxy.Table().routes[0].rate; left != nil {
		if tokens := left.shards.of(keySource{kind: keyRoute}.hash(netip.Addr{}, nil)).sets[0][0].limiter.Tokens(); tokens > float64(100000-sent.Load()) {
			t.Errorf("%v tokens left after %d requests: a reload filled the bucket", tokens, sent.Load())
		}
	}
}
