package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load runs the command and returns what it printed as JSON.
func load(t *testing.T, args ...string) loadResult {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(context.Background(), append([]string{"load", "--json", "--quiet"}, args...), &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, &errs)
	}
	var r loadResult
	if err := json.Unmarshal(out.Bytes(), &r); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	return r
}

// rawServer answers every request of every connection with what script returns for its number; "" closes the
// connection unanswered.
func rawServer(t *testing.T, script func(n int64, r *http.Request) string) (url string, connections *atomic.Int64) {
	t.Helper()
	var n atomic.Int64
	connections = new(atomic.Int64)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		answer := script(n.Add(1), r)
		c, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		io.WriteString(c, answer)
	}))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			connections.Add(1)
		}
	}
	srv.Start()
	t.Cleanup(srv.Close)
	return srv.URL, connections
}

func TestEveryRequestIsAccountedFor(t *testing.T) {
	url, _ := rawServer(t, func(n int64, _ *http.Request) string {
		return []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
			"HTTP/1.1 301 Moved\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
			"HTTP/1.1 503 Busy\r\nX-Sluice-Reason: queue_full\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
			"HTTP/1.1 429 Slow\r\nX-Sluice-Reason: rate_limited\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
			"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
			"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\ncut",
			"",
			"nonsense\r\n\r\n",
		}[(n-1)%8]
	})
	r := load(t, "--rate", "400", "--duration", "200ms", url)
	if r.Sent != 80 || r.OK != 20 || r.Refused != 20 || r.Failed != 40 {
		t.Errorf("sent %d ok %d refused %d failed %d, want 80 20 20 40", r.Sent, r.OK, r.Refused, r.Failed)
	}
	if s := fmt.Sprint(r.Status); s != "map[200:10 301:10 429:10 500:10 503:10]" {
		t.Errorf("status %s", s)
	}
	if s := fmt.Sprint(r.Reasons); s != "map[queue_full:10 rate_limited:10]" {
		t.Errorf("reasons %s", s)
	}
	if s := fmt.Sprint(r.Errors); s != "map[bad_response:10 closed:10 truncated:10]" {
		t.Errorf("errors %s", s)
	}
}

func TestJSONHasTheNamesOfTheContract(t *testing.T) {
	b, err := json.Marshal(newLoadResult(newTally(), time.Second))
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(b, &m); err != nil {
		t.Fatal(err)
	}
	for _, k := range []string{"sent", "ok", "refused", "failed", "duration_s", "rate", "p50_ms", "p99_ms", "p999_ms", "status"} {
		if _, ok := m[k]; !ok {
			t.Errorf("no key %q in %s", k, b)
		}
	}
}

// A server that stalls for half a second delays every request that was due meanwhile: half of those of a second.
// A generator that waits for an answer before it sends the next request sees a single slow one.
func TestStallIsChargedToTheRequestsThatWereDue(t *testing.T) {
	const stall = 500 * time.Millisecond
	stalling := func() string {
		var mu sync.Mutex // one request at a time
		var once sync.Once
		srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			once.Do(func() { time.Sleep(stall) })
		}))
		t.Cleanup(srv.Close)
		return srv.URL
	}
	for _, connections := range []string{"200", "1"} {
		r := load(t, "--rate", "200", "--duration", "1s", "--connections", connections, stalling())
		// The 100 delayed requests waited from 500 ms down to nothing, so a tenth of all waited 400 ms or more.
		if r.Sent != 200 || r.OK != 200 || r.P90 < 300 || r.P99 < 450 {
			t.Errorf("%s connections: sent %d ok %d p90 %.0f ms p99 %.0f ms", connections, r.Sent, r.OK, r.P90, r.P99)
		}
	}
	if r := load(t, "--concurrency", "1", "--duration", "1s", stalling()); r.P90 > 100 || r.Max < 450 {
		t.Errorf("closed loop: p90 %.0f ms, max %.0f ms", r.P90, r.Max)
	}
}

func TestConnectionsAreKept(t *testing.T) {
	var conns atomic.Int64
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	srv.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew {
			conns.Add(1)
		}
	}
	srv.Start()
	defer srv.Close()
	r := load(t, "--concurrency", "3", "--duration", "600ms", srv.URL)
	if r.OK <= 3 || r.Failed != 0 || conns.Load() != 3 {
		t.Errorf("ok %d, failed %d over %d connections; want 3 connections", r.OK, r.Failed, conns.Load())
	}
}

// The server closes each connection after its answer without saying so: no request may be spent on finding out.
func TestClosedConnectionIsNoticedBeforeItIsUsed(t *testing.T) {
	url, conns := rawServer(t, func(int64, *http.Request) string {
		return "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	})
	r := load(t, "--rate", "20", "--duration", "1s", url)
	if r.OK != 20 || r.Failed != 0 || conns.Load() != 20 {
		t.Errorf("ok %d failed %d over %d connections, want 20 0 20; errors %v", r.OK, r.Failed, conns.Load(), r.Errors)
	}
}

func TestNothingIsRepeated(t *testing.T) {
	var arrived atomic.Int64
	url, _ := rawServer(t, func(int64, *http.Request) string { arrived.Add(1); return "" })
	r := load(t, "--rate", "100", "--duration", "100ms", url)
	if r.Sent != 10 || r.Failed != 10 || arrived.Load() != 10 {
		t.Errorf("sent %d failed %d arrived %d, want 10 each", r.Sent, r.Failed, arrived.Load())
	}
}

func TestBodiesHeadersAndMethods(t *testing.T) {
	var bytes, wrong atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		n, _ := io.Copy(w, r.Body)
		bytes.Add(n)
		if r.Method != "PUT" || r.Host != "other.example" || r.Header.Get("X-A") != "b: c" {
			wrong.Add(1)
		}
	}))
	defer srv.Close()
	r := load(t, "--rate", "20", "--duration", "100ms", "--method", "PUT", "--body-size", "200KB", "-H", "Host: other.example", "-H", "X-A:b: c", srv.URL+"/p?q")
	if r.OK != 2 || bytes.Load() != 2*200<<10 || r.Bytes != 2*200<<10 || wrong.Load() != 0 {
		t.Errorf("ok %d, sent %d bytes, received %d, %d wrong", r.OK, bytes.Load(), r.Bytes, wrong.Load())
	}
}

func TestRefusedConnectionsAndTimeoutsAreFailures(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	silent := "http://" + ln.Addr().String()
	r := load(t, "--rate", "50", "--duration", "100ms", "--timeout", "50ms", silent)
	if r.Errors["exchange_timeout"] != 5 || r.Failed != 5 || r.P50 < 50 {
		t.Errorf("silent server: failed %d, errors %v, p50 %.0f ms", r.Failed, r.Errors, r.P50)
	}
	ln.Close()
	if r := load(t, "--rate", "50", "--duration", "100ms", silent); r.Errors["connect_refused"] != 5 {
		t.Errorf("closed port: errors %v", r.Errors)
	}
}

func TestUnsentRequestsAreSaid(t *testing.T) {
	release := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer srv.Close()
	defer close(release)
	r := load(t, "--rate", "100", "--duration", "100ms", "--connections", "1", "--timeout", "200ms", srv.URL)
	if r.Unsent == 0 || r.Sent+r.Unsent != 10 {
		t.Errorf("sent %d, unsent %d; want 10 together", r.Sent, r.Unsent)
	}
}

func TestLoadUsage(t *testing.T) {
	for _, args := range []string{"", "ftp://x", "--rate 1 --concurrency 1 http://x", "--ramp 5 http://x", "--steps 1,b http://x", "--rate -1 http://x",
		"--body-size 5XB http://x", "-H nocolon http://x", "http://x http://y", "--duration 0 http://x", "--steps 0,0 http://x"} {
		var errs bytes.Buffer
		if code := run(context.Background(), append([]string{"load"}, strings.Fields(args)...), io.Discard, &errs); code != 2 || errs.Len() == 0 {
			t.Errorf("load %s: exit %d, message %q; want 2 and a message", args, code, &errs)
		}
	}
}

func TestShapes(t *testing.T) {
	second := time.Second
	for _, c := range []struct {
		name  string
		shape shape
		count float64
		at    map[float64]time.Duration
	}{
		{"constant", shape{{10 * second, 5, 5}}, 50, map[float64]time.Duration{0: 0, 10: 2 * second}},
		{"ramp up", shape{{10 * second, 0, 10}}, 50, map[float64]time.Duration{0: 0, 12.5: 5 * second}},
		{"ramp down", shape{{10 * second, 10, 0}}, 50, map[float64]time.Duration{0: 0, 37.5: 5 * second}},
		{"steps", shape{{second, 10, 10}, {second, 0, 0}, {second, 20, 20}}, 30, map[float64]time.Duration{5: second / 2, 10: 2 * second, 20: 5 * second / 2}},
	} {
		if got := c.shape.count(); math.Abs(got-c.count) > 1e-9 {
			t.Errorf("%s: count %v, want %v", c.name, got, c.count)
		}
		for n, want := range c.at {
			if got, ok := c.shape.at(n); !ok || (got-want).Abs() > time.Microsecond {
				t.Errorf("%s: request %v at %v, %v; want %v", c.name, n, got, ok, want)
			}
		}
		if _, ok := c.shape.at(c.count); ok {
			t.Errorf("%s: a request beyond the end", c.name)
		}
	}
}

// A schedule hands out as many requests as its rate says, in order and, with Poisson, about as many.
func TestSchedule(t *testing.T) {
	for _, poisson := range []bool{false, true} {
		s := &schedule{shape: shape{{10 * time.Second, 0, 400}, {5 * time.Second, 400, 0}}, poisson: poisson}
		var last time.Duration
		n := 0
		for {
			d, ok := s.next()
			if !ok {
				break
			}
			if d < last {
				t.Fatalf("request %d is due at %v, after one at %v", n, d, last)
			}
			last = d
			n++
		}
		if want, tolerance := 3000, map[bool]int{false: 1, true: 300}[poisson]; n < want-tolerance || n > want+tolerance {
			t.Errorf("poisson %v: %d requests, want %d ± %d", poisson, n, want, tolerance)
		}
	}
}
