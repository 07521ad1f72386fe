package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2/hpack"

	h2 "golang.org/x/net/http2"

	"sluice/balancer"
	"sluice/proxy/http1"
	"sluice/proxy/http2"
)

// grpcGateway is a gateway whose clients may speak HTTP/2 by prior knowledge, and a client that does.
func grpcGateway(t *testing.T, cfg balancer.Config, up UpstreamConfig, servers ...string) (*gateway, *http.Client) {
	t.Helper()
	g := newGateway(t, cfg, up, one(RouteConfig{}))
	front := new(http2.Server)
	s := &http1.Server{Handler: g.proxy, Refuse: g.proxy.Refuse, Grace: 10 * time.Millisecond}
	s.HTTP2 = func(nc net.Conn, o http1.Origin, drain <-chan struct{}) {
		o.HTTP2 = true
		front.Serve(nc, drain, func(st *http2.Stream) { s.ServeStream(st, o) })
	}
	l := must(t, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
		<-served
	})
	setServers(g.ups["a"], servers...)
	g.addr = l.Addr().String()
	tr := &http.Transport{Protocols: new(http.Protocols)}
	tr.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(tr.CloseIdleConnections)
	return g, &http.Client{Transport: tr, Timeout: 20 * time.Second}
}

func h2c() UpstreamConfig {
	up := DefaultUpstreamConfig()
	up.Protocol = ProtocolH2C
	return up
}

// call makes a call and reads all of its answer.
func (g *gateway) call(c *http.Client, body io.Reader, fields ...string) (*http.Response, string, error) {
	g.t.Helper()
	req, err := http.NewRequest("POST", "http://"+g.addr+"/pkg.Service/Method", body)
	if err != nil {
		g.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc+proto")
	req.Header.Set("Te", "trailers")
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	res, err := c.Do(req)
	if err != nil {
		g.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

func frameOf(message string) string {
	return string(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(message)))) + message
}

// Trailers of gRPC pass without having been announced, but none that could do harm; te and grpc-timeout reach the server.
func TestGRPCTrailers(t *testing.T) {
	var asked atomic.Pointer[http.Header]
	addr := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Store(&r.Header)
		w.Header().Set("Content-Type", "application/grpc")
		_, _ = io.Copy(w, r.Body)
		for name, value := range map[string]string{
			"Grpc-Status": "5", "Grpc-Message": "no such thing", "X-Custom-Bin": "AAE=", "X_custom": "1",
			"Set-Cookie": "a=b", "X-Sluice-Reason": "no_route", "Authorization": "x", "X-Forwarded-For": "1.2.3.4",
		} {
			w.Header().Set(http.TrailerPrefix+name, value)
		}
	})
	g, c := grpcGateway(t, balancer.DefaultConfig(), h2c(), addr)
	res, body, err := g.call(c, strings.NewReader(frameOf("hello")), "Grpc-Timeout: 5S")
	if err != nil || res.StatusCode != 200 || res.Proto != "HTTP/2.0" || body != frameOf("hello") {
		t.Fatalf("%v %q %v", res, body, err)
	}
	want := map[string]string{"Grpc-Status": "5", "Grpc-Message": "no such thing", "X-Custom-Bin": "AAE=", "X_custom": "1"}
	if len(res.Trailer) != len(want) {
		t.Errorf("trailers %v", res.Trailer)
	}
	for name, value := range want {
		if res.Trailer.Get(name) != value {
			t.Errorf("%s: %q, want %q", name, res.Trailer.Get(name), value)
		}
	}
	if h := *asked.Load(); h.Get("Te") != "trailers" || h.Get("Grpc-Timeout") != "5S" {
		t.Errorf("the server got %v", h)
	}
}

// Messages pass one by one, both ways.
func TestGRPCStreamsEachMessage(t *testing.T) {
	addr := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		buf := make([]byte, 9)
		for {
			if _, err := io.ReadFull(r.Body, buf); err != nil {
				break
			}
			_, _ = w.Write(buf)
			w.(http.Flusher).Flush()
		}
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	g, c := grpcGateway(t, balancer.DefaultConfig(), h2c(), addr)
	pr, pw := io.Pipe()
	req, _ := http.NewRequest("POST", "http://"+g.addr+"/s/m", pr)
	req.Header.Set("Content-Type", "application/grpc")
	go func() { _, _ = io.WriteString(pw, frameOf("0000")) }()
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	buf := make([]byte, 9)
	for i := range 20 {
		if _, err := io.ReadFull(res.Body, buf); err != nil || string(buf) != frameOf(fmt.Sprintf("%04d", i)) {
			t.Fatalf("message %d: %q, %v", i, buf, err)
		}
		_, _ = io.WriteString(pw, frameOf(fmt.Sprintf("%04d", i+1)))
	}
	_ = pw.Close()
	if rest, err := io.ReadAll(res.Body); err != nil || len(rest) != 9 || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("%q %v %v", rest, err, res.Trailer)
	}
}

// wantsGRPC checks a refusal: a response of gRPC without a body.
func wantsGRPC(t *testing.T, res *http.Response, body string, code int, reason string) {
	t.Helper()
	if res.StatusCode != 200 || body != "" || res.Header.Get("Content-Type") != "application/grpc" ||
		res.Header.Get("Grpc-Status") != fmt.Sprint(code) || res.Header.Get("X-Sluice-Reason") != reason || res.Header.Get("Grpc-Message") == "" {
		t.Errorf("%d %v %q, want grpc-status %d %s", res.StatusCode, res.Header, body, code, reason)
	}
}

// A call that sluice refuses is answered in gRPC, over HTTP/2 as over HTTP/1.1, and logged with its HTTP status.
func TestGRPCRefusals(t *testing.T) {
	g, c := grpcGateway(t, balancer.DefaultConfig(), h2c())
	for n, row := range []struct {
		change func(r *RouteConfig)
		code   int
		reason string
		status float64
	}{
		{func(r *RouteConfig) {}, grpcUnavailable, ReasonNoHealthyServer, 503},
		{func(r *RouteConfig) { r.Host = []string{"other"} }, grpcUnimplemented, ReasonNoRoute, 404},
		{func(r *RouteConfig) { r.Deny = []string{"127.0.0.0/8"} }, grpcPermissionDenied, ReasonDenied, 403},
		{func(r *RouteConfig) { r.MaxBody = 1 }, grpcResourceExhausted, ReasonBodyTooLarge, 413},
	} {
		r := RouteConfig{}
		row.change(&r)
		g.routes = one(r)
		g.store(nil)
		res, body, err := g.call(c, strings.NewReader(frameOf("hello")))
		if err != nil {
			t.Fatal(err)
		}
		wantsGRPC(t, res, body, row.code, row.reason)
		if line := g.line(n+1, "reason", row.reason); line["status"] != row.status {
			t.Errorf("logged %v", line)
		}
	}
	g.routes = one(RouteConfig{RateLimit: &RateLimitConfig{Rate: 0.001, Burst: 1, Key: "route", Status: 429}})
	g.store(nil)
	_, _, _ = g.call(c, nil)
	res, body, _ := g.call(c, nil)
	wantsGRPC(t, res, body, grpcUnavailable, ReasonRateLimited)
	if got := g.do("POST /s/m HTTP/1.1\nHost: x\nContent-Type: application/grpc\nContent-Length: 0\n\n"); got.Header.Get("Grpc-Status") != "14" || got.StatusCode != 200 {
		t.Errorf("over HTTP/1.1: %d %v", got.StatusCode, got.Header)
	}
	if got := g.do("POST /s/m HTTP/1.1\nHost: x\nContent-Type: application/grpc-web\nContent-Length: 0\n\n"); got.StatusCode != 429 {
		t.Errorf("gRPC-Web is not gRPC: %d", got.StatusCode)
	}
}

// A call whose time is over in the queue is told that.
func TestGRPCDeadlineInTheQueue(t *testing.T) {
	goOn := make(chan bool)
	addr := serveH2C(t, func(w http.ResponseWriter, r *http.Request) { <-goOn })
	cfg := balancer.DefaultConfig()
	cfg.MaxConns = 1
	g, c := grpcGateway(t, cfg, h2c(), addr)
	first := make(chan bool)
	go func() {
		_, _, _ = g.call(c, nil)
		close(first)
	}()
	g.eventually("one in flight", func() bool { return g.ups["a"].InFlight() == 1 })
	begun := time.Now()
	res, body, err := g.call(c, nil, "Grpc-Timeout: 100m")
	if err != nil {
		t.Fatal(err)
	}
	wantsGRPC(t, res, body, grpcDeadlineExceeded, ReasonQueueTimeout)
	if took := time.Since(begun); took < 90*time.Millisecond || took > 5*time.Second {
		t.Errorf("after %v", took)
	}
	close(goOn)
	<-first
}

// A server that breaks a call off at the end of its time is no server that fails: before an answer the call's deadline is told, behind
// its head the reset of a server is passed on as it came.
func TestGRPCDeadlineAtTheServer(t *testing.T) {
	addr := h2Server(t, func(fr *h2.Framer, head func(uint32, bool, ...string), _ int) {
		for n := 0; ; n++ {
			id := nextRequest(fr)
			if id == 0 {
				return
			}
			if n == 1 {
				head(id, false, ":status=200", "content-type=application/grpc")
				_ = fr.WriteData(id, false, []byte(frameOf("one")))
				time.Sleep(50 * time.Millisecond) // it has been read
			}
			time.Sleep(10 * time.Millisecond)
			_ = fr.WriteRSTStream(id, h2.ErrCodeCancel)
		}
	})
	cfg := roundRobin()
	cfg.Outlier.Errors = 1
	g, c := grpcGateway(t, cfg, h2c(), addr, deadPort(t))
	res, body, err := g.call(c, nil, "Grpc-Timeout: 5m")
	if err != nil {
		t.Fatal(err)
	}
	wantsGRPC(t, res, body, grpcDeadlineExceeded, ReasonFirstByteTimeout)
	if state, why := g.ups["a"].Server(addr).State(time.Now()); state != balancer.StateReady {
		t.Errorf("the server is %v: %s", state, why)
	}
	_, body, err = g.call(c, nil)
	if body != frameOf("one") || err == nil || !strings.Contains(err.Error(), "CANCEL") {
		t.Errorf("%q, %v", body, err)
	}
}

// A call ends at its server when its time is over, whatever the server makes of that: before an answer the deadline is told, behind its
// head the stream is reset. The server is told, its slot is free, and the next call has its own time.
func TestGRPCDeadlineEndsTheCall(t *testing.T) {
	told := make(chan bool, 1)
	addr := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if r.Header.Get("Stream") != "" {
			_, _ = io.WriteString(w, frameOf("one"))
			w.(http.Flusher).Flush()
		}
		if r.Header.Get("Quick") != "" {
			return
		}
		<-r.Context().Done()
		told <- true
	})
	cfg := balancer.DefaultConfig()
	cfg.Outlier.Errors = 1
	g, c := grpcGateway(t, cfg, h2c(), addr)
	for range 3 {
		for _, stream := range []string{"", "yes"} {
			begun := time.Now()
			res, body, err := g.call(c, nil, "Grpc-Timeout: 100m", "Stream: "+stream)
			if took := time.Since(begun); took < 90*time.Millisecond || took > 5*time.Second {
				t.Errorf("after %v", took)
			}
			if stream == "" {
				wantsGRPC(t, res, body, grpcDeadlineExceeded, ReasonFirstByteTimeout)
			} else if body != frameOf("one") || err == nil || !strings.Contains(err.Error(), "CANCEL") {
				t.Errorf("%q, %v", body, err)
			}
			<-told
			g.eventually("the slot is free", func() bool { return g.ups["a"].InFlight() == 0 })
			if state, why := g.ups["a"].Server(addr).State(time.Now()); state != balancer.StateReady {
				t.Errorf("the server is %v: %s", state, why)
			}
			if res, _, err := g.call(c, nil, "Grpc-Timeout: 1M", "Quick: yes"); err != nil || res.StatusCode != 200 || res.Header.Get("X-Sluice-Reason") != "" {
				t.Errorf("%v %v", res, err)
			}
		}
	}
}

func TestGRPCDeadline(t *testing.T) {
	now := time.Now()
	for value, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6,
		"99999999n": 99999999, "": -1, "S": -1, "1": -1, "1s": -1, "-1S": -1, "123456789S": -1, "99999999H": -1, "1 S": -1,
	} {
		var h http1.Head
		if _, err := h.ParseRequest([]byte("POST / HTTP/1.1\r\nHost: a\r\nGrpc-Timeout: "+value+"\r\n\r\n"), http1.Limits{}); err != nil {
			t.Fatal(err)
		}
		got := grpcDeadline(&h, now)
		if want < 0 && !got.IsZero() || want >= 0 && !got.Equal(now.Add(want)) {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// h2Server answers each connection by itself: serve gets its Framer, behind the preface, and what encodes fields.
func h2Server(t *testing.T, serve func(fr *h2.Framer, head func(id uint32, end bool, fields ...string), n int)) string {
	return rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
		if _, err := io.ReadFull(r, make([]byte, len(h2.ClientPreface))); err != nil {
			return
		}
		fr := h2.NewFramer(c, r)
		fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
		var buf bytes.Buffer
		enc := hpack.NewEncoder(&buf)
		_ = fr.WriteSettings()
		serve(fr, func(id uint32, end bool, fields ...string) {
			buf.Reset()
			for _, f := range fields {
				name, value, _ := strings.Cut(f, "=")
				_ = enc.WriteField(hpack.HeaderField{Name: name, Value: value})
			}
			_ = fr.WriteHeaders(h2.HeadersFrameParam{StreamID: id, BlockFragment: buf.Bytes(), EndHeaders: true, EndStream: end})
		}, n)
	})
}

// next waits for the head of a request, and how often that happened is counted; 0 at the end.
func nextRequest(fr *h2.Framer) uint32 {
	for {
		f, err := fr.ReadFrame()
		if err != nil {
			return 0
		}
		switch f := f.(type) {
		case *h2.SettingsFrame:
			if !f.IsAck() {
				_ = fr.WriteSettingsAck()
			}
		case *h2.MetaHeadersFrame:
			return f.StreamID
		}
	}
}

// A POST that the server says it has not processed is sent again; one of which that is not known never is. A connection that ends
// says nothing of its server and is no try; that a server refuses a stream of one that goes on is a try that failed.
func TestUnprocessedStreams(t *testing.T) {
	for _, row := range []struct {
		name   string
		refuse func(fr *h2.Framer, id uint32)
		again  bool
		tries  float64
		fails  bool // counts against the server
	}{
		{"REFUSED_STREAM", func(fr *h2.Framer, id uint32) { _ = fr.WriteRSTStream(id, h2.ErrCodeRefusedStream) }, true, 2, true},
		{"GOAWAY", func(fr *h2.Framer, id uint32) { _ = fr.WriteGoAway(id-1, h2.ErrCodeNo, nil) }, true, 1, false},
		{"REFUSED_STREAM within GOAWAY", func(fr *h2.Framer, id uint32) {
			_ = fr.WriteGoAway(id, h2.ErrCodeNo, nil)
			_ = fr.WriteRSTStream(id, h2.ErrCodeRefusedStream)
		}, true, 1, false},
		{"CANCEL", func(fr *h2.Framer, id uint32) { _ = fr.WriteRSTStream(id, h2.ErrCodeCancel) }, false, 1, true},
		{"GOAWAY after the request", func(fr *h2.Framer, id uint32) {
			_ = fr.WriteGoAway(id, h2.ErrCodeNo, nil)
			_ = fr.WriteRSTStream(id, h2.ErrCodeInternal)
		}, false, 1, true},
	} {
		t.Run(row.name, func(t *testing.T) {
			var seen atomic.Int32
			script := func(fr *h2.Framer, head func(uint32, bool, ...string), _ int) {
				for id := nextRequest(fr); id != 0; id = nextRequest(fr) {
					if seen.Add(1) == 1 {
						row.refuse(fr, id)
					} else {
						head(id, true, ":status=200", "content-length=0")
					}
				}
			}
			cfg := roundRobin()
			cfg.Outlier.Errors = 1
			g := newGateway(t, cfg, h2c(), one(RouteConfig{}), h2Server(t, script), h2Server(t, script))
			r := g.do("POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi")
			if row.again && (r.StatusCode != 200 || seen.Load() != 2) || !row.again && (seen.Load() != 1 || r.StatusCode != 502) {
				t.Errorf("%d after %d tries", r.StatusCode, seen.Load())
			}
			if line := g.lines(1)[0]; line["tries"] != row.tries {
				t.Errorf("%v tries", line["tries"])
			}
			if n := g.proxy.Stats().Upstreams[0].Retries; float64(n) != row.tries-1 {
				t.Errorf("%d retries", n)
			}
			ejected := 0
			for _, s := range g.ups["a"].Servers() {
				if state, _ := s.State(time.Now()); state == balancer.StateEjected {
					ejected++
				}
			}
			if (ejected != 0) != row.fails {
				t.Errorf("%d servers are ejected", ejected)
			}
		})
	}
}

// A server that refuses every stream gets no more of them than one that fails in another way: by attempts and the budget.
func TestRefusedStreamsAreRetries(t *testing.T) {
	for _, row := range []struct {
		attempts int
		budget   float64
		requests int
		retries  int
	}{
		{0, 0.2, 20, 0},
		{1, 0.2, 20, 20},
		{2, 0.2, 5, 10},
		{1, 0, 40, budgetFloor * int(balancer.RecentWindow/time.Second)},
	} {
		var delivered atomic.Int32
		refuses := func(fr *h2.Framer, _ func(uint32, bool, ...string), _ int) {
			for id := nextRequest(fr); id != 0; id = nextRequest(fr) {
				delivered.Add(1)
				_ = fr.WriteRSTStream(id, h2.ErrCodeRefusedStream)
			}
		}
		up := h2c()
		up.Retry.Attempts, up.Retry.Budget = row.attempts, row.budget
		g := newGateway(t, roundRobin(), up, one(RouteConfig{}), h2Server(t, refuses), h2Server(t, refuses))
		for i := range row.requests {
			method := []string{"GET", "POST"}[i%2]
			g.do(method+" / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi").wants(t, 502, ReasonServerClosed)
		}
		if n := int(delivered.Load()); n != row.requests+row.retries {
			t.Errorf("%d attempts, budget %v: %d requests were delivered %d times", row.attempts, row.budget, row.requests, n)
		}
		if n := g.proxy.Stats().Upstreams[0].Retries; int(n) != row.retries {
			t.Errorf("%d attempts, budget %v: %d retries are counted", row.attempts, row.budget, n)
		}
	}
}

// A large download and a large upload are no flood of window updates.
func TestLargeBodiesOverHTTP2(t *testing.T) {
	const size = 64 << 20
	addr := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		n, _ := io.Copy(io.Discard, r.Body)
		w.Header().Set("X-Got", fmt.Sprint(n))
		_, _ = io.CopyN(w, zeros{}, size)
	})
	g, c := grpcGateway(t, balancer.DefaultConfig(), h2c(), addr)
	res, body, err := g.call(c, io.LimitReader(zeros{}, size))
	if err != nil || len(body) != size || res.Header.Get("X-Got") != fmt.Sprint(size) {
		t.Errorf("got %d and sent %s: %v", len(body), res.Header.Get("X-Got"), err)
	}
	if res, err = c.Get("http://" + g.addr + "/"); err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	n := 0
	for buf := make([]byte, 4<<10); err == nil; { // each of which is granted again
		var more int
		more, err = res.Body.Read(buf)
		n += more
	}
	if err != io.EOF || n != size {
		t.Errorf("in small pieces %d: %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A malformed answer is a bad one, not a server that left.
func TestMalformedStreamIsABadResponse(t *testing.T) {
	addr := h2Server(t, func(fr *h2.Framer, head func(uint32, bool, ...string), _ int) {
		for id := nextRequest(fr); id != 0; id = nextRequest(fr) {
			head(id, true, ":status=200", "transfer-encoding=chunked")
		}
	})
	g := newGateway(t, roundRobin(), h2c(), one(RouteConfig{}), addr)
	g.do("POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi").wants(t, 502, ReasonBadResponse)
}
