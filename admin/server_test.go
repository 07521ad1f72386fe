package admin

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/balancer"
)

func TestHealthAndReadiness(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	send(t, s.Addr(), "GET", "/healthz", "").is(t, 200, "ok")
	send(t, s.Addr(), "GET", "/readyz", "").is(t, 200, "ready")
	g.mu.Lock()
	g.ready = errors.New("shutting down")
	g.mu.Unlock()
	send(t, s.Addr(), "GET", "/readyz", "").is(t, 503, "not ready: shutting down")
	send(t, s.Addr(), "GET", "/healthz", "").is(t, 200, "ok")
	if a := send(t, s.Addr(), "HEAD", "/readyz", ""); a.status != 503 || a.body != "" {
		t.Errorf("HEAD: %d %q", a.status, a.body)
	}
}

// The shape is a contract: the names are written out here, not taken from the struct.
func TestStatusShape(t *testing.T) {
	g, _ := newGateway(t)
	a := send(t, local(t, g).Addr(), "GET", "/api/v1/status", "")
	a.is(t, 200)
	if kind := a.header.Get("Content-Type"); kind != "application/json" {
		t.Errorf("content type %q", kind)
	}
	var st map[string]any
	if err := json.Unmarshal([]byte(a.body), &st); err != nil {
		t.Fatal(err)
	}
	cfg := st["config"].(map[string]any)
	if st["version"] != "1.2.3" || cfg["file"] != "config.toml" || cfg["generation"] != 3.0 || cfg["error"] != "" || cfg["loaded_at"] != "2026-03-01T12:00:00.5Z" {
		t.Errorf("version or config: %s", a.body)
	}
	demo := st["upstreams"].([]any)[0].(map[string]any)
	for key, want := range map[string]any{
		"name": "demo", "wanted": 3.0, "ready": 1.0, "starting": 2.0, "draining": 0.0, "min": 1.0, "max": 6.0,
		"in_flight": 0.0, "queue": 0.0, "reason": "queue 12 at 4 per replica", "mode": "apply", "driver": "process",
	} {
		if demo[key] != want {
			t.Errorf("%s is %v, want %v", key, demo[key], want)
		}
	}
	server := demo["servers"].([]any)[1].(map[string]any)
	for key, want := range map[string]any{"id": "demo/2", "addr": "127.0.0.1:40002", "state": "starting", "in_flight": 0.0, "weight": 1.0} {
		if server[key] != want {
			t.Errorf("%s is %v, want %v", key, server[key], want)
		}
	}
	if server["reason"] == "" {
		t.Error("no reason for a server that is not ready")
	}
	old := st["upstreams"].([]any)[1].(map[string]any)
	if old["mode"] != "fixed" || old["wanted"] != 1.0 || old["min"] != 1.0 || old["max"] != 1.0 {
		t.Errorf("fixed upstream: %v", old)
	}
}

// A replica that was found since the scaler's last turn is counted as it is now, and never twice.
func TestReadyIsNotStartingToo(t *testing.T) {
	g, _ := newGateway(t)
	demo := g.upstreams[1]
	for _, c := range []struct {
		what            string
		change          func(now time.Time)
		ready, starting int
	}{
		{"one starts and one is asked for", func(time.Time) {}, 1, 2},
		{"it got ready", func(now time.Time) { demo.Server("demo/2").Probe(nil, 1, 2, now) }, 2, 1},
		{"the other is found", func(now time.Time) {
			demo.Update([]balancer.ServerSpec{{ID: "demo-1", Addr: "127.0.0.1:40001"}, {ID: "demo/2", Addr: "127.0.0.1:40002"}, {ID: "demo-3", Addr: "127.0.0.1:40003"}}, now)
		}, 2, 1},
		{"and ready", func(now time.Time) { demo.Server("demo-3").Probe(nil, 1, 2, now) }, 3, 0},
	} {
		now := time.Now()
		c.change(now)
		if st := upstreamStatus(demo, now); st.Ready != c.ready || st.Starting != c.starting {
			t.Errorf("%s: %d ready and %d starting, want %d and %d", c.what, st.Ready, st.Starting, c.ready, c.starting)
		}
	}
}

func TestReload(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	send(t, s.Addr(), "POST", "/api/v1/reload", "").is(t, 200, `"generation": 4`)
	g.reload = InvalidConfig{errors.New("config.toml:3:1: unknown key \"lsten\"\n3 | lsten")}
	send(t, s.Addr(), "POST", "/api/v1/reload", "").is(t, 422, "config_invalid", "config.toml:3:1")
	g.reload = errors.New("listen :80: permission denied")
	send(t, s.Addr(), "POST", "/api/v1/reload", "").is(t, 500, "reload_failed", "permission denied")
}

func TestScale(t *testing.T) {
	g, sc := newGateway(t)
	s := local(t, g)
	const path = "/api/v1/upstreams/demo/scale"
	send(t, s.Addr(), "POST", path, `{"replicas": 5, "for": "1h"}`).is(t, 200, `"replicas": 5`, `"until"`)
	if st := sc.Status(); !st.Pinned || st.Wanted != 5 || time.Until(st.Until) < 59*time.Minute {
		t.Errorf("not pinned: %+v", st)
	}
	send(t, s.Addr(), "GET", "/api/v1/status", "").is(t, 200, `"pinned": true`, `"pinned_until"`)
	send(t, s.Addr(), "POST", path, `{"replicas": "auto"}`).is(t, 200, `"auto"`)
	if sc.Status().Pinned {
		t.Error("still pinned")
	}
	send(t, s.Addr(), "POST", path, `{"replicas": 2}`, "Content-Type: application/x-www-form-urlencoded").is(t, 200)
	if st := sc.Status(); !st.Pinned || !st.Until.IsZero() {
		t.Errorf("pinned without an end: %+v", st)
	}
	before := sc.Status()
	for body, words := range map[string][2]string{
		``:                                      {"bad_request", "empty"},
		`{}`:                                    {"bad_request", "replicas is missing"},
		`{"replicas": null}`:                    {"bad_request", "replicas is missing"},
		`{"replicas": -1}`:                      {"bad_request", "whole number"},
		`{"replicas": 1.5}`:                     {"bad_request", "whole number"},
		`{"replicas": "many"}`:                  {"bad_request", "whole number"},
		`{"replicas": 2, "min": 1}`:             {"bad_request", "min"},
		`{"replicas": 2} {}`:                    {"bad_request", "goes on"},
		`{"replicas": 2, "for": "soon"}`:        {"bad_request", "for is"},
		`{"replicas": 2, "for": "-1h"}`:         {"bad_request", "for is"},
		`{"replicas": 2, "for": ""}`:            {"bad_request", "for is"},
		`{"replicas": 2, "for": "0s"}`:          {"bad_request", "for is"},
		`{"replicas": "auto", "for": ""}`:       {"bad_request", "for is"},
		`{"replicas": "auto", "for": "1h"}`:     {"bad_request", "auto"},
		`{"replicas": 99999999999999999999}`:    {"bad_request", "whole number"},
		`[` + strings.Repeat(" ", 65<<10) + `]`: {"body_too_large", "64 KiB"},
	} {
		status := 400
		if words[0] == "body_too_large" {
			status = 413
		}
		send(t, s.Addr(), "POST", path, body).is(t, status, words[:]...)
	}
	send(t, s.Addr(), "POST", path, `{"replicas": 7}`).is(t, 409, "beyond_max", "6")
	send(t, s.Addr(), "POST", "/api/v1/upstreams/old/scale", `{"replicas": 2}`).is(t, 409, "not_scaled", "fixed")
	send(t, s.Addr(), "POST", "/api/v1/upstreams/x/scale", `{"replicas": 2}`).is(t, 404, "unknown_upstream", "demo, old")
	sc.mu.Lock()
	sc.status.Mode = "observe"
	sc.mu.Unlock()
	send(t, s.Addr(), "POST", path, `{"replicas": 3}`).is(t, 409, "not_scaled", "observe")
	if after := sc.Status(); after.Wanted != before.Wanted {
		t.Errorf("a refused request changed the scaler: %+v", after)
	}
}

func TestDrainAndEnable(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	server := g.upstreams[1].Server("demo/2")
	send(t, s.Addr(), "POST", "/api/v1/upstreams/demo/servers/demo%2F2/drain", "").is(t, 200, `"state": "draining"`)
	if !server.Draining() {
		t.Error("not draining")
	}
	send(t, s.Addr(), "POST", "/api/v1/upstreams/demo/servers/demo%2F2/enable", "{}").is(t, 200, `"state": "starting"`)
	if server.Draining() {
		t.Error("still draining")
	}
	send(t, s.Addr(), "POST", "/api/v1/upstreams/demo/servers/demo%2F2/drain", `{"force": true}`).is(t, 400, "force")
	send(t, s.Addr(), "POST", "/api/v1/upstreams/demo/servers/9/drain", "").is(t, 404, "unknown_server")
	send(t, s.Addr(), "POST", "/api/v1/upstreams/x/servers/9/drain", "").is(t, 404, "unknown_upstream")
	if server.Draining() {
		t.Error("a refused request drained the server")
	}
}

func TestConfigAndIndex(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	send(t, s.Addr(), "GET", "/api/v1/config", "").is(t, 200, "(secret)")
	send(t, s.Addr(), "GET", "/", "").is(t, 200, "/api/v1/status")
}

func TestExplain(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	a := send(t, s.Addr(), "GET", "/api/v1/explain?url=http%3A%2F%2Fa.example%2Fx%2520y%3Fq%3D1&method=PUT&header=X-A%3A%201&header=host%3A%20b.example&client=10.1.2.3&listener=%3A8080", "")
	a.is(t, 200)
	q := g.asked
	if q.Method != "PUT" || q.Host != "b.example" || q.Target != "/x%20y?q=1" || q.Listener != ":8080" || q.Client.String() != "10.1.2.3" || len(q.Header) != 1 || q.Header[0] != "X-A: 1" {
		t.Errorf("asked %+v", q)
	}
	var e Explanation
	if err := json.Unmarshal([]byte(a.body), &e); err != nil {
		t.Fatal(err)
	}
	if e.Route != "api" || e.Upstream != "demo" || e.Balance != "least_request" || len(e.Candidates) != 1 || e.Candidates[0].ID != "demo-1" || e.Unready != 1 {
		t.Errorf("explained %s", a.body)
	}
	send(t, s.Addr(), "GET", "/api/v1/explain?url=old.example", "").is(t, 200, `"unready": 1`)
	for _, query := range []string{"", "url=", "url=http%3A%2F%2Fa%2F&header=x", "url=http%3A%2F%2Fa%2F&verb=GET", "url=http%3A%2F%2F%5B", "url=/&client=me", "url=ftp%3A%2F%2Fa"} {
		send(t, s.Addr(), "GET", "/api/v1/explain?"+query, "").is(t, 400, "bad_request")
	}
}

func TestAskForms(t *testing.T) {
	for url, want := range map[string][2]string{
		"http://a.example":          {"a.example", "/"},
		"https://a.example:8443/x?": {"a.example:8443", "/x?"},
		"/x?y=1":                    {"localhost", "/x?y=1"},
		"//x":                       {"localhost", "//x"},
		"localhost:8080/x":          {"localhost:8080", "/x"},
		"127.0.0.1:8080":            {"127.0.0.1:8080", "/"},
		"a.example/x#part":          {"a.example", "/x"},
	} {
		q, err := Ask(url, "", nil, "", "")
		if err != nil || q.Host != want[0] || q.Target != want[1] {
			t.Errorf("%s: %+v, %v", url, q, err)
		}
	}
}

func TestMethodsAndPaths(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	for path, allow := range map[string]string{"/metrics": "GET, HEAD", "/api/v1/status": "GET, HEAD", "/api/v1/reload": "POST", "/api/v1/upstreams/demo/scale": "POST"} {
		a := send(t, s.Addr(), "DELETE", path, "")
		a.is(t, 405, "method_not_allowed")
		if got := a.header.Get("Allow"); got != allow {
			t.Errorf("%s: Allow %q, want %q", path, got, allow)
		}
	}
	send(t, s.Addr(), "GET", "/api/v1/reload", "").is(t, 405)
	for _, path := range []string{
		"/api", "/api/v1/upstreams/demo", "/api/v1/upstreams//scale", "/api/v1/upstreams/*/servers/*", "/api/v1/upstreams/a/servers/b/drain/x",
		"/metrics/", "//metrics", "/x/../metrics", "/api/v1/upstreams/%zz/scale",
	} {
		req := "POST " + path + " HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
		if got := raw(t, s.Addr(), req); !strings.HasPrefix(got, "HTTP/1.1 404") {
			t.Errorf("%s: %.40q", path, got)
		}
	}
	if got := raw(t, s.Addr(), "GET / HTTP/1.1\r\nHost: localhost\r\nX: "+strings.Repeat("x", 20<<10)+"\r\n\r\n"); !strings.HasPrefix(got, "HTTP/1.1 431") {
		t.Errorf("large head: %.40q", got)
	}
	if g.reloads != 0 {
		t.Error("a GET reloaded")
	}
}

func TestPanicIsAnswered(t *testing.T) {
	g, _ := newGateway(t)
	g.upstreams = append(g.upstreams, Upstream{}) // no *balancer.Upstream: a nil dereference
	s := local(t, g)
	send(t, s.Addr(), "GET", "/api/v1/status", "").is(t, 500, "internal")
	send(t, s.Addr(), "GET", "/metrics", "").is(t, 200, "go_goroutines")
	send(t, s.Addr(), "GET", "/healthz", "").is(t, 200)
}

func raw(t *testing.T, addr, request string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.WriteString(c, request); err != nil {
		t.Fatal(err)
	}
	b, _ := bufio.NewReader(c).ReadString('\n') // the status line; the rest may be cut by a reset
	return b
}

func TestListenRefusals(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	g, _ := newGateway(t)
	s := New(g, "", slog.New(slog.DiscardHandler))
	defer s.Shutdown(context.Background())
	for _, c := range []struct {
		cfg  Config
		m    MetricsConfig
		word string
	}{
		{Config{Listen: ":9901"}, MetricsConfig{}, "admin.token"},
		{Config{Listen: "0.0.0.0:0"}, MetricsConfig{}, "admin.token"},
		{Config{Listen: "192.0.2.1:0"}, MetricsConfig{}, "admin.token"},
		{Config{Listen: "gateway.internal:0"}, MetricsConfig{}, "admin.token"},
		{Config{Listen: "127.0.0.1"}, MetricsConfig{}, "admin.listen"},
		{Config{Listen: "unix:"}, MetricsConfig{}, "no socket"},
		{Config{Listen: taken.Addr().String()}, MetricsConfig{}, "admin.listen"},
		{Config{Listen: "off"}, MetricsConfig{Listen: "9000"}, "metrics.listen"},
		{Config{Listen: "127.0.0.1:0"}, MetricsConfig{Listen: taken.Addr().String()}, "metrics.listen"},
	} {
		if err := s.Configure(c.cfg, c.m); err == nil || !strings.Contains(err.Error(), c.word) {
			t.Errorf("%+v %+v: %v", c.cfg, c.m, err)
		}
		if s.Addr() != "" || s.MetricsAddr() != "" {
			t.Fatalf("%+v: listens after an error", c.cfg)
		}
	}
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", "localhost:0", "unix:/x", "off", ""} {
		if err := (Config{Listen: listen}).Check(); err != nil {
			t.Error(err)
		}
	}
	if err := (Config{Listen: ":0", Token: "t"}).Check(); err != nil {
		t.Error(err)
	}
}

func TestReconfigure(t *testing.T) {
	g, _ := newGateway(t)
	s := start(t, g, Config{Listen: "127.0.0.1:0"}, MetricsConfig{Listen: "127.0.0.1:0"})
	first, m := s.Addr(), s.MetricsAddr()
	if err := s.Configure(Config{Listen: "127.0.0.1:0", Token: "new"}, MetricsConfig{Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	if s.Addr() != first || s.MetricsAddr() != m {
		t.Error("the same configuration opened another listener")
	}
	send(t, first, "GET", "/api/v1/status", "").is(t, 401)
	sock := "unix:" + filepath.Join(t.TempDir(), "a.sock")
	if err := s.Configure(Config{Listen: sock}, MetricsConfig{}); err != nil {
		t.Fatal(err)
	}
	send(t, sock, "GET", "/api/v1/status", "").is(t, 200)
	for _, addr := range []string{first, m} { // closed in the background
		for deadline := time.Now().Add(5 * time.Second); ; {
			c, err := net.Dial("tcp", addr)
			if err != nil {
				break
			}
			c.Close()
			if time.Now().After(deadline) {
				t.Fatal(addr, "is still open")
			}
			time.Sleep(time.Millisecond)
		}
	}
	if err := s.Configure(Config{Listen: "off"}, MetricsConfig{}); err != nil || s.Addr() != "" {
		t.Error(err, s.Addr())
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin.sock")
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close() // what a crash leaves behind
	g, _ := newGateway(t)
	s := start(t, g, Config{Listen: "unix:" + path}, MetricsConfig{})
	send(t, s.Addr(), "GET", "/api/v1/status", "").is(t, 200)
	send(t, s.Addr(), "GET", "/api/v1/status", "", "Host: anything.example").is(t, 200)
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	other := New(g, "", slog.New(slog.DiscardHandler))
	if err := other.Configure(Config{Listen: "unix:" + path}, MetricsConfig{}); err == nil || !strings.Contains(err.Error(), "another process answers") {
		t.Errorf("took a live socket: %v", err)
	}
	send(t, s.Addr(), "GET", "/healthz", "").is(t, 200)
	s.Shutdown(context.Background())
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := other.Configure(Config{Listen: "unix:" + path}, MetricsConfig{}); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("took a file: %v", err)
	}
}

func TestShutdownEndsEverything(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	resp, err := http.Get("http://" + s.Addr() + "/api/v1/events")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	slow, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if _, err := io.WriteString(slow, "GET / HTTP/1.1\r\n"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer cancel()
	if err := s.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("what was cut is not told: %v", err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the stream was cut: %v", err)
	}
	_ = slow.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := io.Copy(io.Discard, slow); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("a slow client outlived the shutdown")
	}
}

func TestHandover(t *testing.T) {
	g, _ := newGateway(t)
	path := filepath.Join(t.TempDir(), "a.sock")
	cfg, m := Config{Listen: "unix:" + path}, MetricsConfig{Listen: "127.0.0.1:0"}
	old := start(t, g, cfg, m)
	files, err := old.Files()
	if err != nil {
		t.Fatal(err)
	}
	inherited := map[string]net.Listener{}
	for listen, f := range files {
		if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0); err != nil || flags&unix.O_NONBLOCK == 0 {
			t.Fatal("the listener would block in Accept, and so in Close")
		}
		if inherited[listen], err = net.FileListener(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	spare, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	inherited["192.0.2.1:1"] = spare
	s := New(g, "2", slog.New(slog.DiscardHandler))
	s.Inherit(inherited)
	if err := s.Configure(cfg, m); err != nil {
		t.Fatal(err)
	}
	if s.MetricsAddr() != old.MetricsAddr() {
		t.Error("another metrics listener was opened")
	}
	if _, err := spare.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Error("a listener that nobody wants is still open")
	}
	old.HandedOver()
	if err := old.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	send(t, "unix:"+path, "GET", "/api/v1/status", "").is(t, 200, `"version": "2"`)
	send(t, s.MetricsAddr(), "GET", "/metrics", "").is(t, 200)
	if err := s.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("the socket was left behind")
	}
}
