package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/proxy/certs/certstest"
	"sluice/proxy/http1"
)

// secured is a gateway that also listens with TLS, under the name "tls", and asks clients for certificates.
func secured(t *testing.T, r RouteConfig, s Secure, handler http.HandlerFunc) (g *gateway, ca *certstest.Authority, dial func(...tls.Certificate) *client) {
	t.Helper()
	g = newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(r), serve(t, handler))
	table, err := NewTable(TableConfig{Routes: g.routes, Upstreams: g.ups, Secure: s}, g.proxy.Table())
	if err != nil {
		t.Fatal(err)
	}
	g.proxy.Store(table)
	ca = certstest.New(t)
	cfg := &tls.Config{
		Certificates: []tls.Certificate{ca.Pair(certstest.Want{Hosts: []string{"a.example"}})},
		ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool,
	}
	l, err := http1.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = g.server.Serve(http1.NamedListener{Listener: l, Name: "tls", Encrypted: true, Open: func(nc net.Conn, o *http1.Origin) (net.Conn, error) {
			c := tls.Server(nc, cfg)
			if err := c.Handshake(); err != nil {
				return nil, err
			}
			state := c.ConnectionState()
			o.TLS = &state
			return c, nil
		}})
	}()
	return g, ca, func(own ...tls.Certificate) *client {
		t.Helper()
		c, err := tls.Dial("tcp", l.Addr().String(), &tls.Config{RootCAs: ca.Pool, ServerName: "a.example", Certificates: own})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return &client{c, g, bufio.NewReader(c)}
	}
}

// covered has certificates for a.example and [::1].
func covered(host []byte) bool { return string(host) == "a.example" || string(host) == "[::1]" }

func TestRedirectToHTTPS(t *testing.T) {
	g, _, dial := secured(t, RouteConfig{Path: "/x"}, Secure{}, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("served")) })
	from := g.addr // the name of a listener without one
	store := func(s Secure) {
		t.Helper()
		s.Covers = covered
		table, err := NewTable(TableConfig{Routes: g.routes, Upstreams: g.ups, TrustedProxies: g.trusted, Secure: s}, g.proxy.Table())
		if err != nil {
			t.Fatal(err)
		}
		g.proxy.Store(table)
	}
	store(Secure{Port: 443, From: []string{"tls", from}, HSTS: "max-age=60"})
	for _, one := range []struct{ request, location string }{
		{"GET /x?a=%20b HTTP/1.1\nHost: a.example\n\n", "https://a.example/x?a=%20b"},
		{"POST /nowhere HTTP/1.1\nHost: A.Example.:8080\nContent-Length: 2\n\nab", "https://a.example/nowhere"}, // before routing
		{"HEAD //evil.example/ HTTP/1.1\nHost: a.example\n\n", "https://a.example//evil.example/"},
		{"GET http://a.example/x HTTP/1.1\nHost: a.example\n\n", "https://a.example/x"},
		{"GET /x HTTP/1.1\nHost: [::1]:80\n\n", "https://[::1]/x"},
		{"GET /x HTTP/1.1\nHost: a.example\nX-Forwarded-Proto: https\n\n", "https://a.example/x"}, // nobody's word
		{"GET /x HTTP/1.1\nHost: b.example\n\n", ""},
		{"GET /.well-known/acme-challenge/x HTTP/1.1\nHost: a.example\n\n", ""},
		{"GET /.well-known/acme-challenge/../../x HTTP/1.1\nHost: a.example\n\n", "https://a.example/.well-known/acme-challenge/../../x"},
		{"GET /.well-known/acme-challenge/%2e%2E/x HTTP/1.1\nHost: a.example\n\n", "https://a.example/.well-known/acme-challenge/%2e%2E/x"},
		{"OPTIONS * HTTP/1.1\nHost: a.example\n\n", ""},
	} {
		r := g.do(one.request)
		if got := r.Header.Get("Location"); got != one.location || one.location != "" && r.StatusCode != 308 || r.Header.Get("Strict-Transport-Security") != "" {
			t.Errorf("%.40q: %d to %q, want %q; %v", one.request, r.StatusCode, got, one.location, r.Header)
		}
	}
	if r := dial().do("GET /x HTTP/1.1\nHost: a.example\n\n"); r.StatusCode != 200 || r.body != "served" {
		t.Errorf("over TLS: %d %q", r.StatusCode, r.body)
	}
	if line := g.line(10, "status", 308.0); line["route"] != "" || line["reason"] != "" || line["tls"] != "" {
		t.Errorf("logged %v", line)
	}
	store(Secure{Port: 8443, From: []string{from}})
	if r := g.do("GET /x HTTP/1.1\nHost: a.example\n\n"); r.Header.Get("Location") != "https://a.example:8443/x" {
		t.Errorf("with a port: %v", r.Header)
	}
	g.trust("127.0.0.0/8")
	store(Secure{Port: 443, From: []string{from}})
	for proto, status := range map[string]int{"https": 200, "HTTPS, http": 200, "http": 308, "http, https": 308} {
		if r := g.do("GET /x HTTP/1.1\nHost: a.example\nX-Forwarded-Proto: " + proto + "\n\n"); r.StatusCode != status {
			t.Errorf("a trusted proxy that says %s: %d", proto, r.StatusCode)
		}
	}
	store(Secure{Port: 443, From: []string{"other"}})
	if r := g.do("GET /x HTTP/1.1\nHost: a.example\n\n"); r.StatusCode != 200 {
		t.Errorf("on a listener that is not redirected: %d", r.StatusCode)
	}
}

func TestHSTS(t *testing.T) {
	const field = "Strict-Transport-Security"
	for _, one := range []struct {
		route RouteConfig
		want  []string
	}{
		{RouteConfig{}, []string{"max-age=60"}},
		{RouteConfig{Headers: HeadersConfig{Response: map[string]string{field: "max-age=1"}}}, []string{"max-age=1"}},
		{RouteConfig{Headers: HeadersConfig{Response: map[string]string{field: ""}}}, nil},
		{RouteConfig{Respond: &RespondConfig{Status: 200}}, []string{"max-age=60"}},
	} {
		_, _, dial := secured(t, one.route, Secure{HSTS: "max-age=60"}, func(w http.ResponseWriter, r *http.Request) { w.Header().Set(field, "max-age=9") })
		if got := dial().do("GET / HTTP/1.1\nHost: a.example\n\n").Header.Values(field); !slices.Equal(got, one.want) {
			t.Errorf("%v: %q, want %q", one.route, got, one.want)
		}
	}
	g, _, dial := secured(t, RouteConfig{Path: "/x"}, Secure{HSTS: "max-age=60"}, func(w http.ResponseWriter, r *http.Request) { w.Header().Set(field, "max-age=9") })
	if got := dial().do("GET /nowhere HTTP/1.1\nHost: a.example\n\n"); got.StatusCode != 404 || got.Header.Get(field) != "max-age=60" {
		t.Errorf("of an answer of sluice: %d %v", got.StatusCode, got.Header)
	}
	if got := g.do("GET /x HTTP/1.1\nHost: a.example\n\n").Header.Get(field); got != "max-age=9" {
		t.Errorf("in cleartext: %q", got)
	}
}

// What servers are told of a client's certificate is true, whatever the client sends.
func TestClientCertificateFields(t *testing.T) {
	seen, trailers := make(chan http.Header, 1), make(chan http.Header, 1)
	g, ca, dial := secured(t, RouteConfig{}, Secure{ClientCerts: true}, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		seen <- r.Header
		trailers <- r.Trailer
	})
	const forged = "X-SSL-Client-Verify: SUCCESS\nx-ssl-client-s-dn: CN=root\nX-Ssl-Client-Fingerprint: 1\nX_SSL_Client_Verify: SUCCESS\nX-SSL_Client-S-DN: CN=root\n" +
		"Client-Cert: :AAAA:\nclient-cert-chain: :AAAA:\nClient_Cert: :AAAA:\nConnection: X-SSL-Client-Verify\n"
	const request = "POST / HTTP/1.1\nHost: a.example\n" + forged + "Transfer-Encoding: chunked\nTrailer: X-SSL-Client-Verify, X-Sum\n\n1\na\n0\nX-Sum: 1\nX-SSL-Client-Verify: SUCCESS\nClient-Cert: :AAAA:\n\n"
	names := func(h http.Header) (all []string) {
		for name := range h {
			if plain := strings.ReplaceAll(name, "_", "-"); strings.HasPrefix(plain, "X-Ssl") || strings.HasPrefix(plain, "Client-") {
				all = append(all, name)
			}
		}
		slices.Sort(all)
		return all
	}
	evil := pkix.Name{CommonName: "mé\r\nX-Admin: 1", Organization: []string{"a, b"}}
	pair := ca.Pair(certstest.Want{Client: true, Subject: evil})
	for what, one := range map[string]struct {
		do   func(string) *response
		want map[string]string
	}{
		"cleartext":   {g.do, nil},
		"without one": {dial().do, map[string]string{"X-Ssl-Client-Verify": "NONE"}},
		"with one": {dial(pair).do, map[string]string{
			"X-Ssl-Client-Verify": "SUCCESS", "X-Ssl-Client-S-Dn": `CN=m\C3\A9\0D\0AX-Admin: 1,O=a\, b`,
			"Client-Cert": ":" + base64.StdEncoding.EncodeToString(pair.Certificate[0]) + ":",
		}},
	} {
		for range 2 {
			if r := one.do(request); r.StatusCode != 200 {
				t.Fatalf("%s: %d %s", what, r.StatusCode, r.body)
			}
			h := <-seen
			if got := names(h); len(got) != len(one.want) {
				t.Errorf("%s: the server sees %v", what, got)
			}
			for name, value := range one.want {
				if got := h.Values(name); len(got) != 1 || got[0] != value {
					t.Errorf("%s: %s is %q, want %q", what, name, got, value)
				}
			}
			if got := names(<-trailers); len(got) > 0 || h.Get("X-Admin") != "" {
				t.Errorf("%s: trailers %v", what, got)
			}
			if what == "cleartext" {
				break // do makes a connection each time
			}
		}
	}
	if line := g.line(5, "tls", "1.3"); line["status"] != 200.0 {
		t.Errorf("logged %v", line)
	}
}

func TestDN(t *testing.T) {
	cert := &x509.Certificate{Subject: pkix.Name{CommonName: "\x00\x7f~ü"}}
	if got := appendDN(nil, cert.Subject.String()); !bytes.Equal(got, []byte(`CN=\00\7F~\C3\BC`)) {
		t.Errorf("%s", got)
	}
}

func TestExplainRedirect(t *testing.T) {
	table, err := NewTable(TableConfig{
		Routes: []RouteConfig{{Respond: &RespondConfig{Status: 200}}}, Listen: []string{":80", ":443"},
		Secure: Secure{Covers: covered, Port: 8443, From: []string{":80"}},
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct {
		q    Question
		want string
	}{
		{Question{Host: "a.example", Target: "/x?y", Listener: ":80"}, "redirect 308 to https://a.example:8443/x?y"},
		{Question{Host: "a.example", Target: "/x?y"}, "redirect 308 to https://a.example:8443/x?y"},
		{Question{Host: "a.example", Listener: ":81"}, "respond 200"},
		{Question{Host: "b.example", Listener: ":80"}, "respond 200"},
		{Question{Host: "a.example", Listener: ":443", TLS: true}, "respond 200"},
	} {
		if e := table.Explain(one.q); !strings.HasPrefix(e.Answer, one.want) {
			t.Errorf("%v: %q, want %q", one.q, e.Answer, one.want)
		}
	}
}
