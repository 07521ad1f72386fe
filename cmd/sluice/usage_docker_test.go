package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// usageConfig sizes replicas of a tenth of a core by what they use of it, and by nothing else.
func usageConfig(owner, image, socket, folder string) string {
	return fmt.Sprintf(`
log.access = "off"
engine = { kind = "docker", project = %q, socket = %q }
[[route]]
upstream = "api"
[upstream.api]
container = { image = %q, mounts = ["%s:/mood:ro"], cpus = 0.1, memory = "48MB", port = 8000, stop_grace = "1s" }
max_conns = 8
health_check = { path = "/healthz", interval = "500ms", timeout = "10s" }
scale = { min = 1, max = 3, cpu = "70%%", memory = "90%%", cooldown_down = "5s" }
`, owner, socket, image, folder)
}

// coresOf are the values of sluice_replica_cpu_cores.
func coresOf(t *testing.T, s *running) (all []float64) {
	t.Helper()
	_, text, _ := fetch(s.admin + "/metrics")
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, `sluice_replica_cpu_cores{`) {
			var v float64
			if _, err := fmt.Sscan(line[strings.LastIndex(line, " ")+1:], &v); err != nil {
				t.Fatal(err)
			}
			all = append(all, v)
		}
	}
	return all
}

// An idle replica is measured as one that uses next to nothing; work brings more of them by its use of CPU, and they go
// when it is over.
func TestContainersScaleByTheirUseOfCPU(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	d, owner := docker(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "mood"), []byte("work"), 0o644); err != nil { //nolint:gosec // the container reads it
		t.Fatal(err)
	}
	began := time.Now()
	reached := func(what string) { t.Logf("%s after %s", what, time.Since(began).Round(100*time.Millisecond)) }
	s := start(t, usageConfig(owner, d.hogImage(owner), d.socket(), folder))
	s.waitReplicas("api", 1, 60*time.Second)
	idle := func() bool {
		cores := coresOf(t, s)
		return len(cores) == 1 && cores[0] < 0.03
	}
	within(t, 30*time.Second, "one idle replica is measured", idle)
	reached("one idle replica")
	time.Sleep(5 * time.Second)
	if u := s.upstream("api"); u.Wanted != 1 || !strings.Contains(u.Reason, "of limit (target") {
		t.Errorf("idle: %+v", u)
	}

	wait := load(t, "--concurrency", "6", "--duration", "40s", s.url)
	within(t, 40*time.Second, "three replicas", func() bool { return s.upstream("api").Ready == 3 })
	reached("three replicas")
	if reason := s.upstream("api").Reason; !strings.Contains(reason, "cpu ") {
		t.Errorf("reason %q", reason)
	}
	if _, text, _ := fetch(s.admin + "/metrics"); !strings.Contains(text, `sluice_scale_decisions_total{direction="up",reason="cpu",upstream="api"}`) {
		t.Error("no decision is counted as one by cpu")
	}
	within(t, 20*time.Second, "all three are measured, and busy", func() bool {
		cores := coresOf(t, s)
		return len(cores) == 3 && cores[0] > 0.05 && cores[1] > 0.05 && cores[2] > 0.05
	})
	reached("three busy replicas")
	wait()
	reached("the load is over")
	s.waitReplicas("api", 1, 90*time.Second)
	reached("one replica")
	within(t, 30*time.Second, "what is left is idle", idle)
}

// A gateway without an engine hears of it through the scaler.
func TestUseOfCPUThroughTheScaler(t *testing.T) {
	t.Parallel()
	d, owner := docker(t)
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "mood"), []byte("work"), 0o644); err != nil { //nolint:gosec // the container reads it
		t.Fatal(err)
	}
	k, s := scalerApart(t, d, usageConfig(owner, d.hogImage(owner), d.socket(), folder))
	k.launch()
	s.launch()
	s.waitReady()
	s.waitReplicas("api", 1, 60*time.Second)
	within(t, 30*time.Second, "one idle replica is measured", func() bool {
		cores := coresOf(t, s)
		return len(cores) == 1 && cores[0] < 0.03
	})
	within(t, 20*time.Second, "the decision is made on it", func() bool { return strings.Contains(s.upstream("api").Reason, "of limit (target") })
}
