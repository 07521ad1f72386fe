package discovery

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// probeOnce runs one probe with generous limits.
func probeOnce(t *testing.T, hc HealthConfig, addr string) error {
	t.Helper()
	c, err := newCheck(hc)
	if err != nil {
		t.Fatal(err)
	}
	return c.run(t.Context(), addr, limits{gate: starting, connect: 5 * time.Second, total: 5 * time.Second})
}

func TestCheckHTTP(t *testing.T) {
	var seen atomic.Pointer[http.Request]
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r)
		switch r.URL.Path {
		case "/hints":
			w.WriteHeader(http.StatusEarlyHints)
		case "/moved":
			http.Redirect(w, r, "/bad", http.StatusFound)
			return
		case "/bad":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/big":
			w.Write(make([]byte, 1<<20))
		case "/cut":
			panic(http.ErrAbortHandler)
		}
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	for _, tt := range []struct{ path, status, err string }{
		{"/", "", ""},
		{"/hints", "", ""},
		{"/big", "", ""},
		{"/moved", "", ""},
		{"/moved", "2xx", "GET /moved: status 302, expected 2xx"},
		{"/bad", "", "GET /bad: status 503, expected 200-399"},
		{"/bad", "503", ""},
		{"/cut", "", "GET /cut: closed without an answer"},
	} {
		err := probeOnce(t, HealthConfig{Path: tt.path, Status: tt.status}, addr)
		if got := errorText(err); got != tt.err {
			t.Errorf("%s, %q: %q, want %q", tt.path, tt.status, got, tt.err)
		}
	}
	err := probeOnce(t, HealthConfig{Path: "/a?b=c"}, addr)
	if last := seen.Load(); err != nil || last.Host != addr || last.URL.RawQuery != "b=c" || !last.Close {
		t.Errorf("%v; host %q, query %q, close %v", err, last.Host, last.URL.RawQuery, last.Close)
	}
	err = probeOnce(t, HealthConfig{Path: "/", Host: "api.example"}, addr)
	if last := seen.Load(); err != nil || last.Host != "api.example" {
		t.Errorf("%v; host %q", err, last.Host)
	}
	_, port, _ := net.SplitHostPort(addr)
	number, _ := net.LookupPort("tcp", port)
	if err := probeOnce(t, HealthConfig{Path: "/", Port: number}, "127.0.0.1:1"); err != nil {
		t.Errorf("port of the check: %v", err)
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestCheckConnect(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := probeOnce(t, HealthConfig{}, addr); err != nil {
		t.Errorf("listening: %v", err)
	}
	l.Close()
	if got, want := errorText(probeOnce(t, HealthConfig{}, addr)), "connect "+addr+": connection refused"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// silentListener accepts nothing: the kernel makes the connections and no one answers, as with a
// stopped process.
func silentListener(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func TestCheckSilent(t *testing.T) {
	c, _ := newCheck(HealthConfig{Path: "/healthz"})
	err := c.run(t.Context(), silentListener(t), limits{gate: starting, connect: time.Second, total: 50 * time.Millisecond})
	if !errors.Is(err, errSilent) || err.Error() != "GET /healthz: no answer within 50ms" {
		t.Errorf("%v", err)
	}
}

func TestCheckEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	connected := make(chan struct{})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		close(connected)
		io.Copy(io.Discard, conn)
	}()
	done := make(chan error)
	c, _ := newCheck(HealthConfig{Path: "/"})
	go func() {
		done <- c.run(ctx, l.Addr().String(), limits{gate: starting, connect: time.Hour, total: time.Hour})
	}()
	<-connected
	cancel()
	select {
	case err := <-done:
		if err == nil {
			t.Error("a canceled probe is good")
		}
	case <-time.After(5 * time.Second):
		t.Error("still probing")
	}
}

func TestValidate(t *testing.T) {
	if err := DefaultConfig().HealthCheck.Validate(); err != nil {
		t.Errorf("the default: %v", err)
	}
	if err := (HealthConfig{}).Validate(); err != nil {
		t.Errorf("the zero value: %v", err)
	}
	for _, tt := range []struct {
		hc   HealthConfig
		want string
	}{
		{HealthConfig{Path: "healthz"}, "does not begin with /"},
		{HealthConfig{Path: "/a b"}, "white space"},
		{HealthConfig{Host: "a\r\nb"}, "is not a host"},
		{HealthConfig{Port: 65536}, "not a port"},
		{HealthConfig{Interval: -1}, "negative"},
		{HealthConfig{Fall: -1}, "negative"},
		{HealthConfig{Status: "fine"}, "is not a status"},
	} {
		if err := tt.hc.Validate(); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: %v, want %q in it", tt.hc, err, tt.want)
		}
	}
}
