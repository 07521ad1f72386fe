package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func scale(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = scaleCommand(context.Background(), args, &out, &errs)
	return code, out.String(), errs.String()
}

// The names in the JSON are a contract.
func TestScaleJSON(t *testing.T) {
	dir := t.TempDir()
	trace, plot := filepath.Join(dir, "trace"), filepath.Join(dir, "plot.svg")
	if err := os.WriteFile(trace, []byte(strings.Repeat("7\n3\n0\n25\n", 60)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs := scale(t, "--trace", trace, "--policy", "ltd,hpa,hpa-queue,kpa,kpa-delay,oracle,fixed:6", "--slots", "4", "--start", "10s", "--service", "2s", "--slo", "500ms", "--plot", plot, "--json")
	var r struct{ Rows []map[string]any }
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil || len(r.Rows) != 7 {
		t.Fatalf("exit %d, %v\n%s%s", code, err, out, errs)
	}
	for _, row := range r.Rows {
		for _, name := range []string{"wait_p50_s", "wait_p95_s", "wait_p99_s", "beyond_slo", "rejected", "replica_seconds", "actions", "flips", "peak"} {
			if v, ok := row[name].(float64); !ok || v < 0 {
				t.Errorf("%s of %s is %v", name, row["policy"], row[name])
			}
		}
	}
	if f := r.Rows[6]; f["policy"] != "fixed:6" || math.Abs(f["replica_seconds"].(float64)-6*240) > .01 || f["actions"] != 0. {
		t.Errorf("six replicas for 240 s: %v", f)
	}
	if svg, err := os.ReadFile(plot); err != nil || !bytes.HasPrefix(svg, []byte("<svg ")) {
		t.Errorf("the plot: %.40s, %v", svg, err)
	}

	log := filepath.Join(dir, "access.log")
	if err := os.WriteFile(log, []byte(strings.Repeat(`1.2.3.4 - - [26/Nov/2026:12:00:01 +0000] "GET / HTTP/1.1" 200 1 "-" "-" rt=0.2`+"\n"+"?\n", 9)), 0o600); err != nil {
		t.Fatal(err)
	}
	code, out, errs = scale(t, "--access-log", log, "--policy", "ltd,fixed:1", "--seeds", "2", "--deadline", "1s", "--queue", "3")
	if code != 0 || !strings.Contains(out, "9 requests in") || !strings.Contains(out, "service time 0.2 s") || !strings.Contains(errs, "9 lines without a time") {
		t.Errorf("exit %d\n%s%s", code, out, errs)
	}
	if code, out, _ = scale(t, "--synthetic", "steps", "--length", "10m", "--part", "0.5:1", "--policy", "ltd"); code != 0 || !strings.Contains(out, " in 300 s") {
		t.Errorf("exit %d\n%s", code, out)
	}
}

func TestScaleUsage(t *testing.T) {
	for _, args := range []string{"", "--synthetic x y", "--trace a --synthetic steps", "--synthetic steps --policy best", "--synthetic steps --slots 0", "--synthetic steps --start -1s",
		"--synthetic steps --part 1:0", "--synthetic steps --distribution x", "--synthetic steps --target 2", "--synthetic steps --min 5 --max 3", "--what"} {
		if code, out, errs := scale(t, strings.Fields(args)...); code != 2 || out != "" || errs == "" {
			t.Errorf("%q: exit %d, %q, %q", args, code, out, errs)
		}
	}
	if code, _, errs := scale(t, "--trace", "/does/not/exist"); code != 1 || !strings.Contains(errs, "/does/not/exist") {
		t.Errorf("no such file: exit %d, %s", code, errs)
	}
	if code, _, errs := scale(t, "--synthetic", "what"); code != 1 || !strings.Contains(errs, "diurnal") {
		t.Errorf("no such kind: exit %d, %s", code, errs)
	}
}
