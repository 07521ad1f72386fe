package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/bench/simulator"
)

func TestOfferedAndBusiest(t *testing.T) {
	// 1 s of one in service, 1 s of nothing, 2 s of two.
	tr := simulator.Trace{Length: 4 * time.Second, Requests: []simulator.Request{
		{At: 0, Service: time.Second}, {At: 2 * time.Second, Service: 2 * time.Second}, {At: 2 * time.Second, Service: 9 * time.Second},
	}}
	load := offered(tr, 500*time.Millisecond)
	for i, want := range []float64{1, 1, 0, 0, 2, 2, 2, 2} {
		if math.Abs(load[i]-want) > 1e-9 {
			t.Errorf("step %d: %v, want %v", i, load[i], want)
		}
	}
	if at := busiest(load, 500*time.Millisecond, time.Second); at < 2*time.Second || at > 3*time.Second {
		t.Errorf("busiest at %v", at)
	}
	fast := speedUp(tr, 4)
	if fast.Length != time.Second || fast.Requests[1].At != 500*time.Millisecond || fast.Requests[1].Service != 500*time.Millisecond {
		t.Errorf("four times as fast: %+v", fast)
	}
	if n := replicasFor(8.1, 4); n != 3 {
		t.Errorf("a load of 8.1 needs %d", n)
	}
}

func TestRanking(t *testing.T) {
	row := func(cost, wait, simCost, simWait float64) liveRow {
		return liveRow{Sent: 1, OK: 1, ReplicaSeconds: cost, WaitP95: wait, Simulated: &simulator.Result{ReplicaSeconds: simCost, WaitP95: simWait}}
	}
	for _, c := range []struct {
		name string
		rows []liveRow
		want bool
	}{
		{"same order", []liveRow{row(100, 3, 90, 2), row(200, .1, 210, 0)}, true},
		{"cost the other way round", []liveRow{row(100, 3, 300, 3), row(200, .1, 210, 0)}, false},
		{"wait the other way round", []liveRow{row(100, 3, 90, .2), row(200, .1, 210, 1)}, false},
		{"equal live", []liveRow{row(100, .03, 90, 2), row(105, 0, 210, 3)}, true},
	} {
		r := liveRun{Requests: 1, Rows: c.rows}
		if r.judge(); r.RankingHolds != c.want || len(r.problems) > 0 {
			t.Errorf("%s: %v, %v", c.name, r.RankingHolds, r.problems)
		}
	}
	lost := row(1, 1, 1, 1)
	lost.OK, lost.Lost = 0, 1
	r := liveRun{Requests: 1, Rows: []liveRow{lost}}
	if r.judge(); len(r.problems) != 1 {
		t.Errorf("a lost request is no problem: %v", r.problems)
	}
}

func TestSeedsAreSummedUp(t *testing.T) {
	row := func(policy string, peak, used, cost float64) liveRow {
		return liveRow{Policy: policy, Peak50: peak, Utilisation: used, ReplicaSeconds: cost, Sent: 10, OK: 9, Refused: 1,
			Errors: map[string]int64{"x": 1}, Simulated: &simulator.Result{ReplicaSeconds: cost, Actions: 3}}
	}
	r := &liveResult{AtMean: "fixed:2", AtPeak: "fixed:4"}
	for i, peak := range []float64{3, 1, 2} { // the order is nobody's
		cost := 60 + 10*float64(i)
		r.Runs = append(r.Runs, &liveRun{RankingHolds: i != 1, Rows: []liveRow{row("scaled", peak, .6, cost), row("fixed:2", 10, .9, 50), row("fixed:4", 1, .4, 100)}})
	}
	r.sumUp()
	s := r.Rows[0]
	if s.Peak50 != 2 || s.Spread["peak_p50_s"] != [2]float64{1, 3} || s.ReplicaSeconds != 70 || s.Spread["replica_seconds"] != [2]float64{60, 80} {
		t.Errorf("medians and spread: %+v", s)
	}
	if s.Sent != 30 || s.OK != 27 || s.Refused != 3 || s.Errors["x"] != 3 || s.Simulated.ReplicaSeconds != 70 || s.Simulated.Actions != 3 {
		t.Errorf("sums: %+v, %+v", s, s.Simulated)
	}
	if r.RankingHolds {
		t.Error("the ranking holds, though not in every run")
	}
	want := map[string][3]float64{
		"response time at the peak, p50, lower by": {80, 70, 90}, "utilisation higher by": {50, 50, 50}, "replica-seconds lower by": {30, 20, 40},
	}
	for _, g := range r.Gains {
		if w, ok := want[g.What]; ok && math.Abs(g.Median-w[0])+math.Abs(g.Least-w[1])+math.Abs(g.Most-w[2]) > 1e-9 {
			t.Errorf("%+v, want %v", g, w)
		}
		delete(want, g.What)
	}
	if len(want) > 0 {
		t.Errorf("missing: %v in %+v", want, r.Gains)
	}
	if m := median([]float64{4, 1, 2, 3}); m != 2.5 {
		t.Errorf("the median of four is %v", m)
	}
	var out strings.Builder
	r.print(&out)
	for _, want := range []string{"1…3s", "60…80", "against fixed:4: utilisation higher by 50 % (50…50)", "sent 30, ok 27"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}

func live(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = liveCommand(t.Context(), args, &out, &errs)
	return code, out.String(), errs.String()
}

func TestLiveUsage(t *testing.T) {
	for _, args := range []string{"", "--synthetic steps x", "--trace a --synthetic steps", "--synthetic steps --driver podman", "--synthetic steps --seeds 0", "--synthetic steps --seeds 21",
		"--synthetic steps --speed 0", "--synthetic steps --max 61", "--synthetic steps --fixed two", "--synthetic steps --fixed 61", "--synthetic steps --length 20s", "--synthetic steps --service -1s", "--what"} {
		if code, out, errs := live(t, strings.Fields(args)...); code != 2 || out != "" || errs == "" {
			t.Errorf("%q: exit %d, %q, %q", args, code, out, errs)
		}
	}
	if code, _, errs := live(t, "--trace", "/does/not/exist"); code != 1 || !strings.Contains(errs, "/does/not/exist") {
		t.Errorf("no such file: exit %d, %s", code, errs)
	}
}

// A recorded trace is taken as it is the first time and turned after that; a synthetic one is another each time.
func TestEachSeedHasItsTrace(t *testing.T) {
	file := filepath.Join(t.TempDir(), "trace")
	var text strings.Builder
	for i := range 100 {
		fmt.Fprintf(&text, "%d,0.5\n", 3*i)
	}
	if err := os.WriteFile(file, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	recorded := &traceFlags{file: file, tokens: simulator.DefaultTokens}
	made := &traceFlags{synthetic: "steps", rate: 1, length: time.Minute}
	for name, f := range map[string]*traceFlags{"recorded": recorded, "made": made} {
		one, err := liveTrace(f, 1, false, 3)
		if err != nil {
			t.Fatal(err)
		}
		two, err := liveTrace(f, 2, true, 3)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Equal(one.Requests, two.Requests) {
			t.Errorf("%s: the second is the first", name)
		}
		if f == recorded && (one.Requests[1].At != time.Second || one.Requests[0].Service != 500*time.Millisecond/3) {
			t.Errorf("the first is not as recorded: %+v", one.Requests[:2])
		}
	}
}

func TestLiveWithContainers(t *testing.T) {
	t.Parallel()
	if _, err := docker(t.Context(), "version", "--format", "{{.Server.Version}}"); err != nil {
		if strings.Contains(os.Getenv("SLUICE_TEST_REQUIRE"), "docker") {
			t.Fatalf("docker is required: %v", err)
		}
		t.Skipf("no docker on this machine: %v", err)
	}
	code, out, errs := live(t, "--driver", "docker", "--json", "--synthetic", "steps", "--length", "80s", "--service", "4s", "--start", "100ms", "--max", "3", "--fixed", "1", "--in-flight", "2")
	var r liveResult
	if err := json.Unmarshal([]byte(out), &r); err != nil || code != 0 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	if len(r.Rows) != 2 || r.Driver != "docker" || len(r.Runs) != 1 || len(r.Problems) > 0 {
		t.Fatalf("%+v", r)
	}
	for _, row := range r.Rows {
		if row.Sent == 0 || row.OK != row.Sent || row.ReplicaSeconds <= 0 || row.Utilisation <= 0 || row.Utilisation > 1 || row.Peak < 1 {
			t.Errorf("%+v", row)
		}
	}
}
