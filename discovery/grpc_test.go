package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// healthServer answers as gRPC does, in the form of HTTP/1.1 that a Layer makes of it.
func healthServer(t *testing.T, status, body string, trailersOnly bool) (addr string, asked *atomic.Value) {
	asked = new(atomic.Value)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		asked.Store(r.Method + " " + r.URL.Path + " " + r.Header.Get("Content-Type") + " " + r.Header.Get("Te") + " " + string(b))
		w.Header().Set("Content-Type", "application/grpc")
		if trailersOnly {
			w.Header().Set("Grpc-Status", status)
			return
		}
		_, _ = io.WriteString(w, body)
		w.(http.Flusher).Flush()
		if status != "" {
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
		}
	}))
	t.Cleanup(srv.Close)
	return srv.Listener.Addr().String(), asked
}

func TestCheckGRPC(t *testing.T) {
	const serving = "\x00\x00\x00\x00\x02\x08\x01"
	for _, row := range []struct {
		name, status, body string
		trailersOnly       bool
		want               string
	}{
		{"serving", "0", serving, false, ""},
		{"unknown fields", "0", "\x00\x00\x00\x00\x09\x12\x03abc\x08\x01\x18\x05", false, ""},
		{"not serving", "0", "\x00\x00\x00\x00\x02\x08\x02", false, "NOT_SERVING"},
		{"unknown", "0", "\x00\x00\x00\x00\x00", false, "UNKNOWN"},
		{"no message", "0", "", false, "no HealthCheckResponse"},
		{"cut", "0", "\x00\x00\x00\x00\x03\x08\x01", false, "no HealthCheckResponse"},
		{"bad field", "0", "\x00\x00\x00\x00\x02\x0a\x7f", false, "no HealthCheckResponse"},
		{"compressed", "0", "\x01\x00\x00\x00\x02\x08\x01", false, "no HealthCheckResponse"},
		{"failed", "13", serving, false, "grpc-status 13"},
		{"unknown service", "5", "", true, `knows no service "pkg.Service"`},
		{"no health service", "12", "", true, "no grpc.health.v1.Health"},
		{"no status", "", serving, false, "no grpc-status"},
	} {
		addr, asked := healthServer(t, row.status, row.body, row.trailersOnly)
		err := probeOnce(t, HealthConfig{GRPC: "pkg.Service"}, addr)
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%s: %v, want %q", row.name, err, row.want)
		}
		if got, want := asked.Load(), "POST /grpc.health.v1.Health/Check application/grpc trailers \x00\x00\x00\x00\x0d\x0a\x0bpkg.Service"; got != want {
			t.Errorf("asked %q, want %q", got, want)
		}
	}
	addr, asked := healthServer(t, "0", serving, false)
	if err := probeOnce(t, HealthConfig{GRPC: "*"}, addr); err != nil || !strings.HasSuffix(asked.Load().(string), "trailers \x00\x00\x00\x00\x00") {
		t.Errorf("as a whole: %v, asked %q", err, asked.Load())
	}
}

// secureLayer is TLS as a Layer.
type secureLayer struct{ cfg *tls.Config }

func (l secureLayer) Over(ctx context.Context, nc net.Conn, _ string) (net.Conn, error) {
	c := tls.Client(nc, l.cfg)
	if err := c.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		return nil, err
	}
	return c, nil
}

// A probe goes through what requests go through; also one that only connects.
func TestCheckThroughALayer(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.NotFoundHandler())
	srv.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	srv.StartTLS()
	defer srv.Close()
	trusting := srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone()
	trusting.ServerName = "example.com"
	for _, row := range []struct {
		layer Layer
		path  string
		want  string
	}{
		{secureLayer{trusting}, "", ""},
		{secureLayer{trusting}, "/", "status 404"},
		{secureLayer{&tls.Config{ServerName: "example.com"}}, "", "certificate"},
		{nil, "/", "status 400"}, // what a server says to plain text
	} {
		c, err := newCheck(HealthConfig{Path: row.path})
		if err != nil {
			t.Fatal(err)
		}
		c.layer = row.layer
		err = c.run(t.Context(), srv.Listener.Addr().String(), limits{gate: starting, connect: 5 * time.Second, total: 5 * time.Second})
		if row.want == "" && err != nil || row.want != "" && (err == nil || !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%v %q: %v, want %q", row.layer, row.path, err, row.want)
		}
	}
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	c, _ := newCheck(HealthConfig{})
	c.layer = secureLayer{trusting}
	if err := c.run(t.Context(), silent.Addr().String(), limits{gate: starting, connect: 20 * time.Millisecond, total: 20 * time.Millisecond}); !errors.Is(err, errSilent) {
		t.Errorf("a server that does not shake hands: %v", err)
	}
}

// Another layer is another check: servers are probed again at once.
func TestReachReplacesTheCheck(t *testing.T) {
	w := &Watcher{}
	w.Configure(HealthConfig{})
	first := w.check.Load()
	l := &struct{ secureLayer }{}
	w.Reach(l)
	second := w.check.Load()
	if second == first || second.layer != Layer(l) {
		t.Fatal("the check did not change")
	}
	select {
	case <-first.replaced:
	default:
		t.Error("the old check is not replaced")
	}
	w.Reach(l)
	w.Configure(HealthConfig{})
	if w.check.Load() != second {
		t.Error("nothing changed, and the check did")
	}
	w.Configure(HealthConfig{Path: "/"})
	if got := w.check.Load(); got == second || got.layer != Layer(l) {
		t.Error("another check lost its layer")
	}
}
