package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/mount"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"sluice/scaler"
)

// project is a Compose project of the test's own, run by a real Compose.
type project struct {
	*bench
	name, dir string
	program   string          // version 1 or 2
	volumes   map[string]bool // anonymous ones that were seen: Compose leaves those of what it removes
}

// newProject is a project of version 1.
func newProject(t *testing.T, file string) *project {
	t.Helper()
	if _, err := exec.LookPath("docker-compose"); err != nil {
		absent(t, "no docker-compose: %v", err)
	}
	return newProjectOf(t, "docker-compose", file)
}

// compose2 is the program that deploy/docker/compose-v2.sh builds.
func compose2(t *testing.T) string {
	t.Helper()
	program := os.Getenv("SLUICE_COMPOSE_V2")
	if program == "" {
		cache := cmp.Or(os.Getenv("XDG_CACHE_HOME"), filepath.Join(os.Getenv("HOME"), ".cache"))
		program = filepath.Join(cache, "sluice", "compose", cmp.Or(os.Getenv("COMPOSE_VERSION"), "v2.40.3"), "docker-compose")
	}
	if _, err := os.Stat(program); err != nil {
		if strings.Contains(os.Getenv("SLUICE_TEST_REQUIRE"), "compose-v2") {
			t.Fatalf("compose-v2 is required: %v", err)
		}
		t.Skipf("Compose v2 is not built: deploy/docker/compose-v2.sh (%v)", err)
	}
	return program
}

func newProjectOf(t *testing.T, program, file string) *project {
	t.Helper()
	b := newBench(t)
	p := &project{bench: b, name: "sluicetestdrv" + randomHex(), dir: t.TempDir(), program: program, volumes: make(map[string]bool)}
	if err := os.WriteFile(filepath.Join(p.dir, "docker-compose.yml"), []byte(file), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.wipe(composeProject + "=" + p.name)
		cmd := exec.Command(p.program, "-p", p.name, "down", "-v", "-t", "2")
		cmd.Dir = p.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("docker-compose down: %v: %s", err, out)
		}
		for v := range p.volumes {
			_ = p.cli.VolumeRemove(context.Background(), v, true) // most are gone
		}
	})
	return p
}

func (p *project) compose(args ...string) string {
	p.Helper()
	cmd := exec.CommandContext(p.Context(), p.program, append([]string{"-p", p.name}, args...)...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.Fatalf("docker-compose %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// containers of the project by name, with their ids.
func (p *project) containers() map[string]string {
	p.Helper()
	list, err := p.cli.ContainerList(p.Context(), container.ListOptions{All: true, Filters: filters.NewArgs(filters.Arg("label", composeProject+"="+p.name))})
	if err != nil {
		p.Fatal(err)
	}
	all := make(map[string]string)
	for _, c := range list {
		all[strings.ReplaceAll(strings.TrimPrefix(nameOf(c.Names), p.name), "-", "_")] = c.ID // as version 1 has it
		for _, m := range c.Mounts {
			if isAnonymous(m.Name) {
				p.volumes[m.Name] = true
			}
		}
	}
	return all
}

func (p *project) wantContainers(want ...string) {
	p.Helper()
	if got := slices.Sorted(maps.Keys(p.containers())); !slices.Equal(got, want) {
		p.Fatalf("containers %v, want %v", got, want)
	}
}

func (p *project) serviceOptions() Options {
	o := p.options()
	o.Container, o.Service = nil, &Service{Project: p.name, Name: "api"}
	return o
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// Clones are containers of the project like any other to Compose, of either version.
func TestClonesOfComposeService(t *testing.T) {
	t.Run("v1", func(t *testing.T) { clonesOfComposeService(t, newProject, "_") })
	t.Run("v2", func(t *testing.T) {
		program := compose2(t)
		clonesOfComposeService(t, func(t *testing.T, file string) *project { return newProjectOf(t, program, file) }, "-")
	})
}

func clonesOfComposeService(t *testing.T, newProject func(*testing.T, string) *project, sep string) {
	p := newProject(t, fmt.Sprintf(`version: "2.4"
services:
  api:
    image: %[1]s
    environment: {MODEL: small}
    labels: {sluice.host: api.example.com}
    ports: ["127.0.0.1:%[2]d:8000"]
    stop_grace_period: 5s
    mem_limit: 64m
    volumes: ["/scratch", "shared:/shared"]
    networks: {front: {aliases: [inference]}, back: {}}
  other:
    image: %[1]s
    networks: [front]
networks: {front: {}, back: {}}
volumes: {shared: {}}
`, run, freePort(t)))
	p.compose("up", "-d")
	p.wantContainers("_api_1", "_other_1")
	o := p.serviceOptions()
	o.Max = 4
	d := p.driver(o)

	rs := p.list(d)
	if len(rs) != 1 || !rs[0].Fixed || rs[0].Index != 1 || rs[0].State != scaler.ReplicaRunning || rs[0].Outdated {
		t.Fatalf("the exemplar alone: %+v", rs)
	}
	p.scale(d, 3)
	p.wantContainers("_api_1", "_api_2", "_api_3", "_other_1")
	p.scale(d, 3)
	made := p.containers()
	rs = p.list(d)
	if len(rs) != 3 || !rs[0].Fixed || rs[1].Fixed || rs[1].Outdated || rs[2].Index != 3 {
		t.Fatalf("replicas %+v", rs)
	}
	if body := get(t, rs[2].Addr); !strings.Contains(body, "MODEL=small") {
		t.Errorf("the clone's environment is %q", body)
	}

	ex, err := p.cli.ContainerInspect(t.Context(), made["_api_1"])
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.cli.ContainerInspect(t.Context(), made["_api_3"])
	if err != nil {
		t.Fatal(err)
	}
	for key, value := range ex.Config.Labels {
		if key != composeNumber && c.Config.Labels[key] != value {
			t.Errorf("label %s is %q, the exemplar's is %q", key, c.Config.Labels[key], value)
		}
	}
	if c.Config.Labels[composeNumber] != "3" || c.Config.Labels[LabelOwner] != p.owner {
		t.Errorf("labels %v", c.Config.Labels)
	}
	if c.Config.Hostname != short(c.ID) || len(c.HostConfig.PortBindings) != 0 || c.HostConfig.Memory != 64<<20 || *c.Config.StopTimeout != 5 {
		t.Errorf("host name %q, ports %v, memory %d", c.Config.Hostname, c.HostConfig.PortBindings, c.HostConfig.Memory)
	}
	for name, n := range ex.NetworkSettings.Networks {
		own := swap(swap(n.Aliases, short(ex.ID), short(c.ID)), strings.TrimPrefix(ex.Name, "/"), strings.TrimPrefix(c.Name, "/"))
		want := slices.Sorted(slices.Values(own))
		if got := slices.Sorted(slices.Values(c.NetworkSettings.Networks[name].Aliases)); !slices.Equal(got, want) {
			t.Errorf("aliases in %s: %v, want %v", name, got, want)
		}
	}
	for _, m := range ex.Mounts {
		i := slices.IndexFunc(c.Mounts, func(x container.MountPoint) bool { return x.Destination == m.Destination })
		if i < 0 || (c.Mounts[i].Name == m.Name) == isAnonymous(m.Name) {
			t.Errorf("mounts %+v, the exemplar's %+v", c.Mounts, ex.Mounts)
		}
	}

	// Compose takes them for its own.
	ps := p.compose("ps", "-q", "api")
	for _, name := range []string{"_api_1", "_api_2", "_api_3"} {
		if !strings.Contains(ps, made[name]) {
			t.Errorf("docker-compose ps does not show %s", name)
		}
	}
	p.compose("logs", "api")
	p.compose("up", "-d", "--scale", "api=3")
	if now := p.containers(); !maps.Equal(now, made) {
		t.Errorf("docker-compose up --scale api=3 changed %v to %v", made, now)
	}
	p.compose("up", "-d") // without --scale it wants one
	p.wantContainers("_api_1", "_other_1")
	p.scale(d, 3) // as before: left so for a while
	p.scale(d, 3)
	p.wantContainers("_api_1", "_other_1")
	if notes := strings.Join(d.Notes(), " "); !strings.Contains(notes, "somebody else set the number of replicas from 3 to 1") {
		t.Errorf("notes %q", notes)
	}
	p.scale(d, 2) // its own decision has changed
	p.wantContainers("_api_1", "_api_2", "_other_1")
	if notes := d.Notes(); len(notes) > 0 {
		t.Errorf("notes %q", notes)
	}

	// What is lost otherwise is replaced at once.
	if err := p.cli.ContainerRemove(t.Context(), p.containers()["_api_2"], container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	p.scale(d, 2)
	p.wantContainers("_api_1", "_api_2", "_other_1")

	// The exemplar stays whatever is asked for.
	if err := d.Scale(t.Context(), 0, []string{rs[0].ID}); !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), "cannot be replaced") {
		t.Errorf("the exemplar as a victim: %v", err)
	}
	p.settle(d)
	p.wantContainers("_api_1", "_other_1")

	// A clone that was renamed is not known any more, and known again under its name.
	p.scale(d, 2)
	clone := p.containers()["_api_2"]
	if err := p.cli.ContainerRename(t.Context(), clone, p.name+"_aside"); err != nil {
		t.Fatal(err)
	}
	if rs := p.list(d); len(rs) != 1 || !strings.Contains(strings.Join(d.Notes(), " "), "its name is not") {
		t.Errorf("a clone under another name: %+v, notes %v", rs, d.Notes())
	}
	if err := p.cli.ContainerRename(t.Context(), clone, p.name+sep+"api"+sep+"2"); err != nil {
		t.Fatal(err)
	}

	// Compose has made a container of a changed service: clones of what it was are outdated.
	labels := maps.Clone(ex.Config.Labels)
	labels[composeHash], labels[composeNumber] = "changed", "4"
	newer := p.stranger(p.name+sep+"api"+sep+"4", labels, true)
	if rs := p.list(d); len(rs) != 3 || rs[0].Outdated || !rs[1].Outdated || rs[2].Outdated || !rs[2].Fixed {
		t.Errorf("after the service changed: %+v", rs)
	}
	if err := p.cli.ContainerRemove(t.Context(), newer, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	if rs := p.list(d); len(rs) != 2 || rs[1].Outdated {
		t.Errorf("after it changed back: %+v", rs)
	}
	p.scale(d, 3)
	p.wantContainers("_api_1", "_api_2", "_api_3", "_other_1")
	p.compose("down", "-t", "2") // takes the networks with it, which it cannot if a clone is left behind
	p.wantContainers()
	if err := d.Scale(t.Context(), 1, nil); !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), "nothing to clone") {
		t.Errorf("without an exemplar: %v", err)
	}
}

func swap(list []string, old, new string) []string {
	list = slices.Clone(list)
	if i := slices.Index(list, old); i >= 0 {
		list[i] = new
	}
	return list
}

func TestTwoDriversClone(t *testing.T) {
	p := newProject(t, "version: \"2.4\"\nservices:\n  api:\n    image: "+run+"\n")
	p.compose("up", "-d")
	o := p.serviceOptions()
	o.Max = 3
	errs := make(chan error)
	for range 2 {
		d := p.driver(o)
		go func() { errs <- d.Scale(t.Context(), 3, nil) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	p.wantContainers("_api_1", "_api_2", "_api_3")
	p.compose("down", "-t", "2")
}

func TestUnfitIsNotCloned(t *testing.T) {
	p := newProject(t, "version: \"2.4\"\nservices:\n  api:\n    image: "+run+"\n    cap_add: [NET_ADMIN]\n    volumes: [\"/var/run/docker.sock:/sock:ro\"]\n")
	p.compose("up", "-d")
	err := p.driver(p.serviceOptions()).Scale(t.Context(), 2, nil)
	for _, want := range []string{"is not cloned", "NET_ADMIN", "the engine's socket"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %q", err, want)
		}
	}
	p.wantContainers("_api_1")
}

func exemplar() *container.InspectResponse {
	return &container.InspectResponse{
		ContainerJSONBase: &container.ContainerJSONBase{
			ID: "0123456789abcdef", Name: "/shop-api-1", Image: "sha256:1",
			HostConfig: &container.HostConfig{NetworkMode: "shop_front", IpcMode: "private"},
		},
		Config: &container.Config{Hostname: "0123456789ab", Image: "api", Labels: map[string]string{
			composeProject: "shop", composeService: "api", composeNumber: "1", composeHash: "c", "com.docker.compose.version": "2.40.0", "com.docker.compose.image": "sha256:1", "sluice.host": "x",
		}},
		NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{
			"a_net":      {Aliases: []string{"shop-api-1", "api", "0123456789ab"}},
			"shop_front": {Aliases: []string{"shop-api-1", "api", "0123456789ab"}, IPAMConfig: &network.EndpointIPAMConfig{IPv4Address: "10.0.0.9"}, IPAddress: "10.0.0.9", MacAddress: "02:00"},
		}},
	}
}

// A clone under Compose version 2, whose names and aliases are others.
func TestCloneOfVersion2(t *testing.T) {
	ex := exemplar()
	anonymous := strings.Repeat("ab", 32)
	ex.HostConfig.Binds = []string{anonymous + ":/cache:rw", "models:/models:ro"}
	ex.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeVolume, Source: anonymous, Target: "/tmp"}, {Type: mount.TypeTmpfs, Target: "/run"}}
	ex.HostConfig.PortBindings = nat.PortMap{"80/tcp": {{HostPort: "8080"}}, "81/tcp": {{HostPort: ""}}, "82/tcp": {{HostPort: "9000"}, {HostPort: "0"}}}
	o := Options{Owner: "me", Upstream: "front", Service: &Service{Project: "shop", Name: "api"}}
	s := clone(ex, o, blueprint{hash: "c", image: "sha256:1"}, "api", 4)
	if s.name != "shop-api-4" || s.config.Hostname != "" || s.config.Labels[composeNumber] != "4" || s.config.Labels[LabelOrdinal] != "4" || s.config.Labels["sluice.host"] != "x" {
		t.Errorf("%s: %+v", s.name, s.config)
	}
	if len(s.networks) != 2 || s.networks[0].name != "shop_front" {
		t.Fatalf("networks %+v", s.networks)
	}
	for _, n := range s.networks {
		if e := n.settings; !slices.Equal(e.Aliases, []string{"shop-api-4", "api"}) || e.IPAMConfig != nil || e.IPAddress != "" || e.MacAddress != "" {
			t.Errorf("in %s: %+v", n.name, e)
		}
	}
	if h := s.host; !slices.Equal(h.Binds, []string{"models:/models:ro"}) || len(h.Mounts) != 1 || len(h.PortBindings) != 2 || len(h.PortBindings["82/tcp"]) != 1 {
		t.Errorf("host %+v", h)
	}
	if len(s.config.Volumes) != 2 {
		t.Errorf("volumes %v", s.config.Volumes)
	}
	if ex.Config.Labels[composeNumber] != "1" || len(ex.HostConfig.Binds) != 2 || len(ex.HostConfig.PortBindings) != 3 {
		t.Error("the exemplar was changed")
	}
	if why := foreign(o, s.config.Labels, "/"+s.name); why != "" {
		t.Errorf("the clone is not known as ours: %s", why)
	}
}

func TestUnfit(t *testing.T) {
	for _, c := range []struct {
		what   string
		change func(*container.InspectResponse)
		want   string // "" = fit
	}{
		{"as it is", func(*container.InspectResponse) {}, ""},
		{"GPUs", func(c *container.InspectResponse) {
			c.HostConfig.DeviceRequests = []container.DeviceRequest{{Count: -1, Capabilities: [][]string{{"gpu"}}}}
		}, ""},
		{"a volume and a folder", func(c *container.InspectResponse) {
			c.Mounts = []container.MountPoint{{Type: "volume", Source: "/var/lib/docker/volumes/x/_data"}, {Type: "bind", Source: "/srv/models"}, {Type: "tmpfs"}}
		}, ""},
		{"privileged", func(c *container.InspectResponse) { c.HostConfig.Privileged = true }, "privileged"},
		{"network host", func(c *container.InspectResponse) { c.HostConfig.NetworkMode = "host" }, "network of the host"},
		{"network of a container", func(c *container.InspectResponse) { c.HostConfig.NetworkMode = "container:x" }, "network of another container"},
		{"pid", func(c *container.InspectResponse) { c.HostConfig.PidMode = "host" }, "processes"},
		{"ipc", func(c *container.InspectResponse) { c.HostConfig.IpcMode = "host" }, "IPC"},
		{"uts", func(c *container.InspectResponse) { c.HostConfig.UTSMode = "host" }, "host name"},
		{"users", func(c *container.InspectResponse) { c.HostConfig.UsernsMode = "host" }, "users"},
		{"cgroup namespace", func(c *container.InspectResponse) { c.HostConfig.CgroupnsMode = "host" }, "cgroup"},
		{"capabilities", func(c *container.InspectResponse) { c.HostConfig.CapAdd = []string{"SYS_ADMIN"} }, "SYS_ADMIN"},
		{"devices", func(c *container.InspectResponse) {
			c.HostConfig.Devices = []container.DeviceMapping{{PathOnHost: "/dev/sda"}}
		}, "devices"},
		{"device rules", func(c *container.InspectResponse) { c.HostConfig.DeviceCgroupRules = []string{"c 1:1 rwm"} }, "devices"},
		{"socket", func(c *container.InspectResponse) {
			c.Mounts = []container.MountPoint{{Source: "/var/run/docker.sock", Destination: "/x"}}
		}, "socket"},
		{"folder of the socket", func(c *container.InspectResponse) { c.Mounts = []container.MountPoint{{Source: "/run"}} }, "socket"},
		{"the whole machine", func(c *container.InspectResponse) { c.Mounts = []container.MountPoint{{Source: "/"}} }, "socket"},
		{"another engine's socket", func(c *container.InspectResponse) { c.Mounts = []container.MountPoint{{Source: "/srv/engine/"}} }, "socket"},
	} {
		ex := exemplar()
		c.change(ex)
		why := strings.Join(unfit(ex, "2", "unix:///srv/engine/api.sock"), "; ")
		if c.want == "" && why != "" || !strings.Contains(why, c.want) {
			t.Errorf("%s: %q, want %q", c.what, why, c.want)
		}
	}
	ex := exemplar()
	ex.HostConfig.CgroupnsMode = "host"
	if why := unfit(ex, "1", ""); why != nil {
		t.Errorf("the default of cgroup v1: %v", why)
	}
}

// A cloned container that is killed in the middle of being made is found and finished.
func TestCloneResumed(t *testing.T) {
	p := newProject(t, "version: \"2.4\"\nservices:\n  api:\n    image: "+run+"\n    networks: [one, two]\nnetworks: {one: {}, two: {}}\n")
	p.compose("up", "-d")
	o := p.serviceOptions()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	f := newFaulty(t, p.cli.DaemonHost(), 1, true, cancel)
	cli, err := newClient(f.host)
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	if err := New(cli, o).Scale(ctx, 2, nil); err == nil {
		t.Fatal("no error from a call that was cut")
	}
	d := p.driver(o)
	if rs := p.list(d); len(rs) != 2 || rs[1].State != scaler.ReplicaStarting {
		t.Fatalf("after the crash: %+v", rs)
	}
	p.scale(d, 2)
	rs := p.list(d)
	if len(rs) != 2 || rs[1].State != scaler.ReplicaRunning {
		t.Fatalf("replicas %+v", rs)
	}
	c, err := p.cli.ContainerInspect(t.Context(), rs[1].ID)
	if err != nil || len(c.NetworkSettings.Networks) != 2 {
		t.Errorf("networks %v, %v", c.NetworkSettings.Networks, err)
	}
	p.compose("down", "-t", "2")
}
