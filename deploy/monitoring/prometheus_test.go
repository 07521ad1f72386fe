package monitoring_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// server is a running Prometheus.
type server struct {
	*process
	t   *testing.T
	url string
}

// startPrometheus runs it with the files of this folder, but with times so short that a test can wait for them, and
// with one target.
func startPrometheus(t *testing.T, target string) *server {
	t.Helper()
	path := requireTool(t, "prometheus")
	folder := t.TempDir()
	config := replace(t, read(t, "prometheus.yml"), "_interval: 15s", "_interval: 250ms")
	config = replace(t, config, "    dns_sd_configs:\n      - {names: [sluice], type: A, port: 9902, refresh_interval: 5s}\n", "")
	config = replace(t, config, "#    static_configs:\n#      - targets: [\"127.0.0.1:9901\"]\n",
		fmt.Sprintf("    static_configs:\n      - targets: [%q]\n", target))
	write(t, filepath.Join(folder, "prometheus.yml"), config)
	rules := regexp.MustCompile(`(?m)^( +for): \d+m$`).ReplaceAllString(read(t, "alerts.yml"), "$1: 500ms")
	write(t, filepath.Join(folder, "alerts.yml"), rules)

	addr := freeAddrs(t, 1)[0]
	p := run(t, path, "--config.file", filepath.Join(folder, "prometheus.yml"), "--storage.tsdb.path", filepath.Join(folder, "data"),
		"--web.listen-address", addr, "--log.level", "warn")
	s := &server{p, t, "http://" + addr}
	within(t, "Prometheus is ready", func() bool {
		select {
		case <-p.exited:
			t.Fatalf("Prometheus ended: %v", p.cmd.ProcessState)
		default:
		}
		code, _, err := get(s.url + "/-/ready")
		return err == nil && code == http.StatusOK
	})
	return s
}

// ask reads the data of an answer of its API into data.
func (s *server) ask(path string, data any) {
	s.t.Helper()
	_, body, err := get(s.url + "/api/v1/" + path)
	if err != nil {
		s.t.Fatal(err)
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		s.t.Fatalf("%s: %v in %s", path, err, body)
	}
}

// series are the labels of what an expression has now.
func (s *server) series(expr string) (all []map[string]string) {
	s.t.Helper()
	var data struct {
		Result []struct{ Metric map[string]string }
	}
	s.ask("query?query="+url.QueryEscape(expr), &data)
	for _, r := range data.Result {
		all = append(all, r.Metric)
	}
	return all
}

// rule is an alert as Prometheus sees it.
type rule struct {
	Name, Health, LastError string
	State                   string // inactive, pending, firing
	Alerts                  []struct{ Labels map[string]string }
}

func (s *server) rules() map[string]rule {
	s.t.Helper()
	var data struct {
		Groups []struct{ Rules []rule }
	}
	s.ask("rules", &data)
	all := map[string]rule{}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			all[r.Name] = r
		}
	}
	return all
}

// A real Prometheus gives the number that a real sluice sizes by; without it nothing goes down.
func TestPrometheusIsAnObjective(t *testing.T) {
	requireTool(t, "prometheus") // before sluice is built
	var load atomic.Int64
	exporter := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE test_load gauge\ntest_load{part=\"a\"} %d\ntest_load{part=\"b\"} 1\n", load.Load())
	}))
	t.Cleanup(exporter.Close)
	p := startPrometheus(t, strings.TrimPrefix(exporter.URL, "http://"))

	folder := t.TempDir()
	addrs := freeAddrs(t, 2)
	file := filepath.Join(folder, "config.toml")
	config := func(query string) {
		write(t, file, fmt.Sprintf(`
listen = [%q]
pid = %q
admin.listen = %q
engine.kind = "none"
[[route]]
upstream = "demo"
[upstream.demo]
process = { command = ["$SLUICE", "demo-backend", "--port", "$PORT"] }
health_check = { path = "/healthz", interval = "200ms" }
scale = { min = 1, max = 4, cooldown_down = "1s", prometheus = { url = %q, query = %q, per_replica = 10, interval = "1s", timeout = "1s" } }
`, addrs[0], filepath.Join(folder, "sluice.pid"), addrs[1], p.url, query))
	}
	config("sum(test_load)")
	load.Store(9)
	sluice := run(t, binary(t), "run", "-c", file)
	var ready int
	var reason string
	look := func() {
		select {
		case <-sluice.exited:
			t.Fatalf("sluice ended: %v", sluice.cmd.ProcessState)
		default:
		}
		ready, reason = 0, ""
		_, text, err := get("http://" + addrs[1] + "/api/v1/status")
		var status struct {
			Upstreams []struct {
				Ready  int
				Reason string
			}
		}
		if err == nil && json.Unmarshal([]byte(text), &status) == nil && len(status.Upstreams) == 1 {
			ready, reason = status.Upstreams[0].Ready, status.Upstreams[0].Reason
		}
	}
	is := func(n int, words string) func() bool {
		return func() bool { look(); return ready == n && strings.Contains(reason, words) }
	}
	within(t, "1 replica by the query", is(1, "query 10, 10 a replica"))
	load.Store(29)
	within(t, "3 replicas by the query", is(3, "query 30, 10 a replica"))

	reload := func(query string) {
		t.Helper()
		config(query)
		resp, err := http.Post("http://"+addrs[1]+"/api/v1/reload", "application/json", nil)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("reload: %v %v", resp, err)
		}
		resp.Body.Close()
	}
	load.Store(0) // what would let them go, if it were known
	for query, words := range map[string]string{
		"test_load":               "query not known (2 series where one is wanted",
		"test_nothing":            "query not known (no series)",
		"sum(test_load) / 0 * 0":  "query not known (the value is NaN)",
		"sum(test_load":           "query not known (it answers 400",
		"sum(test_load) offset 1": "query not known (it answers 400",
	} {
		reload(query)
		within(t, query+" is said to be unfit, and 3 are kept", is(3, words))
	}
	reload("sum(test_load)")
	within(t, "1 replica again", is(1, "query"))

	load.Store(39)
	within(t, "4 replicas", is(4, "query 40"))
	_ = p.cmd.Process.Kill()
	<-p.exited
	var since time.Time
	within(t, "4 are kept when Prometheus is gone, for several times cooldown_down", func() bool {
		if look(); ready != 4 {
			t.Fatalf("%d ready: %s", ready, reason)
		}
		if since.IsZero() && strings.Contains(reason, "query not known (dial tcp") {
			since = time.Now()
		}
		return !since.IsZero() && time.Since(since) > 4*time.Second
	})
}

// A real Prometheus scrapes a real sluice: every panel of the dashboard has data, with the labels that its legend names and
// that its variables select; every alert can be evaluated; and when sluice is killed, the blackout is noticed.
func TestPrometheusWatchesSluice(t *testing.T) {
	requireTool(t, "prometheus") // before sluice is built
	g := start(t)
	s := startPrometheus(t, g.address)
	within(t, "the target is up", func() bool { return len(s.series(`up{job="sluice"} == 1`)) == 1 })

	d := readDashboard(t)
	chosen := map[string]string{"instance": g.address, "upstream": "demo", "route": "demo", "__rate_interval": "5s"}
	legends := map[string]string{}
	for _, p := range d.Panels {
		for _, target := range p.Targets {
			legends[p.place(target)] = target.Legend
		}
	}
	inLegend := regexp.MustCompile(`\{\{(\w+)\}\}`)
	for where, expr := range d.expressions(t, chosen) {
		within(t, "data of "+where+": "+expr, func() bool {
			for _, labels := range s.series(expr) {
				complete := true
				for _, m := range inLegend.FindAllStringSubmatch(legends[where], -1) {
					complete = complete && labels[m[1]] != ""
				}
				if complete {
					return true
				}
			}
			return false
		})
	}

	within(t, "the alerts are evaluated", func() bool {
		for _, r := range s.rules() {
			if r.Health == "unknown" {
				return false
			}
		}
		return true
	})
	rules := s.rules()
	for _, a := range alerts(t) {
		if r := rules[a.name]; r.Health != "ok" {
			t.Errorf("%s: %q %s", a.name, r.Health, r.LastError)
		}
	}
	const blackout = "SluiceMetricBlackout"
	if r := rules[blackout]; r.State != "inactive" {
		t.Errorf("while sluice runs, %s is %s: %v", blackout, r.State, r.Alerts)
	}
	g.kill()
	within(t, blackout+" fires", func() bool {
		r := s.rules()[blackout]
		return r.State == "firing" && len(r.Alerts) == 1 && strings.HasSuffix(r.Alerts[0].Labels["instance"], g.address)
	})
}
