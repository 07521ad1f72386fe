package proxy

import (
	"bytes"
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
)

// reach is one way to reach servers, with a server that is reached so.
type reach struct {
	name  string
	proto string // of the request, as the server sees it
	start func(t testing.TB, handler http.HandlerFunc) (addr string, up UpstreamConfig)
}

var reaches = []reach{
	{"http1", "HTTP/1.1", func(t testing.TB, handler http.HandlerFunc) (string, UpstreamConfig) {
		return serve(t, handler), DefaultUpstreamConfig()
	}},
	{"tls", "HTTP/1.1", func(t testing.TB, handler http.HandlerFunc) (string, UpstreamConfig) {
		s := startTLS(t, handler, false, nil)
		return s.Listener.Addr().String(), overTLS(t, s)
	}},
	{"h2", "HTTP/2.0", func(t testing.TB, handler http.HandlerFunc) (string, UpstreamConfig) {
		s := startTLS(t, handler, true, nil)
		up := overTLS(t, s)
		up.Protocol = ProtocolH2
		return s.Listener.Addr().String(), up
	}},
	{"h2c", "HTTP/2.0", func(t testing.TB, handler http.HandlerFunc) (string, UpstreamConfig) {
		up := DefaultUpstreamConfig()
		up.Protocol = ProtocolH2C
		return serveH2C(t, handler), up
	}},
}

// everywhere runs a test against a server that is reached in each way.
func everywhere(t *testing.T, handler http.HandlerFunc, test func(t *testing.T, g *gateway, r reach)) {
	for _, r := range reaches {
		t.Run(r.name, func(t *testing.T) {
			addr, up := r.start(t, handler)
			test(t, newGateway(t, balancer.DefaultConfig(), up, one(RouteConfig{}), addr), r)
		})
	}
}

func startTLS(t testing.TB, handler http.HandlerFunc, h2 bool, cfg *tls.Config) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.EnableHTTP2 = h2
	s.TLS = cfg
	s.StartTLS()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

func serveH2C(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// overTLS is an upstream that trusts s.
func overTLS(t testing.TB, s *httptest.Server) UpstreamConfig {
	up := DefaultUpstreamConfig()
	up.TLS = &TLSConfig{On: true, Verify: true, CA: pemFile(t, "CERTIFICATE", s.Certificate().Raw)}
	return up
}

func pemFile(t testing.TB, kind string, der []byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), strings.ToLower(strings.ReplaceAll(kind, " ", "-"))+".pem")
	if err := os.WriteFile(name, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestEveryWayToAServer(t *testing.T) {
	big := bytes.Repeat([]byte("0123456789abcdef"), 100_000)
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Proto", r.Proto)
		w.Header().Set("X-Host", r.Host)
		switch r.URL.Path {
		case "/echo":
			_, _ = io.Copy(w, r.Body)
		case "/big":
			w.Header().Set("Content-Length", fmt.Sprint(len(big)))
			_, _ = w.Write(big)
		case "/stream":
			for range 50 {
				_, _ = w.Write(big[:20_000])
				w.(http.Flusher).Flush()
			}
		case "/none":
			w.WriteHeader(204)
		case "/hints":
			w.Header().Set("Link", "</a>")
			w.WriteHeader(103)
			_, _ = io.WriteString(w, "hi")
		case "/trailer":
			w.Header().Set("Trailer", "X-Sum")
			_, _ = io.WriteString(w, "body")
			w.Header().Set("X-Sum", "7")
		default:
			_, _ = fmt.Fprintf(w, "%s %s", r.Method, r.URL)
		}
	}
	everywhere(t, handler, func(t *testing.T, g *gateway, r reach) {
		c := g.dial()
		defer c.Close()
		check := func(request, body string) *response {
			t.Helper()
			got := c.do(request)
			if got.err != nil || got.body != body || got.Header.Get("X-Proto") != r.proto || got.Header.Get("X-Host") != "x" {
				t.Fatalf("%.40q: %d, %d bytes, want %d, %q %q, %v", request, got.StatusCode, len(got.body), len(body), got.Header, got.Header.Get("X-Sluice-Reason"), got.err)
			}
			return got
		}
		for range 3 {
			check("GET /a?b HTTP/1.1\nHost: x\n\n", "GET /a?b")
			check("POST /echo HTTP/1.1\nHost: x\nContent-Length: 5\n\nhello", "hello")
			check("POST /echo HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n3\nabc\n2\nde\n0\n\n", "abcde")
			check(fmt.Sprintf("POST /echo HTTP/1.1\nHost: x\nContent-Length: %d\n\n%s", len(big), big), string(big))
			if got := check("GET /big HTTP/1.1\nHost: x\n\n", string(big)); got.ContentLength != int64(len(big)) {
				t.Errorf("length %d", got.ContentLength)
			}
			check("GET /stream HTTP/1.1\nHost: x\n\n", strings.Repeat(string(big[:20_000]), 50))
			if got := check("HEAD /big HTTP/1.1\nHost: x\n\n", ""); got.ContentLength != int64(len(big)) {
				t.Errorf("HEAD: length %d", got.ContentLength)
			}
			check("GET /none HTTP/1.1\nHost: x\n\n", "")
			if got := check("GET /trailer HTTP/1.1\nHost: x\n\n", "body"); got.Trailer.Get("X-Sum") != "7" {
				t.Errorf("trailers %v", got.Trailer)
			}
			c.send("GET /hints HTTP/1.1\nHost: x\n\n")
			if h := c.head("GET"); h.StatusCode != 103 || h.Header.Get("Link") != "</a>" {
				t.Errorf("%d %v", h.StatusCode, h.Header)
			}
			if h := c.head("GET"); h.StatusCode != 200 {
				t.Errorf("%d", h.StatusCode)
			} else if b, err := io.ReadAll(h.Body); string(b) != "hi" || err != nil {
				t.Errorf("%q, %v", b, err)
			}
		}
		if n := g.ups["a"].InFlight(); n != 0 {
			t.Errorf("%d in flight", n)
		}
	})
}

// A client that leaves is told to its server at once, however that is reached.
func TestLeavingIsToldEveryWay(t *testing.T) {
	begun, left := make(chan bool, 1), make(chan time.Time, 1)
	handler := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		begun <- true
		<-r.Context().Done()
		left <- time.Now()
	}
	everywhere(t, handler, func(t *testing.T, g *gateway, _ reach) {
		c := g.dial()
		c.send("GET / HTTP/1.1\nHost: x\n\n")
		<-begun
		at := time.Now()
		_ = c.Close()
		select {
		case told := <-left:
			if d := told.Sub(at); d > 250*time.Millisecond && !raceEnabled {
				t.Errorf("told after %v", d)
			}
		case <-time.After(5 * time.Second):
			t.Error("not told")
		}
	})
}

// What a server breaks off is never whole to the client.
func TestCutsShowEveryWay(t *testing.T) {
	handler := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", "1000")
		}
		_, _ = w.Write(make([]byte, 500))
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	everywhere(t, handler, func(t *testing.T, g *gateway, _ reach) {
		for _, path := range []string{"/sized", "/unsized"} {
			r := g.do("GET " + path + " HTTP/1.1\nHost: x\n\n")
			if r.err == nil && r.Header.Get("X-Sluice-Reason") != ReasonServerClosed { // unless the reset came before anything was read
				t.Errorf("%s: %d bytes pass for all", path, len(r.body))
			}
		}
	})
}
