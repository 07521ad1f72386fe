package docker

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// faulty is a proxy on a Unix socket before the engine. At the n-th call that changes something it dies, and
// with it everything that the driver behind it still has to say: before the call reached the engine, or
// after the engine did it and before its answer got out.
type faulty struct {
	host  string // what DOCKER_HOST would be
	after bool
	die   func() // called once, at the fault

	mu    sync.Mutex // guards the rest
	left  int        // calls until the fault
	dead  bool
	fault string // which call it was; "" when it was not reached
}

func newFaulty(t *testing.T, engine string, n int, after bool, die func()) *faulty {
	t.Helper()
	path := filepath.Join(t.TempDir(), "engine.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{host: "unix://" + path, after: after, die: die, left: n}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", strings.TrimPrefix(engine, "unix://"))
	}}
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: "engine"})
	proxy.Transport = transport
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		here := f.next(r)
		if f.isDead() && !(here && f.after) {
			panic(http.ErrAbortHandler)
		}
		if here { // the engine gets it whole; the driver hears nothing of it any more
			r = r.WithContext(context.WithoutCancel(r.Context()))
			res, err := transport.RoundTrip(outgoing(r))
			if err == nil {
				res.Body.Close()
			}
			f.die()
			panic(http.ErrAbortHandler)
		}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }() // ends by Close
	t.Cleanup(func() { server.Close(); transport.CloseIdleConnections() })
	return f
}

func outgoing(r *http.Request) *http.Request {
	out := r.Clone(r.Context())
	out.URL.Scheme, out.URL.Host, out.RequestURI = "http", "engine", ""
	return out
}

// next counts a call and tells whether it is the one to fail.
func (f *faulty) next(r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.dead {
		return false
	}
	if f.left--; f.left > 0 {
		return false
	}
	f.dead, f.fault = true, r.Method+" "+r.URL.Path
	if !f.after {
		f.die()
	}
	return true
}

func (f *faulty) isDead() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dead
}

// TestCrashPoints kills the driver at every call that changes something on the engine, on the way up and on
// the way down, before and after the engine did it; the next driver must come to exactly what is wanted.
func TestCrashPoints(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Max = 4
	o.Container.Networks = []string{b.network("one"), b.network("two")}
	clean := b.driver(o)

	// crash runs one Scale to its n-th call and reports which it was; "" when there are fewer.
	crash := func(t *testing.T, n int, after bool, to int, victims ...string) string {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		f := newFaulty(t, b.cli.DaemonHost(), n, after, cancel)
		cli, err := newClient(f.host)
		if err != nil {
			t.Fatal(err)
		}
		defer cli.Close()
		d := New(cli, o)
		err = d.Scale(ctx, to, victims)
		wait, stop := context.WithTimeout(t.Context(), time.Minute)
		defer stop()
		if err := d.Close(wait); err != nil { // its goroutines end with their connections
			t.Fatal(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.fault == "" && err != nil {
			t.Fatalf("without a fault: %v", err)
		}
		return f.fault
	}
	// converge is the life after the crash: no more than a few rounds of what the loop does.
	converge := func(t *testing.T, n int) {
		t.Helper()
		d := New(b.cli, o)
		b := &bench{T: t, cli: b.cli, owner: b.owner}
		var names []string
		for range 5 {
			b.scale(d, n)
			b.settle(d)
			names = b.names()
			if len(names) == n && !slices.ContainsFunc(names, func(s string) bool { return !strings.HasSuffix(s, " running") }) {
				break
			}
		}
		if len(names) != n || len(slices.Compact(slices.Clone(names))) != n {
			t.Fatalf("wanted %d, the engine has %v", n, names)
		}
		for _, r := range b.list(d) {
			if c, err := b.cli.ContainerInspect(t.Context(), r.ID); err != nil || len(c.NetworkSettings.Networks) != 2 || r.State != "running" {
				t.Fatalf("replica %+v has networks %v, %v", r, c.NetworkSettings.Networks, err)
			}
		}
	}

	for _, after := range []bool{false, true} {
		when := map[bool]string{false: "before", true: "after"}[after]
		var points []string
		for n := 1; ; n++ {
			fault := ""
			t.Run(fmt.Sprintf("up/%s/%d", when, n), func(t *testing.T) {
				if fault = crash(t, n, after, 1); fault != "" {
					converge(t, 1)
				}
			})
			b.wipe(LabelOwner + "=" + b.owner)
			if fault == "" || t.Failed() {
				break
			}
			points = append(points, fault)
		}
		if len(points) != 3 { // create, connect the second network, start
			t.Errorf("%s: crashed at %v", when, points)
		}
		points = nil
		for n := 1; ; n++ {
			b.scale(clean, 2)
			victim := b.list(clean)[0].ID
			fault := ""
			t.Run(fmt.Sprintf("down/%s/%d", when, n), func(t *testing.T) {
				if fault = crash(t, n, after, 1, victim); fault != "" {
					converge(t, 1)
				}
			})
			if fault == "" || t.Failed() {
				break
			}
			points = append(points, fault)
		}
		b.wipe(LabelOwner + "=" + b.owner)
		if len(points) != 2 { // stop, remove
			t.Errorf("%s: crashed at %v", when, points)
		}
	}
}
