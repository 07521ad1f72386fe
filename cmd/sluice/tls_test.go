package main

import (
	"context"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/config"
	"sluice/proxy"
	"sluice/proxy/certs/certstest"
	"sluice/proxy/https"
)

// secured is a sluice with a TLS listener.
type secured struct {
	*running
	ca     *certstest.Authority
	folder string // of the certificates
	tls    string // the TLS listener
}

// startTLS runs sluice with a certificate a (a.example, *.a.example) and [tls] as it follows from table, in which DIR is the folder.
func startTLS(t *testing.T, table, rest string) *secured {
	t.Helper()
	s := &secured{ca: certstest.New(t), folder: t.TempDir(), tls: freeAddrs(t, 1)[0]}
	s.ca.Write(s.folder, "a", certstest.Want{Hosts: []string{"a.example", "*.a.example"}})
	if err := os.WriteFile(filepath.Join(s.folder, "ca.pem"), s.ca.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table, "certificates") {
		table = "certificates = [{ cert = \"DIR/a.crt\", key = \"DIR/a.key\" }]\n" + table
	}
	table = fmt.Sprintf("\n[tls]\nlisten = [%q]\n%s\n", s.tls, strings.ReplaceAll(table, "DIR", s.folder))
	s.running = start(t, table+rest)
	return s
}

// client speaks with the TLS listener, whatever the host of the URL. Each of its requests has a connection of its own with once.
func (s *secured) client(cfg *tls.Config, once bool) *http.Client {
	cfg = cfg.Clone()
	cfg.RootCAs = s.ca.Pool
	dialer := net.Dialer{Timeout: 10 * time.Second}
	return &http.Client{Timeout: 60 * time.Second, Transport: &http.Transport{
		TLSClientConfig: cfg, DisableKeepAlives: once, MaxIdleConnsPerHost: 100,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, network, s.tls)
		},
	}}
}

// get reads a URL with a new connection.
func (s *secured) get(cfg *tls.Config, url string) (*http.Response, string, error) {
	resp, err := s.client(cfg, true).Get(url)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// dial is a raw connection to the TLS listener.
func (s *secured) dial() *tls.Conn {
	s.t.Helper()
	c, err := tls.Dial("tcp", s.tls, &tls.Config{RootCAs: s.ca.Pool, ServerName: "a.example"})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	return c
}

// backend serves on an address of its own.
func backend(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handler)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// toBackend is a route for all to a server.
func toBackend(addr string) string {
	return fmt.Sprintf("[[route]]\nupstream = \"u\"\n[upstream.u]\nservers = [%q]\n", addr)
}

// curl runs curl, for which every host is the listener at.
func (s *secured) curl(at string, args ...string) (string, error) {
	s.t.Helper()
	path, err := exec.LookPath("curl")
	if err != nil {
		s.t.Skip("no curl on this machine")
	}
	_, port, _ := net.SplitHostPort(at)
	out, err := exec.Command(path, append([]string{
		"-sS", "-m", "20", "--cacert", filepath.Join(s.folder, "ca.pem"), "--connect-to", "::127.0.0.1:" + port,
	}, args...)...).CombinedOutput()
	return string(out), err
}

// metrics is the text of /metrics.
func (s *secured) metrics() string {
	s.t.Helper()
	_, text, err := fetch(s.admin + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	return text
}

func TestTLSListener(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 10)
	s := startTLS(t, "certificates = [{ cert = \"DIR/a.crt\", key = \"DIR/a.key\" }]\nhsts = \"1h\"\nredirect_port = 4443\n",
		toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) { seen <- r.Header })))
	resp, _, err := s.get(&tls.Config{}, "https://x.a.example/path")
	if err != nil || resp.StatusCode != 200 || resp.TLS.Version != tls.VersionTLS13 || resp.Header.Get("Strict-Transport-Security") != "max-age=3600" {
		t.Fatalf("%v, %v", resp, err)
	}
	_, port, _ := net.SplitHostPort(s.tls)
	if h := <-seen; h.Get("X-Forwarded-Proto") != "https" || h.Get("X-Forwarded-Port") != port || h.Get("X-Ssl-Client-Verify") != "" {
		t.Errorf("the server sees %v", h)
	}
	if out, err := s.curl(s.tls, "--tls-max", "1.2", "-w", "%{http_code} %{ssl_verify_result}", "https://a.example/"); err != nil || out != "200 0" {
		t.Errorf("curl with TLS 1.2: %s, %v", out, err)
	}
	if out, err := s.curl(s.tls, "--tls-max", "1.1", "https://a.example/"); err == nil {
		t.Errorf("curl with TLS 1.1: %s", out)
	}
	// From cleartext, the body of a POST left behind, by curl, which goes where it is told.
	_, clear, _ := strings.Cut(s.url, "//")
	if out, err := s.curl(clear, "-d", "body", "-o", "/dev/null", "-w", "%{http_code} %{redirect_url}", "http://a.example/path?q"); err != nil || out != "308 https://a.example:4443/path?q" {
		t.Errorf("the redirect: %s, %v", out, err)
	}
	if out, err := s.curl(clear, "-o", "/dev/null", "-w", "%{http_code}", "http://b.example/path"); err != nil || out != "200" {
		t.Errorf("a host without a certificate: %s, %v", out, err)
	}
	if out, err := s.curl(s.tls, "-w", "%{http_code}", "http://a.example/"); err != nil || out != "bad_request: this port speaks TLS: use https\n400" {
		t.Errorf("cleartext to the TLS listener: %s, %v", out, err)
	}
	within(t, 5*time.Second, "the access log", func() bool { return strings.Contains(s.log.String(), `"proto":"HTTP/2.0","tls":"1.2"`) })
	text := s.metrics()
	for _, want := range []string{
		`sluice_tls_handshakes_total{result="ok",version="1.3"} 1`, `sluice_tls_handshakes_total{result="ok",version="1.2"} 1`,
		`sluice_tls_handshakes_total{result="version",version=""} 1`, `sluice_tls_handshakes_total{result="cleartext",version=""} 1`,
		`sluice_certificate_expiry_seconds{host="*.a.example"} 8`, `sluice_certificate_files_broken 0`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the metrics have no %s", want)
		}
	}
	for url, wants := range map[string][]string{
		"https://x.a.example/p": {"tls       certificate " + s.folder + "/a.crt (ECDSA) for *.a.example a.example, until 20", "tls       TLS 1.2 or later, ", "http/1.1", "route     "},
		"https://b.example/p":   {"no certificate is for b.example", "route     "},
		"http://a.example/p?q":  {"answer    redirect 308 to https://a.example:4443/p?q"},
		"http://b.example/":     {"route     "},
	} {
		for _, args := range [][]string{{"explain", url, "--admin", strings.TrimPrefix(s.admin, "http://")}, {"explain", url, "-c", s.file, "--admin", s.tls}} {
			code, out, errs := commandOutput(t, args...)
			if strings.HasSuffix(args[len(args)-1], s.tls) { // nobody answers there: the file is read
				code, out, errs = commandOutput(t, "explain", url, "-c", offline(t, s.running))
			}
			for _, want := range wants {
				if code != exitOK || !strings.Contains(out, want) {
					t.Errorf("%v says %d\n%s%s\nwant %q", args, code, out, errs, want)
				}
			}
		}
	}
	if code, out, _ := commandOutput(t, "check", "-T", "-c", s.file); code != exitOK || !strings.Contains(out, "[tls]\n") || !strings.Contains(out, `hsts = { max_age = "1h" }`) {
		t.Errorf("check -T:\n%s", out)
	}
}

// offline is the configuration of s with an admin address where nobody answers.
func offline(t *testing.T, s *running) string {
	t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(file, []byte(strings.Replace(string(text), strings.TrimPrefix(s.admin, "http://"), freeAddrs(t, 1)[0], 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTLSClientCertificates(t *testing.T) {
	t.Parallel()
	seen := make(chan http.Header, 10)
	s := startTLS(t, "client_ca = \"DIR/ca.pem\"\nmin_version = \"1.3\"\n", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) { seen <- r.Header })))
	if _, _, err := s.get(&tls.Config{}, "https://a.example/"); err == nil {
		t.Error("let in without a certificate")
	}
	s.ca.Write(s.folder, "me", certstest.Want{Client: true, Subject: pkix.Name{CommonName: "me", Organization: []string{"we"}}})
	if out, err := s.curl(s.tls, "--cert", s.folder+"/me.crt", "--key", s.folder+"/me.key", "-H", "X-SSL-Client-S-DN: CN=root", "-H", "X_SSL_Client_S_DN: CN=root",
		"-w", "%{http_code}", "https://a.example/"); err != nil || out != "200" {
		t.Errorf("with one: %s, %v", out, err)
	}
	h := <-seen
	if h.Get("X-SSL-Client-Verify") != "SUCCESS" || strings.Join(h["X-Ssl-Client-S-Dn"], "|") != "CN=me,O=we" || h["X_ssl_client_s_dn"] != nil || h.Get("Client-Cert") == "" {
		t.Errorf("the server sees %v", h)
	}
	if out, err := s.curl(s.tls, "--tls-max", "1.2", "--cert", s.folder+"/me.crt", "--key", s.folder+"/me.key", "https://a.example/"); err == nil {
		t.Errorf("TLS 1.2: %s", out)
	}
	within(t, 5*time.Second, "the handshake counted", func() bool {
		return strings.Contains(s.metrics(), `sluice_tls_handshakes_total{result="client_certificate",version=""} 1`)
	})
}

// A client that begins a handshake and goes no further is cut after 5 s.
func TestTLSHandshakeDeadline(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", "[[route]]\nrespond = \"all\"\n")
	c, err := net.Dial("tcp", s.tls)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	begun := time.Now()
	_ = c.SetDeadline(begun.Add(30 * time.Second))
	if _, err := c.Write([]byte{22, 3, 1}); err != nil {
		t.Fatal(err)
	}
	if n, err := c.Read(make([]byte, 100)); n > 0 || err != io.EOF && !strings.Contains(err.Error(), "reset") {
		t.Errorf("%d bytes, %v", n, err)
	}
	if took := time.Since(begun); took < 4*time.Second || took > 8*time.Second {
		t.Errorf("after %s", took)
	}
	within(t, 5*time.Second, "counted", func() bool { return strings.Contains(s.metrics(), `result="timeout",version=""} 1`) })
}

// A URL with a port where nobody listens is told of as such.
func TestExplainTLSOfAnotherPort(t *testing.T) {
	cfg := &config.Config{TLS: &https.Config{Listen: []string{":443"}}}
	q := proxy.Question{TLS: true, Host: "a.example:1234"}
	q.Listener = listenerOf(cfg, q)
	if got := explainTLS(cfg, nil, q); len(got) != 1 || got[0] != "no listener has the port of a.example:1234" {
		t.Errorf("%q", got)
	}
}
