package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// requirePeer is the path of a peer's program. Without it the test is skipped, or fails where SLUICE_TEST_REQUIRE names it.
func requirePeer(t *testing.T, name string) string {
	t.Helper()
	path, err := findPeer(name).find()
	if err == nil {
		return path
	}
	if slices.Contains(strings.Fields(os.Getenv("SLUICE_TEST_REQUIRE")), name) {
		t.Fatalf("%s is required: %v", name, err)
	}
	t.Skip(err)
	return ""
}

// requireCores gives the processors that a measurement uses. Without them the test is skipped, or fails where
// SLUICE_TEST_REQUIRE names a peer, which is to be measured then.
func requireCores(t *testing.T) cores {
	t.Helper()
	c, err := chooseCores(false)
	if err == nil {
		return c
	}
	for required := range strings.FieldsSeq(os.Getenv("SLUICE_TEST_REQUIRE")) {
		if findPeer(required) != nil {
			t.Fatalf("%s is required: %v", required, err)
		}
	}
	t.Skipf("nothing can be measured here: %v", err)
	return cores{}
}

func portOf(t *testing.T, addr string) int {
	t.Helper()
	a, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return a.Port
}

// variants are what a peer may be configured for.
func variants(t *testing.T, program string) map[string]peerSettings {
	t.Helper()
	s := usual
	s.Port, s.AdminPort, s.Backends, s.Cores, s.Root = 1, 2, []string{"127.0.0.1:3", "127.0.0.1:4"}, 1, os.Geteuid() == 0
	s.OtherServers = []string{"127.0.0.1:6", "127.0.0.1:7"}
	s.HTTP2Directive = hasHTTP2Directive(t.Context(), program)
	var err error
	if s.Certificate, err = makeCertificate(t.TempDir()); err != nil {
		t.Fatal(err)
	}
	cores, secure, h2c, streams := s, s, s, s
	cores.Cores = 2
	secure.TLSPort = 5
	h2c.H2CPort = 5
	streams.Clients, streams.Connections, streams.Slots = 6100, 12_000, 6000
	return map[string]peerSettings{"usual": s, "two cores": cores, "TLS": secure, "h2c": h2c, "streams": streams}
}

// Each program must find nothing wrong with its own configuration.
func TestPeerConfigurations(t *testing.T) {
	for _, name := range []string{"nginx", "haproxy"} {
		t.Run(name, func(t *testing.T) {
			program := requirePeer(t, name)
			p := findPeer(name)
			for what, s := range variants(t, program) {
				s.Dir = t.TempDir()
				args, err := p.configure(s)
				if err != nil {
					t.Fatal(err)
				}
				if out, err := exec.Command(program, append(args, p.check...)...).CombinedOutput(); err != nil || len(out) > 0 {
					t.Errorf("%s: %v\n%s", what, err, out)
				}
			}
		})
	}
}

func TestSluiceIsMeasuredWithAValidConfiguration(t *testing.T) {
	shop := workshop{dir: t.TempDir()}
	if err := shop.build(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sluice", "sluice-large"} {
		for what, s := range variants(t, shop.binary) {
			s.Dir = t.TempDir()
			if _, err := findPeer(name).configure(s); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join(s.Dir, "sluice.toml")
			if out, err := exec.Command(shop.binary, "check", "-c", file).CombinedOutput(); err != nil {
				t.Errorf("%s, %s: %v\n%s", name, what, err, out)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			wanted := 5
			if name == "sluice-large" {
				wanted += 10_000
			}
			if n := bytes.Count(text, []byte("[[route]]")); n != wanted {
				t.Errorf("%s, %s: %d routes", name, what, n)
			}
		}
	}
}

func TestRatiosAreToNginxOrTheFirst(t *testing.T) {
	for names, want := range map[string]string{"": "nginx", "sluice,haproxy,nginx": "nginx", "sluice,sluice-large": "sluice"} {
		ps, err := pickPeers(names)
		if err != nil {
			t.Fatal(err)
		}
		if got := baseOf(ps); got != want {
			t.Errorf("%q: to %s", names, got)
		}
		if names == "" && slices.ContainsFunc(ps, func(p peer) bool { return p.name == "sluice-large" }) {
			t.Error("the large one is measured without being named")
		}
	}
}

func TestPeersMeasuresNginx(t *testing.T) {
	requirePeer(t, "nginx")
	requireCores(t)
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	picture := filepath.Join(t.TempDir(), "peers.svg")
	var out, log bytes.Buffer
	code := peersCommand(t.Context(), strings.Fields("--peers nginx,sluice --workloads 64,post-16k,events,idle --rounds 2 --duration 200ms --json --svg "+picture), &out, &log)
	if code != 0 {
		t.Fatalf("exit code %d\n%s\n%s", code, out.String(), log.String())
	}
	var doc struct{ Rows []map[string]any }
	if err := json.Unmarshal(out.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	if len(doc.Rows) != 8 {
		t.Fatalf("%d rows: %s", len(doc.Rows), out.String())
	}
	for _, r := range doc.Rows {
		positive := []string{"cpu_us", "rss_kib", "p50_ms", "p99_ms", "ratio", "ratio_min", "ratio_max", "rps", "busy"}
		switch r["workload"] {
		case "events":
			positive = positive[:7]
		case "idle":
			positive = []string{"rss_kib", "idle_kib"}
		}
		for _, key := range positive {
			if v, ok := r[key].(float64); !ok || v <= 0 {
				t.Errorf("%v %v: %s is %v", r["workload"], r["peer"], key, r[key])
			}
		}
		// Nothing reads a request and an answer, and writes both, in less than a microsecond.
		if v, _ := r["cpu_us"].(float64); r["workload"] != "idle" && v < 1 {
			t.Errorf("%v %v: %v µs", r["workload"], r["peer"], v)
		}
		if r["peer"] == "nginx" && r["workload"] != "idle" && r["ratio"] != 1.0 {
			t.Errorf("nginx is %v of itself", r["ratio"])
		}
	}
	if b, err := os.ReadFile(picture); err != nil || !bytes.Contains(b, []byte("GET 64 B")) {
		t.Errorf("no picture: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(temp, "*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A peer that answers wrongly has no figures, and the command says so with its exit code.
func TestPeersRefusesWrongAnswers(t *testing.T) {
	requireCores(t)
	b, err := startBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	port := portOf(t, b.addrs[0])
	good := workloads[0]
	for name, c := range map[string]struct {
		change func(*workload)
		want   string
	}{
		"right":               {func(*workload) {}, ""},
		"another length":      {func(w *workload) { w.answer++ }, "a body of 64 instead of 65 bytes"},
		"another status":      {func(w *workload) { w.target = "/nothing" }, "status 404"},
		"a shorter upload":    {func(w *workload) { w.target, w.body = "/upload?n=9", 8 }, "status 400"},
		"a stream, no length": {func(w *workload) { w.target = "/events?n=1" }, "an answer without a length"},
	} {
		t.Run(name, func(t *testing.T) {
			w := good
			c.change(&w)
			l, err := newLoader(port, w.request(), w.answer, 4, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer l.close()
			err = l.run(t.Context(), 50*time.Millisecond, 0).check()
			if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

func TestLoaderKeepsItsRate(t *testing.T) {
	requireCores(t)
	b, err := startBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	for _, closes := range []bool{false, true} {
		w := workloads[0]
		if closes {
			w.fields = []string{"Connection: close"}
		}
		l, err := newLoader(portOf(t, b.addrs[1]), w.request(), w.answer, 8, closes, nil)
		if err != nil {
			t.Fatal(err)
		}
		f := l.run(t.Context(), 500*time.Millisecond, 200)
		l.close()
		// Late or not, every one that was due is sent.
		if err := f.check(); err != nil || f.requests != 100 || f.latency.TotalCount() != 100 {
			t.Errorf("closes %v: %d requests, %v", closes, f.requests, err)
		}
	}
}

func TestLoaderEndsWithItsContext(t *testing.T) {
	requireCores(t)
	b, err := startBackend()
	if err != nil {
		t.Fatal(err)
	}
	defer b.stop()
	l, err := newLoader(portOf(t, b.addrs[0]), workloads[0].request(), workloads[0].answer, 2, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	begin := time.Now()
	if f := l.run(ctx, time.Minute, 0); f.check() == nil || time.Since(begin) > 30*time.Second {
		t.Errorf("%v after %v", f.errors, time.Since(begin))
	}
}

func TestRatiosAreOfTheSameRound(t *testing.T) {
	get, rest := workload{name: "64"}, workload{name: "idle", kind: idle}
	cpu := func(v ...float64) (s []peerSample) {
		for _, c := range v {
			s = append(s, peerSample{cpu: c, idle: 100 * c})
		}
		return s
	}
	for name, c := range map[string]struct {
		w                workload
		samples, base    []peerSample
		ratio, low, high float64
	}{
		"odd":             {get, cpu(8, 30, 9), cpu(10, 20, 10), .9, .8, 1.5},
		"even":            {get, cpu(8, 30), cpu(10, 20), 1.15, .8, 1.5},
		"memory":          {rest, cpu(8), cpu(10), .8, .8, .8},
		"without base":    {get, cpu(8, 9), nil, 0, 0, 0},
		"a round lost":    {get, cpu(8, 9, 10), cpu(16), .5, .5, .5},
		"base of nothing": {get, cpu(8, 9), cpu(0, 18), .5, .5, .5},
	} {
		t.Run(name, func(t *testing.T) {
			r := newPeerRow(c.w, "sluice", c.samples, c.base)
			for _, v := range [][2]float64{{r.Ratio, c.ratio}, {r.RatioMin, c.low}, {r.RatioMax, c.high}} {
				if math.Abs(v[0]-v[1]) > 1e-9 {
					t.Errorf("%v, want %v %v…%v", r, c.ratio, c.low, c.high)
				}
			}
		})
	}
}

func TestPeersNamesWhatIsMissing(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	if _, err := (peer{name: "nginx", program: "no-such-nginx", debian: "nginx-light"}).find(); err == nil || !strings.Contains(err.Error(), "apt-get install --no-install-recommends nginx-light") {
		t.Error(err)
	}
	var out, log bytes.Buffer
	for _, args := range []string{"--workloads 65", "--peers apache", "--cores three", "--rounds 0", "--duration 1ms", "more"} {
		if code := peersCommand(t.Context(), strings.Fields(args), &out, &log); code != 2 {
			t.Errorf("%s: exit code %d", args, code)
		}
	}
}

func TestUsageIsOfTheWholeTree(t *testing.T) {
	c := requireCores(t)
	// The shell's child works, not the shell.
	cmd := exec.Command("/bin/sh", "-c", "/bin/sh -c 'i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; sleep 60' & wait")
	if err := startPinned(cmd, c.proxy); err != nil {
		t.Fatal(err)
	}
	tree := func() []int { return processTree(cmd.Process.Pid) }
	defer func() {
		for _, pid := range tree() {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
		_ = cmd.Wait()
	}()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		u, err := readUsage(cmd.Process.Pid)
		if err != nil {
			t.Fatal(err)
		}
		if u.cpu > 20*time.Millisecond && u.rss > 0 && u.switches > 0 && len(tree()) > 1 {
			return
		}
	}
	t.Error("the child's work was not seen")
}

func TestFullTable(t *testing.T) {
	dir := t.TempDir()
	if hint := fullTable(dir); hint != "" {
		t.Errorf("without figures: %q", hint)
	}
	for count, full := range map[string]bool{"900\n": false, "950\n": true, "x": false} {
		for name, text := range map[string]string{"nf_conntrack_count": count, "nf_conntrack_max": "1000\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if hint := fullTable(dir); full != strings.Contains(hint, "950 of 1000") {
			t.Errorf("%q: %q", count, hint)
		}
	}
}
