package docker

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	dockernet "github.com/docker/docker/api/types/network"
)

// id makes a full container ID that begins with c.
func id(c string) string { return strings.Repeat(c, 64/len(c)) }

// summary is a running container of the service "api" of the project "shop", with the networks
// given as "name=address"; the ID of a network is its name in capitals.
func summary(id string, networks ...string) container.Summary {
	c := container.Summary{
		ID: id, Names: []string{"/other/alias", "/n-" + id[:1]}, State: container.StateRunning, Status: "Up 2 minutes",
		Labels:          map[string]string{labelProject: "shop", labelService: "api", labelOneOff: "False"},
		NetworkSettings: &container.NetworkSettingsSummary{Networks: map[string]*dockernet.EndpointSettings{}},
	}
	for _, n := range networks {
		name, addr, _ := strings.Cut(n, "=")
		c.NetworkSettings.Networks[name] = &dockernet.EndpointSettings{NetworkID: strings.ToUpper(name), IPAddress: addr}
	}
	return c
}

// viewOf is a view on the host with the networks front, back (bridges), bridge and swarm (overlay).
func viewOf(cs ...container.Summary) *view {
	v := &view{containers: cs, listed: time.Now(), details: map[string]detail{}, networks: map[string]netInfo{
		"FRONT": {"front", "bridge", ""}, "SHOP_BACK": {"shop_back", "bridge", "back"}, "BRIDGE": {"bridge", "bridge", ""},
		"SWARM": {"swarm", "overlay", ""}, "HOST": {"host", "host", ""},
	}}
	for _, c := range cs {
		v.details[c.ID] = detail{ports: []int{8000}}
	}
	return v
}

func TestServers(t *testing.T) {
	api := Query{Project: "shop", Service: "api"}
	a, b := id("a"), id("b")
	with := func(c container.Summary, change func(*container.Summary)) container.Summary {
		change(&c)
		return c
	}
	inside := func(self container.Summary, cs ...container.Summary) *view {
		self.Labels = nil
		v := viewOf(append(cs, self)...)
		v.self = self.ID
		return v
	}
	for _, tt := range []struct {
		name  string
		query Query
		view  *view
		want  string // "addr" or what the note says
	}{
		{"bridge", api, viewOf(summary(a, "front=10.0.0.2")), "10.0.0.2:8000"},
		{"IPv6 only", api, viewOf(with(summary(a, "front="), func(c *container.Summary) {
			c.NetworkSettings.Networks["front"].GlobalIPv6Address = "fd00::2"
		})), "[fd00::2]:8000"},
		{"overlay from the host", api, viewOf(summary(a, "swarm=10.0.1.2")), "it is on no bridge network"},
		{"overlay and bridge", api, viewOf(summary(a, "swarm=10.0.1.2", "front=10.0.0.2")), "10.0.0.2:8000"},
		{"address not yet", api, viewOf(summary(a, "front=")), "it has no address yet"},
		{"no network", api, viewOf(summary(a)), "it is on no network"},
		{"network by name", Query{Project: "shop", Service: "api", Network: "shop_back"}, viewOf(summary(a, "front=10.0.0.2", "shop_back=10.0.2.2")), "10.0.2.2:8000"},
		{"network as in the file", Query{Project: "shop", Service: "api", Network: "back"}, viewOf(summary(a, "front=10.0.0.2", "shop_back=10.0.2.2")), "10.0.2.2:8000"},
		{"network by label", api, viewOf(with(summary(a, "front=10.0.0.2", "shop_back=10.0.2.2"), func(c *container.Summary) {
			c.Labels[labelNetwork] = "back"
		})), "10.0.2.2:8000"},
		{"not on the network", Query{Project: "shop", Service: "api", Network: "back"}, viewOf(summary(a, "front=10.0.0.2")), `not on the network "back" (it is on front)`},
		{"host network", api, viewOf(with(summary(a, "host="), func(c *container.Summary) { c.HostConfig.NetworkMode = "host" })), "127.0.0.1:8000"},

		{"in a container", api, inside(summary(b, "front=10.0.0.9"), summary(a, "bridge=172.17.0.2", "front=10.0.0.2")), "10.0.0.2:8000"},
		{"in a container, overlay", api, inside(summary(b, "swarm=10.0.1.9"), summary(a, "swarm=10.0.1.2")), "10.0.1.2:8000"},
		{"nothing shared", api, inside(summary(b, "shop_back=10.0.2.9"), summary(a, "front=10.0.0.2")), "no network shared with sluice (it is on front; sluice is on shop_back)"},
		{"host network from inside", api, inside(summary(b, "front=10.0.0.9"), with(summary(a), func(c *container.Summary) { c.HostConfig.NetworkMode = "host" })), "which sluice in its container is not on"},
		{"own container on the host's network", api, inside(with(summary(b), func(c *container.Summary) { c.HostConfig.NetworkMode = "host" }), summary(a, "front=10.0.0.2")), "10.0.0.2:8000"},
		{"own container on no network", api, inside(with(summary(b, "none="), apart), summary(a, "front=10.0.0.2")), "10.0.0.2:8000"},
		{"own container on no network, several", api, inside(with(summary(b, "none="), apart), summary(a, "front=10.0.0.2", "shop_back=10.0.2.2")), "and sluice itself on none: say which one with network"},
		{"own container on no network, named", Query{Project: "shop", Service: "api", Network: "back"}, inside(with(summary(b, "none="), apart), summary(a, "front=10.0.0.2", "shop_back=10.0.2.2")), "10.0.2.2:8000"},
		{"joined network", api, viewOf(with(summary(a), func(c *container.Summary) { c.HostConfig.NetworkMode = "container:" + b }),
			with(summary(b, "front=10.0.0.7"), func(c *container.Summary) { c.Labels = nil })), "10.0.0.7:8000"},

		{"port of the query", Query{Project: "shop", Service: "api", Port: 9}, viewOf(summary(a, "front=10.0.0.2")), "10.0.0.2:9"},
		{"port of the label", api, viewOf(with(summary(a, "front=10.0.0.2"), func(c *container.Summary) { c.Labels[labelPort] = "81" })), "10.0.0.2:81"},
		{"bad label", api, viewOf(with(summary(a, "front=10.0.0.2"), func(c *container.Summary) { c.Labels[labelPort] = "http" })), `label sluice.port: "http" is not a port`},
		{"no port", api, func() *view {
			v := viewOf(summary(a, "front=10.0.0.2"))
			v.details[a] = detail{}
			return v
		}(), "it exposes no port"},
		{"two ports", api, func() *view {
			v := viewOf(summary(a, "front=10.0.0.2"))
			v.details[a] = detail{ports: []int{80, 443}}
			return v
		}(), "it exposes several ports (80, 443): say which one"},

		{"unhealthy", api, viewOf(with(summary(a, "front=10.0.0.2"), func(c *container.Summary) { c.Status = "Up 2 minutes (unhealthy)" })), "its HEALTHCHECK says unhealthy"},
		{"health unknown yet", api, viewOf(with(summary(a, "front=10.0.0.2"), func(c *container.Summary) { c.Status = "Up 2 seconds (health: starting)" })), "10.0.0.2:8000"},
		{"paused", api, viewOf(with(summary(a, "front=10.0.0.2"), func(c *container.Summary) { c.State, c.Status = "paused", "Up (Paused)" })), "paused"},
		{"exited", api, viewOf(with(summary(a), func(c *container.Summary) { c.State, c.Status = "exited", "Exited (137) 3 seconds ago" })), "not running: exited (137) 3 seconds ago"},
		{"marked", api, func() *view {
			v := viewOf(summary(a, "front=10.0.0.2"))
			v.marks = map[string]mark{a: {why: "being stopped"}}
			return v
		}(), "being stopped"},

		{"other project", Query{Project: "blog", Service: "api"}, viewOf(summary(a, "front=10.0.0.2")), `no container found: service "api" of project "blog"`},
		{"other service", Query{Project: "shop", Service: "web"}, viewOf(summary(a, "front=10.0.0.2")), "no container found"},
		{"one-off", api, viewOf(with(summary(a, "front=10.0.0.2"), func(c *container.Summary) { c.Labels[labelOneOff] = "True" })), "no container found"},
		{"itself", api, func() *view { v := viewOf(summary(a, "front=10.0.0.2")); v.self = a; return v }(), "no container found"},
		{"labels", Query{Labels: map[string]string{"x": "1"}}, viewOf(with(summary(a, "front=10.0.0.2"), func(c *container.Summary) { c.Labels = map[string]string{"x": "1", "y": "2"} })), "10.0.0.2:8000"},
		{"labels of another value", Query{Labels: map[string]string{"x": "1"}}, viewOf(with(summary(a, "front=10.0.0.2"), func(c *container.Summary) { c.Labels = map[string]string{"x": "2"} })), "no container found: containers labelled x=1"},
		{"empty label is not a missing one", Query{Labels: map[string]string{"x": ""}}, viewOf(summary(a, "front=10.0.0.2")), "no container found"},
		{"no project", Query{Service: "api"}, viewOf(summary(a, "front=10.0.0.2")), "engine.project must name one"},
		{"nothing asked", Query{Project: "shop"}, viewOf(summary(a, "front=10.0.0.2")), "neither a service nor labels"},
	} {
		specs, notes := tt.query.servers(tt.view)
		got := ""
		for _, s := range specs {
			got += s.Addr
			if s.ID != "aaaaaaaaaaaa" {
				t.Errorf("%s: ID %q", tt.name, s.ID)
			}
		}
		for _, n := range notes {
			got += n.Why
			if n.ID != "" && (n.ID != "aaaaaaaaaaaa" || n.Name != "n-a") {
				t.Errorf("%s: %+v", tt.name, n)
			}
		}
		if len(specs) == 1 && got != tt.want || len(specs) != 1 && !strings.Contains(got, tt.want) || len(specs)+len(notes) != 1 {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestServersAreSorted(t *testing.T) {
	var cs []container.Summary
	for _, n := range []int{10, 2, 1} {
		c := summary(fmt.Sprintf("%064d", n), "front=10.0.0.2")
		c.Names = []string{fmt.Sprintf("/shop_api_%d", n)}
		cs = append(cs, c)
	}
	specs, _ := (&Query{Project: "shop", Service: "api", Port: 1}).servers(viewOf(cs...))
	if len(specs) != 3 || specs[0].ID > specs[1].ID {
		t.Errorf("%+v", specs)
	}
	v := viewOf(cs...)
	names := []string{}
	v.details = nil
	_, notes := (&Query{Project: "shop", Service: "api"}).servers(v)
	for _, n := range notes {
		names = append(names, n.Name)
	}
	if got := strings.Join(names, " "); got != "shop_api_1 shop_api_2 shop_api_10" {
		t.Error(got)
	}
}

func TestSettle(t *testing.T) {
	at := time.Now()
	gone, asked := mark{why: "ended", at: at}, mark{why: "asked", asked: true, at: at}
	running, exited := summary(id("a")), summary(id("a"))
	exited.State = container.StateExited
	slow := map[string]detail{id("a"): {stopTimeout: 10 * time.Minute}}
	for _, tt := range []struct {
		name      string
		mark      mark
		list      []container.Summary
		details   map[string]detail
		after     time.Duration
		restarted bool
		want      bool
	}{
		{"the listing is older", gone, nil, nil, -time.Millisecond, false, true},
		{"removed", gone, nil, nil, time.Millisecond, false, false},
		{"the listing may race", gone, []container.Summary{running}, nil, 900 * time.Millisecond, false, true},
		{"the start was missed", gone, []container.Summary{running}, nil, 2 * time.Second, false, false},
		{"the listing says so itself", asked, []container.Summary{exited}, nil, 2 * time.Second, false, false},
		{"was started and listed", mark{fresh: true, at: at}, []container.Summary{running}, nil, time.Millisecond, false, false},
		{"goes on running", asked, []container.Summary{running}, nil, time.Minute, false, true},
		{"was started again", asked, []container.Summary{running}, nil, 2 * time.Second, true, false},
		{"ignores the signal", asked, []container.Summary{running}, nil, 3 * time.Minute, false, false},
		{"takes its time", asked, []container.Summary{running}, slow, 3 * time.Minute, false, true},
	} {
		v := viewOf(tt.list...)
		if tt.details != nil {
			v.details = tt.details
		}
		restarted := map[string]bool{id("a"): tt.restarted}
		if _, got := settle(map[string]mark{id("a"): tt.mark}, v, at.Add(tt.after), restarted)[id("a")]; got != tt.want {
			t.Errorf("%s: marked %v", tt.name, got)
		}
	}
}

func TestDeadly(t *testing.T) {
	for _, tt := range []struct {
		signal, stop string
		want         bool
	}{
		{"15", "", true}, {"9", "", true}, {"SIGTERM", "", true}, {"kill", "", true},
		{"1", "", false}, {"10", "", false}, {"3", "", false}, {"", "", false}, {"nonsense", "nonsense", false},
		{"3", "SIGQUIT", true}, {"28", "WINCH", true}, {"37", "SIGRTMIN+3", true}, {"10", "SIGQUIT", false}, {"15", "SIGQUIT", true},
	} {
		if got := Deadly(tt.signal, tt.stop); got != tt.want {
			t.Errorf("signal %q, stop signal %q: %v", tt.signal, tt.stop, got)
		}
	}
}

func TestOwnIDs(t *testing.T) {
	a, b := id("a"), id("b")
	host := "100 99 0:50 / /var/lib/docker/containers/" + b + "/mounts/shm rw - tmpfs shm rw\n"
	mounts := host + "700 600 8:1 /var/lib/docker/containers/" + a + "/resolv.conf /etc/resolv.conf rw,relatime - ext4 /dev/sda1 rw\n" +
		"701 600 8:1 /var/lib/docker/containers/" + a + "/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw\n"
	for _, tt := range []struct{ name, mountinfo, cgroup, hostname, want string }{
		{"nothing", "", "0::/\n", "server-1", ""},
		{"mounts", mounts, "0::/\n", "aaaaaaaaaaaa", a + " aaaaaaaaaaaa"},
		{"the mounts of others on a host", host, "", "server-1", ""},
		{"cgroup v1", "", "12:cpu:/docker/" + a + "\n11:memory:/docker/" + a + "\n", "web", a},
		{"cgroup v2, systemd", "", "0::/system.slice/docker-" + a + ".scope\n", "web", a},
		{"another kind of group", "", "4:memory:/process_api/c2f697b421e4d46b4f7248574408f78e\n", "web", ""},
		{"hostname only", "", "0::/\n", "0123456789ab", "0123456789ab"},
	} {
		if got := strings.Join(ownIDs(tt.mountinfo, tt.cgroup, tt.hostname), " "); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestLabelled(t *testing.T) {
	now := time.Now()
	asks := func(id string, labels ...string) container.Summary {
		c := summary(id)
		c.Labels = map[string]string{}
		for _, l := range labels {
			k, v, _ := strings.Cut(l, "=")
			c.Labels[k] = v
		}
		return c
	}
	stopped := asks(id("c"), "sluice.host=old.example")
	stopped.State = container.StateExited
	v := viewOf(
		asks(id("b"), "sluice.host=b.example", "maintainer=x", "com.docker.compose.project=shop", "com.docker.compose.service=b", "sluice.owner=me", "sluice.replica.upstream=b"),
		asks(id("a"), "sluice.upstream=a"),
		stopped,
		asks(id("d"), "sluice.port=80"),
		asks(id("e"), "sluice.upstream=e", "sluice.owner=me"),
		asks(id("f"), "sluice.host=f.example", "com.docker.compose.oneoff=True"),
		asks(id("0"), "sluice.route.x.host=x.example"),
	)
	seen := map[string]time.Time{}
	var got []string
	for _, l := range labelled(v, seen, now) {
		l.Created = time.Time{}
		got = append(got, strings.Replace(fmt.Sprint(l), "0001-01-01 00:00:00 +0000 UTC ", "", 1))
	}
	want := []string{
		"{000000000000 n-0   map[sluice.route.x.host:x.example]}",
		"{aaaaaaaaaaaa n-a   map[sluice.upstream:a]}",
		"{bbbbbbbbbbbb n-b shop b map[sluice.host:b.example]}",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s", strings.Join(got, "\n"))
	}
	// A restart keeps its route for a moment, a removal does not.
	for i := range v.containers {
		v.containers[i].State = container.StateExited
	}
	v.containers = v.containers[1:]
	if n := len(labelled(v, seen, now.Add(5*time.Second))); n != 2 {
		t.Errorf("%d after the end", n)
	}
	if n := len(labelled(v, seen, now.Add(20*time.Second))); n != 0 || len(seen) != 0 {
		t.Errorf("%d long after the end, %d remembered", n, len(seen))
	}
}

// apart makes a container one without a network.
func apart(c *container.Summary) { c.HostConfig.NetworkMode = "none" }
