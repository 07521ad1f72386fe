package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// dockerEngine is an engine that tests talk to with its own client program.
type dockerEngine struct {
	t    *testing.T
	host string // of -H; "" is the default
}

func (d dockerEngine) try(args ...string) (string, error) {
	if d.host != "" {
		args = append([]string{"-H", d.host}, args...)
	}
	out, err := exec.Command("docker", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("docker %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out)), err
}

func (d dockerEngine) run(args ...string) string {
	d.t.Helper()
	out, err := d.try(args...)
	if err != nil {
		d.t.Fatal(err)
	}
	return out
}

// socket is what engine.socket says for it.
func (d dockerEngine) socket() string {
	return cmp.Or(d.host, os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock")
}

// containers are the names, or what format says, of all containers with that label, running or not.
func (d dockerEngine) containers(label, format string) []string {
	d.t.Helper()
	return strings.Fields(d.run("ps", "-a", "--no-trunc", "--filter", "label="+label, "--format", format))
}

// image builds an image of this tree's sluice from nothing and removes it, with every container of
// the owner, when the test ends.
func (d dockerEngine) image(owner string) string {
	d.t.Helper()
	return d.imageOf("sluice", owner)
}

// hogImage is image with testdata/hog in it.
func (d dockerEngine) hogImage(owner string) string {
	d.t.Helper()
	return d.imageOf("hog", owner)
}

func (d dockerEngine) imageOf(program, owner string) string {
	d.t.Helper()
	folder, name := d.t.TempDir(), "sluice-test-e2e-"+owner
	binary, err := os.ReadFile(binary(d.t, program))
	if err != nil {
		d.t.Fatal(err)
	}
	dockerfile := "FROM scratch\nCOPY program /sluice\nENTRYPOINT [\"/sluice\"]\n"
	for file, content := range map[string][]byte{"program": binary, "Dockerfile": []byte(dockerfile)} {
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o755); err != nil { //nolint:gosec // it is a program
			d.t.Fatal(err)
		}
	}
	d.run("build", "-q", "-t", name, folder)
	d.t.Cleanup(func() {
		for _, id := range d.containers("sluice.owner="+owner, "{{.ID}}") {
			_, _ = d.try("rm", "-f", id)
		}
		_, _ = d.try("rmi", "-f", name)
	})
	return name
}

// docker is the machine's engine, with an owner of the test's own.
func docker(t *testing.T) (d dockerEngine, owner string) {
	t.Helper()
	d = dockerEngine{t: t}
	_, err := d.try("version", "--format", "{{.Server.Version}}")
	requireEngine(t, "docker", err)
	return d, fmt.Sprintf("e2e%08x", rand.Uint32())
}

// containerConfig is a configuration with one upstream of declared containers.
func containerConfig(owner, image, socket, scale string) string {
	return fmt.Sprintf(`
log.access = "off"
engine = { kind = "docker", project = %q, socket = %q }
[[route]]
upstream = "api"
[upstream.api]
container = { image = %q, command = ["demo-backend", "--addr", "0.0.0.0:8000", "--concurrency", "4", "--service-time", "100ms"], port = 8000, stop_grace = "5s" }
max_conns = 4
health_check = { path = "/healthz", interval = "300ms" }
scale = { %s }
`, owner, socket, image, scale)
}

func TestContainersScaleWithTheLoad(t *testing.T) {
	d, owner := docker(t)
	s := start(t, containerConfig(owner, d.image(owner), d.socket(), `min = 1, max = 5, queued_per_replica = 4, cooldown_down = "2s"`))
	s.waitReplicas("api", 1, 60*time.Second)
	wait := load(t, "--rate", "150", "--duration", "25s", s.url)
	within(t, 60*time.Second, "five replicas", func() bool { return s.upstream("api").Ready == 5 })
	s.waitReplicas("api", 1, 120*time.Second)
	l := wait()
	l.lostNothing(t)
	within(t, 30*time.Second, "one container is left", func() bool { return len(d.containers("sluice.owner="+owner, "{{.ID}}")) == 1 })
}

func TestContainerRemovedByHand(t *testing.T) {
	d, owner := docker(t)
	s := start(t, containerConfig(owner, d.image(owner), d.socket(), "min = 2, max = 2"))
	s.waitReplicas("api", 2, 60*time.Second)
	wait := load(t, "--concurrency", "4", "--duration", "8s", s.url)
	victim := s.upstream("api").Servers[0].ID
	time.Sleep(time.Second)
	d.run("rm", "-f", victim)
	within(t, time.Second, "it is unrouted", func() bool {
		for _, server := range s.upstream("api").Servers {
			if server.ID == victim {
				return false
			}
		}
		return true
	})
	s.waitReplicas("api", 2, 10*time.Second)
	wait().lostNothing(t)
}

// Killed in the middle of a scale-up, sluice finds what it had begun: no duplicate, no orphan.
func TestKilledInTheMiddleOfAScaleUp(t *testing.T) {
	d, owner := docker(t)
	s := prepare(t, containerConfig(owner, d.image(owner), d.socket(), "min = 4, max = 6"))
	for _, delay := range []time.Duration{150 * time.Millisecond, 700 * time.Millisecond, 1500 * time.Millisecond} {
		s.launch()
		within(t, 60*time.Second, "the scale-up begins", func() bool { return len(d.containers("sluice.owner="+owner, "{{.ID}}")) > 0 })
		time.Sleep(delay)
		s.signal(syscall.SIGKILL)
		s.exitCode(5 * time.Second)
	}
	s.launch()
	s.waitReady()
	s.waitReplicas("api", 4, 30*time.Second)
	if names := d.containers("sluice.owner="+owner, "{{.Names}}"); len(names) != 4 {
		t.Errorf("containers %v, want 4", names)
	}
}

// Containers outlive sluice and are adopted by the next one.
func TestContainersAreAdopted(t *testing.T) {
	d, owner := docker(t)
	s := start(t, containerConfig(owner, d.image(owner), d.socket(), "min = 2, max = 2"))
	s.waitReplicas("api", 2, 60*time.Second)
	before := d.containers("sluice.owner="+owner, "{{.ID}}")
	s.signal(syscall.SIGTERM)
	if code := s.exitCode(15 * time.Second); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	s.launch()
	s.waitReady()
	s.waitReplicas("api", 2, 20*time.Second)
	if after := d.containers("sluice.owner="+owner, "{{.ID}}"); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("containers before %v, after %v", before, after)
	}
}

func TestImageMissingIsSaidInTheStatus(t *testing.T) {
	d, owner := docker(t)
	s := start(t, containerConfig(owner, "sluice-test-no-such-image", d.socket(), "min = 1, max = 2"))
	within(t, 30*time.Second, "the reason in the status", func() bool {
		_, body, _ := fetch(s.admin + "/api/v1/status")
		return strings.Contains(body, "sluice-test-no-such-image") && strings.Contains(body, "failure")
	})
}

// ownEngine is a Docker Engine of the test's own, on a bridge of its own.
type ownEngine struct {
	dockerEngine
	folder, driver, bridge string
	wrap                   []string // put before its command line
	process                *os.Process
	done                   chan struct{} // closed when the process has ended
	log                    *lockedBuffer
}

// newOwnEngine starts one with that daemon.json, and ends it with the test.
func newOwnEngine(t *testing.T, config string) *ownEngine {
	t.Helper()
	shared, _ := docker(t) // the same requirement
	driver := shared.run("info", "--format", "{{.Driver}}")
	if os.Getuid() != 0 {
		t.Skip("an engine of the test's own needs root")
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		requireEngine(t, "docker", err)
	}
	bridge := fmt.Sprintf("slu%06x", rand.Uint32()&0xffffff)
	for _, args := range [][]string{{"link", "add", bridge, "type", "bridge"}, {"addr", "add", freeSubnet(t) + ".1/24", "dev", bridge}, {"link", "set", bridge, "up"}} {
		if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
			t.Fatalf("ip %v: %v: %s", args, err, out)
		}
	}
	t.Cleanup(func() { _ = exec.Command("ip", "link", "del", bridge).Run() })
	e := &ownEngine{folder: t.TempDir(), driver: driver, bridge: bridge}
	t.Cleanup(func() { unmountBelow(e.folder) })
	e.launch(t, config)
	t.Cleanup(func() { e.end(t) })
	return e
}

// freeSubnet is the first three numbers of a network that no interface has, not even one that a test left behind which was killed:
// packets for the servers of this one would go there.
func freeSubnet(t *testing.T) string {
	t.Helper()
	taken, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	for n := range 100 {
		subnet := fmt.Sprintf("10.213.%d", 100+n)
		if !slices.ContainsFunc(taken, func(a net.Addr) bool { return strings.HasPrefix(a.String(), subnet+".") }) {
			return subnet
		}
	}
	t.Fatal("no network 10.213.100.0/24 to 10.213.199.0/24 is free")
	return ""
}

// runEngine starts a Docker Engine that keeps everything in folder, on that bridge, and ends it with the
// test. wrap is put before its command line.
func runEngine(t *testing.T, folder, driver, bridge string, wrap ...string) (d dockerEngine, process *os.Process) {
	t.Helper()
	e := &ownEngine{folder: folder, driver: driver, bridge: bridge, wrap: wrap}
	e.launch(t, "{}")
	t.Cleanup(func() { e.end(t) })
	return e.dockerEngine, e.process
}

// launch starts the engine, or starts it again, and waits until it answers.
func (e *ownEngine) launch(t *testing.T, config string) {
	t.Helper()
	e.dockerEngine = dockerEngine{t: t, host: "unix://" + filepath.Join(e.folder, "docker.sock")}
	if err := os.WriteFile(filepath.Join(e.folder, "daemon.json"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	e.log = &lockedBuffer{}
	args := append(slices.Clone(e.wrap), "dockerd", "-H", e.host, "--config-file", filepath.Join(e.folder, "daemon.json"), "--storage-driver", e.driver, "-b", e.bridge, "--iptables=false", "--ip6tables=false", "--ip-masq=false", "--ip-forward=false",
		"--data-root", filepath.Join(e.folder, "data"), "--exec-root", filepath.Join(e.folder, "exec"), "-p", filepath.Join(e.folder, "pid"))
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = e.log, e.log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	e.process, e.done = cmd.Process, done
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	within(t, 60*time.Second, "the test's engine answers", func() bool {
		select {
		case <-done:
			t.Fatalf("the test's engine ended:\n%s", e.log)
		default:
		}
		_, err := e.try("version")
		return err == nil
	})
}

// end stops the engine, if it runs.
func (e *ownEngine) end(t *testing.T) {
	t.Helper()
	_ = e.process.Signal(syscall.SIGCONT)
	_ = e.process.Signal(syscall.SIGTERM)
	select {
	case <-e.done:
	case <-time.After(30 * time.Second):
		_ = e.process.Kill()
		t.Errorf("the test's engine did not end:\n%s", e.log)
	}
}

// unmountBelow takes away what an engine that was killed has left mounted in its folder, which can then be removed.
func unmountBelow(folder string) {
	mounts, _ := os.ReadFile("/proc/mounts")
	for line := range strings.Lines(string(mounts)) {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], folder+"/") {
			_ = exec.Command("umount", "-l", fields[1]).Run()
		}
	}
}

// An engine that hangs freezes scaling and nothing else; afterwards all goes on.
func TestHangingEngineLeavesTrafficAlone(t *testing.T) {
	d := newOwnEngine(t, "{}")
	_, owner := docker(t)
	image := d.image(owner)
	s := start(t, containerConfig(owner, image, d.socket(), `min = 2, max = 4, queued_per_replica = 4, cooldown_down = "2s"`))
	s.waitReplicas("api", 2, 90*time.Second)
	wait := load(t, "--rate", "30", "--duration", "24s", s.url)
	time.Sleep(2 * time.Second)
	if err := d.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Second)
	if u := s.upstream("api"); u.Ready != 2 {
		t.Errorf("with the engine stopped %d servers are ready: %+v", u.Ready, u)
	}
	if err := d.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	l := wait()
	l.lostNothing(t)
	if l.Refused != 0 {
		t.Errorf("%d requests refused: %+v", l.Refused, l)
	}
	if code, _, err := fetchPost(s.admin+"/api/v1/upstreams/api/scale", `{"replicas": 3}`); code != 200 {
		t.Fatalf("scale: %d, %v", code, err)
	}
	s.waitReplicas("api", 3, 60*time.Second)
}
