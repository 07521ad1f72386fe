package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// apart starts `sluice scaler` for a gateway that has no socket of any engine.
type apart struct {
	*running
	socket string
}

// scalerApart prepares a scaler with the configuration as it is, and a gateway with the same one but for the
// engine's socket, which does not exist for it.
func scalerApart(t *testing.T, d dockerEngine, config string) (k *apart, gateway *running) {
	t.Helper()
	folder, err := os.MkdirTemp("", "sluice-apart-") // a socket's path has few bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(folder) })
	socket := filepath.Join(folder, "scaler.sock")
	engine := fmt.Sprintf("socket = %q", d.socket())
	if !strings.Contains(config, engine) {
		t.Fatalf("no %s in the configuration", engine)
	}
	gateway = prepare(t, strings.Replace(config, engine, fmt.Sprintf("socket = \"unix:///nonexistent/docker.sock\", scaler = %q", socket), 1))
	k = &apart{&running{t: t, file: filepath.Join(folder, "config.toml")}, socket}
	k.write(config)
	return k, gateway
}

func (k *apart) launch() {
	k.t.Helper()
	k.log, k.exited = &lockedBuffer{}, make(chan struct{})
	k.cmd = exec.Command(binary(k.t, "sluice"), "scaler", "-c", k.file, "--socket", k.socket)
	k.cmd.Stdout, k.cmd.Stderr = k.log, k.log
	if err := k.cmd.Start(); err != nil {
		k.t.Fatal(err)
	}
	cmd, exited, log := k.cmd, k.exited, k.log
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	k.t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			k.t.Errorf("the scaler did not end within 20 s of SIGTERM")
		}
		if k.t.Failed() {
			k.t.Logf("the scaler said:\n%s", log)
		}
	})
	within(k.t, 20*time.Second, "the scaler runs", func() bool { return strings.Contains(log.String(), "the scaler is running") })
}

// engineStatus is the engine in the status.
func engineStatus(t *testing.T, s *running) (kind, why string) {
	t.Helper()
	_, body, _ := fetch(s.admin + "/api/v1/status")
	var st struct{ Engine struct{ Kind, Why string } }
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		t.Fatalf("%v in %s", err, body)
	}
	return st.Engine.Kind, st.Engine.Why
}

// sockets are what `ss` says of a process's sockets of that family, listening or connected.
func sockets(t *testing.T, pid int, family string) (lines []string) {
	t.Helper()
	out, err := exec.Command("ss", "-H", "-n", "-a", "-p", family).CombinedOutput()
	if err != nil {
		t.Fatalf("ss, which shows who is connected to what: %v: %s", err, out)
	}
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, fmt.Sprintf("pid=%d,", pid)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// hasEngine reports whether a process is connected to the engine's socket, as the kernel lists both ends.
func hasEngine(t *testing.T, d dockerEngine, pid int) bool {
	t.Helper()
	path := strings.TrimPrefix(d.socket(), "unix://")
	out, err := exec.Command("ss", "-H", "-n", "-a", "--unix").Output()
	if err != nil {
		t.Fatal(err)
	}
	ends := map[string]bool{} // inodes of those connected to it
	for line := range strings.Lines(string(out)) {
		// family, state, two queues, the own path and inode, the peer's path and inode
		if f := strings.Fields(line); len(f) >= 8 && strings.TrimPrefix(f[4], "/var") == strings.TrimPrefix(path, "/var") {
			ends[f[7]] = true
		}
	}
	for _, line := range sockets(t, pid, "--unix") {
		if f := strings.Fields(line); len(f) >= 8 && ends[f[5]] {
			return true
		}
	}
	return false
}

func TestScalerApart(t *testing.T) {
	d, owner := docker(t)
	k, s := scalerApart(t, d, containerConfig(owner, d.image(owner), d.socket(), `min = 1, max = 4, queued_per_replica = 4, cooldown_down = "2s"`))
	s.launch() // first: it waits for the scaler
	s.waitReady()
	if kind, why := engineStatus(t, s); kind != "unknown" || !strings.Contains(why, "does not answer") {
		t.Errorf("without a scaler the engine is %s: %s", kind, why)
	}
	k.launch()
	s.waitReplicas("api", 1, 60*time.Second)
	if kind, why := engineStatus(t, s); kind != "docker" || !strings.Contains(why, k.socket) {
		t.Errorf("the engine is %s: %s", kind, why)
	}
	if lines := sockets(t, k.cmd.Process.Pid, "--tcp"); len(lines) != 0 {
		t.Errorf("the scaler has TCP sockets: %s", lines)
	}
	if lines := sockets(t, k.cmd.Process.Pid, "--udp"); len(lines) != 0 {
		t.Errorf("the scaler has UDP sockets: %s", lines)
	}

	wait := load(t, "--rate", "120", "--duration", "25s", s.url)
	within(t, 60*time.Second, "four replicas", func() bool { return s.upstream("api").Ready == 4 })
	if !hasEngine(t, d, k.cmd.Process.Pid) {
		t.Error("the scaler is not connected to the engine's socket: this test sees nothing")
	}
	if hasEngine(t, d, s.cmd.Process.Pid) {
		t.Error("the gateway is connected to the engine's socket")
	}
	s.waitReplicas("api", 1, 120*time.Second)
	wait().lostNothing(t)
	within(t, 30*time.Second, "one container is left", func() bool { return len(d.containers("sluice.owner="+owner, "{{.ID}}")) == 1 })
}

// A scaler that is killed, or hangs, freezes scaling and nothing else; all goes on when it is back.
func TestScalerApartDiesAndHangs(t *testing.T) {
	takesMinutes(t)
	d, owner := docker(t)
	k, s := scalerApart(t, d, containerConfig(owner, d.image(owner), d.socket(), `min = 2, max = 4, queued_per_replica = 100`))
	k.launch()
	s.launch()
	s.waitReady()
	s.waitReplicas("api", 2, 60*time.Second)
	pin := func(n int) {
		t.Helper()
		if code, body, err := fetchPost(s.admin+"/api/v1/upstreams/api/scale", fmt.Sprintf(`{"replicas": %d}`, n)); code != 200 {
			t.Fatalf("scale: %d %s, %v", code, body, err)
		}
	}
	said := func(what, why string) {
		t.Helper()
		within(t, 60*time.Second, what, func() bool {
			for _, n := range s.upstream("api").Notes {
				if n.Name == "scaler" && strings.Contains(n.Why, why) {
					return true
				}
			}
			return false
		})
	}
	wait := load(t, "--rate", "20", "--duration", "40s", s.url)
	if err := k.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-k.exited
	said("the scaler's end in the status", "the last servers are kept")
	if u := s.upstream("api"); u.Ready != 2 {
		t.Errorf("without a scaler %d servers are ready", u.Ready)
	}
	if code, body, err := fetchPost(s.admin+"/api/v1/reload", ""); code != 200 {
		t.Fatalf("reload without a scaler: %d %s, %v", code, body, err)
	}
	if u := s.upstream("api"); u.Ready != 2 {
		t.Errorf("after a reload without a scaler %d servers are ready", u.Ready)
	}
	pin(3)
	k.launch()
	s.waitReplicas("api", 3, 60*time.Second)

	if err := k.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	said("the scaler's silence in the status", "the last servers are kept")
	if u := s.upstream("api"); u.Ready != 3 {
		t.Errorf("with the scaler stopped %d servers are ready", u.Ready)
	}
	pin(2)
	if err := k.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	s.waitReplicas("api", 2, 60*time.Second)
	l := wait()
	l.lostNothing(t)
	if l.Refused != 0 {
		t.Errorf("%d requests refused: %+v", l.Refused, l)
	}
}

// The scaler's own file bounds what the gateway gets, whatever the gateway's says, and HUP rereads it.
func TestScalerApartHasTheBounds(t *testing.T) {
	d, owner := docker(t)
	k, s := scalerApart(t, d, containerConfig(owner, d.image(owner), d.socket(), "min = 1, max = 1"))
	s.edit("min = 1, max = 1", "min = 3, max = 9")
	more := "\n[[route]]\nhost = \"other\"\nupstream = \"other\"\n[upstream.other]\ncontainer = { image = \"x\", port = 1 }\n"
	text, err := os.ReadFile(s.file)
	if err != nil {
		t.Fatal(err)
	}
	s.write(string(text) + more)
	k.launch()
	s.launch()
	s.waitReady()
	within(t, 60*time.Second, "the refusal in the status", func() bool {
		return strings.Contains(s.upstream("api").Failure, "not within 0 to 1")
	})
	if n := len(d.containers("sluice.owner="+owner, "{{.ID}}")); n > 1 {
		t.Errorf("%d containers", n)
	}
	within(t, 30*time.Second, "the refusal in the scaler's log", func() bool { return strings.Contains(k.log.String(), "not within 0 to 1") })
	within(t, 30*time.Second, "the unknown upstream in the status", func() bool {
		return strings.Contains(fmt.Sprint(s.upstream("other").Notes), `no upstream "other"`)
	})

	k.edit("min = 1, max = 1", "min = 1, max = 3")
	k.signal(syscall.SIGHUP)
	within(t, 10*time.Second, "the file is read again", func() bool { return strings.Contains(k.log.String(), "msg=reloaded") })
	s.waitReplicas("api", 3, 60*time.Second)
	k.edit("[upstream.api]", "[upstream.api")
	k.signal(syscall.SIGHUP)
	within(t, 10*time.Second, "a broken file is refused", func() bool { return strings.Contains(k.log.String(), "reload refused") })
	if u := s.upstream("api"); u.Ready != 3 {
		t.Errorf("%d servers are ready", u.Ready)
	}
}
