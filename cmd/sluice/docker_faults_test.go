package main

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A Docker Engine that is restarted, or killed and started again, while its containers live on, takes no server away:
// traffic goes on, and what was decided meanwhile is done when it is back.
func TestRestartedEngineLeavesTrafficAlone(t *testing.T) {
	takesMinutes(t)
	d := newOwnEngine(t, `{"live-restore": true}`)
	_, owner := docker(t)
	s := start(t, containerConfig(owner, d.image(owner), d.socket(), `min = 2, max = 4, queued_per_replica = 100, cooldown_down = "2s"`))
	s.waitReplicas("api", 2, 90*time.Second)
	first := d.containers("sluice.owner="+owner, "{{.ID}}")
	for n, how := range []syscall.Signal{syscall.SIGTERM, syscall.SIGKILL} {
		wanted := 3 + n
		wait := load(t, "--rate", "20", "--duration", "15s", s.url)
		time.Sleep(2 * time.Second)
		if err := d.process.Signal(how); err != nil {
			t.Fatal(err)
		}
		<-d.done
		s.pin("api", wanted)
		within(t, 30*time.Second, "the status says that the engine does not answer", func() bool { return s.upstream("api").Failure != "" })
		for begun := time.Now(); time.Since(begun) < 5*time.Second; time.Sleep(200 * time.Millisecond) {
			if u := s.upstream("api"); u.Ready != wanted-1 || len(u.Servers) != wanted-1 {
				t.Fatalf("%s: without an engine: %+v", how, u)
			}
		}
		d.launch(t, `{"live-restore": true}`)
		back := time.Now()
		s.waitReplicas("api", wanted, 60*time.Second)
		t.Logf("%s: scaled %s after the engine was back", how, time.Since(back).Round(time.Second))
		l := wait()
		l.lostNothing(t)
		if l.Refused != 0 {
			t.Errorf("%s: %d requests refused: %+v", how, l.Refused, l)
		}
		if u := s.upstream("api"); u.Failure != "" {
			t.Errorf("%s: afterwards: %s", how, u.Failure)
		}
	}
	now := d.containers("sluice.owner="+owner, "{{.ID}}")
	for _, id := range first {
		if !slices.Contains(now, id) {
			t.Errorf("replica %s did not live on", id)
		}
	}
}

// hogConfig is a configuration whose replicas do what the file in folder says when they start.
func hogConfig(owner, image, socket, folder, scale string) string {
	return fmt.Sprintf(`
log.access = "off"
engine = { kind = "docker", project = %q, socket = %q }
[[route]]
upstream = "api"
[upstream.api]
container = { image = %q, mounts = ["%s:/mood:ro"], memory = "48MB", port = 8000, stop_grace = "1s" }
health_check = { path = "/healthz", interval = "300ms" }
scale = { %s }
`, owner, socket, image, folder, scale)
}

// Replicas that cannot live — they eat more memory than they may, or never get healthy — are tried three times, with a
// pause before each further try; then no more. What is healthy is left alone all the while.
func TestReplicasThatFailAreNotTriedForEver(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		mood, says string
		limit      time.Duration
	}{
		{"eat", "out of memory", 90 * time.Second},
		{"sick", "not ready after", 5 * time.Minute}, // a start may take a minute
	} {
		t.Run(tt.mood, func(t *testing.T) {
			t.Parallel()
			if tt.mood == "sick" {
				takesMinutes(t)
			}
			d, owner := docker(t)
			folder := t.TempDir()
			mood := func(m string) {
				if err := os.WriteFile(folder+"/mood", []byte(m), 0o644); err != nil { //nolint:gosec // read in a container
					t.Fatal(err)
				}
			}
			mood("well")
			s := start(t, hogConfig(owner, d.hogImage(owner), d.socket(), folder, "min = 1, max = 4"))
			s.waitReplicas("api", 1, 60*time.Second)
			healthy := s.upstream("api").Servers[0].ID
			mood(tt.mood)
			begun, created := time.Now(), d.creations("sluice.owner="+owner)
			s.pin("api", 2)
			within(t, tt.limit, "no more starts are tried", func() bool {
				u := s.upstream("api")
				if i := slices.IndexFunc(u.Servers, func(x serverStatus) bool { return x.ID == healthy }); i < 0 || u.Servers[i].State != "ready" {
					t.Fatalf("the healthy replica was given up: %+v", u)
				}
				if code, _, err := fetch(s.url); code != 200 {
					t.Fatalf("a request: %d, %v", code, err)
				}
				return strings.Contains(u.Failure, "3 starts failed in a row")
			})
			if u := s.upstream("api"); !strings.Contains(u.Failure, tt.says) {
				t.Errorf("the status says %q", u.Failure)
			}
			t.Logf("given up after %s: %s", time.Since(begun).Round(time.Second), s.upstream("api").Failure)
			time.Sleep(5 * time.Second)
			if made := created(); made != 3 {
				t.Errorf("%d containers were made, want 3", made)
			}
			if left := d.containers("sluice.owner="+owner, "{{.ID}}"); len(left) != 1 || !strings.HasPrefix(left[0], healthy) {
				t.Errorf("containers %v, want %s alone", left, healthy)
			}
			if _, text, _ := fetch(s.admin + "/metrics"); !strings.Contains(text, `sluice_replica_start_failures_total{upstream="api"} 3`) {
				t.Error("the metrics do not count three failed starts")
			}
			mood("well") // whoever mends it says so by a pin or a reload
			s.pin("api", 3)
			s.waitReplicas("api", 3, 60*time.Second)
		})
	}
}

// creations counts the containers with that label that are made from now on, by the engine's events: it listens all
// the while, as the engine remembers only the last 256 events of everybody.
func (d dockerEngine) creations(label string) (count func() int) {
	d.t.Helper()
	begun := time.Now()
	out := &lockedBuffer{}
	args := []string{"-H", d.socket(), "events", "--since", fmt.Sprintf("%d.%09d", begun.Unix(), begun.Nanosecond()), "--filter", "label=" + label, "--filter", "event=create", "--format", "{{.ID}}"}
	cmd := exec.Command("docker", args...)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return func() int { return len(strings.Fields(out.String())) }
}

// Two gateways that were given the same configuration and no [peers] disagree about how many replicas there should be:
// there are never more than max, and they do not start and stop the same ones for ever.
func TestTwoGatewaysFight(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	d, owner := docker(t)
	config := containerConfig(owner, d.image(owner), d.socket(), `min = 1, max = 3, queued_per_replica = 100, cooldown_down = "1s"`)
	one, two := start(t, config), start(t, config)
	one.waitReplicas("api", 1, 60*time.Second)
	two.waitReplicas("api", 1, 60*time.Second)
	begun, created := time.Now(), d.creations("sluice.owner="+owner)
	wait := load(t, "--rate", "20", "--duration", "45s", two.url)
	two.pin("api", 3)
	two.waitReplicas("api", 3, 60*time.Second)
	one.pin("api", 1)
	said, most := false, 0
	for time.Since(begun) < 45*time.Second {
		most = max(most, len(d.containers("sluice.owner="+owner, "{{.ID}}")))
		said = said || strings.Contains(one.upstream("api").Failure, "need [peers]")
		time.Sleep(100 * time.Millisecond)
	}
	l := wait()
	l.lostNothing(t)
	if most > 3 {
		t.Errorf("%d containers at once, max is 3", most)
	}
	if !said {
		t.Error("the status does not say that somebody else scales the same")
	}
	// Two replicas for each half minute, and those of the first scale-up.
	if made := created(); made > 6 {
		t.Errorf("%d containers were made in %s", made, time.Since(begun).Round(time.Second))
	}
}
