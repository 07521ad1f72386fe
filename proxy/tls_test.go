package proxy

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// identity is a certificate for name that is its own authority, and its files.
type identity struct {
	pair      tls.Certificate
	cert, key string
}

func newIdentity(t testing.TB, name string) identity {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return identity{
		pair: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: private},
		cert: pemFile(t, "CERTIFICATE", der), key: pemFile(t, "PRIVATE KEY", secret),
	}
}

// A server whose certificate is not valid gets no request; the answer and the log say why.
func TestServersCertificateIsChecked(t *testing.T) {
	var served atomic.Int32
	s := startTLS(t, func(http.ResponseWriter, *http.Request) { served.Add(1) }, false, nil)
	good := overTLS(t, s)
	for _, row := range []struct {
		name   string
		change func(*TLSConfig)
		why    string
	}{
		{"an authority that is not trusted", func(c *TLSConfig) { c.CA = newIdentity(t, "other").cert }, "unknown authority"},
		{"the system's authorities", func(c *TLSConfig) { c.CA = "" }, "certificate"},
		{"another name", func(c *TLSConfig) { c.ServerName = "other.test" }, "other.test"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := *good.TLS
			row.change(&cfg)
			up := good
			up.TLS = &cfg
			var log bytes.Buffer
			g := newGateway(t, roundRobin(), up, one(RouteConfig{}), s.Listener.Addr().String())
			g.proxy.log = slog.New(slog.NewTextHandler(&log, nil))
			g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 502, ReasonUpstreamTLS)
			if line := g.lines(1)[0]; line["tries"] != 1.0 || line["reason"] != ReasonUpstreamTLS {
				t.Errorf("%v: the same server was tried again", line)
			}
			if !strings.Contains(log.String(), row.why) {
				t.Errorf("the log does not say why: %s", &log)
			}
		})
	}
	if served.Load() != 0 {
		t.Error("a request was sent")
	}
	without := *good.TLS
	without.CA, without.Verify = "", false
	good.TLS = &without
	g := newGateway(t, roundRobin(), good, one(RouteConfig{}), s.Listener.Addr().String())
	if r := g.do("GET / HTTP/1.1\nHost: x\n\n"); r.StatusCode != 200 || served.Load() != 1 {
		t.Errorf("verify = false: %d", r.StatusCode)
	}
}

// Another server is tried when the handshake with one fails, and the one is ejected.
func TestFailedHandshakeCountsAgainstItsServer(t *testing.T) {
	s := startTLS(t, func(http.ResponseWriter, *http.Request) {}, false, nil)
	plain := serve(t, func(http.ResponseWriter, *http.Request) {})
	cfg := roundRobin()
	cfg.Outlier.Errors = 2
	g := newGateway(t, cfg, overTLS(t, s), one(RouteConfig{}), plain, s.Listener.Addr().String())
	for range 10 {
		if r := g.do("POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi"); r.StatusCode != 200 {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
	}
	if state, _ := g.ups["a"].Server(plain).State(time.Now()); state != balancer.StateEjected {
		t.Errorf("the server without TLS is %v", state)
	}
}

// A server that takes the connection and says nothing is given up within timeouts.connect.
func TestHandshakeTimeout(t *testing.T) {
	addr := rawServer(t, func(c net.Conn, _ *bufio.Reader, _ int) { _, _ = io.Copy(io.Discard, c) })
	for _, up := range []UpstreamConfig{
		{Protocol: ProtocolHTTP1, TLS: &TLSConfig{On: true, Verify: true}},
		{Protocol: ProtocolH2, TLS: &TLSConfig{On: true, Verify: true}},
		{Protocol: ProtocolH2C},
	} {
		up.Timeouts.Connect = 50 * time.Millisecond
		g := newGateway(t, roundRobin(), up, one(RouteConfig{}), addr)
		g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 504, ReasonConnectTimeout)
	}
}

func TestServerWithoutHTTP2(t *testing.T) {
	s := startTLS(t, func(http.ResponseWriter, *http.Request) {}, false, &tls.Config{NextProtos: []string{"http/1.1"}})
	up := overTLS(t, s)
	up.Protocol = ProtocolH2
	g := newGateway(t, roundRobin(), up, one(RouteConfig{}), s.Listener.Addr().String())
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 502, ReasonUpstreamTLS)
}

// The client's certificate is shown, the name is told, and sessions are resumed with the server that gave them.
func TestClientCertificateNameAndSessions(t *testing.T) {
	id, client := newIdentity(t, "backend.test"), newIdentity(t, "gateway")
	pool := x509.NewCertPool()
	pool.AddCert(must(t, func() (*x509.Certificate, error) { return x509.ParseCertificate(client.pair.Certificate[0]) }))
	var seen atomic.Pointer[tls.ConnectionState]
	s := startTLS(t, func(w http.ResponseWriter, r *http.Request) {
		seen.Store(r.TLS)
		w.Header().Set("Connection", "close")
	}, false, &tls.Config{Certificates: []tls.Certificate{id.pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: pool})
	up := DefaultUpstreamConfig()
	up.TLS = &TLSConfig{On: true, Verify: true, CA: id.cert, ServerName: "backend.test", Cert: client.cert, Key: client.key}
	g := newGateway(t, roundRobin(), up, one(RouteConfig{}), s.Listener.Addr().String())
	for i := range 3 {
		if r := g.do("GET / HTTP/1.1\nHost: x\n\n"); r.StatusCode != 200 {
			t.Fatalf("%d %s", r.StatusCode, r.body)
		}
		if got := seen.Load(); got.ServerName != "backend.test" || len(got.PeerCertificates) != 1 || got.DidResume != (i > 0) {
			t.Errorf("connection %d: name %q, %d certificates, resumed %v", i, got.ServerName, len(got.PeerCertificates), got.DidResume)
		}
	}
	up.TLS = &TLSConfig{On: true, Verify: true, CA: id.cert, ServerName: "backend.test"}
	g = newGateway(t, roundRobin(), up, one(RouteConfig{}), s.Listener.Addr().String())
	g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 502, ReasonUpstreamTLS) // of which TLS 1.3 hears behind the handshake
}

func must[T any](t testing.TB, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// A reload that changes how servers are reached ends the connections that were made before, and one that does not leaves them.
func TestReloadChangesHowServersAreReached(t *testing.T) {
	for _, h2 := range []bool{false, true} {
		begun, goOn := make(chan bool, 1), make(chan bool)
		s := startTLS(t, func(_ http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				begun <- true
				<-goOn
			}
		}, h2, nil)
		up := overTLS(t, s)
		if h2 {
			up.Protocol = ProtocolH2
		}
		g := newGateway(t, roundRobin(), up, one(RouteConfig{}), s.Listener.Addr().String())
		get := func() *response { return g.do("GET / HTTP/1.1\nHost: x\n\n") }
		get()
		d := g.ups["a"].Dialer()
		g.ups["a"].Configure(up)
		if g.ups["a"].Dialer() != d {
			t.Error("the same configuration is another way")
		}
		other := *up.TLS
		other.CA = newIdentity(t, "other").cert
		up.TLS = &other
		c := g.dial()
		c.send("GET /slow HTTP/1.1\nHost: x\n\n")
		<-begun
		g.ups["a"].Configure(up)
		get().wants(t, 502, ReasonUpstreamTLS)
		close(goOn)
		if r := c.head("GET"); r.StatusCode != 200 {
			t.Errorf("the request under way got %d", r.StatusCode)
		}
		_ = c.Close()
		get().wants(t, 502, ReasonUpstreamTLS) // nor on the connection that it was on
	}
}

// poison is what a server does behind its first answer.
func TestPoisonedSecureConnections(t *testing.T) {
	id := newIdentity(t, "x.test")
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	for _, row := range []struct {
		name   string
		answer func(c *tls.Conn)
	}{
		{"in the same record", func(c *tls.Conn) { _, _ = io.WriteString(c, good+evil) }},
		{"in the next record", func(c *tls.Conn) { _, _ = io.WriteString(c, good); _, _ = io.WriteString(c, evil) }},
		{"later", func(c *tls.Conn) {
			_, _ = io.WriteString(c, good)
			time.Sleep(20 * time.Millisecond)
			_, _ = io.WriteString(c, evil)
		}},
		{"a part of a record", func(c *tls.Conn) {
			_, _ = io.WriteString(c, good)
			time.Sleep(20 * time.Millisecond)
			_, _ = c.NetConn().Write([]byte{23, 3, 3, 0, 40, 1})
		}},
		{"its end", func(c *tls.Conn) { _, _ = io.WriteString(c, good); _ = c.CloseWrite() }},
		{"its end without a word", func(c *tls.Conn) { _, _ = io.WriteString(c, good); _ = c.NetConn().(*net.TCPConn).CloseWrite() }},
	} {
		t.Run(row.name, func(t *testing.T) {
			answered := make(chan bool, 1)
			addr := rawServer(t, func(nc net.Conn, _ *bufio.Reader, n int) {
				c := tls.Server(nc, &tls.Config{Certificates: []tls.Certificate{id.pair}})
				r := bufio.NewReader(c)
				for {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					_, _ = io.Copy(io.Discard, req.Body)
					if n > 0 {
						_, _ = io.WriteString(c, good)
						continue
					}
					row.answer(c)
					answered <- true
				}
			})
			up := DefaultUpstreamConfig()
			up.TLS = &TLSConfig{On: true, Verify: true, CA: id.cert, ServerName: "x.test"}
			g := newGateway(t, roundRobin(), up, one(RouteConfig{}), addr)
			g.do("GET / HTTP/1.1\nHost: x\n\n")
			<-answered
			time.Sleep(20 * time.Millisecond) // it crosses loopback
			for range 3 {
				if r := g.do("POST / HTTP/1.1\nHost: x\nContent-Length: 2\n\nhi"); r.StatusCode != 200 || r.body != "good" {
					t.Errorf("%d %q", r.StatusCode, r.body)
				}
			}
		})
	}
}

// A server that ends the connection within the handshake without a word, as one that restarts does, may be there a moment later.
func TestConnectionEndedInTheHandshake(t *testing.T) {
	id := newIdentity(t, "x.test")
	for _, protocol := range []string{ProtocolHTTP1, ProtocolH2C} {
		var conns atomic.Int32
		addr := rawServer(t, func(c net.Conn, _ *bufio.Reader, n int) {
			if conns.Add(1); n == 0 {
				_, _ = c.Read(make([]byte, 1))
			}
		})
		up := DefaultUpstreamConfig()
		if up.Protocol = protocol; protocol == ProtocolHTTP1 {
			up.TLS = &TLSConfig{On: true, Verify: true, CA: id.cert, ServerName: "x.test"}
		}
		g := newGateway(t, roundRobin(), up, one(RouteConfig{}), addr)
		g.do("GET / HTTP/1.1\nHost: x\n\n").wants(t, 502, ReasonConnectRefused)
		if n := conns.Load(); n != 3 {
			t.Errorf("%s: %d connections, want one and two more", protocol, n)
		}
	}
}

// A handshake error is no reason to give up what could be had elsewhere, and is told from others.
func TestHandshakeReason(t *testing.T) {
	err := errors.Join(http1.ErrHandshake, io.EOF)
	if f := failures[reasonOf(err)]; f.Reason != ReasonUpstreamTLS || outcome(err).Neutral || !retryable(err) {
		t.Errorf("%+v", f)
	}
}
