package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fasthttp/websocket"

	"sluice/balancer"
)

// What the nearest relative, Traefik's experimental proxy on fasthttp, got wrong in the field. Each test names its issue there.

// A handshake without subprotocol reaches the server without one (11240).
func TestWebSocketHandshakeGetsNoEmptySubprotocol(t *testing.T) {
	rec := startRecorder(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rec.addr)
	upgrade := get + "Connection: Upgrade\nUpgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\n"
	g.do(upgrade+"\n").wants(t, 200, "")
	if head := strings.ToLower(rec.bytes()); strings.Contains(head, "sec-websocket-protocol") || strings.Contains(head, "sec-websocket-extensions") {
		t.Errorf("the server got\n%s", head)
	}
	g.do(upgrade+"Sec-WebSocket-Protocol: chat, superchat\n\n").wants(t, 200, "")
	if !strings.Contains(rec.bytes(), "\r\nSec-WebSocket-Protocol: chat, superchat\r\n") {
		t.Errorf("the server got\n%s", rec.bytes())
	}
}

// The sizes of chunks never become part of a body, for a client of either version (11507).
func TestChunkSizesDoNotLeakIntoTheBody(t *testing.T) {
	body := strings.Repeat("0123456789abcdef", 3000)
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			b, _ := io.ReadAll(req.Body)
			if req.Method == "POST" && string(b) != body {
				t.Errorf("the server got %d bytes", len(b))
			}
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for rest, n := body, 1; len(rest) > 0; n = n*3 + 1 {
				n = min(n, len(rest))
				fmt.Fprintf(c, "%X;a=\"%d\"\r\n%s\r\n", n, n, rest[:n])
				rest = rest[n:]
			}
			_, _ = io.WriteString(c, "0\r\n\r\n")
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), addr)
	for _, version := range []string{"1.1", "1.0"} {
		if r := g.do("GET / HTTP/" + version + "\nHost: x\n\n"); r.body != body || r.err != nil {
			t.Errorf("HTTP/%s: %d bytes, %v", version, len(r.body), r.err)
		}
	}
	c := g.dial()
	defer c.Close()
	c.send(fmt.Sprintf(post+"Transfer-Encoding: chunked\n\n7;x\n%s\n%x\n%s\n0\n\n", body[:7], len(body)-7, body[7:]))
	if b, err := io.ReadAll(c.head("POST").Body); string(b) != body || err != nil {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// A resumable upload by the tus protocol: created, asked for, sent in pieces, one of which is cut (11664).
func TestTusUpload(t *testing.T) {
	var mu sync.Mutex
	var stored []byte
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Tus-Resumable") != "1.0.0" {
			t.Errorf("%s without its fields: %v", r.Method, r.Header)
		}
		w.Header().Set("Tus-Resumable", "1.0.0")
		if r.Method == "PATCH" {
			if r.Header.Get("Content-Type") != "application/offset+octet-stream" {
				t.Errorf("Content-Type %q", r.Header.Get("Content-Type"))
			}
			mu.Lock()
			if r.Header.Get("Upload-Offset") != fmt.Sprint(len(stored)) {
				t.Errorf("offset %s with %d bytes stored", r.Header.Get("Upload-Offset"), len(stored))
			}
			mu.Unlock()
			for buf := make([]byte, 1000); ; {
				n, err := r.Body.Read(buf)
				mu.Lock()
				stored = append(stored, buf[:n]...)
				mu.Unlock()
				if err == io.EOF {
					break
				}
				if err != nil {
					return
				}
			}
		}
		mu.Lock()
		defer mu.Unlock()
		w.Header().Set("Upload-Offset", fmt.Sprint(len(stored)))
		switch r.Method {
		case "POST":
			if r.ContentLength != 0 {
				t.Errorf("created with %d bytes", r.ContentLength)
			}
			w.Header().Set("Location", "/files/1")
			w.WriteHeader(http.StatusCreated)
		case "HEAD":
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Upload-Length", "10000")
		case "PATCH":
			w.WriteHeader(http.StatusNoContent)
		}
	})
	file := strings.Repeat("0123456789", 1000)
	const tus = "Host: x\nTus-Resumable: 1.0.0\n"
	c := g.dial()
	defer c.Close()
	if r := c.do("POST /files HTTP/1.1\n" + tus + "Upload-Length: 10000\nContent-Length: 0\n\n"); r.StatusCode != 201 || r.Header.Get("Location") != "/files/1" {
		t.Fatalf("%d %v", r.StatusCode, r.Header)
	}
	patch := func(at, length int, piece string) string {
		return fmt.Sprintf("PATCH /files/1 HTTP/1.1\n"+tus+"Content-Type: application/offset+octet-stream\nUpload-Offset: %d\nContent-Length: %d\n\n%s", at, length, piece)
	}
	if r := c.do(patch(0, 3000, file[:3000])); r.StatusCode != 204 || r.Header.Get("Upload-Offset") != "3000" || r.body != "" {
		t.Errorf("%d %v %q", r.StatusCode, r.Header, r.body)
	}
	cut := g.dial()
	cut.send(patch(3000, 7000, file[3000:5000]))
	g.eventually("the pieces have come", func() bool { mu.Lock(); defer mu.Unlock(); return len(stored) == 5000 })
	_ = cut.Close()
	g.eventually("the cut upload is over", func() bool { return g.ups["a"].InFlight() == 0 })
	if r := c.do("HEAD /files/1 HTTP/1.1\n" + tus + "\n"); r.StatusCode != 200 || r.Header.Get("Upload-Offset") != "5000" || r.Header.Get("Upload-Length") != "10000" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	if r := c.do(patch(5000, 5000, file[5000:])); r.StatusCode != 204 || r.Header.Get("Upload-Offset") != "10000" {
		t.Errorf("%d %v", r.StatusCode, r.Header)
	}
	mu.Lock()
	defer mu.Unlock()
	if string(stored) != file {
		t.Error("the file is not what was sent")
	}
}

// What a message does not have it does not get: Content-Type, User-Agent, Server, Date and so on (12339).
func TestNothingIsInjected(t *testing.T) {
	rec := startRecorder(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rec.addr)
	c := g.dial()
	defer c.Close()
	for _, request := range []string{post + "Content-Length: 3\n\nabc", get + "\n", "DELETE / HTTP/1.1\nHost: x\n\n"} {
		c.send(request)
		head := c.head("GET")
		if b, _ := io.ReadAll(head.Body); string(b) != "good" || len(head.Header) != 1 {
			t.Errorf("the client got %v %q", head.Header, b)
		}
	}
	for _, name := range []string{"content-type", "user-agent", "accept", "server", "date", "via", "forwarded:"} {
		if strings.Contains(strings.ToLower(rec.bytes()), "\r\n"+name) {
			t.Errorf("%s was added:\n%s", name, rec.bytes())
		}
	}
	if n := strings.Count(rec.bytes(), "Content-Length"); n != 1 {
		t.Errorf("%d Content-Length in\n%s", n, rec.bytes())
	}
}

// When the server dies in the middle of a body the client gets what there was, a broken connection and not a word more (13568).
func TestNothingIsAppendedWhenTheServerDiesInTheBody(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"} {
		dies := make(chan bool)
		addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
			if _, err := http.ReadRequest(r); err == nil {
				_, _ = io.WriteString(c, answer)
				<-dies
				_ = c.(*net.TCPConn).SetLinger(0)
			}
		})
		g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), addr)
		c := g.dial()
		c.send(get + "\n")
		r := c.head("GET")
		var got [4]byte
		if _, err := io.ReadFull(r.Body, got[:]); err != nil || string(got[:]) != "half" {
			t.Fatalf("%q %v", got, err)
		}
		close(dies)
		rest, reset := c.ends()
		if strings.Trim(rest, "\r\n") != "" || !reset {
			t.Errorf("%q behind the half, reset %v", rest, reset)
		}
		_ = c.Close()
	}
}

// CR and LF of a value never reach the other side, in whatever way they are written (13624).
func TestLineBreaksInValuesAreRefused(t *testing.T) {
	for _, value := range []string{"a\rEvil: b", "a\r\rEvil: b", "a\nEvil: b", "a\r\n Evil: b"} {
		rec := startRecorder(t)
		g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), rec.addr)
		c := g.dial()
		c.raw("GET / HTTP/1.1\r\nHost: x\r\nX: " + value + "\r\n\r\n")
		if r := c.head("GET"); r.StatusCode != 400 {
			t.Errorf("%q: %d", value, r.StatusCode)
		}
		_ = c.Close()
		s := startBadServer(t, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "+value+"\r\n\r\n", false)
		bad := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), s.addr)
		bad.do(get+"\n").wants(t, 502, ReasonBadResponse)
		if got := rec.bytes(); got != "" {
			t.Errorf("%q: the server got %q", value, got)
		}
	}
}

// Trailers pass both ways when announced, as gRPC needs them, together with TE: trailers (13415).
func TestTrailersPassBothWays(t *testing.T) {
	g := simple(t, RouteConfig{}, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Te") != "trailers" {
			t.Errorf("TE %q", r.Header.Get("Te"))
		}
		b, _ := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
		_, _ = w.Write(b)
		w.Header().Set("Grpc-Status", "0")
		w.Header().Set("Grpc-Message", r.Trailer.Get("X-Sum"))
	})
	r := g.do(post + "TE: trailers\nTrailer: X-Sum\nTransfer-Encoding: chunked\n\n5\nhello\n0\nX-Sum: 7\n\n")
	if r.body != "hello" || r.Trailer.Get("Grpc-Status") != "0" || r.Trailer.Get("Grpc-Message") != "7" {
		t.Errorf("%q, trailers %v", r.body, r.Trailer)
	}
	if r := g.do("POST / HTTP/1.0\nHost: x\nTE: trailers\nContent-Length: 5\n\nhello"); r.body != "hello" || len(r.Trailer) != 0 {
		t.Errorf("HTTP/1.0: %q, trailers %v", r.body, r.Trailer)
	}
}

// A connection that carried something else than HTTP is not used again, and CONNECT opens none (13556).
func TestSwitchedConnectionsAreNotPooled(t *testing.T) {
	var conns atomic.Int32
	up := websocket.Upgrader{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") == "" {
			_, _ = io.WriteString(w, "good")
			return
		}
		if c, err := up.Upgrade(w, r, nil); err == nil {
			_, _, _ = c.ReadMessage()
			_ = c.Close()
		}
	}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			conns.Add(1)
		}
	}
	server.Start()
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), server.Listener.Addr().String())
	for range 5 {
		c, _, err := websocket.DefaultDialer.Dial("ws://"+g.addr+"/", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.WriteMessage(websocket.TextMessage, []byte("bye"))
		_, _, _ = c.ReadMessage()
		_ = c.Close()
		g.eventually("the slot is free", func() bool { return g.ups["a"].InFlight() == 0 })
		if n := idleConnections(g); n != 0 {
			t.Errorf("%d connections are kept after a WebSocket", n)
		}
	}
	if n := conns.Load(); n != 5 {
		t.Errorf("%d connections for 5 WebSockets", n)
	}
	g.do("CONNECT x:443 HTTP/1.1\nHost: x:443\n\n").wants(t, 405, ReasonMethodNotAllowed)
	if n := conns.Load(); n != 5 {
		t.Error("CONNECT reached the server")
	}
	g.do(get+"\n").wants(t, 200, "")
}
