package docker

import (
	"context"
	"crypto/rand"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	dockernet "github.com/docker/docker/api/types/network"
	"github.com/docker/docker/client"
	"github.com/docker/go-connections/nat"

	"sluice/balancer"
	"sluice/discovery"
)

// project is one test's Compose project on the engine, with a network of its own.
type project struct {
	t       *testing.T
	cli     *client.Client
	name    string
	network string
}

func newProject(t *testing.T, cli *client.Client) *project {
	t.Helper()
	p := &project{t: t, cli: cli, name: run + "-" + strings.ToLower(rand.Text()[:6])}
	p.network = p.addNetwork("default")
	return p
}

func (p *project) addNetwork(name string) string {
	p.t.Helper()
	full := p.name + "_" + name
	made, err := p.cli.NetworkCreate(p.t.Context(), full, dockernet.CreateOptions{Labels: map[string]string{runLabel: run, "com.docker.compose.network": name}})
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := gone(p.cli.NetworkRemove(context.Background(), made.ID)); err != nil {
			p.t.Errorf("remove the network: %v", err)
		}
	})
	return full
}

// replica is how a container of a project differs from a plain one.
type replica struct {
	program    string // default "replica"
	service    string // default "api"
	command    []string
	ports      []string // exposed; default 8000/tcp
	network    string   // default the project's
	stopSignal string
	binds      []string
	groups     []string
}

func (p *project) start(r replica) string {
	p.t.Helper()
	program, service := "replica", "api"
	if r.program != "" {
		program = r.program
	}
	if r.service != "" {
		service = r.service
	}
	ports := nat.PortSet{}
	if r.ports == nil {
		r.ports = []string{"8000/tcp"}
	}
	for _, port := range r.ports {
		ports[nat.Port(port)] = struct{}{}
	}
	if r.network == "" {
		r.network = p.network
	}
	made, err := p.cli.ContainerCreate(p.t.Context(), &container.Config{
		Image: imageOf(p.t, p.cli, program), Cmd: r.command, ExposedPorts: ports, StopSignal: r.stopSignal,
		Labels: map[string]string{runLabel: run, labelProject: p.name, labelService: service, labelOneOff: "False"},
	}, &container.HostConfig{NetworkMode: container.NetworkMode(r.network), Binds: r.binds, GroupAdd: r.groups}, nil, nil, p.name+"_"+service+"_"+strings.ToLower(rand.Text()[:4]))
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		if err := gone(p.cli.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{Force: true})); err != nil {
			p.t.Errorf("remove the container: %v", err)
		}
	})
	if err := p.cli.ContainerStart(p.t.Context(), made.ID, container.StartOptions{}); err != nil {
		p.t.Fatal(err)
	}
	return made.ID
}

func (p *project) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// watch follows the project's service api through cli with a watcher, as sluice does.
func (p *project) watch(cli Client, q Query) (*balancer.Upstream, *discovery.Watcher) {
	p.t.Helper()
	q.Project = p.name
	if q.Service == "" {
		q.Service = "api"
	}
	log := slog.New(slog.DiscardHandler)
	u := balancer.NewUpstream("api", balancer.DefaultConfig())
	w := discovery.NewWatcher(u, NewSource(cli, q, log), discovery.HealthConfig{Path: "/healthz"}, log)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	p.t.Cleanup(func() { cancel(); <-done })
	return u, w
}

// within waits until cond holds and returns how long that took.
func within(t *testing.T, limit time.Duration, what string, cond func() bool) time.Duration {
	t.Helper()
	begun := time.Now()
	for !cond() {
		if time.Since(begun) > limit {
			t.Fatalf("not %s after %s", what, limit)
		}
		time.Sleep(2 * time.Millisecond)
	}
	return time.Since(begun)
}

func ready(u *balancer.Upstream, id string) func() bool {
	return func() bool {
		s := u.Server(short(id))
		if s == nil {
			return false
		}
		state, _ := s.State(time.Now())
		return state == balancer.StateReady
	}
}

func unrouted(u *balancer.Upstream, id string) func() bool {
	return func() bool { return u.Server(short(id)) == nil }
}

// why is what the notes say of a container.
func why(w *discovery.Watcher, id string) string {
	for _, n := range w.Notes() {
		if n.ID == short(id) {
			return n.Why
		}
	}
	return ""
}
