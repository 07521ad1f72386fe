package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// demo is a configuration with one upstream of demo backends; extra goes into its table.
func demo(backend, extra string) string {
	return fmt.Sprintf(`
log.access = "off"
drain_timeout = "5s"
[[route]]
upstream = "demo"
[upstream.demo]
process = { command = ["$SLUICE", "demo-backend", "--port", "$PORT", %s] }
health_check = { path = "/healthz", interval = "200ms" }
%s
`, backend, extra)
}

func TestRunServesAndEnds(t *testing.T) {
	s := start(t, demo(`"--service-time", "1ms"`, ""))
	s.waitReplicas("demo", 1, 10*time.Second)
	code, body, err := fetch(s.url + "/hello")
	if err != nil || code != http.StatusOK {
		t.Fatalf("GET: %d, %v, %s", code, err, body)
	}
	pid := pidOf(t, s.upstream("demo").Servers[0].ID)
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if err := syscall.Kill(pid, 0); err != syscall.ESRCH {
		t.Errorf("replica %d is still there: %v", pid, err)
	}
}

// pidOf reads the process id that a replica's ID ends with.
func pidOf(t *testing.T, id string) (pid int) {
	t.Helper()
	if _, err := fmt.Sscanf(id[strings.LastIndexByte(id, '-')+1:], "%d", &pid); err != nil {
		t.Fatalf("no pid in %q", id)
	}
	return pid
}

// With sluice killed, its replicas end by themselves; a new sluice starts with new ones.
func TestKilledSluiceLeavesNothingBehind(t *testing.T) {
	s := start(t, demo(`"--service-time", "1ms"`, `scale = { min = 3, max = 3 }`))
	s.waitReplicas("demo", 3, 10*time.Second)
	var pids []int
	for _, server := range s.upstream("demo").Servers {
		pids = append(pids, pidOf(t, server.ID))
	}
	s.signal(syscall.SIGKILL)
	s.exitCode(5 * time.Second)
	within(t, 12*time.Second, "the replicas end", func() bool {
		for _, pid := range pids {
			if syscall.Kill(pid, 0) == nil {
				return false
			}
		}
		return true
	})
	s.launch()
	s.waitReady()
	s.waitReplicas("demo", 3, 10*time.Second)
}

func TestScalesWithTheLoadAndLosesNothing(t *testing.T) {
	s := start(t, demo(`"--concurrency", "2", "--service-time", "100ms"`,
		`max_conns = 2
scale = { min = 1, max = 4, queued_per_replica = 4, cooldown_down = "2s" }`))
	s.waitReplicas("demo", 1, 10*time.Second)
	wait := load(t, "--rate", "55", "--duration", "10s", s.url)
	within(t, 10*time.Second, "more replicas under load", func() bool { return s.upstream("demo").Ready >= 3 })
	l := wait()
	l.lostNothing(t)
	if l.Refused != 0 {
		t.Errorf("%d refused with a queue that was never full: %+v", l.Refused, l)
	}
	s.waitReplicas("demo", 1, 30*time.Second)
	if reason := s.upstream("demo").Reason; reason == "" {
		t.Error("the decision has no words")
	}
}

// A replica that is killed takes only what was in flight on it and had begun its answer; every other
// request is retried elsewhere.
func TestKilledReplicaFailsNoGet(t *testing.T) {
	s := start(t, demo(`"--concurrency", "50", "--service-time", "20ms"`, `scale = { min = 3, max = 3 }`))
	s.waitReplicas("demo", 3, 10*time.Second)
	wait := load(t, "--concurrency", "20", "--duration", "5s", s.url)
	for range 3 {
		time.Sleep(time.Second)
		if err := syscall.Kill(pidOf(t, s.upstream("demo").Servers[0].ID), syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		s.waitReplicas("demo", 3, 10*time.Second)
	}
	wait().lostNothing(t)
}

func TestReloadUnderLoadLosesNothing(t *testing.T) {
	s := start(t, demo(`"--concurrency", "50", "--service-time", "5ms"`, `scale = { min = 2, max = 2 }
queue = { size = 100 }`))
	s.waitReplicas("demo", 2, 10*time.Second)
	before := s.upstream("demo").Servers
	get := load(t, "--concurrency", "8", "--duration", "8s", s.url+"/get")
	post := load(t, "--concurrency", "8", "--duration", "8s", "--method", "POST", "--body-size", "2000", s.url+"/post")
	for i := range 100 {
		s.edit(fmt.Sprintf("size = %d", 100+i), fmt.Sprintf("size = %d", 101+i))
		s.signal(syscall.SIGHUP)
		within(t, 5*time.Second, "reloaded", func() bool { return s.status().Config.Generation == i+2 })
	}
	get().lostNothing(t)
	post().lostNothing(t)
	for i, server := range s.upstream("demo").Servers {
		if server.ID != before[i].ID {
			t.Errorf("server %s did not live on", before[i].ID)
		}
	}
}

func TestInvalidReloadChangesNothing(t *testing.T) {
	s := start(t, demo(`"--service-time", "1ms"`, ""))
	s.waitReplicas("demo", 1, 10*time.Second)
	s.edit("health_check", "helth_check")
	s.signal(syscall.SIGHUP)
	within(t, 5*time.Second, "the error in the status", func() bool {
		return strings.Contains(s.status().Config.Error, "health_check")
	})
	if g := s.status().Config.Generation; g != 1 {
		t.Errorf("generation %d", g)
	}
	if code, _, err := fetch(s.url); code != http.StatusOK {
		t.Errorf("after a refused reload: %d, %v", code, err)
	}
}

func TestUpgradeUnderLoadLosesNothing(t *testing.T) {
	s := start(t, demo(`"--concurrency", "50", "--service-time", "5ms"`, `scale = { min = 2, max = 2 }`))
	s.waitReplicas("demo", 2, 10*time.Second)
	before := s.upstream("demo").Servers
	get := load(t, "--concurrency", "8", "--duration", "20s", s.url+"/get")
	post := load(t, "--concurrency", "8", "--duration", "20s", "--method", "POST", "--body-size", "2000", s.url+"/post")
	for range 20 {
		s.upgrade()
	}
	get().lostNothing(t)
	post().lostNothing(t)
	s.waitReplicas("demo", 2, 10*time.Second)
	for i, server := range s.upstream("demo").Servers {
		if server.ID != before[i].ID {
			t.Errorf("replica %s was not handed over: %s", before[i].ID, server.ID)
		}
	}
}

// isZombie reports that the process has ended and nobody has asked for its exit code yet.
func isZombie(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && strings.Contains(string(text), ") Z ")
}

func (s *running) waitAdmin() {
	s.t.Helper()
	within(s.t, 20*time.Second, "the admin API answers", func() bool {
		code, _, err := fetch(s.admin + "/readyz")
		return err == nil && code == http.StatusOK
	})
}

func TestShutdownFinishesWhatRunsAndRefusesNothingBefore(t *testing.T) {
	s := start(t, "shutdown_delay = \"3s\"\n"+demo(`"--service-time", "3500ms"`, ""))
	s.waitReplicas("demo", 1, 10*time.Second)
	slow := make(chan string, 1)
	go func() {
		code, _, err := fetch(s.url)
		slow <- fmt.Sprint(code, err)
	}()
	within(t, 5*time.Second, "the request is in flight", func() bool { return s.upstream("demo").InFlight == 1 })
	s.signal(syscall.SIGTERM)
	within(t, 2*time.Second, "/readyz fails", func() bool { code, _, _ := fetch(s.admin + "/readyz"); return code == 503 })
	if code, _, err := fetch(s.url + "/during-the-delay"); code != http.StatusOK {
		t.Errorf("new work within shutdown_delay: %d, %v", code, err)
	}
	if got := <-slow; got != "200 <nil>" {
		t.Errorf("request in flight: %s", got)
	}
	if code := s.exitCode(10 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestDrainDeadlineCutsAndSaysSo(t *testing.T) {
	s := start(t, strings.Replace(demo(`"--service-time", "20s"`, ""), `"5s"`, `"300ms"`, 1))
	s.waitReplicas("demo", 1, 10*time.Second)
	go fetch(s.url)
	within(t, 5*time.Second, "the request is in flight", func() bool { return s.upstream("demo").InFlight == 1 })
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(15 * time.Second); code != exitCut {
		t.Errorf("exit code %d, want %d", code, exitCut)
	}
}

func TestSecondTermStopsAtOnce(t *testing.T) {
	s := start(t, strings.Replace(demo(`"--service-time", "20s"`, ""), `"5s"`, `"20s"`, 1))
	s.waitReplicas("demo", 1, 10*time.Second)
	go fetch(s.url)
	within(t, 5*time.Second, "the request is in flight", func() bool { return s.upstream("demo").InFlight == 1 })
	s.signal(syscall.SIGTERM)
	// Signals of one kind that arrive together are one.
	within(t, 10*time.Second, "the first one is taken", func() bool { return strings.Contains(s.log.String(), "shutting down") })
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(10 * time.Second); code != exitCut { // long before the 20 s of the drain
		t.Errorf("exit code %d, want %d", code, exitCut)
	}
}

func TestTokenStreamArrivesTokenByToken(t *testing.T) {
	s := start(t, demo(`"--token-time", "100ms", "--service-time", "1ms"`, ""))
	s.waitReplicas("demo", 1, 10*time.Second)
	resp, err := http.Post(s.url+"/v1/chat/completions", "application/json",
		strings.NewReader(`{"model":"demo","stream":true,"max_tokens":8,"messages":[{"role":"user","content":"hi"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var at []time.Time
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "data: {") {
			at = append(at, time.Now())
		}
	}
	if len(at) < 5 {
		t.Fatalf("%d events", len(at))
	}
	if spread := at[len(at)-1].Sub(at[0]); spread < 300*time.Millisecond {
		t.Errorf("%d events arrived within %s: they were held back", len(at), spread)
	}
}

// A large upload passes in constant memory and arrives whole.
func TestUploadLeavesMemoryFlat(t *testing.T) {
	const size = 512 << 20
	s := start(t, demo(`"--service-time", "1ms"`, ""))
	s.waitReplicas("demo", 1, 10*time.Second)
	sum := sha256.New()
	reader, writer := io.Pipe()
	go func() {
		block := make([]byte, 64<<10)
		for i := range block {
			block[i] = byte(i * 7)
		}
		for range size / len(block) {
			sum.Write(block)
			if _, err := writer.Write(block); err != nil {
				return
			}
		}
		writer.Close()
	}()
	resp, err := http.Post(s.url+"/echo?discard=1", "application/octet-stream", reader)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d, %v", resp.StatusCode, err)
	}
	if peak := peakMemory(t, s.cmd.Process.Pid); peak > 64<<20 {
		t.Errorf("peak memory %d MiB for an upload of %d MiB", peak>>20, size>>20)
	}
}

// peakMemory is the highest resident size of a process so far, in bytes.
func peakMemory(t *testing.T, pid int) (bytes int64) {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &bytes); err == nil {
			return bytes << 10
		}
	}
	t.Fatal("no VmHWM")
	return 0
}

func TestPortInUse(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := prepare(t, "[[route]]\nrespond = \"hi\"\n")
	s.edit(strings.TrimPrefix(s.url, "http://"), taken.Addr().String())
	code, _, stderr := commandOutput(t, "run", "-c", s.file)
	if code != exitFailed || !strings.Contains(stderr, "in use") || !strings.Contains(stderr, taken.Addr().String()) {
		t.Errorf("exit %d, %q", code, stderr)
	}
}

func TestCheckShowsAllMistakesWithPositions(t *testing.T) {
	s := prepare(t, `
[[route]]
upstrem = "api"
respond = "x"
[upstream.api]
servers = ["127.0.0.1:1"]
dns = "api:80"
health_check = { interval = 5 }
`)
	code, _, stderr := commandOutput(t, "check", "-c", s.file)
	if code != 3 {
		t.Errorf("exit %d", code)
	}
	if !strings.HasPrefix(stderr, s.file+":7:1: ") {
		t.Errorf("the first line does not begin with its position:\n%s", stderr)
	}
	for _, want := range []string{s.file + ":7:1", `"upstream"`, s.file + ":11:", s.file + ":12:"} {
		if !strings.Contains(stderr, want) {
			t.Errorf("%q is not in\n%s", want, stderr)
		}
	}
}

// An engine that is not there keeps only what needs it from serving, and the status says why.
func TestAbsentEngineLeavesTheRestServing(t *testing.T) {
	s := start(t, `
engine = { kind = "docker", socket = "unix:///nowhere/docker.sock" }
[[route]]
path = "/fixed"
respond = "served"
[[route]]
path = "/api"
upstream = "api"
[upstream.api]
container = { image = "nothing" }
queue = { timeout = "200ms" }
`)
	if code, body, err := fetch(s.url + "/fixed"); code != 200 || body != "served" {
		t.Errorf("%d, %q, %v", code, body, err)
	}
	if code, body, err := fetch(s.url + "/api"); code != 503 {
		t.Errorf("%d, %q, %v", code, body, err)
	}
	within(t, 10*time.Second, "the reason in the status", func() bool {
		_, body, _ := fetch(s.admin + "/api/v1/status")
		return strings.Contains(body, "/nowhere/docker.sock")
	})
}

// While the engine is awaited, the file is not read again: an edit waits for its reload, also when the engine comes.
func TestAwaitedEngineReadsNoFile(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "engine.sock")
	s := start(t, fmt.Sprintf(`
engine = { kind = "docker", socket = "unix://%s" }
[[route]]
path = "/old"
respond = "served"
[[route]]
path = "/api"
upstream = "api"
[upstream.api]
container = { image = "nothing" }
`, socket))
	s.edit("/old", "/new")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	engine := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { // only answers that it is there
		w.Header().Set("Api-Version", "1.41")
		if !strings.HasSuffix(r.URL.Path, "/_ping") {
			http.Error(w, `{"message":"not in this test"}`, http.StatusInternalServerError)
		}
	})}
	go engine.Serve(ln)
	defer engine.Close()
	within(t, 20*time.Second, "the engine is found", func() bool {
		_, body, _ := fetch(s.admin + "/api/v1/status")
		return strings.Contains(body, "answers (API 1.41)")
	})
	if code, _, err := fetch(s.url + "/new"); code != 404 {
		t.Errorf("the edited file is served without a reload: %d, %v", code, err)
	}
	if code, body, err := fetch(s.url + "/old"); code != 200 {
		t.Errorf("%d, %q, %v", code, body, err)
	}
	if n := strings.Count(s.log.String(), "the source of the servers changed"); n != 1 {
		t.Errorf("the source changed %d times with the one engine that came:\n%s", n, s.log)
	}
}
