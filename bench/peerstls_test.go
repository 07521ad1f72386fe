package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// secureBackend serves the backend's answers over TLS, after change, and returns its port and the certificate that clients want.
func secureBackend(t *testing.T, change func(*tls.Config)) (port int, c certificate) {
	t.Helper()
	c, err := makeCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(c.Cert, c.Key)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{pair}}
	change(config)
	b, err := startBackend()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.stop)
	server := &fasthttp.Server{Handler: b.handle, Logger: log.New(io.Discard, "", 0)} // handshakes that fail are wanted
	t.Cleanup(func() { _ = server.Shutdown() })
	ln, err := tls.Listen("tcp4", "127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = server.Serve(ln) }() // ends with the test
	return portOf(t, ln.Addr().String()), c
}

// The load has what it should have over TLS as well, and refuses what is not as agreed.
func TestLoaderChecksTLS(t *testing.T) {
	requireCores(t)
	get := workloads[0]
	for name, c := range map[string]struct {
		server func(*tls.Config)
		client func(*workload, *certificate)
		want   string
	}{
		"right":               {},
		"another length":      {client: func(w *workload, _ *certificate) { w.answer++ }, want: "a body of 64 instead of 65 bytes"},
		"another status":      {client: func(w *workload, _ *certificate) { w.target = "/nothing" }, want: "status 404"},
		"a long answer":       {client: func(w *workload, _ *certificate) { w.target, w.answer = "/1m", 1<<20 }},
		"another certificate": {client: func(_ *workload, c *certificate) { c.der = bytes.Clone(c.der[1:]) }, want: "another certificate than that of the run"},
		"TLS 1.2":             {server: func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, want: "handshake: "},
		"another group":       {server: func(c *tls.Config) { c.CurvePreferences = []tls.CurveID{tls.CurveP384} }, want: "handshake: "},
	} {
		for _, closes := range []bool{false, true} {
			t.Run(name, func(t *testing.T) {
				server := func(*tls.Config) {}
				if c.server != nil {
					server = c.server
				}
				port, cert := secureBackend(t, server)
				w := get
				if c.client != nil {
					c.client(&w, &cert)
				}
				if closes {
					w.fields = []string{"Connection: close"}
				}
				l, err := newLoader(port, w.request(), w.answer, 4, closes, cert.client())
				if err != nil {
					t.Fatal(err)
				}
				defer l.close()
				for range 2 { // connections are kept between runs
					err = l.run(t.Context(), 50*time.Millisecond, 0).check()
					if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
						t.Errorf("closes %v: %v, want %q", closes, err, c.want)
					}
				}
			})
		}
	}
}

// Neither a server that closes within the handshake nor one that says nothing keeps the load for ever.
func TestLoaderHandshakesThatEnd(t *testing.T) {
	requireCores(t)
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = c.Read(make([]byte, 1))
			c.Close()
		}
	}()
	cert, err := makeCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLoader(portOf(t, ln.Addr().String()), workloads[0].request(), 64, 2, true, cert.client())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if err := l.run(t.Context(), 50*time.Millisecond, 0).check(); err == nil || !strings.Contains(err.Error(), "handshake: ") {
		t.Error(err)
	}
}

// A server may end a connection with the answer and without a word (close_notify), and epoll tells of both but once.
func TestLoaderSeesTheEndThatComesWithTheAnswer(t *testing.T) {
	requireCores(t)
	cert, err := makeCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(cert.Cert, cert.Key)
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				secure := tls.Server(c, &tls.Config{Certificates: []tls.Certificate{pair}})
				if _, err := secure.Read(make([]byte, 1024)); err == nil {
					_, _ = io.WriteString(secure, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
				}
			}()
		}
	}()
	l, err := newLoader(portOf(t, ln.Addr().String()), workloads[0].request(), 2, 4, true, cert.client())
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	if f := l.run(t.Context(), 300*time.Millisecond, 0); f.check() != nil || f.took > answerTimeout {
		t.Errorf("%v after %v", f.check(), f.took)
	}
}

// Every request of the handshake row has a full handshake of its own, and the load offers nothing that tickets could be for.
func TestHandshakesAreFull(t *testing.T) {
	requireCores(t)
	const pskModes, preShared = 45, 41 // RFC 8446 §4.2
	var mu sync.Mutex
	var handshakes, resumed int
	var offered []uint16
	port, cert := secureBackend(t, func(c *tls.Config) {
		c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			mu.Lock()
			defer mu.Unlock()
			offered = hello.Extensions
			return nil, nil
		}
		c.VerifyConnection = func(s tls.ConnectionState) error {
			mu.Lock()
			defer mu.Unlock()
			handshakes++
			if s.DidResume {
				resumed++
			}
			return nil
		}
	})
	w := workloads[0]
	w.fields = []string{"Connection: close"}
	l, err := newLoader(port, w.request(), w.answer, 4, true, cert.client())
	if err != nil {
		t.Fatal(err)
	}
	f := l.run(t.Context(), 500*time.Millisecond, 100)
	l.close()
	mu.Lock()
	defer mu.Unlock()
	if err := f.check(); err != nil || f.requests != 50 || handshakes != 50 || resumed != 0 {
		t.Errorf("%d requests, %d handshakes, %d resumed, %v", f.requests, handshakes, resumed, err)
	}
	if len(offered) == 0 || slices.Contains(offered, pskModes) || slices.Contains(offered, preShared) {
		t.Errorf("extensions %v", offered)
	}
}

func TestResumedSessionsAreRefused(t *testing.T) {
	c, err := makeCertificate(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(c.der)
	if err != nil {
		t.Fatal(err)
	}
	right := tls.ConnectionState{PeerCertificates: []*x509.Certificate{leaf}, CipherSuite: tls.TLS_AES_128_GCM_SHA256}
	for name, change := range map[string]func(*tls.ConnectionState){
		"resumed":        func(s *tls.ConnectionState) { s.DidResume = true },
		"no certificate": func(s *tls.ConnectionState) { s.PeerCertificates = nil },
		"another cipher": func(s *tls.ConnectionState) { s.CipherSuite = tls.TLS_CHACHA20_POLY1305_SHA256 },
	} {
		s := right
		change(&s)
		if c.client().VerifyConnection(right) != nil || c.client().VerifyConnection(s) == nil {
			t.Error(name)
		}
	}
}

// ticketCounter counts what a server would have resumed.
type ticketCounter struct{ tickets atomic.Int64 }

func (c *ticketCounter) Get(string) (*tls.ClientSessionState, bool) { return nil, false }
func (c *ticketCounter) Put(_ string, s *tls.ClientSessionState) {
	if s != nil {
		c.tickets.Add(1)
	}
}

// Go makes no tickets for the load, which does not offer to take any. OpenSSL makes them all the same, unless it is told not to.
func TestOpenSSLMakesNoTickets(t *testing.T) {
	for _, name := range []string{"nginx", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			program := requirePeer(t, name)
			b := &peersBench{duration: 100 * time.Millisecond, dir: t.TempDir(), cores: requireCores(t), programs: map[string]string{name: program},
				http2Directive: name == "nginx" && hasHTTP2Directive(t.Context(), program)}
			var err error
			if b.certificate, err = makeCertificate(b.dir); err != nil {
				t.Fatal(err)
			}
			if b.backend, err = startBackend(); err != nil {
				t.Fatal(err)
			}
			defer b.backend.stop()
			proc, err := b.start(t.Context(), *findPeer(name), workload{tls: true})
			if err != nil {
				t.Fatal(err)
			}
			defer proc.stop()
			counter := &ticketCounter{}
			config := b.certificate.client()
			config.ClientSessionCache, config.ServerName = counter, "www.example.com"
			conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(proc.front)), config)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			w := workload{target: "/64", fields: []string{"Connection: close"}}
			if _, err := conn.Write(w.request()); err != nil {
				t.Fatal(err)
			}
			// A ticket comes before the answer.
			if answer, err := io.ReadAll(conn); err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200")) {
				t.Errorf("%q, %v", answer, err)
			}
			if n := counter.tickets.Load(); n != 0 {
				t.Errorf("%d tickets", n)
			}
		})
	}
}

// installed are the peers of which one round can be measured here, nginx among them.
func installed(t *testing.T) string {
	t.Helper()
	requirePeer(t, "nginx")
	requireCores(t)
	names := "nginx,sluice"
	for _, name := range []string{"haproxy", "caddy"} {
		if _, err := findPeer(name).find(); err == nil {
			names += "," + name
		}
	}
	return names
}

// checkRows wants a row of every peer for every workload, with figures for all of positive.
func checkRows(t *testing.T, peers, workloads string, positive ...string) {
	t.Helper()
	var out, log bytes.Buffer
	if code := peersCommand(t.Context(), []string{"--peers", peers, "--workloads", workloads, "--rounds", "1", "--duration", "100ms", "--json"}, &out, &log); code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), log.String())
	}
	var doc struct{ Rows []map[string]any }
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if want := len(strings.Split(peers, ",")) * len(strings.Split(workloads, ",")); len(doc.Rows) != want {
		t.Fatalf("%d instead of %d rows: %s", len(doc.Rows), want, out.String())
	}
	for _, r := range doc.Rows {
		for _, key := range positive {
			if v, ok := r[key].(float64); !ok || v <= 0 {
				t.Errorf("%v %v: %s is %v", r["workload"], r["peer"], key, r[key])
			}
		}
	}
}

func TestPeersMeasuresTLS(t *testing.T) {
	checkRows(t, installed(t), "tls,tls-handshake", "cpu_us", "ratio", "rps", "busy", "p50_ms", "p99_ms", "rss_kib")
}
