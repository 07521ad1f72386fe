package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/client"

	discoverydocker "sluice/discovery/docker"
	scalerswarm "sluice/scaler/swarm"
)

// swarmNode is one engine of a swarm of the test's own, in a network namespace of its own, so that
// neither the machine's engine nor its ports and bridges become part of it.
type swarmNode struct {
	dockerEngine
	netns
	process *os.Process
	image   string
	folder  string
	driver  string
}

// newSwarmNode starts an engine that is in no swarm yet, with sluice's image.
func newSwarmNode(t *testing.T, owner string) *swarmNode {
	t.Helper()
	shared, _ := docker(t) // the same requirement
	driver := shared.run("info", "--format", "{{.Driver}}")
	if os.Getuid() != 0 {
		t.Skip("an engine of the test's own needs root")
	}
	if _, err := exec.LookPath("dockerd"); err != nil {
		requireEngine(t, "docker", err)
	}
	n := &swarmNode{netns: newNetns(t), folder: t.TempDir(), driver: driver}
	n.ip("link add bridge0 type bridge")
	n.ip("addr add 10.213.78.1/24 dev bridge0")
	n.ip("link set bridge0 up")
	t.Cleanup(func() { unmountBelow(n.folder) })
	n.launch(t)
	n.image = "sluice-test-e2e:" + owner
	n.build(n.image, "FROM scratch\nCOPY sluice /sluice\nENTRYPOINT [\"/sluice\"]\n")
	return n
}

// launch starts the engine, or starts it again.
func (n *swarmNode) launch(t *testing.T) {
	t.Helper()
	n.dockerEngine, n.process = runEngine(t, n.folder, n.driver, "bridge0", n.wrap()...)
}

// build makes an image with sluice, which ends with the engine's folder.
func (n *swarmNode) build(image, dockerfile string) {
	t := n.dockerEngine.t
	t.Helper()
	folder := t.TempDir()
	program, err := os.ReadFile(binary(t, "sluice"))
	if err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string][]byte{"sluice": program, "Dockerfile": []byte(dockerfile)} {
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o755); err != nil { //nolint:gosec // it is a program
			t.Fatal(err)
		}
	}
	n.run("build", "-q", "-t", image, folder)
}

// newSwarm is a swarm of one manager.
func newSwarm(t *testing.T) *swarmNode {
	t.Helper()
	_, owner := docker(t)
	n := newSwarmNode(t, owner)
	n.run("swarm", "init", "--advertise-addr", "127.0.0.1")
	n.run("network", "create", "-d", "overlay", "--attachable", "app")
	n.atEnd(t)
	return n
}

// with is n for a subtest.
func (n *swarmNode) with(t *testing.T) *swarmNode {
	m := *n
	m.dockerEngine.t, m.netns.t = t, t
	return &m
}

// atEnd leaves the swarm before the engine ends, which ends its tasks.
func (n *swarmNode) atEnd(t *testing.T) {
	t.Cleanup(func() { _, _ = n.try("swarm", "leave", "--force") })
}

// service creates a service of the demo backend; options go to the command line.
func (n *swarmNode) service(t *testing.T, name string, options ...string) {
	t.Helper()
	args := []string{"service", "create", "-d", "--no-resolve-image", "--endpoint-mode", "dnsrr", "--network", "app", "--restart-delay", "1s", "--name", name}
	args = append(append(args, options...), n.image, "demo-backend", "--addr", "0.0.0.0:8000", "--concurrency", "4", "--service-time", "100ms")
	n.run(args...)
	t.Cleanup(func() { _, _ = n.try("service", "rm", name) })
}

// sluice runs sluice as a process on the node's host.
func (n *swarmNode) sluice(t *testing.T, service, scale string) *running {
	t.Helper()
	s := prepare(t, fmt.Sprintf(`
log.access = "off"
engine = { socket = %q, project = "shop" }
[[route]]
upstream = "api"
[upstream.api]
service = { name = %q, port = 8000 }
max_conns = 4
health_check = { path = "/healthz", interval = "300ms" }
%s
`, n.socket(), service, scale))
	s.wrap = n.wrap()
	n.forward(s.url)
	n.forward(s.admin)
	s.launch()
	s.waitReady()
	return s
}

// tasks are the short IDs of the tasks of a service that are to run, sorted.
func (n *swarmNode) tasks(service string) []string {
	ids := strings.Fields(n.run("service", "ps", "-q", "--filter", "desired-state=running", service))
	slices.Sort(ids)
	return ids
}

func TestSwarm(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	n := newSwarm(t)
	for _, tt := range []struct {
		name string
		run  func(*testing.T, *swarmNode)
		also bool // beside the others
	}{
		{"choice", swarmChoice, false},
		{"scales with the load", swarmScales, false},
		{"rolling update", swarmRollingUpdate, false},
		{"engine hangs", swarmHangs, false},
		{"somebody else", swarmSomebodyElse, true},
		{"stale version", swarmStaleVersion, true},
		{"removed", swarmRemoved, true},
		{"global", swarmGlobal, true},
		{"killed container", swarmKilled, true},
		{"stack", swarmStack, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if tt.also {
				t.Parallel()
			}
			tt.run(t, n.with(t))
		})
	}
}

// A manager goes before a plain engine, and the choice is said.
func swarmChoice(t *testing.T, n *swarmNode) {
	shared := dockerEngine{t: t}
	for _, tt := range []struct{ kind, socket, want string }{
		{"auto", n.socket(), "engine swarm: the engine at " + n.socket() + " is a Swarm manager, which goes before the plain engine"},
		{"swarm", n.socket(), "engine swarm: the engine at " + n.socket() + " is a Swarm manager\n"},
		{"docker", n.socket(), "engine docker: the Docker Engine at " + n.socket() + " answers"},
		{"swarm", shared.socket(), "engine swarm: engine.kind is swarm; the engine at " + shared.socket() + " is in no swarm\n"},
		{"swarm", "unix:///nowhere.sock", "engine swarm: engine.kind is swarm; unix:///nowhere.sock does not answer"},
	} {
		if tt.socket == shared.socket() && shared.run("info", "--format", "{{.Swarm.LocalNodeState}}") != "inactive" {
			continue // the machine's engine is in a swarm
		}
		s := prepare(t, fmt.Sprintf("engine = { kind = %q, socket = %q }\n[[route]]\nupstream = \"api\"\n[upstream.api]\nservice = \"api\"\n", tt.kind, tt.socket))
		code, out, said := commandOutput(t, "check", "-c", s.file)
		if code != exitOK || !strings.Contains(out, tt.want) {
			t.Errorf("%s at %s: exit code %d, %s%s", tt.kind, tt.socket, code, out, said)
		}
	}
}

// One → three → one with the load, with requests shorter than the grace: nothing is lost, and the task
// that was there lives on or goes as Swarm likes, but is not made anew.
func swarmScales(t *testing.T, n *swarmNode) {
	n.service(t, "shop_api", "--label", "com.docker.stack.namespace=shop", "--stop-grace-period", "10s")
	s := n.sluice(t, "api", `scale = { min = 1, max = 3, queued_per_replica = 4, cooldown_down = "2s" }`)
	s.waitReplicas("api", 1, 60*time.Second)
	first := n.tasks("shop_api")
	wait := load(t, "--rate", "100", "--duration", "14s", s.url)
	slow := load(t, "--concurrency", "2", "--duration", "24s", s.url+"/?work=2s")
	within(t, 60*time.Second, "three replicas", func() bool { return s.upstream("api").Ready == 3 })
	if all := n.tasks("shop_api"); len(all) != 3 || !slices.Contains(all, first[0]) {
		t.Errorf("tasks %v, first %v", all, first)
	}
	wait().lostNothing(t)
	s.waitReplicas("api", 1, 90*time.Second)
	l := slow()
	l.lostNothing(t)
	if l.Refused != 0 {
		t.Errorf("refused: %+v", l)
	}
}

// Every task is replaced, in both orders, and no client sees it.
func swarmRollingUpdate(t *testing.T, n *swarmNode) {
	n.service(t, "roll", "--replicas", "3", "--stop-grace-period", "10s")
	s := n.sluice(t, "roll", "")
	s.waitReplicas("api", 3, 60*time.Second)
	for _, order := range []string{"stop-first", "start-first"} {
		before := n.tasks("roll")
		wait := load(t, "--rate", "40", "--duration", "20s", s.url)
		n.run("service", "update", "-d", "--no-resolve-image", "--force", "--update-order", order, "--update-parallelism", "1", "--update-delay", "1s", "roll")
		within(t, 60*time.Second, "all tasks replaced", func() bool {
			u := s.upstream("api")
			return u.Ready == 3 && len(u.Servers) == 3 && !slices.ContainsFunc(n.tasks("roll"), func(id string) bool { return slices.Contains(before, id) })
		})
		l := wait()
		l.lostNothing(t)
		if l.Refused != 0 {
			t.Errorf("%s: refused: %+v", order, l)
		}
	}
}

// A number that somebody else sets is left for the moment and said; in the end sluice's counts.
func swarmSomebodyElse(t *testing.T, n *swarmNode) {
	n.service(t, "other", "--replicas", "2")
	s := n.sluice(t, "other", `scale = { min = 2, max = 4, cooldown_down = "2s" }`)
	s.waitReplicas("api", 2, 60*time.Second)
	n.run("service", "scale", "-d", "other=1")
	within(t, 15*time.Second, "it is said", s.noted("api", "somebody else set the service from 2 to 1 replicas"))
	time.Sleep(5 * time.Second)
	if tasks := n.tasks("other"); len(tasks) != 1 {
		t.Errorf("tasks %v", tasks)
	}
	if code, _, err := fetchPost(s.admin+"/api/v1/upstreams/api/scale", `{"replicas": 4}`); code != 200 {
		t.Fatalf("scale: %d, %v", code, err)
	}
	s.waitReplicas("api", 4, 20*time.Second) // its own decision has changed
	n.run("service", "scale", "-d", "other=3")
	within(t, 15*time.Second, "it is said", s.noted("api", "somebody else set the service from 4 to 3 replicas"))
	s.waitReplicas("api", 4, 60*time.Second)
}

// meddling changes a service between the driver's reading and its update.
type meddling struct {
	*client.Client
	meddle func()
	once   sync.Once
	errs   []error
}

func (m *meddling) ServiceUpdate(ctx context.Context, id string, v swarm.Version, spec swarm.ServiceSpec, o swarm.ServiceUpdateOptions) (swarm.ServiceUpdateResponse, error) {
	m.once.Do(m.meddle)
	r, err := m.Client.ServiceUpdate(ctx, id, v, spec, o)
	m.errs = append(m.errs, err)
	return r, err
}

// An update with a stale version is refused by Swarm, and what the other one wrote is kept.
func swarmStaleVersion(t *testing.T, n *swarmNode) {
	n.service(t, "stale")
	cli, err := discoverydocker.NewClient(n.socket())
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	m := &meddling{Client: cli, meddle: func() { n.run("service", "update", "-d", "--no-resolve-image", "--label-add", "by=another", "stale") }}
	d := scalerswarm.New(m, scalerswarm.Options{Upstream: "api", Service: "stale", Log: slog.New(slog.DiscardHandler)})
	var before []string
	within(t, 20*time.Second, "the task", func() bool { before = n.tasks("stale"); return len(before) == 1 })
	if err := d.Scale(t.Context(), 2, nil); err != nil {
		t.Fatal(err)
	}
	if len(m.errs) != 2 || m.errs[0] == nil || m.errs[1] != nil {
		t.Errorf("updates: %v", m.errs)
	}
	if got := n.run("service", "inspect", "--format", "{{.Spec.Mode.Replicated.Replicas}} {{.Spec.Labels.by}}", "stale"); got != "2 another" {
		t.Errorf("%q", got)
	}
	within(t, 20*time.Second, "two tasks, the old one among them", func() bool {
		all := n.tasks("stale")
		return len(all) == 2 && slices.Contains(all, before[0])
	})
	list, err := d.List(t.Context())
	if err != nil || len(list) != 2 {
		t.Errorf("%+v, %v", list, err)
	}
}

// A service that is gone has no servers, and one of the same name that comes is found.
func swarmRemoved(t *testing.T, n *swarmNode) {
	n.service(t, "gone")
	s := n.sluice(t, "gone", `scale = { min = 1, max = 2 }`)
	s.waitReplicas("api", 1, 60*time.Second)
	n.run("service", "rm", "gone")
	within(t, 4*time.Second, "no server", func() bool { return len(s.upstream("api").Servers) == 0 })
	within(t, 4*time.Second, "said", s.noted("api", `there is no Swarm service "shop_gone" (or "gone")`))
	n.service(t, "gone", "--replicas", "2")
	within(t, 60*time.Second, "found again", func() bool { return s.upstream("api").Ready > 0 })
}

// A global service is routed and never scaled.
func swarmGlobal(t *testing.T, n *swarmNode) {
	n.service(t, "everywhere", "--mode", "global")
	s := n.sluice(t, "everywhere", `scale = { min = 2, max = 3 }`)
	within(t, 60*time.Second, "one server", func() bool { return s.upstream("api").Ready == 1 })
	within(t, 20*time.Second, "the refusal in words", func() bool {
		_, body, _ := fetch(s.admin + "/api/v1/status")
		return strings.Contains(body, "the service everywhere is global")
	})
	if mode := n.run("service", "inspect", "--format", "{{json .Spec.Mode}}", "everywhere"); mode != `{"Global":{}}` {
		t.Errorf("mode %s", mode)
	}
}

// A task whose container is killed is out at once, and its successor is found.
func swarmKilled(t *testing.T, n *swarmNode) {
	n.service(t, "mortal", "--replicas", "2")
	s := n.sluice(t, "mortal", "")
	s.waitReplicas("api", 2, 60*time.Second)
	wait := load(t, "--concurrency", "2", "--duration", "10s", s.url)
	victim := s.upstream("api").Servers[0].ID
	id := n.run("ps", "-q", "--no-trunc", "--filter", "label=com.docker.swarm.service.name=mortal", "--filter", "name="+victim)
	n.run("kill", id)
	within(t, time.Second, "it is out", func() bool {
		for _, server := range s.upstream("api").Servers {
			if server.ID == victim {
				return false
			}
		}
		return true
	})
	s.waitReplicas("api", 2, 30*time.Second)
	if l := wait(); l.Sent != l.OK+l.Refused+l.Failed || l.Failed > 2 { // what was in flight on it
		t.Errorf("%+v", l)
	}
}

// The stack of deploy/swarm, as a user would bring it up: sluice runs in a task on the overlay network.
func swarmStack(t *testing.T, n *swarmNode) {
	dockerfile, err := os.ReadFile("../../deploy/docker/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	image := n.image + "-stack"
	n.build(image, string(dockerfile))
	deploy := exec.Command("docker", "-H", n.host, "stack", "deploy", "--resolve-image", "never", "-c", "../../deploy/swarm/stack.yml", "front")
	deploy.Env = append(os.Environ(), "SLUICE_IMAGE="+image, "DOCKER_SOCKET="+strings.TrimPrefix(n.host, "unix://"), "SLUICE_CONFIG_NAME=front-config")
	info, err := os.Stat(strings.TrimPrefix(n.host, "unix://"))
	if err != nil {
		t.Fatal(err)
	}
	deploy.Env = append(deploy.Env, fmt.Sprintf("DOCKER_GID=%d", info.Sys().(*syscall.Stat_t).Gid))
	if out, err := deploy.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() { _, _ = n.try("stack", "rm", "front") })
	url := "http://127.0.0.1:8080" // in its namespace
	get := func() error {
		out, err := exec.Command(n.wrap()[0], append(n.wrap()[1:], "curl", "-fsS", "-m", "5", "-o", "/dev/null", url)...).CombinedOutput()
		if err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	within(t, 60*time.Second, "an answer through the gateway", func() bool { return get() == nil })
	args := append(n.wrap(), binary(t, "bench"), "load", "--json", "--concurrency", "30", "--duration", "15s", url)
	loading := exec.Command(args[0], args[1:]...)
	var out strings.Builder
	loading.Stdout = &out
	if err := loading.Start(); err != nil {
		t.Fatal(err)
	}
	within(t, 40*time.Second, "three replicas", func() bool { return len(n.tasks("front_api")) >= 3 })
	_ = loading.Wait() // its exit code says what the ledger says
	var l ledger
	if err := json.Unmarshal([]byte(out.String()), &l); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	l.lostNothing(t)
	within(t, 60*time.Second, "one replica", func() bool { return len(n.tasks("front_api")) == 1 })
	if err := get(); err != nil {
		t.Error(err)
	}
	n.run("stack", "rm", "front")
	within(t, 60*time.Second, "nothing is left", func() bool {
		return n.run("ps", "-aq", "--filter", "label=com.docker.stack.namespace=front") == ""
	})
}

// A manager that hangs takes no server out, and all goes on when it answers again.
func swarmHangs(t *testing.T, n *swarmNode) {
	n.service(t, "steady", "--replicas", "2")
	s := n.sluice(t, "steady", `scale = { min = 2, max = 4 }`)
	s.waitReplicas("api", 2, 60*time.Second)
	wait := load(t, "--rate", "20", "--duration", "15s", s.url)
	if err := n.process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(12 * time.Second)
	u := s.upstream("api")
	said := s.noted("api", "the Swarm manager cannot be asked")()
	if err := n.process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if u.Ready != 2 || !said {
		t.Errorf("with the manager stopped: %+v", u)
	}
	l := wait()
	l.lostNothing(t)
	if l.Refused != 0 {
		t.Errorf("%+v", l)
	}
	if code, _, err := fetchPost(s.admin+"/api/v1/upstreams/api/scale", `{"replicas": 3}`); code != 200 {
		t.Fatalf("scale: %d, %v", code, err)
	}
	s.waitReplicas("api", 3, 60*time.Second)
}

// A node's engine is killed: its tasks are taken out when Swarm has lost it, others take their place, and no
// request is lost. Sluice runs in a container on the overlay network, on the manager.
func TestSwarmNodeKilled(t *testing.T) {
	t.Parallel()
	takesMinutes(t)
	_, owner := docker(t)
	manager, worker := newSwarmNode(t, owner), newSwarmNode(t, owner)
	ip(t, fmt.Sprintf("link add veth0 netns %s type veth peer name veth0 netns %s", manager.name, worker.name))
	for addr, n := range map[string]*swarmNode{"10.99.0.1/24": manager, "10.99.0.2/24": worker} {
		n.ip("addr add " + addr + " dev veth0")
		n.ip("link set veth0 up")
		n.atEnd(t)
	}
	manager.run("swarm", "init", "--advertise-addr", "10.99.0.1", "--listen-addr", "10.99.0.1:2377")
	worker.run("swarm", "join", "--advertise-addr", "10.99.0.2", "--token", manager.run("swarm", "join-token", "-q", "worker"), "10.99.0.1:2377")
	within(t, 30*time.Second, "two nodes", func() bool { return strings.Count(manager.run("node", "ls", "--format", "{{.Status}}"), "Ready") == 2 })
	manager.run("network", "create", "-d", "overlay", "--attachable", "app")
	manager.service(t, "api", "--replicas", "4")

	config := filepath.Join(t.TempDir(), "config.toml")
	if err := os.WriteFile(config, []byte(`
listen = [":8080"]
pid = "off"
log.access = "off"
[[route]]
upstream = "api"
[upstream.api]
service = { name = "api", port = 8000 }
max_conns = 4
health_check = { path = "/healthz", interval = "300ms" }
scale = { min = 4, max = 4 }
`), 0o644); err != nil { //nolint:gosec // read in a container
		t.Fatal(err)
	}
	url := "http://" + freeAddrs(t, 1)[0]
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(url, "http://"))
	gateway := manager.run("run", "-d", "--network", "app", "-p", "127.0.0.1:"+port+":8080", "-v", config+":/config.toml:ro",
		"-v", strings.TrimPrefix(manager.host, "unix://")+":/var/run/docker.sock", manager.image, "run", "-c", "/config.toml")
	t.Cleanup(func() {
		if t.Failed() {
			said, _ := manager.try("logs", gateway)
			t.Logf("sluice said:\n%s", said)
		}
		_, _ = manager.try("rm", "-f", gateway)
	})
	manager.forward(url)
	servers := func() (ready int, ids []string) {
		out, err := manager.try("exec", gateway, "/sluice", "status", "-c", "/config.toml", "--json")
		var st statusOf
		if err != nil || json.Unmarshal([]byte(out), &st) != nil || len(st.Upstreams) != 1 {
			return 0, nil
		}
		for _, s := range st.Upstreams[0].Servers {
			ids = append(ids, s.ID)
		}
		return st.Upstreams[0].Ready, ids
	}
	on := func(node string) []string { // tasks that are to run there
		return strings.Fields(manager.run("node", "ps", "-q", "--filter", "desired-state=running", node))
	}
	nodes := manager.run("node", "ls", "--filter", "role=worker", "-q")
	within(t, 90*time.Second, "four servers", func() bool { ready, ids := servers(); return ready == 4 && len(ids) == 4 })
	t.Run("worker is no manager", func(t *testing.T) {
		for kind, want := range map[string]string{"auto": "engine docker: ", "swarm": "engine swarm: engine.kind is swarm; "} {
			s := prepare(t, fmt.Sprintf("engine = { kind = %q, socket = %q }\n[[route]]\nupstream = \"127.0.0.1:1\"\n", kind, worker.socket()))
			_, out, _ := commandOutput(t, "check", "-c", s.file)
			if !strings.Contains(out, want) || !strings.Contains(out, "is a Swarm worker, and only managers know of services") {
				t.Errorf("%s: %s", kind, out)
			}
		}
	})
	t.Run("network cut", func(t *testing.T) {
		wait := load(t, "--rate", "20", "--duration", "15s", url)
		time.Sleep(2 * time.Second)
		worker.ip("link set veth0 down")
		began := time.Now()
		within(t, 15*time.Second, "the tasks beyond the cut are not used", func() bool { ready, _ := servers(); return ready > 0 && ready < 4 })
		time.Sleep(5*time.Second - time.Since(began))
		worker.ip("link set veth0 up")
		within(t, 90*time.Second, "all are used again", func() bool { ready, _ := servers(); return ready == 4 })
		t.Logf("all are used again %s after the cut began", time.Since(began).Round(time.Second))
		l := wait()
		l.lostNothing(t)
		if l.Refused != 0 {
			t.Errorf("refused: %+v", l)
		}
	})
	lost := on(nodes)
	if len(lost) == 0 {
		t.Fatal("no task on the worker")
	}
	wait := load(t, "--rate", "20", "--duration", "40s", url)
	time.Sleep(2 * time.Second)
	begun := time.Now()
	if err := worker.process.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	// The containers outlive their engine: it is started again at the end, to end them.
	defer func() {
		worker.launch(t)
		_, _ = worker.try("swarm", "leave", "--force")
	}()
	within(t, 60*time.Second, "the lost tasks are replaced", func() bool {
		ready, ids := servers()
		return ready == 4 && len(ids) == 4 && !slices.ContainsFunc(ids, func(id string) bool { return slices.Contains(lost, id) })
	})
	t.Logf("healed after %s", time.Since(begun).Round(time.Second))
	l := wait()
	l.lostNothing(t)
	if l.Refused != 0 {
		t.Errorf("refused: %+v", l)
	}
}
