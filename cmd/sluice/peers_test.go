package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/peers"
)

// reports are what the gateways in the folder tell each other, by id.
func reports(t *testing.T, dir string) map[string]peers.Report {
	t.Helper()
	sockets, err := filepath.Glob(filepath.Join(dir, "*.sock"))
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]peers.Report{}
	for _, socket := range sockets {
		c, err := net.DialTimeout("unix", socket, time.Second)
		if err != nil {
			continue
		}
		_ = c.SetDeadline(time.Now().Add(time.Second))
		var r peers.Report
		if json.NewDecoder(c).Decode(&r) == nil {
			all[r.Gateway] = r
		}
		c.Close()
	}
	return all
}

// acting is the pid of the gateway that scales; 0 for none. Two are a failure.
func acting(t *testing.T, dir string) int {
	t.Helper()
	pid := 0
	for id, r := range reports(t, dir) {
		if r.Term == 0 {
			continue
		}
		if pid != 0 {
			t.Fatalf("%d and %s scale at once", pid, id)
		}
		if _, err := fmt.Sscanf(id, "%d-", &pid); err != nil {
			t.Fatal(err)
		}
	}
	return pid
}

func peersFolder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-peers-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Two gateways and one scaler: replicas never above max, also when the one that scales is killed under
// load, and nothing lost by the other.
func TestTwoGatewaysScaleAsOne(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	d, owner := docker(t)
	dir := peersFolder(t)
	cfg := fmt.Sprintf("peers.dir = %q", dir) +
		containerConfig(owner, d.image(owner), d.socket(), `min = 1, max = 3, queued_per_replica = 4, cooldown_down = "2s"`)
	a, b := start(t, cfg), start(t, cfg)
	within(t, 10*time.Second, "one scales", func() bool { return len(reports(t, dir)) == 2 && acting(t, dir) != 0 })
	if acting(t, dir) == b.cmd.Process.Pid {
		a, b = b, a
	}
	a.waitReplicas("api", 1, 60*time.Second)
	b.waitReplicas("api", 1, 10*time.Second)
	if _, out, _ := commandOutput(t, "status", "-c", b.file); !strings.Contains(out, fmt.Sprintf("gateways 2, %d-", a.cmd.Process.Pid)) {
		t.Errorf("status:\n%s", out)
	}

	most := 0
	count := func() int {
		n := len(d.containers("sluice.owner="+owner, "{{.ID}}"))
		most = max(most, n)
		return n
	}
	// All the load comes through the gateway that does not scale, also while replicas go.
	wait := load(t, "--rate", "60", "--duration", "45s", b.url)
	within(t, 60*time.Second, "three replicas", func() bool { return count() == 3 && b.upstream("api").Ready == 3 })
	for _, step := range []struct {
		replicas string
		n        int
	}{{"1", 1}, {`"auto"`, 3}} {
		if code, answer, err := fetchPost(a.admin+"/api/v1/upstreams/api/scale", `{"replicas": `+step.replicas+`}`); err != nil || code != 200 {
			t.Fatal(code, answer, err)
		}
		within(t, 30*time.Second, fmt.Sprint(step.n, " replicas"), func() bool { return count() == step.n })
	}
	if code, answer, err := fetchPost(b.admin+"/api/v1/upstreams/api/scale", `{"replicas": 1}`); err != nil || code != 409 {
		t.Errorf("a pin on the gateway that does not scale: %d %s %v", code, answer, err)
	}
	killed := time.Now()
	a.signal(syscall.SIGKILL)
	within(t, 10*time.Second, "the other scales", func() bool { count(); return acting(t, dir) == b.cmd.Process.Pid })
	t.Logf("a new one after %s", time.Since(killed))
	within(t, 120*time.Second, "one replica again", func() bool { return count() == 1 })
	wait().lostNothing(t)
	if n := len(reports(t, dir)); n != 1 {
		t.Errorf("%d gateways are left", n)
	}

	// Stopped, it is not heard and still a member: another takes over, and scales up on what it knows.
	a.launch()
	a.waitReady()
	a.waitReplicas("api", 1, 30*time.Second)
	b.signal(syscall.SIGSTOP)
	defer b.signal(syscall.SIGCONT)
	stopped := time.Now()
	within(t, 10*time.Second, "the other scales", func() bool { return acting(t, dir) == a.cmd.Process.Pid })
	t.Logf("a new one after %s", time.Since(stopped))
	wait = load(t, "--rate", "60", "--duration", "15s", a.url)
	within(t, 30*time.Second, "three replicas", func() bool { return count() == 3 })
	b.signal(syscall.SIGCONT)
	within(t, 120*time.Second, "one replica again", func() bool { return count() == 1 && acting(t, dir) == a.cmd.Process.Pid })
	wait().lostNothing(t)
	if most > 3 {
		t.Errorf("%d containers at once", most)
	}
}

// Together the gateways have no more requests in flight on a server than max_conns, and a rate limit is
// divided.
func TestGatewaysDivideSlotsAndRates(t *testing.T) {
	dir := peersFolder(t)
	backend := freeAddrs(t, 1)[0]
	cfg := fmt.Sprintf(`
peers.dir = %q
log.access = "off"
[[route]]
upstream = "api"
[[route]]
path = "/limited"
upstream = "api"
rate_limit = { rate = "2/s", burst = 20, key = "client_ip" }
[upstream.api]
servers = [%q]
max_conns = 5
`, dir, backend)
	a := start(t, cfg)
	slots := func() (sum int, all []int) {
		for _, r := range reports(t, dir) {
			n := r.Upstreams["api"].Servers[backend].Slots
			all = append(all, n)
			sum += max(n, 0)
		}
		return sum, all
	}
	within(t, 3*time.Second, "alone it has all", func() bool { sum, _ := slots(); return sum == 5 })
	b := start(t, cfg)
	within(t, 10*time.Second, "five for two", func() bool {
		sum, all := slots()
		if sum > 5 {
			t.Fatalf("slots %v", all)
		}
		return len(all) == 2 && sum == 5 && all[0] >= 2 && all[1] >= 2
	})
	burst := func(s *running) (ok int) {
		for range 30 {
			if code, _, err := fetch(s.url + "/limited"); err == nil && code != 429 {
				ok++
			}
		}
		return ok
	}
	within(t, 3*time.Second, "the limits are divided", func() bool { return len(reports(t, dir)) == 2 })
	if x, y := burst(a), burst(b); x < 10 || x > 13 || y < 10 || y > 13 {
		t.Errorf("of 30 each %d and %d were let through, want 10 and a few", x, y)
	}
	b.signal(syscall.SIGKILL)
	within(t, 10*time.Second, "the other has all again", func() bool { sum, all := slots(); return len(all) == 1 && sum == 5 })
}

// Without an engine that could tell of others, gateways on several hosts are refused in words.
func TestSeveralHostsNeedAnEngine(t *testing.T) {
	t.Setenv("SLUICE_TEST_TOKEN", "a token of some length")
	s := prepare(t, `
engine = { kind = "auto", socket = "unix:///nowhere.sock" }
peers = { service = "sluice", listen = ":9903", token = "env:SLUICE_TEST_TOKEN" }
[[route]]
upstream = "127.0.0.1:1"
`)
	code, _, said := commandOutput(t, "run", "-c", s.file)
	if code != exitFailed || !strings.Contains(said, "[peers]: gateways on several hosts need Kubernetes or a Swarm manager; the engine is none: nothing answers at unix:///nowhere.sock") {
		t.Errorf("exit code %d: %s", code, said)
	}
}

// A successor is one more gateway until its predecessor has ended: it waits for its part of the slots, and
// nothing is lost meanwhile.
func TestUpgradeAmongPeers(t *testing.T) {
	dir, backend := peersFolder(t), freeAddrs(t, 1)[0]
	server := exec.Command(binary(t, "sluice"), "demo-backend", "--addr", backend, "--concurrency", "50", "--service-time", "20ms")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	s := start(t, fmt.Sprintf("peers.dir = %q\nlog.access = \"off\"\n[[route]]\nupstream = \"api\"\n[upstream.api]\nservers = [%q]\nmax_conns = 8\n", dir, backend))
	within(t, 10*time.Second, "it scales, and the server is ready", func() bool {
		return acting(t, dir) == s.cmd.Process.Pid && s.upstream("api").Ready == 1
	})
	wait := load(t, "--concurrency", "6", "--duration", "16s", s.url)
	for range 2 {
		old, pid := s.cmd.Process.Pid, 0
		s.signal(syscall.SIGUSR2)
		within(t, 20*time.Second, "a successor scales", func() bool { pid = acting(t, dir); return pid != 0 && pid != old })
		within(t, 20*time.Second, "the old one ends", func() bool { return syscall.Kill(old, 0) != nil || isZombie(old) })
		successor, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		s.cmd.Process = successor
		s.waitAdmin()
		within(t, 10*time.Second, "it has all slots", func() bool {
			all := reports(t, dir)
			for _, r := range all {
				if r.Upstreams["api"].Servers[backend].Slots != 8 {
					return false
				}
			}
			return len(all) == 1
		})
	}
	wait().lostNothing(t)
	pid := s.cmd.Process.Pid
	s.signal(syscall.SIGTERM)
	within(t, 10*time.Second, "the last one ends", func() bool { return syscall.Kill(pid, 0) != nil })
	if left, err := filepath.Glob(filepath.Join(dir, "*.sock")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}
