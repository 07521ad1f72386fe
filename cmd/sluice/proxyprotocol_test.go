package main

import (
	"bytes"
	"crypto/sha256"
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
)

// startPeer runs a program of somebody else's on this configuration until the test ends. Without it the test is skipped, or fails where
// SLUICE_TEST_REQUIRE names it.
func startPeer(t *testing.T, name, config string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(name)
	requireEngine(t, name, err)
	file := filepath.Join(t.TempDir(), name+".conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	var said lockedBuffer
	cmd := exec.Command(path, append(args, file)...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", name, &said)
		}
	})
}

func startHAProxy(t *testing.T, config string) {
	t.Helper()
	startPeer(t, "haproxy", "global\n  maxconn 200\ndefaults\n  timeout connect 2s\n  timeout client 20s\n  timeout server 20s\n"+config, "-db", "-f")
}

func startNginx(t *testing.T, servers string) {
	t.Helper()
	dir := t.TempDir()
	startPeer(t, "nginx", fmt.Sprintf(`daemon off; master_process off; pid %[1]s/pid; error_log stderr;
events {}
http {
  access_log off; client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
%[2]s
}
`, dir, servers), "-p", dir, "-c")
}

// echoServer answers with who it is told the client is, and what it was sent.
func echoServer(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(echoClient))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func echoClient(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	fmt.Fprintf(w, "%s %s %s %x", r.Header.Get("X-Forwarded-For"), r.Header.Get("X-Forwarded-Port"), r.Host, sha256.Sum256(body))
}

// clientFrom is an HTTP client with one of this machine's addresses, and one connection at a time.
func clientFrom(t *testing.T, addr string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}).DialContext}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// post sends body, nil is a GET, and gives the answer.
func post(t *testing.T, c *http.Client, url string, body []byte) (code int, answer string) {
	t.Helper()
	method := "GET"
	if body != nil {
		method = "POST"
	}
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func portOf(addr string) string {
	_, port, _ := net.SplitHostPort(addr)
	return port
}

// letters are n bytes that no piece of could be taken for another.
func letters(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i>>16 ^ i>>8 ^ i)
	}
	return b
}

func toEcho(t *testing.T, top, upstream string) string {
	return fmt.Sprintf("%s\n[[route]]\nupstream = \"echo\"\n[upstream.echo]\nservers = [%q]\n%s\n", top, echoServer(t), upstream)
}

// HAProxy passes on bytes and tells who its client is, in both versions; its health checks are no clients.
func TestBehindHAProxy(t *testing.T) {
	s := start(t, toEcho(t, "proxy_protocol = [\"127.0.0.1\"]\nlog.level = \"debug\"", ""))
	front := freeAddrs(t, 2)
	target := strings.TrimPrefix(s.url, "http://")
	startHAProxy(t, fmt.Sprintf(`
listen one
  bind %s
  server s %s send-proxy check inter 100
listen two
  bind %s
  server s %s send-proxy-v2 proxy-v2-options unique-id,crc32c check inter 100
`, front[0], target, front[1], target))
	for _, addr := range front {
		within(t, 10*time.Second, "HAProxy listens", func() bool { _, _, err := fetch("http://" + addr); return err == nil })
		c := clientFrom(t, "127.0.0.9")
		for _, size := range []int{-1, 0, 10, 100_000, 3_000_000} {
			var body []byte
			if size >= 0 {
				body = letters(size)
			}
			want := fmt.Sprintf("127.0.0.9 %s %s %x", portOf(addr), addr, sha256.Sum256(body))
			if code, got := post(t, c, "http://"+addr+"/", body); code != 200 || got != want {
				t.Errorf("%d bytes: %d %q, not %q", size, code, got, want)
			}
		}
	}
	if strings.Contains(s.log.String(), "proxy_protocol") {
		t.Error("health checks are complained of")
	}
	within(t, 10*time.Second, "the access log names the client", func() bool { return strings.Contains(s.log.String(), `"client":"127.0.0.9"`) })
}

// What servers say about their clients when sluice tells them, one of each kind; POSTs are byte-exact and clients are not mixed up.
func TestBeforeHAProxyAndNginx(t *testing.T) {
	for _, peer := range []string{"haproxy", "nginx"} {
		for _, version := range []string{"v1", "v2"} {
			t.Run(peer+" "+version, func(t *testing.T) {
				addr := freeAddrs(t, 1)[0]
				if peer == "haproxy" {
					startHAProxy(t, fmt.Sprintf(`
frontend f
  mode http
  bind %s accept-proxy
  option http-buffer-request
  http-request return status 200 content-type text/plain lf-string "%%[src] %%[src_port] %%[dst_port] %%[req.body_len]"
`, addr))
				} else {
					startNginx(t, fmt.Sprintf(`server {
  listen %s proxy_protocol; set_real_ip_from 127.0.0.1; real_ip_header proxy_protocol;
  location / { return 200 "$remote_addr $proxy_protocol_port $proxy_protocol_server_port $content_length"; }
}`, addr))
				}
				s := start(t, fmt.Sprintf("[[route]]\nupstream = \"u\"\n[upstream.u]\nservers = [%q]\nproxy_protocol = %q\nhealth_check = { path = \"/\", interval = \"100ms\" }\n", addr, version))
				s.waitReplicas("u", 1, 10*time.Second)
				for i := range 3 {
					for _, from := range []string{"127.0.0.9", "127.0.0.10"} {
						c := clientFrom(t, from)
						body := letters(1000 * (i + 1))
						for range 3 { // on one connection
							code, got := post(t, c, s.url+"/", body)
							var src string
							var srcPort, dstPort, size int
							_, err := fmt.Sscanf(got, "%s %d %d %d", &src, &srcPort, &dstPort, &size)
							if err != nil || code != 200 || src != from || srcPort == 0 || fmt.Sprint(dstPort) != portOf(strings.TrimPrefix(s.url, "http://")) || size != len(body) {
								t.Errorf("from %s: %d %q", from, code, got)
							}
						}
					}
				}
			})
		}
	}
}

// A chain of two: the second tells a server behind it what the first has told.
func TestProxyProtocolThroughTwo(t *testing.T) {
	second := start(t, toEcho(t, `proxy_protocol = ["127.0.0.1"]`, ""))
	first := start(t, fmt.Sprintf("[[route]]\nupstream = \"u\"\n[upstream.u]\nservers = [%q]\nproxy_protocol = \"v2\"\n", strings.TrimPrefix(second.url, "http://")))
	first.waitReplicas("u", 1, 10*time.Second)
	body := letters(500_000)
	_, got := post(t, clientFrom(t, "127.0.0.9"), first.url+"/", body)
	host := strings.TrimPrefix(first.url, "http://")
	if want := fmt.Sprintf("127.0.0.9 %s %s %x", portOf(host), host, sha256.Sum256(body)); got != want {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestCurlTellsItsAddress(t *testing.T) {
	curl, err := exec.LookPath("curl")
	requireEngine(t, "curl", err)
	s := start(t, toEcho(t, `proxy_protocol = ["127.0.0.9"]`, ""))
	file := filepath.Join(t.TempDir(), "body")
	body := letters(300_000)
	if err := os.WriteFile(file, body, 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		out, err := exec.Command(curl, append([]string{"-sS", "--max-time", "20", "--data-binary", "@" + file}, args...)...).CombinedOutput()
		return string(out), err
	}
	host := strings.TrimPrefix(s.url, "http://")
	want := fmt.Sprintf("127.0.0.9 %s %s %x", portOf(host), host, sha256.Sum256(body))
	// Twice on one connection: the header comes once.
	if got, err := run("--interface", "127.0.0.9", "--haproxy-protocol", s.url+"/", s.url+"/"); err != nil || got != want+want {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := run("--interface", "127.0.0.9", s.url+"/"); err == nil {
		t.Errorf("without the header: %q", got)
	}
	if got, err := run("--interface", "127.0.0.10", "--haproxy-protocol", "-o", "/dev/null", "-w", "%{http_code}", s.url+"/"); !strings.Contains(got, "400") {
		t.Errorf("from an address that is not listed: %q, %v", got, err)
	}
	within(t, 5*time.Second, "the log tells of it", func() bool { return strings.Contains(s.log.String(), "proxy_protocol") })
}

// Slow headers hold up nobody and are cut at client.header_timeout; a reload changes who has to send one.
func TestSlowHeadersAndReload(t *testing.T) {
	s := start(t, toEcho(t, "proxy_protocol = [\"127.0.0.9\"]\nclient.header_timeout = \"500ms\"", ""))
	addr := strings.TrimPrefix(s.url, "http://")
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 9)}}
	began := time.Now()
	var slow []net.Conn
	for range 50 {
		nc, err := dialer.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_, _ = io.WriteString(nc, "PROXY TCP4")
		slow = append(slow, nc)
	}
	if code, _, err := fetch(s.url); err != nil || code != 200 || time.Since(began) > 400*time.Millisecond {
		t.Errorf("held up: %d, %v after %s", code, err, time.Since(began))
	}
	for _, nc := range slow {
		_ = nc.SetReadDeadline(began.Add(10 * time.Second))
		if _, err := nc.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Fatalf("not cut: %v", err)
		}
	}
	if d := time.Since(began); d < 450*time.Millisecond {
		t.Errorf("cut after %s", d)
	}
	s.edit("127.0.0.9", "127.0.0.10")
	if code, _, stderr := commandOutput(t, "reload", "-c", s.file); code != exitOK {
		t.Fatal(stderr)
	}
	if code, got := post(t, clientFrom(t, "127.0.0.9"), s.url, nil); code != 200 || !strings.HasPrefix(got, "127.0.0.9 ") {
		t.Errorf("after the reload: %d %s", code, got)
	}
}

func TestProxyProtocolIsExplained(t *testing.T) {
	s := prepare(t, "proxy_protocol = [\"10.0.0.0/8\", \"unix\"]\n[[route]]\nupstream = \"u\"\n[upstream.u]\nservers = [\"unix:/run/app.sock\"]\nproxy_protocol = \"v2\"\n[[route]]\nlisten = \"unix:/run/in.sock\"\nupstream = \"unix:/run/other.sock\"\n")
	if _, out, _ := commandOutput(t, "explain", "-c", s.file, "http://a/x"); !strings.Contains(out, "u, asked for /x, after a PROXY protocol header v2") {
		t.Errorf("%s", out)
	}
	if _, out, _ := commandOutput(t, "explain", "-c", s.file, "--listener", "unix:/run/in.sock", "http://a/x"); !strings.Contains(out, "upstream  unix:/run/other.sock, asked for /x\n") {
		t.Errorf("%s", out)
	}
	_, out, _ := commandOutput(t, "check", "-c", s.file, "-T")
	for _, want := range []string{`proxy_protocol = ["10.0.0.0/8", "unix"]`, `proxy_protocol = "v2"`, `servers = [{ addr = "unix:/run/app.sock", weight = 1 }]`, `listen = "unix:/run/in.sock"`} {
		if !strings.Contains(out, want) {
			t.Errorf("%s is not in\n%s", want, out)
		}
	}
}
