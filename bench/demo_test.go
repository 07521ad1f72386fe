package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// fakeSluice answers requests itself and claims the numbers of replicas one after the other.
func fakeSluice(t *testing.T, replicas ...int) (*gateway, settings) {
	t.Helper()
	var asked, served atomic.Int64
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/status" {
			if served.Add(1)%10 == 0 {
				w.Header().Set("X-Sluice-Reason", "queue_full")
				w.WriteHeader(503)
			}
			return
		}
		n := replicas[min(int(asked.Add(1)), len(replicas))-1]
		json.NewEncoder(w).Encode(map[string]any{"upstreams": []upstreamStatus{{Name: "other"}, {Name: "demo", Wanted: n, Ready: n, Reason: "because"}}})
	}))
	t.Cleanup(srv.Close)
	g := &gateway{log: filepath.Join(t.TempDir(), "log"), http: &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", srv.Listener.Addr().String())
		},
	}}}
	return g, settings{url: srv.URL, upstream: "demo", min: 1, max: 3, maxConns: 1}
}

func TestDemoLedger(t *testing.T) {
	t.Parallel()
	g, s := fakeSluice(t, 1, 3, 1)
	var screen strings.Builder
	r, err := drive(context.Background(), g, s, 2500*time.Millisecond, &screen)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 || r.Sent == 0 || r.Sent != r.Succeeded+r.Refused || r.Reasons["queue_full"] != r.Refused || r.Refused == 0 {
		t.Errorf("ledger %+v", r)
	}
	if r.ReplicasStart != 1 || r.ReplicasPeak != 3 || r.ReplicasEnd != 1 {
		t.Errorf("replicas %d, %d, %d; want 1, 3, 1", r.ReplicasStart, r.ReplicasPeak, r.ReplicasEnd)
	}
	if !strings.Contains(screen.String(), "replicas 3/3") {
		t.Errorf("screen:\n%s", &screen)
	}
}

func TestDemoThatNeverScalesFails(t *testing.T) {
	t.Parallel()
	g, s := fakeSluice(t, 1)
	r, err := drive(context.Background(), g, s, 1100*time.Millisecond, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) != 1 || r.Problems[0] != "sluice never scaled up" {
		t.Errorf("problems %q", r.Problems)
	}
}

func TestDemoSaysWhatIsWrong(t *testing.T) {
	good := loadResult{Sent: 10, OK: 8, Refused: 2}
	for _, c := range []struct {
		peak, end int
		load      loadResult
		unsent    int64
		want      string
	}{
		{3, 1, good, 0, ""},
		{3, 1, loadResult{Sent: 10, OK: 9, Failed: 1}, 0, "1 requests were lost"},
		{3, 1, loadResult{Sent: 10, OK: 9}, 0, "the ledger does not add up"},
		{3, 1, good, 4, "4 requests could not be sent: every connection was waiting"},
		{3, 3, good, 0, "sluice never scaled down"},
		{1, 1, good, 0, "sluice never scaled up"},
		{3, 1, loadResult{Sent: 1, Refused: 1}, 0, "no request succeeded"},
	} {
		r := demoResult{ReplicasStart: 1, ReplicasPeak: c.peak, ReplicasEnd: c.end}
		r.close(c.load, c.unsent)
		if got := strings.Join(r.Problems, "; "); got != c.want {
			t.Errorf("problems %q, want %q", got, c.want)
		}
	}
}

func TestReadSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "config.toml")
	read := func(text string) (settings, error) {
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return readSettings(file)
	}
	s, err := read(`
listen = [":8080", "127.0.0.1:8081"]
unknown = 1
[[route]]
upstream = "10.0.0.1:80"
[[route]]
path = "/api"
upstream = "demo"
[upstream.demo]
max_conns = 4
scale = { min = 0, max = 6, cooldown_down = "10s" }
`)
	if err != nil {
		t.Fatal(err)
	}
	if s.url != "http://127.0.0.1:8080/api" || s.admin != "127.0.0.1:9901" || s.upstream != "demo" || s.min != 0 || s.max != 6 || s.maxConns != 4 || s.cooldownDown != 10*time.Second {
		t.Errorf("settings %+v", s)
	}
	if s, err := read("listen = '127.0.0.2:99'\n[[route]]\nupstream = 'a'\n[upstream.a]\nscale = {}\n"); err != nil || s.url != "http://127.0.0.2:99/" {
		t.Errorf("settings %+v, %v", s, err)
	}
	if _, err := read("[[route]]\nupstream = 'a'\n[upstream.a]\nservers = ['b:1']\n"); err == nil {
		t.Error("nothing scales, and nothing was said")
	}
}

func TestTakenPortIsSaid(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	addr := ln.Addr().String()
	if err := (settings{ports: []string{"127.0.0.1:0"}, admin: addr}).free(); err == nil || !strings.Contains(err.Error(), addr) {
		t.Errorf("error %v, want one that names %s", err, addr)
	}
}

func TestDemoShape(t *testing.T) {
	s := demoShape(time.Minute, 20, 6)
	if s.length() != time.Minute {
		t.Errorf("length %v", s.length())
	}
	for at, want := range map[time.Duration]float64{0: 6, 30 * time.Second: 90, 50 * time.Second: 6} {
		if got := s.rate(at); got != want {
			t.Errorf("rate at %v: %v, want %v", at, got, want)
		}
	}
}

func TestDrawing(t *testing.T) {
	if got := sparkline([]float64{0, 1, 4, 8, -1}); got != "▁▂▅█▁" {
		t.Errorf("sparkline %s", got)
	}
	if got := sparkline([]float64{0, 0}); got != "▁▁" {
		t.Errorf("flat sparkline %s", got)
	}
	if got := replicaBar(sample{Ready: 2, Starting: 1, Draining: 1}, 6); got != "██▒░··" {
		t.Errorf("bar %s", got)
	}
	var out strings.Builder
	d := &dashboard{w: &out, width: 60, max: 6, title: "sluice"}
	d.add(sample{At: 1, Rate: 5, Ready: 1, Wanted: 2, Starting: 1, Reason: strings.Repeat("long ", 30)})
	first := out.Len()
	d.add(sample{At: 2, Rate: 10, Ready: 2, Wanted: 2})
	for line := range strings.Lines(strings.ReplaceAll(strings.ReplaceAll(out.String()[:first], "\r", ""), "\x1b[K", "")) {
		if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 59 {
			t.Errorf("a line of %d columns on a terminal of 60: %q", n, line)
		}
	}
	if !strings.HasPrefix(out.String()[first:], "\x1b[9A") {
		t.Errorf("the second picture is not drawn over the first: %q", out.String()[first:])
	}
	if !strings.Contains(out.String()[first:], "▅█") {
		t.Errorf("no history in %q", out.String()[first:])
	}
}
