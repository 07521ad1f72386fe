package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"sluice/admin"
	"sluice/config"
	discoverydocker "sluice/discovery/docker"
	discoverykubernetes "sluice/discovery/kubernetes"
	"sluice/privsep"
)

// engine is the external system whose containers sluice finds and starts, and how it was chosen.
type engine struct {
	cfg     config.EngineConfig
	kind    string                       // none, docker, swarm or kubernetes
	why     string                       // in words, for check and status
	cli     *client.Client               // nil until the engine has answered
	project string                       // the Compose project, or the stack, whose services are meant; "" for none
	owner   string                       // of the containers that sluice declares
	kube    *discoverykubernetes.Cluster // nil unless the kind is kubernetes
	scaler  *privsep.Client              // whom this process asks, as it has no engine itself; nil: it has
}

// enginePatience is how long the choice waits for an answer; afterwards an engine may be as slow as
// it likes.
const enginePatience = 2 * time.Second

// chooseEngine follows [engine]: with auto, a Swarm manager, else a Docker socket that answers, or one
// that some upstream cannot do without. An engine that does not answer is no error: what does not need it serves.
func chooseEngine(cfg *config.Config, file string) *engine {
	e := &engine{cfg: cfg.Engine, kind: "none", owner: ownerName(cfg.Engine.Project, file)}
	e.project = cfg.Engine.Project
	if cfg.Engine.Kind == "none" {
		e.why = "engine.kind is none"
		return e
	}
	if e.cfg.Scaler != "" {
		e.takeScaler()
		return e
	}
	if e.takeKubernetes() {
		return e
	}
	cli, err := discoverydocker.NewClient(cfg.Engine.Socket)
	if err != nil {
		e.why = fmt.Sprintf("no Docker client for %q: %v", cfg.Engine.Socket, err)
		return e
	}
	ctx, cancel := context.WithTimeout(context.Background(), enginePatience)
	defer cancel()
	ping, err := cli.Ping(ctx)
	var info system.Info
	if err == nil && cfg.Engine.Kind != "docker" {
		info, err = cli.Info(ctx)
	}
	needed := neededBy(cfg)
	switch {
	case err == nil && info.Swarm.ControlAvailable:
		e.takeSwarm(ctx, cli, file)
		return e
	case err == nil && cfg.Engine.Kind == "swarm":
		e.kind = "swarm"
		e.why = fmt.Sprintf("engine.kind is swarm; the engine at %s %s", cli.DaemonHost(), noManager(info))
	case err == nil:
		e.kind, e.cli = "docker", cli
		e.why = fmt.Sprintf("the Docker Engine at %s answers (API %s)", cli.DaemonHost(), ping.APIVersion)
		if info.Swarm.LocalNodeState == swarm.LocalNodeStateActive {
			e.why += "; it " + noManager(info)
		}
		e.findProject(ctx, file)
		return e
	case cfg.Engine.Kind == "docker" || cfg.Engine.Kind == "swarm":
		e.kind = cfg.Engine.Kind
		e.why = fmt.Sprintf("engine.kind is %s; %s does not answer: %v", e.kind, cli.DaemonHost(), err)
	case needed != "":
		e.kind = "docker"
		e.why = fmt.Sprintf("%s needs the Docker Engine; %s does not answer: %v", needed, cli.DaemonHost(), err)
	default:
		e.why = fmt.Sprintf("nothing answers at %s", cli.DaemonHost())
	}
	cli.Close()
	return e
}

// missing reports that the engine is wanted and has not answered yet.
func (e *engine) missing() bool {
	return e != nil && e.kind != "none" && e.cli == nil && e.kube == nil && e.scaler == nil
}

// same reports whether nothing can be done with one that cannot be done with the other: both were
// chosen alike and neither has answered, or the same scaler answers for both.
func (e *engine) same(other *engine) bool {
	if e == other || e == nil {
		return e == other
	}
	if e.scaler != nil && other.scaler != nil {
		return e.kind == other.kind
	}
	return e.missing() && reflect.DeepEqual(e, other)
}

// findProject learns the Compose project that sluice itself runs in.
func (e *engine) findProject(ctx context.Context, file string) {
	project, _, err := discoverydocker.OwnProject(ctx, e.cli)
	if err != nil || project == "" || e.cfg.Project != "" {
		return
	}
	e.project, e.owner = project, ownerName(project, file)
	e.why += fmt.Sprintf("; sluice runs in the Compose project %s", project)
}

// neededBy names an upstream that cannot do without an engine; "" for none.
func neededBy(cfg *config.Config) string {
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		if usesEngine(cfg.Upstreams[name]) {
			return "upstream " + name
		}
	}
	return ""
}

var notInName = regexp.MustCompile(`[^a-z0-9_.-]+`)

// ownerName is the owner of declared containers: the project, else, as Compose does for its projects,
// the name of the configuration's folder.
func ownerName(project, file string) string {
	if project == "" {
		if abs, err := filepath.Abs(file); err == nil {
			project = filepath.Base(filepath.Dir(abs))
		}
	}
	name := strings.Trim(notInName.ReplaceAllString(strings.ToLower(project), "-"), "-._")
	if name == "" {
		if name, _ = os.Hostname(); name == "" {
			name = "sluice"
		}
	}
	return name
}

// String is the choice in words.
func (e *engine) String() string { return e.kind + ": " + e.why }

// awaitEngine looks for an engine that did not answer, until one does or none is wanted any more.
func (g *gateway) awaitEngine() {
	for range time.Tick(enginePatience) {
		if !g.lookForEngine() {
			return
		}
	}
}

// lookForEngine configures anew what needs the engine when it answers now, as the configuration in force
// says: the file is for a reload to read. It reports whether to look again.
func (g *gateway) lookForEngine() bool {
	g.mu.Lock()
	was, base := g.engine, g.base
	again := was.missing() && !g.closed
	g.mu.Unlock()
	if !again {
		return false
	}
	wanted := *base
	wanted.Engine = was.cfg
	found := chooseEngine(&wanted, g.file) // not under mu: an engine that hangs takes its time

	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.engine != was || g.base != base { // a reload was quicker
		found.close()
		return g.engine.missing() && !g.closed
	}
	if err := g.take(wanted, found); err != nil {
		g.log.Error("while the engine is awaited", "error", err)
	}
	return g.engine.missing()
}

// status is the choice for the status.
func (e *engine) status() admin.EngineStatus { return admin.EngineStatus{Kind: e.kind, Why: e.why} }

// close lets go of the client.
func (e *engine) close() {
	if e != nil && e.cli != nil {
		e.cli.Close()
	}
	if e != nil && e.scaler != nil {
		e.scaler.Close()
	}
}
