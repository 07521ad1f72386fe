package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/pkg/stdcopy"

	"sluice/balancer"
	"sluice/discovery"
)

// The engine is shared with others and its starts wait for each other.
const patience = 60 * time.Second

func TestEngineStop(t *testing.T) {
	t.Parallel()
	cli := engine(t)
	p := newProject(t, cli)
	u, w := p.watch(cli, Query{})
	slow := p.start(replica{command: []string{"-linger", "3s"}})
	within(t, patience, "ready", ready(u, slow))

	// SIGHUP is no stop.
	p.must(cli.ContainerKill(t.Context(), slow, "HUP"))
	stopped := make(chan error, 1)
	begun := time.Now()
	go func() { stopped <- cli.ContainerStop(context.Background(), slow, container.StopOptions{}) }()
	within(t, 10*time.Second, "unrouted", unrouted(u, slow))
	took := time.Since(begun)
	select {
	case <-stopped:
		t.Error("unrouted only when it had ended")
	default:
	}
	if said := why(w, slow); !strings.Contains(said, "being stopped (signal 15)") {
		t.Errorf("%q", said)
	}
	p.must(<-stopped)
	t.Logf("unrouted %s after stop was asked, ended after %s", took, time.Since(begun))
	within(t, 10*time.Second, "said to have ended", func() bool { return strings.Contains(why(w, slow), "exited (0)") })

	p.must(cli.ContainerStart(t.Context(), slow, container.StartOptions{}))
	within(t, patience, "ready again", ready(u, slow))
}

func TestEngineKillAndRemove(t *testing.T) {
	t.Parallel()
	cli := engine(t)
	p := newProject(t, cli)
	u, w := p.watch(cli, Query{})
	killed, removed := p.start(replica{}), p.start(replica{})
	within(t, patience, "ready", ready(u, killed))
	within(t, patience, "ready", ready(u, removed))

	found, err := cli.ContainerInspect(t.Context(), killed)
	p.must(err)
	begun := time.Now()
	if os.Getuid() == 0 && exec.Command("kill", "-9", fmt.Sprint(found.State.Pid)).Run() == nil {
		t.Log("killed from outside") // no kill event: only die
	} else {
		p.must(cli.ContainerKill(t.Context(), killed, "KILL"))
	}
	within(t, 5*time.Second, "unrouted", unrouted(u, killed))
	t.Logf("unrouted %s after kill -9", time.Since(begun))
	within(t, 10*time.Second, "said to have ended", func() bool { return strings.Contains(why(w, killed), "137") })

	begun = time.Now()
	p.must(cli.ContainerRemove(t.Context(), removed, container.RemoveOptions{Force: true}))
	removal := time.Since(begun)
	within(t, time.Second, "unrouted", unrouted(u, removed))
	t.Logf("removed in %s, unrouted %s after it was asked", removal, time.Since(begun))
}

func TestEnginePause(t *testing.T) {
	t.Parallel()
	cli := engine(t)
	p := newProject(t, cli)
	u, w := p.watch(cli, Query{})
	c := p.start(replica{})
	within(t, patience, "ready", ready(u, c))
	p.must(cli.ContainerPause(t.Context(), c))
	within(t, 5*time.Second, "unrouted", unrouted(u, c))
	if said := why(w, c); said != "paused" {
		t.Errorf("%q", said)
	}
	p.must(cli.ContainerUnpause(t.Context(), c))
	within(t, patience, "ready again", ready(u, c))
}

func TestEngineWhyNotRouted(t *testing.T) {
	t.Parallel()
	cli := engine(t)
	p := newProject(t, cli)
	u, w := p.watch(cli, Query{})
	two := p.start(replica{ports: []string{"8000/tcp", "9000/tcp"}})
	within(t, patience, "told", func() bool { return strings.Contains(why(w, two), "several ports (8000, 9000)") })
	none := p.start(replica{network: "none"})
	within(t, patience, "told", func() bool { return strings.Contains(why(w, none), "it is on no bridge network") })
	if n := len(u.Servers()); n != 0 {
		t.Errorf("%d servers", n)
	}
	// A network that it joins later makes it a server.
	p.must(cli.NetworkDisconnect(t.Context(), "none", none, true))
	p.must(cli.NetworkConnect(t.Context(), p.network, none, nil))
	within(t, patience, "ready", ready(u, none))

	named, named2 := p.watch(cli, Query{Port: 8000, Network: "back"})
	within(t, patience, "told", func() bool { return strings.Contains(why(named2, two), `not on the network "back"`) })
	p.must(cli.NetworkConnect(t.Context(), p.addNetwork("back"), two, nil))
	within(t, patience, "ready", ready(named, two))
	p.must(cli.ContainerRemove(t.Context(), two, container.RemoveOptions{Force: true})) // before its network
}

func TestEngineEventsLost(t *testing.T) {
	t.Parallel()
	direct := engine(t)
	f := newFront(t, direct)
	cli, err := NewClient(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	p := newProject(t, direct)
	u, w := p.watch(cli, Query{})
	c := p.start(replica{})
	within(t, patience, "ready", ready(u, c))

	f.deaf.Store(true)
	close(f.cut)
	within(t, 10*time.Second, "told", func() bool {
		notes := w.Notes()
		return len(notes) == 1 && strings.Contains(notes[0].Why, "sends no events")
	})
	p.must(direct.ContainerRemove(t.Context(), c, container.RemoveOptions{Force: true}))
	t.Logf("removal seen without events after %s", within(t, 10*time.Second, "unrouted", unrouted(u, c)))
	begun := time.Now()
	c = p.start(replica{})
	within(t, patience, "ready", ready(u, c))
	t.Logf("start seen without events after %s", time.Since(begun))
}

// Events that come twice, late and in the wrong order (a start after the stop that followed it) mislead nobody for
// longer than a listing takes.
func TestEngineEventsGarbled(t *testing.T) {
	t.Parallel()
	direct := engine(t)
	f := newFront(t, direct)
	f.garble.Store(true)
	cli, err := NewClient(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	p := newProject(t, direct)
	u, _ := p.watch(cli, Query{})
	stays, changes := p.start(replica{}), p.start(replica{})
	within(t, patience, "ready", ready(u, stays))
	within(t, patience, "ready", ready(u, changes))
	for range 3 {
		p.must(direct.ContainerStop(t.Context(), changes, container.StopOptions{}))
		within(t, 10*time.Second, "unrouted", unrouted(u, changes))
		p.must(direct.ContainerStart(t.Context(), changes, container.StartOptions{}))
		within(t, patience, "ready again", ready(u, changes))
		if !ready(u, stays)() {
			t.Error("the server that nothing happened to is not ready any more")
		}
	}
	p.must(direct.ContainerRemove(t.Context(), changes, container.RemoveOptions{Force: true}))
	t.Logf("removal seen after %s", within(t, 10*time.Second, "unrouted", unrouted(u, changes)))
}

// An engine that gives no answer takes no server out, and all goes on when it answers again.
func TestEngineHangs(t *testing.T) {
	t.Parallel()
	direct := engine(t)
	f := newFront(t, direct)
	cli, err := NewClient(f.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	p := newProject(t, direct)
	u, w := p.watch(cli, Query{})
	first := p.start(replica{})
	within(t, patience, "ready", ready(u, first))

	f.hung.Store(true)
	_, _, leave := subscribe(cli, nil, slog.New(slog.DiscardHandler)) // asks for a listing now
	defer leave()
	within(t, 4*callTimeout, "told", func() bool {
		notes := w.Notes()
		return len(notes) == 1 && strings.Contains(notes[0].Why, "no answer within 5s; the containers as of")
	})
	if !ready(u, first)() {
		t.Error("the server is not ready any more")
	}
	second := p.start(replica{})
	f.hung.Store(false)
	close(f.resume)
	within(t, patience, "ready", ready(u, second))
	if notes := w.Notes(); len(notes) != 0 {
		t.Errorf("%+v", notes)
	}
	if !ready(u, first)() {
		t.Error("the server is not ready any more")
	}
}

func TestEngineInside(t *testing.T) {
	t.Parallel()
	cli := engine(t)
	socket := strings.TrimPrefix(cli.DaemonHost(), "unix://")
	if !filepath.IsAbs(socket) {
		t.Skip("the engine has no socket that can be mounted")
	}
	p := newProject(t, cli)
	api := p.start(replica{})
	apart := p.start(replica{network: p.addNetwork("apart")})
	inside := p.start(replica{program: "inside", service: "sluice", command: []string{"-service", "api"}, binds: []string{socket + ":/var/run/docker.sock"}})
	waited, errs := cli.ContainerWait(t.Context(), inside, container.WaitConditionNotRunning)
	select {
	case <-waited:
	case err := <-errs:
		t.Fatal(err)
	case <-time.After(patience):
		t.Fatal("still running")
	}
	logs, err := cli.ContainerLogs(t.Context(), inside, container.LogsOptions{ShowStdout: true, ShowStderr: true})
	p.must(err)
	defer logs.Close()
	var out, errOut bytes.Buffer
	_, err = stdcopy.StdCopy(&out, &errOut, logs)
	p.must(err)
	var got struct {
		Project string
		Inside  bool
		Servers []balancer.ServerSpec
		Notes   []discovery.Note
	}
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatalf("%v: %s %s", err, &out, &errOut)
	}
	if got.Project != p.name || !got.Inside {
		t.Errorf("own project %q, inside %v", got.Project, got.Inside)
	}
	if len(got.Servers) != 1 || got.Servers[0].ID != short(api) {
		t.Errorf("servers %+v", got.Servers)
	}
	if len(got.Notes) != 1 || got.Notes[0].ID != short(apart) || !strings.Contains(got.Notes[0].Why, "no network shared with sluice (it is on "+p.name+"_apart; sluice is on "+p.network+")") {
		t.Errorf("notes %+v", got.Notes)
	}
}

func TestEngineOwnProjectOnHost(t *testing.T) {
	t.Parallel()
	cli := engine(t)
	project, inside, err := OwnProject(t.Context(), cli)
	if inside {
		t.Skip("the tests run in a container of this engine")
	}
	if project != "" || err != nil {
		t.Errorf("%q, %v", project, err)
	}
}

func TestEngineLabeled(t *testing.T) {
	t.Parallel()
	cli := engine(t)
	p := newProject(t, cli)
	host := p.name + ".example"
	made, err := cli.ContainerCreate(t.Context(), &container.Config{
		Image: imageOf(t, cli, "replica"), Labels: map[string]string{runLabel: run, "sluice.host": host, "other": "x"},
	}, &container.HostConfig{NetworkMode: container.NetworkMode(p.network)}, nil, nil, p.name+"-labelled")
	p.must(err)
	t.Cleanup(func() {
		if err := gone(cli.ContainerRemove(context.Background(), made.ID, container.RemoveOptions{Force: true})); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	sets := make(chan []Labels)
	go NewLabeled(cli, slog.New(slog.DiscardHandler)).Run(ctx, sets)
	until := time.After(patience)
	wait := func(want bool) {
		t.Helper()
		for {
			select {
			case set := <-sets:
				for _, l := range set {
					if l.Container == short(made.ID) {
						if len(l.Labels) != 1 || l.Labels["sluice.host"] != host || l.Name != p.name+"-labelled" {
							t.Errorf("%+v", l)
						}
						if want {
							return
						}
					}
				}
				if !want {
					return
				}
			case <-until:
				t.Fatalf("no set with %v", want)
			}
		}
	}
	wait(false) // created only
	p.must(cli.ContainerStart(t.Context(), made.ID, container.StartOptions{}))
	wait(true)
	p.must(cli.ContainerRemove(t.Context(), made.ID, container.RemoveOptions{Force: true}))
	wait(false)
}

func TestNewClientNegotiates(t *testing.T) {
	cli := engine(t)
	version, err := cli.ServerVersion(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if v, err := cli.Ping(t.Context()); err != nil || v.APIVersion != version.APIVersion || cli.ClientVersion() > version.APIVersion {
		t.Errorf("client %s, engine %s, %v", cli.ClientVersion(), version.APIVersion, err)
	}
}
