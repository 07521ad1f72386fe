package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/admin"
	"sluice/balancer"
	"sluice/proxy"
	"sluice/scaler"
)

// stillGateway is a gateway with a real admin API and servers that nobody asks.
type stillGateway struct {
	mu        sync.Mutex // guards all below
	ready     error
	reload    error
	upstreams []admin.Upstream
	scaler    *stillScaler
	addr      string
}

func (g *stillGateway) Ready() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ready
}

func (g *stillGateway) Running() admin.Running {
	return admin.Running{Config: admin.ConfigStatus{File: "running.toml", Generation: 7, LoadedAt: time.Now()}}
}
func (g *stillGateway) DumpConfig() ([]byte, error)  { return nil, nil }
func (g *stillGateway) Upstreams() []admin.Upstream  { return g.upstreams }
func (g *stillGateway) Traffic() proxy.Stats         { return proxy.Stats{} }
func (g *stillGateway) Reload(context.Context) error { return g.reload }
func (g *stillGateway) Explain(q proxy.Question) proxy.Explanation {
	return proxy.Explanation{Route: "api", Upstream: "demo", Target: q.Target, Limits: []string{"rate_limit: 5/s"}, Passed: []proxy.Passed{{Route: "www", Why: "the host is a, not www"}}}
}

type stillScaler struct {
	mu     sync.Mutex // guards status
	status scaler.Status
}

func (s *stillScaler) Status() scaler.Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status
}

func (s *stillScaler) Pin(n int, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Pinned, s.status.Wanted, s.status.Until = true, n, until
}

func (s *stillScaler) Unpin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status.Pinned = false
}
func (s *stillScaler) Recent() []scaler.Event { return nil }

// still starts an admin API with the upstream "demo", which has the servers abc1, abd2 and abd22.
func still(t *testing.T, token string) *stillGateway {
	t.Helper()
	demo := balancer.NewUpstream("demo", balancer.DefaultConfig())
	demo.Update([]balancer.ServerSpec{{ID: "abc1", Addr: "127.0.0.1:1"}, {ID: "abd2", Addr: "127.0.0.1:2"}, {ID: "abd22", Addr: "127.0.0.1:3"}}, time.Now())
	demo.Server("abc1").Probe(nil, 1, 1, time.Now())
	g := &stillGateway{scaler: &stillScaler{status: scaler.Status{Wanted: 3, Min: 1, Max: 6, Mode: "apply"}}}
	g.upstreams = []admin.Upstream{{Upstream: demo, Scaler: g.scaler, Driver: "process"}}
	s := admin.New(g, "9.9", slog.New(slog.DiscardHandler))
	if err := s.Configure(admin.Config{Listen: "127.0.0.1:0", Token: token}, admin.MetricsConfig{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		demo.Close()
		_ = s.Shutdown(context.Background())
	})
	g.addr = s.Addr()
	return g
}

// nobody is an address where nothing listens.
func nobody(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// configured writes a configuration and returns its path.
func configured(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

type outcome struct {
	code     int
	out, err string
}

// invoke runs a command; environment has NAME=value.
func invoke(cmd command, environment []string, args ...string) outcome {
	var out, errs bytes.Buffer
	env := Env{Stdout: &out, Stderr: &errs, Getenv: func(name string) string {
		for _, e := range environment {
			if v, ok := strings.CutPrefix(e, name+"="); ok {
				return v
			}
		}
		return ""
	}}
	code := cmd(context.Background(), env, args)
	return outcome{code, out.String(), errs.String()}
}

// is checks the exit code and words of both outputs together.
func (o outcome) is(t *testing.T, code int, words ...string) {
	t.Helper()
	if o.code != code {
		t.Errorf("exit %d, want %d: %s%s", o.code, code, o.out, o.err)
	}
	for _, w := range words {
		if !strings.Contains(o.out+o.err, w) {
			t.Errorf("no %q in: %s%s", w, o.out, o.err)
		}
	}
	if code != exitOK && o.err == "" && o.out == "" {
		t.Error("failed without a word")
	}
}

const oneRoute = "[[route]]\nhost = \"a.example\"\nupstream = \"127.0.0.1:9\"\n"

func adminAt(addr string) string { return fmt.Sprintf("%s[admin]\nlisten = %q\n", oneRoute, addr) }

func TestCommandsFindTheGateway(t *testing.T) {
	g := still(t, "")
	t.Chdir(t.TempDir())
	byFile := configured(t, adminAt(g.addr))
	for name, o := range map[string]outcome{
		"-c":                    invoke(cmdStatus, nil, "-c", byFile),
		"$SLUICE_CONFIG":        invoke(cmdStatus, []string{"SLUICE_CONFIG=" + byFile}),
		"--admin":               invoke(cmdStatus, nil, "--admin", g.addr),
		"--admin without -c":    invoke(cmdStatus, nil, "--admin", g.addr, "-c", "nowhere.toml"),
		"a file invalid since":  invoke(cmdStatus, nil, "-c", configured(t, adminAt(g.addr)+"lisssten = 1\n[nonsense]\n")),
		"a file no TOML since":  invoke(cmdStatus, nil, "-c", configured(t, "[[route]\nhost = 5\n"+adminAt(g.addr)+"[[route]]\nhost = = 5\nhost = \"b\"\nhost = \"c\"\n")),
		"a file without routes": invoke(cmdStatus, nil, "-c", configured(t, "[admin]\nlisten = \""+g.addr+"\"\n[[route]]\nhost = 5\n")),
	} {
		if o.code != exitOK || !strings.Contains(o.out, "running.toml") {
			t.Errorf("%s: %+v", name, o)
		}
	}
	if err := os.WriteFile("config.toml", []byte(adminAt(g.addr)), 0o600); err != nil {
		t.Fatal(err)
	}
	invoke(cmdStatus, nil).is(t, exitOK, "running.toml")
	invoke(cmdStatus, nil, "-c", "nowhere.toml").is(t, exitFailed, "nowhere.toml")
	free := nobody(t)
	for _, cmd := range []command{cmdStatus, cmdHealthcheck} {
		invoke(cmd, nil, "--admin", free).is(t, exitFailed, "no sluice answers on "+free+": is it running?")
	}
	invoke(cmdScale, nil, "demo", "2", "--admin", free).is(t, exitFailed, "is it running?")
	invoke(cmdStatus, nil, "--admin", "unix:"+filepath.Join(t.TempDir(), "x")).is(t, exitFailed, "no sluice answers on unix:")
	invoke(cmdStatus, nil, "-c", configured(t, oneRoute+"[admin]\nlisten = \"off\"\n")).is(t, exitFailed, "the admin API is off")
}

// A configuration that does not tell any more which sluice is meant must not lead to the one with the
// default address and pid file, which may be another.
func TestCommandsDoNotGuessTheGateway(t *testing.T) {
	g := still(t, "")
	for name, file := range map[string]string{
		"binary":          configured(t, "\x00\x01\x02"),
		"header at fault": configured(t, oneRoute+"[admin\nlisten = \""+g.addr+"\"\n"),
		"key at fault":    configured(t, oneRoute+"pid = /run/b.pid\n[admin]\nlisten = "+g.addr+"\n"),
		"pid a number":    configured(t, "pid = 5\n"+adminAt(g.addr)),
		"listen a list":   configured(t, oneRoute+"[admin]\nlisten = [\""+g.addr+"\"]\n"),
		"a folder":        t.TempDir(),
	} {
		code := exitConfig
		if name == "a folder" {
			code = exitFailed
		}
		for _, o := range []outcome{
			invoke(cmdStatus, nil, "-c", file), invoke(cmdScale, nil, "demo", "1", "-c", file),
			invoke(cmdSignal, nil, "-s", "stop", "-c", file), invoke(cmdSignal, nil, "-s", "stop", "-c", file, "--admin", g.addr),
		} {
			if o.code != exitFailed || !strings.Contains(o.err, "which sluice is meant cannot be read from its configuration") {
				t.Errorf("%s: %+v", name, o)
			}
		}
		invoke(cmdReload, nil, "-c", file).is(t, code, file)
		invoke(cmdStatus, nil, "-c", file, "--admin", g.addr).is(t, exitOK, "running.toml")
	}
}

func TestCommandsSendTheToken(t *testing.T) {
	g := still(t, "s3cret")
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	file := configured(t, adminAt(g.addr)+"token = \"file:"+secret+"\"\n")
	invoke(cmdStatus, nil, "-c", file).is(t, exitOK, "running.toml")
	broken := configured(t, adminAt(g.addr)+"token = \"file:"+secret+"\"\nlisssten = 1\n")
	invoke(cmdStatus, nil, "-c", broken).is(t, exitOK, "running.toml")
	invoke(cmdStatus, nil, "--admin", g.addr, "--token", "s3cret").is(t, exitOK)
	invoke(cmdStatus, []string{"T=s3cret"}, "--admin", g.addr, "--token", "env:T").is(t, exitOK)
	invoke(cmdStatus, nil, "--admin", g.addr, "--token", "env:T").is(t, exitFailed, "T is not set")
	invoke(cmdStatus, nil, "--admin", g.addr, "--token", "wrong").is(t, exitFailed, "does not take this token")
	invoke(cmdStatus, nil, "--admin", g.addr).is(t, exitFailed, "asks for its token")
	invoke(cmdHealthcheck, nil, "--admin", g.addr).is(t, exitOK)
}

func TestSomethingElseAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b := make([]byte, 4096)
			_, _ = c.Read(b)
			_, _ = c.Write([]byte("HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope"))
			c.Close()
		}
	}()
	invoke(cmdStatus, nil, "--admin", l.Addr().String()).is(t, exitFailed, "is no sluice")
}

// What takes the connection and says nothing is given up soon, and named; an answer that has begun may take longer.
func TestSilentAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr, says := l.Addr().String(), make(chan string, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				begun, rest, slow := strings.Cut(<-says, "|")
				_, _ = c.Write([]byte(begun))
				if slow {
					time.Sleep(200 * time.Millisecond)
					_, _ = c.Write([]byte(rest))
				}
				_, _ = c.Read(make([]byte, 4096))
				_, _ = c.Read(make([]byte, 1)) // until it is given up
			}()
		}
	}()
	ask := func(patience time.Duration, answer string) error {
		c := newAdminClient(addr, "")
		c.patience = patience
		says <- answer
		_, err := c.call(t.Context(), "GET", "/x", nil)
		return err
	}
	if err := ask(50*time.Millisecond, ""); err == nil || err.Error() != addr+" was asked and did not answer within 50ms: is it sluice, and does it run?" {
		t.Error(err)
	}
	if err := ask(50*time.Millisecond, "HTTP/1.1 200 OK\r\n|Content-Length: 0\r\n\r\n"); err != nil {
		t.Error(err)
	}
	begun := time.Now()
	says <- ""
	invoke(cmdHealthcheck, nil, "--admin", addr, "--timeout", "100ms").is(t, exitFailed, addr+" was asked and did not answer within 100ms")
	says <- ""
	invoke(cmdStatus, nil, "--admin", addr).is(t, exitFailed, "did not answer within 5s")
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

func TestWrongUsage(t *testing.T) {
	for _, c := range []struct {
		cmd  command
		args []string
	}{
		{cmdStatus, []string{"x"}}, {cmdStatus, []string{"--nonsense"}}, {cmdScale, nil}, {cmdScale, []string{"demo"}}, {cmdScale, []string{"demo", "-1"}},
		{cmdScale, []string{"demo", "many"}}, {cmdScale, []string{"demo", "auto", "--for", "1h"}}, {cmdScale, []string{"demo", "1", "--for", "soon"}},
		{cmdScale, []string{"demo", "1", "--for", "-1h"}}, {cmdDrain, nil}, {cmdDrain, []string{"demo"}}, {cmdDrain, []string{"demo/"}}, {cmdEnable, []string{"/x"}},
		{cmdReload, []string{"x"}}, {cmdExplain, nil}, {cmdExplain, []string{"ftp://a/"}}, {cmdExplain, []string{"/", "-H", "x"}}, {cmdHealthcheck, []string{"x"}},
		{cmdVersion, []string{"x"}}, {cmdCheck, []string{"x"}}, {cmdSignal, []string{"-s", "nonsense"}}, {cmdSignal, nil},
	} {
		invoke(c.cmd, nil, c.args...).is(t, exitUsage, "usage: sluice ")
	}
	for name, cmd := range clientCommands {
		if o := invoke(cmd, nil, "-h"); o.code != exitOK || !strings.HasPrefix(o.out, "usage: sluice "+name) {
			t.Errorf("%s -h: %+v", name, o)
		}
	}
}

// A number below 0 is no flag, and what is wrong with the arguments is said of the one that is wrong.
func TestScaleArguments(t *testing.T) {
	for _, row := range []struct {
		args  []string
		words string
	}{
		{[]string{"demo", "-1"}, `"-1" is no number of replicas`},
		{[]string{"--admin", "a:1", "demo", "-1", "--for", "1h"}, `"-1" is no number of replicas`},
		{[]string{"demo", "--admin", "a:1", "-2"}, `"-2" is no number of replicas`},
		{[]string{"demo", "1", "extra"}, `unexpected "extra"`},
		{[]string{"demo"}, "are needed"},
		{[]string{"demo", "1", "-x"}, "not defined: -x"},
		{[]string{"demo", "1", "--for", "-1"}, "flag -for"},
	} {
		invoke(cmdScale, nil, row.args...).is(t, exitUsage, row.words)
	}
	invoke(cmdDrain, nil, "-1").is(t, exitUsage, `"-1" is no UPSTREAM/SERVER`)
}

func TestScaleCommand(t *testing.T) {
	g := still(t, "")
	invoke(cmdScale, nil, "demo", "5", "--for", "1h", "--admin", g.addr).is(t, exitOK, "pinned to 5 replicas until")
	if st := g.scaler.Status(); !st.Pinned || st.Wanted != 5 || time.Until(st.Until) < 59*time.Minute {
		t.Errorf("%+v", st)
	}
	invoke(cmdScale, nil, "--admin", g.addr, "demo", "0").is(t, exitOK, "pinned to 0 replicas until `sluice scale demo auto`")
	invoke(cmdScale, nil, "demo", "--admin", g.addr, "auto").is(t, exitOK, "the scaler chooses")
	if g.scaler.Status().Pinned {
		t.Error("still pinned")
	}
	for hold, words := range map[string]string{"0": "above 0", "0s": "above 0", "": "a number with a unit", "-1h": "above 0", "1": `write "1s", "1m" or "1h"`, "1d": "a number with a unit"} {
		invoke(cmdScale, nil, "demo", "2", "--for", hold, "--admin", g.addr).is(t, exitUsage, words)
	}
	if g.scaler.Status().Pinned {
		t.Error("pinned for no time")
	}
	invoke(cmdScale, nil, "demo", "7", "--admin", g.addr).is(t, exitFailed, "more than scale.max")
	invoke(cmdScale, nil, "no/such", "1", "--admin", g.addr).is(t, exitFailed, `no upstream "no/such"`, "demo")
}

func TestDrainCommand(t *testing.T) {
	g := still(t, "")
	server := g.upstreams[0].Server
	invoke(cmdDrain, nil, "demo/abc", "--admin", g.addr).is(t, exitOK, "demo/abc1: draining, 0 in flight")
	if !server("abc1").Draining() {
		t.Error("not draining")
	}
	invoke(cmdEnable, nil, "demo/127.0.0.1:1", "--admin", g.addr).is(t, exitOK, "demo/abc1: ready")
	invoke(cmdDrain, nil, "demo/abd2", "--admin", g.addr).is(t, exitOK, "demo/abd2: ") // exact, though another begins with it
	if server("abd22").Draining() || !server("abd2").Draining() {
		t.Error("drained the wrong one")
	}
	invoke(cmdDrain, nil, "demo/ab", "--admin", g.addr).is(t, exitFailed, "beginning of 3 servers", "abd22")
	invoke(cmdDrain, nil, "demo/x", "--admin", g.addr).is(t, exitFailed, `no server "x"`, "abc1")
	invoke(cmdDrain, nil, "x/y", "--admin", g.addr).is(t, exitFailed, `no upstream "x"`, "demo")
}

func TestReloadCommand(t *testing.T) {
	g := still(t, "")
	invoke(cmdReload, nil, "--admin", g.addr).is(t, exitOK, "running.toml: reloaded, generation 7")
	g.reload = admin.InvalidConfig{Err: errors.New("running.toml:3:1: unknown key \"lsten\"\n    lsten\n    ^")}
	invoke(cmdReload, nil, "--admin", g.addr).is(t, exitConfig, "running.toml:3:1", "\n    ^")
	g.reload = errors.New("listen :80: permission denied")
	invoke(cmdReload, nil, "--admin", g.addr).is(t, exitFailed, "permission denied")
	invoke(cmdSignal, nil, "-s", "reload", "-c", configured(t, adminAt(g.addr))).is(t, exitFailed, "permission denied")
}

// Without an admin API the signal has to do: it ends the other process here, which does not handle it.
func TestReloadBySignal(t *testing.T) {
	for _, listen := range []string{"off", nobody(t)} {
		path := filepath.Join(t.TempDir(), "sluice.pid")
		file := configured(t, fmt.Sprintf("pid = %q\n", path)+adminAt(listen))
		invoke(cmdReload, nil, "-c", file).is(t, exitFailed, "no sluice runs")
		pid, _, _ := other(t, path)
		invoke(cmdReload, nil, "-c", file).is(t, exitOK, "pid "+strconv.Itoa(pid))
		done := make(chan struct{})
		timer := time.AfterFunc(10*time.Second, func() { close(done) })
		if !gone(path, pid, done) {
			t.Error("the signal did not arrive")
		}
		timer.Stop()
	}
}

func TestSignals(t *testing.T) {
	for _, name := range []string{"quit", "stop", "reopen"} {
		path := filepath.Join(t.TempDir(), "sluice.pid")
		file := configured(t, fmt.Sprintf("pid = %q\n", path)+oneRoute)
		invoke(cmdSignal, nil, "-s", name, "-c", file).is(t, exitFailed, "no sluice runs")
		pid, _, end := other(t, path)
		invoke(cmdSignal, nil, "-c", file, "-s", name).is(t, exitOK)
		done := make(chan struct{})
		timer := time.AfterFunc(10*time.Second, func() { close(done) })
		if !gone(path, pid, done) {
			t.Errorf("%s did not arrive", name)
		}
		timer.Stop()
		end(0)
	}
	invoke(cmdSignal, nil, "-s", "quit", "-c", configured(t, "pid = \"off\"\n"+oneRoute)).is(t, exitFailed, "off")
}

func TestHealthcheck(t *testing.T) {
	g := still(t, "")
	if o := invoke(cmdHealthcheck, nil, "-c", configured(t, adminAt(g.addr))); o != (outcome{}) {
		t.Errorf("%+v", o)
	}
	g.mu.Lock()
	g.ready = errors.New("shutting down")
	g.mu.Unlock()
	invoke(cmdHealthcheck, nil, "--admin", g.addr).is(t, exitFailed, "not ready: shutting down")
	off := oneRoute + "[admin]\nlisten = \"off\"\n"
	invoke(cmdHealthcheck, nil, "-c", configured(t, off)).is(t, exitFailed, "nothing to ask")

	s := admin.New(&stillGateway{}, "", slog.New(slog.DiscardHandler))
	if err := s.Configure(admin.Config{Listen: "off"}, admin.MetricsConfig{Listen: ":0"}); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Shutdown(context.Background()) }()
	_, port, _ := net.SplitHostPort(s.MetricsAddr())
	invoke(cmdHealthcheck, nil, "-c", configured(t, off+"[metrics]\nlisten = \":"+port+"\"\n")).is(t, exitOK)
}

func TestExplainCommand(t *testing.T) {
	g := still(t, "")
	invoke(cmdExplain, nil, "http://a.example/x?y=1", "--admin", g.addr).is(t, exitOK,
		"route     api", "limit     rate_limit: 5/s", "upstream  demo, asked for /x?y=1", "server    one of abc1 (0 in flight), by least_request; 2 not ready", "not       www: the host")
	o := invoke(cmdExplain, nil, "/", "--json", "--admin", g.addr)
	var e admin.Explanation
	if err := json.Unmarshal([]byte(o.out), &e); err != nil || e.Route != "api" || len(e.Candidates) != 1 {
		t.Errorf("%v in %s", err, o.out)
	}
	free := nobody(t)
	invoke(cmdExplain, nil, "http://a.example/", "-X", "POST", "-H", "X: 1", "-c", configured(t, adminAt(free))).is(t, exitOK, "none answers on "+free, "upstream  127.0.0.1:9, asked for /")
	inner := configured(t, "[[route]]\nname = \"inner\"\nlisten = \":11434\"\nupstream = \"127.0.0.1:9\"\n"+adminAt(free))
	invoke(cmdExplain, nil, "http://localhost:11434/", "-c", inner).is(t, exitOK, "route     inner")
	invoke(cmdExplain, nil, "http://localhost:8080/", "-c", inner).is(t, exitOK, "route     none", "no_route", "not       inner: it is only for the listener :11434")
	invoke(cmdExplain, nil, "/", "-c", configured(t, adminAt(free)+"lisssten = 1\n")).is(t, exitConfig, "lisssten")
	invoke(cmdExplain, nil, "/", "--admin", free).is(t, exitFailed, "is it running?")
}

func TestVersion(t *testing.T) {
	o := invoke(cmdVersion, nil)
	o.is(t, exitOK, "sluice "+version, "go1.", "commit ")
	if strings.Count(o.out, "\n") != 1 {
		t.Errorf("%q", o.out)
	}
}
