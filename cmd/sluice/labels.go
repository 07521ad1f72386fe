package main

import (
	"context"
	"reflect"
	"sync"

	"sluice/config"
	"sluice/discovery"
	discoverydocker "sluice/discovery/docker"
)

// labelWatch holds what the labels of containers last said, and puts it over the file.
type labelWatch struct {
	engine *engine
	cancel context.CancelFunc
	done   sync.WaitGroup
	source *discoverydocker.Labeled

	found    []config.Labeled    // guarded by gateway.mu
	problems []config.LabelError // the last overlay's
}

// watchLabels begins to follow the labels on the engine, or stops when there is none. On Swarm there are
// none to follow: a container's are of one node only. The caller holds mu.
func (g *gateway) watchLabels() {
	if g.labels != nil && g.labels.engine == g.engine {
		return
	}
	g.stopLabels()
	if g.engine.cli == nil || g.engine.kind == "swarm" {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	w := &labelWatch{engine: g.engine, cancel: cancel, source: discoverydocker.NewLabeled(g.engine.cli, g.log)}
	g.labels = w
	sets := make(chan []discoverydocker.Labels)
	w.done.Go(func() {
		if err := w.source.Run(ctx, sets); err != nil && ctx.Err() == nil {
			g.log.Error("labels are no longer followed", "error", err)
		}
	})
	w.done.Go(func() {
		for {
			select {
			case set := <-sets:
				g.relabel(w, set)
			case <-ctx.Done():
				return
			}
		}
	})
}

// stopLabels ends the watch. It does not wait: the watch may wait for mu, which the caller holds.
func (g *gateway) stopLabels() {
	if g.labels != nil {
		g.labels.cancel()
		g.labels = nil
	}
}

// relabel puts a new set of labels over the file's configuration. What is wrong with one of them
// leaves the others and the file alone.
func (g *gateway) relabel(w *labelWatch, set []discoverydocker.Labels) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.labels != w {
		return
	}
	before := w.found
	w.found = nil
	for _, l := range set {
		w.found = append(w.found, config.Labeled{Container: l.Name, Service: l.Service, Project: l.Project, Created: l.Created, Labels: l.Labels})
	}
	cfg, problems := w.overlay(g.base)
	for _, p := range problems {
		if !known(w.problems, p) {
			g.log.Warn("label refused", "error", p)
		}
	}
	if reflect.DeepEqual(cfg, g.cfg) {
		w.problems = problems
		return
	}
	if err := g.apply(cfg); err != nil {
		w.found = before
		g.log.Error("labels refused, the running configuration stays", "error", err)
		return
	}
	w.problems = problems
	g.log.Info("routes and upstreams follow the labels", "routes", len(cfg.Routes), "upstreams", len(cfg.Upstreams))
}

func known(problems []config.LabelError, p config.LabelError) bool {
	for _, q := range problems {
		if q.Error() == p.Error() {
			return true
		}
	}
	return false
}

// overlay is cfg with what the labels add, and what of them was refused. A nil watch adds nothing.
func (w *labelWatch) overlay(cfg *config.Config) (*config.Config, []config.LabelError) {
	if w == nil || len(w.found) == 0 {
		return cfg, nil
	}
	return cfg.WithLabels(w.found)
}

// refused is how many labels of containers were refused.
func (w *labelWatch) refused() int {
	if w == nil {
		return 0
	}
	return len(w.problems)
}

// notes are what was refused, for the status.
func (w *labelWatch) notes() []discovery.Note {
	if w == nil {
		return nil
	}
	notes := w.source.Notes()
	for _, p := range w.problems {
		notes = append(notes, discovery.Note{Name: "labels", Why: p.Error()})
	}
	return notes
}
