package main

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"net/http"
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
)

// socketFolder is a folder whose sockets have short paths.
func socketFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// unixServer serves on a Unix socket.
func unixServer(t *testing.T, path string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(func() { _ = s.Close() })
}

// overUnix is an HTTP client of a Unix socket.
func overUnix(t *testing.T, path string) *http.Client {
	t.Helper()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 20 * time.Second}
}

// unixBoth is a configuration with a Unix socket on both sides.
func unixBoth(t *testing.T, dir, extra string) *running {
	t.Helper()
	s := prepare(t, fmt.Sprintf("[[route]]\nupstream = \"app\"\n[upstream.app]\nservers = [%q]\nhealth_check = { path = \"/healthz\", interval = \"100ms\" }\n%s", "unix:"+dir+"/app", extra))
	s.edit("listen = [", fmt.Sprintf("listen = [%q, ", "unix:"+dir+"/front"))
	return s
}

func TestUnixSocketsOnBothSides(t *testing.T) {
	dir := socketFolder(t)
	up := websocket.Upgrader{}
	unixServer(t, dir+"/app", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/ws" {
			echoClient(w, r)
			return
		}
		c, err := up.Upgrade(w, r, nil)
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		for {
			kind, message, err := c.ReadMessage()
			if err != nil || c.WriteMessage(kind, message) != nil {
				return
			}
		}
	}))
	s := unixBoth(t, dir, "")
	s.launch()
	s.waitReady()
	s.waitReplicas("app", 1, 10*time.Second)

	c := overUnix(t, dir+"/front")
	for _, size := range []int{0, 10, 100_000, 3_000_000} {
		body := letters(size)
		if code, got := post(t, c, "http://a.test/", body); code != 200 || got != fmt.Sprintf("unix:  a.test %x", sha256.Sum256(body)) {
			t.Errorf("%d bytes: %d %q", size, code, got)
		}
	}
	if code, got := post(t, http.DefaultClient, s.url, nil); code != 200 || !strings.HasPrefix(got, "127.0.0.1 ") {
		t.Errorf("over TCP: %d %q", code, got)
	}

	dialer := websocket.Dialer{NetDial: func(_, _ string) (net.Conn, error) { return net.Dial("unix", dir+"/front") }}
	ws, _, err := dialer.Dial("ws://a.test/ws", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	message := letters(100_000)
	for range 3 {
		_ = ws.SetReadDeadline(time.Now().Add(10 * time.Second))
		if err := ws.WriteMessage(websocket.BinaryMessage, message); err != nil {
			t.Fatal(err)
		}
		if _, got, err := ws.ReadMessage(); err != nil || string(got) != string(message) {
			t.Fatalf("%d bytes, %v", len(got), err)
		}
	}

	curl, err := exec.LookPath("curl")
	requireEngine(t, "curl", err)
	file := filepath.Join(dir, "body")
	if err := os.WriteFile(file, message, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(curl, "-sSv", "--unix-socket", dir+"/front", "--data-binary", "@"+file, "http://b.test/", "http://b.test/").CombinedOutput()
	if answer := fmt.Sprintf("unix:  b.test %x", sha256.Sum256(message)); err != nil || strings.Count(string(out), answer) != 2 || !strings.Contains(string(out), "Re-using existing connection") {
		t.Errorf("%v: %s", err, out)
	}
	if server := s.upstream("app").Servers[0]; server.ID != "unix:"+dir+"/app" {
		t.Errorf("%+v", server)
	}
	if code, out, stderr := commandOutput(t, "drain", "-c", s.file, "app/unix:"+dir+"/app"); code != exitOK || !strings.Contains(out, "drain") {
		t.Errorf("drain: %d %s%s", code, out, stderr)
	}
	within(t, 10*time.Second, "the access log says unix:", func() bool { return strings.Contains(s.log.String(), `"client":"unix:"`) })
}

// The short form of a route, an upstream that is named as its socket.
func TestUnixSocketAsUpstreamOfARoute(t *testing.T) {
	dir := socketFolder(t)
	unixServer(t, dir+"/app", http.HandlerFunc(echoClient))
	s := start(t, fmt.Sprintf("[[route]]\nupstream = %q\n", "unix:"+dir+"/app"))
	name := "unix:" + dir + "/app"
	s.waitReplicas(name, 1, 10*time.Second)
	if code, got := post(t, http.DefaultClient, s.url, []byte("x")); code != 200 || !strings.HasPrefix(got, "127.0.0.1 ") {
		t.Errorf("%d %q", code, got)
	}
	if code, _, stderr := commandOutput(t, "drain", "-c", s.file, name+"/"+name); code != exitOK {
		t.Errorf("drain: %s", stderr)
	}
	_, metrics, err := fetch(s.admin + "/metrics")
	if err != nil || !strings.Contains(metrics, fmt.Sprintf("upstream=%q", name)) {
		t.Errorf("%v: no metrics of it", err)
	}
}

// nginx behind Unix sockets, with and without the header.
func TestNginxOverUnixSocket(t *testing.T) {
	dir := socketFolder(t)
	_, err := exec.LookPath("nginx")
	requireEngine(t, "nginx", err)
	startNginx(t, fmt.Sprintf(`server { listen unix:%[1]s/plain; location / { return 200 "$host $http_x_forwarded_for $content_length"; } }
server { listen unix:%[1]s/told proxy_protocol; location / { return 200 "$host $proxy_protocol_addr $content_length"; } }`, dir))
	s := start(t, fmt.Sprintf(`
[[route]]
path = "/plain"
upstream = "plain"
[[route]]
path = "/told"
upstream = "told"
[upstream.plain]
servers = [%q]
health_check = { path = "/", interval = "100ms" }
[upstream.told]
servers = [%q]
proxy_protocol = "v2"
health_check = { path = "/", interval = "100ms" }
`, "unix:"+dir+"/plain", "unix:"+dir+"/told"))
	s.waitReplicas("plain", 1, 10*time.Second)
	s.waitReplicas("told", 1, 10*time.Second)
	for range 2 {
		for _, path := range []string{"/plain", "/told"} {
			if code, got := post(t, clientFrom(t, "127.0.0.9"), s.url+path, letters(100_000)); code != 200 || got != "127.0.0.1 127.0.0.9 100000" {
				t.Errorf("%s: %d %q", path, code, got)
			}
		}
	}
}

// A socket left behind is replaced, one that somebody listens on is not; a reload keeps it, or removes it, and so does the end.
func TestSocketFilesComeAndGo(t *testing.T) {
	dir := socketFolder(t)
	front := dir + "/front"
	unixServer(t, dir+"/app", http.HandlerFunc(echoClient))
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: front, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()

	s := unixBoth(t, dir, "")
	s.launch()
	s.waitReady()
	s.waitReplicas("app", 1, 10*time.Second)
	made, err := os.Stat(front)
	if err != nil || made.Mode() != os.ModeSocket|0o666 {
		t.Fatalf("%v, %v", made.Mode(), err)
	}
	// nobody else gets it
	other := unixBoth(t, dir, "")
	if code, _, stderr := commandOutput(t, "run", "-c", other.file); code != exitFailed || !strings.Contains(stderr, "cannot listen on unix:"+front+": another process listens on it") {
		t.Errorf("a second one: %d %s", code, stderr)
	}
	reload := func() {
		t.Helper()
		if code, _, stderr := commandOutput(t, "reload", "-c", s.file); code != exitOK {
			t.Fatal(stderr)
		}
	}
	s.edit(`interval = "100ms"`, `interval = "150ms"`)
	reload()
	if again, err := os.Stat(front); err != nil || !os.SameFile(made, again) {
		t.Errorf("a reload that keeps it made another: %v", err)
	}
	s.edit(fmt.Sprintf("%q, ", "unix:"+front), "")
	reload()
	if _, err := os.Stat(front); !os.IsNotExist(err) {
		t.Errorf("a reload that drops it left it: %v", err)
	}
	s.edit("listen = [", fmt.Sprintf("listen = [%q, ", "unix:"+front))
	reload()
	if code, _ := post(t, overUnix(t, front), "http://a/", nil); code != 200 {
		t.Errorf("again: %d", code)
	}
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(15 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(front); !os.IsNotExist(err) {
		t.Errorf("the end left it: %v", err)
	}
}

func TestSocketErrorsAreClear(t *testing.T) {
	dir := socketFolder(t)
	if err := os.WriteFile(dir+"/file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]string{
		"unix:" + dir + "/file":    "exists and is not a socket",
		"unix:" + dir + "/none/s":  "there is no folder " + dir + "/none",
		"unix:/proc/self/sluice.s": "cannot listen on unix:/proc/self/sluice.s: ",
	} {
		s := prepare(t, "[[route]]\nrespond = \"x\"\n")
		s.edit("listen = [", fmt.Sprintf("listen = [%q, ", addr))
		if code, _, stderr := commandOutput(t, "run", "-c", s.file); code != exitFailed || !strings.Contains(stderr, want) {
			t.Errorf("%s: %d %s", addr, code, stderr)
		}
	}
	if info, err := os.Stat(dir + "/file"); err != nil || !info.Mode().IsRegular() {
		t.Error("a file was replaced by a socket")
	}
}

func TestListenErrorsSayWhatToDo(t *testing.T) {
	for _, c := range []struct {
		addr string
		err  error
		want string
	}{
		{"unix:/run/a/s", syscall.EADDRINUSE, "cannot listen on unix:/run/a/s: another process listens on it"},
		{"unix:/run/a/s", syscall.EACCES, "cannot listen on unix:/run/a/s: not permitted to make or replace a file in /run/a"},
		{"unix:/run/a/s", syscall.ENOENT, "cannot listen on unix:/run/a/s: there is no folder /run/a"},
		{"unix:/run/a/s", syscall.EROFS, "cannot listen on unix:/run/a/s: bind: read-only file system"},
		{":80", syscall.EACCES, "cannot listen on :80: not permitted; ports below 1024 need the capability CAP_NET_BIND_SERVICE"},
	} {
		err := &net.OpError{Op: "listen", Err: os.NewSyscallError("bind", c.err)}
		if got := listenError(c.addr, err).Error(); got != c.want {
			t.Errorf("%q, not %q", got, c.want)
		}
	}
}

// An upgrade hands the socket over: it stays where it is and no request is lost.
func TestUpgradeHandsTheSocketOver(t *testing.T) {
	dir := socketFolder(t)
	front := dir + "/front"
	unixServer(t, dir+"/app", http.HandlerFunc(echoClient))
	s := unixBoth(t, dir, "")
	s.launch()
	s.waitReady()
	s.waitReplicas("app", 1, 10*time.Second)
	made, err := os.Stat(front)
	if err != nil {
		t.Fatal(err)
	}
	var stop atomic.Bool
	var sent atomic.Int64
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			for !stop.Load() {
				c := overUnix(t, front)
				for range 20 { // on one connection
					resp, err := c.Get("http://a/")
					if err != nil {
						t.Error(err)
						return
					}
					_ = resp.Body.Close()
					if sent.Add(1); resp.StatusCode != 200 {
						t.Errorf("status %d", resp.StatusCode)
					}
				}
				c.CloseIdleConnections()
			}
		})
	}
	for range 3 {
		s.upgrade()
		if again, err := os.Stat(front); err != nil || !os.SameFile(made, again) {
			t.Fatalf("the socket did not stay: %v", err)
		}
	}
	stop.Store(true)
	asking.Wait()
	if sent.Load() == 0 {
		t.Error("nothing was sent")
	}
	s.signal(syscall.SIGTERM)
	within(t, 15*time.Second, "the last one ends", func() bool { return ended(s.cmd.Process.Pid) })
	if _, err := os.Stat(front); !os.IsNotExist(err) {
		t.Errorf("the end left it: %v", err)
	}
}
