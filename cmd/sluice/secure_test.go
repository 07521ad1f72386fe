package main

import (
	"bytes"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// startHTTP serves handler, over TLS where there are files, until the test ends.
func startHTTP(t *testing.T, addr string, handler http.Handler, cert, key string) {
	t.Helper()
	s := &http.Server{Handler: handler, Protocols: new(http.Protocols), ErrorLog: slog.NewLogLogger(slog.DiscardHandler, 0)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetHTTP2(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	l := must(t, func() (net.Listener, error) { return net.Listen("tcp", addr) })
	if cert != "" {
		pair := must(t, func() (tls.Certificate, error) { return tls.LoadX509KeyPair(cert, key) })
		s.TLSConfig = &tls.Config{Certificates: []tls.Certificate{pair}}
		go func() { _ = s.ServeTLS(l, "", "") }()
	} else {
		go func() { _ = s.Serve(l) }()
	}
	t.Cleanup(func() { _ = s.Close() })
}

// Servers are checked and reached over TLS; a reload to a file with another authority takes them out, and says why; back, they serve.
func TestServersOverTLS(t *testing.T) {
	t.Parallel()
	cert, key := selfSigned(t)
	other, _ := selfSigned(t)
	addr := freeAddrs(t, 1)[0]
	startHTTP(t, addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, "%s %v", r.Proto, r.TLS != nil)
	}), cert, key)
	trusted := t.TempDir() + "/ca.pem"
	trust := func(file string) {
		text := must(t, func() ([]byte, error) { return os.ReadFile(file) })
		if err := os.WriteFile(trusted, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	trust(cert)
	s := start(t, fmt.Sprintf(`[[route]]
upstream = "a"
[upstream.a]
servers = [%q]
tls = { ca = %q, server_name = "grpc.test" }
protocol = "http1"
health_check = { path = "/", interval = "50ms" }
`, addr, trusted))
	s.waitReplicas("a", 1, 10*time.Second)
	wants := func(want string) {
		t.Helper()
		if code, body, err := fetch(s.url); err != nil || code != 200 || body != want {
			t.Errorf("%d %q %v, want %q", code, body, err, want)
		}
	}
	wants("HTTP/1.1 true")
	s.edit(`protocol = "http1"`, `protocol = "h2"`)
	s.reload()
	wants("HTTP/2.0 true")

	trust(other)
	s.reload()
	within(t, 10*time.Second, "the server is out", func() bool {
		u := s.upstream("a")
		return u.Ready == 0 && strings.Contains(u.Servers[0].Reason, "certificate")
	})
	trust(cert)
	s.reload()
	s.waitReplicas("a", 1, 20*time.Second)
	wants("HTTP/2.0 true")

	s.edit("server_name", "verify = false, server_name")
	s.reload()
	within(t, 5*time.Second, "verify = false is warned of", func() bool {
		return strings.Contains(s.log.String(), "certificates of the servers are not checked")
	})
}

// reload tells sluice to read its file and fails unless it takes it.
func (s *running) reload() {
	s.t.Helper()
	if code, body, err := fetchPost(s.admin+"/api/v1/reload", ""); err != nil || code != http.StatusOK {
		s.t.Fatalf("reload: %d %s %v", code, body, err)
	}
}

// A server that says it does not serve, by gRPC's own health check, is taken out.
func TestGRPCHealth(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	status.Store(1)
	addr := freeAddrs(t, 1)[0]
	startHTTP(t, addr, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked, _ := io.ReadAll(r.Body)
		w.Header().Set("Content-Type", "application/grpc")
		if r.URL.Path != "/grpc.health.v1.Health/Check" || r.ProtoMajor != 2 || !bytes.HasSuffix(asked, []byte("\x0a\x05pkg.S")) {
			w.Header().Set("Grpc-Status", "12")
			return
		}
		_, _ = w.Write([]byte{0, 0, 0, 0, 2, 8, byte(status.Load())})
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}), "", "")
	s := start(t, fmt.Sprintf(`[[route]]
upstream = "a"
[upstream.a]
servers = [%q]
protocol = "h2c"
health_check = { grpc = "pkg.S", interval = "50ms" }
`, addr))
	s.waitReplicas("a", 1, 10*time.Second)
	status.Store(2)
	within(t, 10*time.Second, "the server is out", func() bool {
		u := s.upstream("a")
		return u.Ready == 0 && strings.Contains(u.Servers[0].Reason, "NOT_SERVING")
	})
	status.Store(1)
	s.waitReplicas("a", 1, 20*time.Second)
}

func TestServersProtocolIsExplained(t *testing.T) {
	for keys, want := range map[string]string{
		``:                                    "u, asked for /x\n",
		`tls = true`:                          "u, asked for /x by HTTP/1.1 over TLS\n",
		`tls = { verify = false }`:            "u, asked for /x by HTTP/1.1 over TLS, certificates not verified\n",
		`protocol = "h2c"`:                    "u, asked for /x by HTTP/2 without TLS\n",
		"protocol = \"h2\"\ntls = true":       "u, asked for /x by HTTP/2 over TLS\n",
		"tls = { on = false }":                "u, asked for /x\n",
		"proxy_protocol = \"v1\"\ntls = true": "u, asked for /x by HTTP/1.1 over TLS, after a PROXY protocol header v1\n",
	} {
		s := prepare(t, "[[route]]\nupstream = \"u\"\n[upstream.u]\nservers = [\"a.example:443\"]\n"+keys+"\n")
		if code, out, errs := commandOutput(t, "explain", "-c", s.file, "http://a/x"); code != exitOK || !strings.Contains(out, want) {
			t.Errorf("%s: %d %s%s", keys, code, out, errs)
		}
	}
}
