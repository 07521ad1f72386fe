package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fasthttp/websocket"

	"sluice/proxy/certs/certstest"
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
	within(t, 5*time.Second, "the access log", func() bool { return strings.Contains(s.log.String(), `"proto":"HTTP/1.1","tls":"1.2"`) })
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

// Certificates change, and so does the configuration, while clients come: nothing is lost.
func TestTLSReloadUnderLoadLosesNothing(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	})))
	var sent, failed atomic.Int64
	var mu sync.Mutex
	var first error
	stop := make(chan bool)
	var clients sync.WaitGroup
	for i := range 6 {
		client := s.client(&tls.Config{}, i%2 == 0)
		clients.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				body := fmt.Sprintf("%d of %d", n, i)
				sent.Add(1)
				resp, err := client.Post("https://a.example/", "text/plain", strings.NewReader(body))
				if err == nil {
					var got []byte
					got, err = io.ReadAll(resp.Body)
					resp.Body.Close()
					if err == nil && (resp.StatusCode != 200 || string(got) != body) {
						err = fmt.Errorf("%d %q", resp.StatusCode, got)
					}
				}
				if err != nil {
					failed.Add(1)
					mu.Lock()
					if first == nil {
						first = err
					}
					mu.Unlock()
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for i := range 10 {
		s.ca.Write(s.folder, "a", certstest.Want{Hosts: []string{"a.example", fmt.Sprintf("n%d.example", i)}})
		s.signal(syscall.SIGHUP)
		within(t, 10*time.Second, "the certificate in force", func() bool {
			resp, _, err := s.get(&tls.Config{}, fmt.Sprintf("https://n%d.example/", i))
			return err == nil && resp.StatusCode == 200
		})
	}
	within(t, 30*time.Second, "300 requests", func() bool { return sent.Load() >= 300 })
	close(stop)
	clients.Wait()
	if failed.Load() > 0 {
		t.Errorf("%d of %d failed: %v", failed.Load(), sent.Load(), first)
	}
	if n := s.status().Config.Generation; n < 11 {
		t.Errorf("generation %d", n)
	}
}

// Without a reload: a new file is in force within a few seconds, a broken one leaves the old, and a reload with it is refused.
func TestTLSFilesAreFollowed(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", toBackend(backend(t, func(http.ResponseWriter, *http.Request) {})))
	s.ca.Write(s.folder, "a", certstest.Want{Hosts: []string{"new.example"}})
	shows := func(host string) func() bool {
		return func() bool {
			_, _, err := s.get(&tls.Config{}, "https://"+host+"/")
			return err == nil
		}
	}
	within(t, 15*time.Second, "the new certificate", shows("new.example"))
	cert, _ := s.ca.Make(certstest.Want{Hosts: []string{"broken.example"}})
	if err := os.WriteFile(filepath.Join(s.folder, "a.crt"), cert, 0o600); err != nil {
		t.Fatal(err)
	}
	within(t, 15*time.Second, "told in the metrics", func() bool { return strings.Contains(s.metrics(), "sluice_certificate_files_broken 1") })
	if !strings.Contains(s.log.String(), "a certificate that has changed cannot be used, the old one stays") {
		t.Error("it is not in the log")
	}
	if code, _, errs := commandOutput(t, "reload", "-c", s.file); code != exitConfig || !strings.Contains(errs, "a.key: the key does not belong to the certificate") || !strings.Contains(errs, "config.toml:") {
		t.Errorf("reload: %d %s", code, errs)
	}
	if !strings.Contains(s.metrics(), "sluice_config_reload_success 0") || !shows("new.example")() {
		t.Error("the old certificate does not serve on")
	}
}

// An address changes from cleartext to TLS and back by a reload, and the TLS listener goes away.
func TestListenerBeginsToSpeakTLS(t *testing.T) {
	t.Parallel()
	extra := freeAddrs(t, 1)[0]
	s := startTLS(t, "redirect = false", "[[route]]\nrespond = \"all\"\n[[route]]\nlisten = \""+extra+"\"\nrespond = \"extra\"\n")
	secure := *s
	secure.tls = extra
	over := func(want string) func() bool {
		return func() bool {
			_, body, err := secure.get(&tls.Config{}, "https://a.example/")
			return err == nil && body == want
		}
	}
	clear := func() bool {
		_, body, err := fetch("http://" + extra + "/")
		return err == nil && body == "extra"
	}
	reload := func() {
		t.Helper()
		if code, _, errs := commandOutput(t, "reload", "-c", s.file); code != exitOK {
			t.Fatal(errs)
		}
	}
	if !clear() {
		t.Fatal("the address of a route is not served")
	}
	both, alone := fmt.Sprintf("listen = [%q, %q]\ncertificates", s.tls, extra), fmt.Sprintf("listen = [%q]\ncertificates", s.tls)
	s.edit(alone, both)
	reload()
	if !over("extra")() || clear() {
		t.Error("the address of a route does not speak TLS")
	}
	s.edit(both, alone)
	reload()
	if over("extra")() || !clear() {
		t.Error("it still speaks TLS")
	}
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	before, _, _ := strings.Cut(string(text), "[tls]")
	s.write(before + "[[route]]\nrespond = \"all\"\n")
	reload()
	if _, err := net.DialTimeout("tcp", s.tls, time.Second); err == nil {
		t.Error("the TLS listener is still open")
	}
}

func TestTLSUpgradeLosesNothing(t *testing.T) {
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) })))
	stop := make(chan bool)
	var sent, failed atomic.Int64
	var clients sync.WaitGroup
	for i := range 4 {
		client := s.client(&tls.Config{}, i%2 == 0)
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				sent.Add(1)
				resp, err := client.Post("https://a.example/", "text/plain", strings.NewReader("x"))
				if err == nil {
					_, err = io.ReadAll(resp.Body)
					resp.Body.Close()
				}
				if err != nil || resp.StatusCode != 200 {
					failed.Add(1)
					t.Errorf("%v", err)
					return
				}
			}
		})
	}
	old, pid := s.cmd.Process.Pid, 0
	s.signal(syscall.SIGUSR2)
	within(t, 20*time.Second, "a successor", func() bool {
		text, err := os.ReadFile(strings.TrimSuffix(s.file, "config.toml") + "sluice.pid")
		if err != nil {
			return false
		}
		_, err = fmt.Sscanf(string(text), "%d", &pid)
		return err == nil && pid != old
	})
	within(t, 20*time.Second, "the old one ends", func() bool { return syscall.Kill(old, 0) != nil || isZombie(old) })
	successor, err := os.FindProcess(pid)
	if err != nil {
		t.Fatal(err)
	}
	s.cmd.Process = successor
	s.waitAdmin()
	after := sent.Load()
	within(t, 20*time.Second, "requests to the successor", func() bool { return sent.Load() > after+50 || failed.Load() > 0 })
	close(stop)
	clients.Wait()
	if failed.Load() > 0 || !strings.Contains(s.metrics(), `sluice_tls_handshakes_total{result="ok",version="1.3"}`) {
		t.Errorf("%d of %d failed", failed.Load(), sent.Load())
	}
	s.signal(syscall.SIGTERM)
	within(t, 15*time.Second, "the successor ends", func() bool { return isZombie(pid) || syscall.Kill(pid, 0) != nil })
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

func TestTLSBodies(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		if n, err := io.Copy(sum, r.Body); err != nil || r.ContentLength >= 0 && n != r.ContentLength {
			t.Errorf("%d bytes came, %v", n, err)
		}
		w.Header().Set("X-Sum", fmt.Sprintf("%x", sum.Sum(nil)))
		random := rand.New(rand.NewSource(7))
		if r.URL.Path == "/sized" {
			w.Header().Set("Content-Length", fmt.Sprint(30<<20))
		}
		_, _ = io.CopyN(w, random, 30<<20)
	})))
	up := make([]byte, 20<<20)
	_, _ = rand.New(rand.NewSource(3)).Read(up)
	sum := sha256.New()
	_, _ = io.CopyN(sum, rand.New(rand.NewSource(7)), 30<<20)
	client := s.client(&tls.Config{}, false)
	for _, path := range []string{"/sized", "/chunked", "/sized"} {
		var body io.Reader = bytes.NewReader(up)
		if path == "/chunked" {
			body = io.MultiReader(body) // of no known length
		}
		resp, err := client.Post("https://a.example"+path, "application/octet-stream", body)
		if err != nil {
			t.Fatal(err)
		}
		got := sha256.New()
		n, err := io.Copy(got, resp.Body)
		resp.Body.Close()
		if err != nil || n != 30<<20 || !bytes.Equal(got.Sum(nil), sum.Sum(nil)) || resp.Header.Get("X-Sum") != fmt.Sprintf("%x", sha256.Sum256(up)) {
			t.Errorf("%s: %d bytes, %v, %v", path, n, err, resp.Header)
		}
	}
}

func TestTLSWebSocket(t *testing.T) {
	t.Parallel()
	up := websocket.Upgrader{}
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			return
		}
		defer c.Close()
		for {
			kind, p, err := c.ReadMessage()
			if err != nil || c.WriteMessage(kind, p) != nil {
				return
			}
		}
	})))
	dialer := websocket.Dialer{
		TLSClientConfig: &tls.Config{RootCAs: s.ca.Pool},
		NetDial:         func(network, _ string) (net.Conn, error) { return net.Dial(network, s.tls) },
	}
	c, _, err := dialer.Dial("wss://a.example/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(30 * time.Second))
	for _, size := range []int{0, 1, 100, 100 << 10, 1 << 20} {
		sent := bytes.Repeat([]byte("x"), size)
		if err := c.WriteMessage(websocket.BinaryMessage, sent); err != nil {
			t.Fatal(err)
		}
		if _, got, err := c.ReadMessage(); err != nil || !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes of %d, %v", len(got), size, err)
		}
	}
	if err := c.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(4321, "bye")); err != nil {
		t.Fatal(err)
	}
	if _, _, err := c.ReadMessage(); !websocket.IsCloseError(err, 4321) {
		t.Errorf("%v", err)
	}
}

// A client that leaves over TLS, in order or not, frees its slot at once.
func TestTLSClientThatLeaves(t *testing.T) {
	t.Parallel()
	entered, left := make(chan bool), make(chan time.Time, 1)
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- true
		<-r.Context().Done()
		left <- time.Now()
	})))
	for how, leave := range map[string]func(*tls.Conn){
		"close_notify and FIN": func(c *tls.Conn) { c.Close() },
		"FIN":                  func(c *tls.Conn) { c.NetConn().Close() },
		"reset": func(c *tls.Conn) {
			_ = c.NetConn().(*net.TCPConn).SetLinger(0)
			c.NetConn().Close()
		},
	} {
		c := s.dial()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		<-entered
		if n := s.upstream("u").InFlight; n != 1 {
			t.Errorf("%d in flight", n)
		}
		begun := time.Now()
		leave(c)
		select {
		case at := <-left:
			if took := at.Sub(begun); took > 250*time.Millisecond {
				t.Errorf("%s: the server was left after %s", how, took)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s: the server still works", how)
		}
		within(t, time.Second, "the slot free", func() bool { return s.upstream("u").InFlight == 0 })
	}
}

// A kept connection serves requests in a row, pipelined ones too, and says when it ends.
func TestTLSKeepAlive(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", "[[route]]\nrespond = \"all\"\n")
	c := s.dial()
	r := bufio.NewReader(c)
	const get = "GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
	for _, n := range []int{1, 3, 1} {
		if _, err := io.WriteString(c, strings.Repeat(get, n)); err != nil {
			t.Fatal(err)
		}
		for range n {
			resp, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "all" {
				t.Fatalf("%q, %v", body, err)
			}
		}
	}
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(r); err != nil || !strings.HasSuffix(string(rest), "all") { // an end without close_notify would be an error
		t.Errorf("%q, %v", rest, err)
	}
}
