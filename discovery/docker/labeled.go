package docker

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/discovery"
)

// Labels are the labels of one container that asks for a route.
type Labels struct {
	// Container is its short ID, Name its name.
	Container, Name string
	// Project and Service of Compose; "" when it is of none.
	Project, Service string
	// Created is when the container was made.
	Created time.Time
	// Labels are those whose names begin with "sluice.", in full, without those of the scaler.
	Labels map[string]string
}

// Labeled finds the containers that carry sluice.host, sluice.upstream or sluice.route.NAME.host.
type Labeled struct {
	cli Client
	log *slog.Logger
	hub atomic.Pointer[hub] // nil while Run does not run
}

// NewLabeled returns a Labeled of the engine behind cli.
func NewLabeled(cli Client, log *slog.Logger) *Labeled { return &Labeled{cli: cli, log: log} }

const (
	// What the scaler's driver writes on the containers it makes; no part of the users' words.
	labelOwner   = "sluice.owner"
	labelReplica = "sluice.replica."
	// restartGrace is how long a container that ended still counts, so that a restart does not take
	// its route away for a moment. One that was removed is gone at once.
	restartGrace = 10 * time.Second
)

// Run sends all of them, sorted by name, when the engine has listed its containers once and whenever
// they changed, until ctx ends. Containers that run, are paused or restart count, and those that
// ended a moment ago. Replicas that the scaler declared (sluice.owner, and no Compose service) do
// not: their upstream stands in the file. It never closes out.
func (l *Labeled) Run(ctx context.Context, out chan<- []Labels) error {
	hub, sub, leave := subscribe(l.cli, nil, l.log)
	defer leave()
	l.hub.Store(hub)
	defer l.hub.Store(nil)
	var sent []Labels
	first := true
	seen := make(map[string]time.Time)
	for {
		v := hub.view.Load()
		if !v.listed.IsZero() {
			if set := labelled(v, seen, time.Now()); first || !reflect.DeepEqual(set, sent) {
				select {
				case out <- set:
				case <-ctx.Done():
					return ctx.Err()
				}
				first, sent = false, set
			}
		}
		select {
		case <-sub.changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Notes says what ails the engine; nil when nothing does.
func (l *Labeled) Notes() []discovery.Note {
	hub := l.hub.Load()
	if hub == nil {
		return nil
	}
	if why := hub.view.Load().trouble(time.Now()); why != "" {
		return []discovery.Note{{Name: "docker", Why: why}}
	}
	return nil
}

// labelled returns the set in v. seen holds when each container was last alive, by ID.
func labelled(v *view, seen map[string]time.Time, now time.Time) []Labels {
	set := []Labels{}
	for i := range v.containers {
		c := &v.containers[i]
		if !asksForRoute(c) {
			continue
		}
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			seen[c.ID] = now
		}
		if last, ok := seen[c.ID]; !ok || now.Sub(last) > restartGrace {
			continue
		}
		set = append(set, Labels{
			Container: short(c.ID), Name: name(c), Project: c.Labels[labelProject], Service: c.Labels[labelService],
			Created: time.Unix(c.Created, 0), Labels: userLabels(c),
		})
	}
	maps.DeleteFunc(seen, func(id string, last time.Time) bool { return now.Sub(last) > restartGrace })
	slices.SortFunc(set, func(a, b Labels) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Container, b.Container))
	})
	return set
}

func userLabels(c *container.Summary) map[string]string {
	labels := make(map[string]string)
	for k, v := range c.Labels {
		if strings.HasPrefix(k, "sluice.") && k != labelOwner && !strings.HasPrefix(k, labelReplica) {
			labels[k] = v
		}
	}
	return labels
}

func asksForRoute(c *container.Summary) bool {
	if c.Labels[labelOneOff] == "True" {
		return false
	}
	if _, owned := c.Labels[labelOwner]; owned && c.Labels[labelService] == "" {
		return false
	}
	for k := range c.Labels {
		if k == "sluice.host" || k == "sluice.upstream" || strings.HasPrefix(k, "sluice.route.") && strings.HasSuffix(k, ".host") {
			return true
		}
	}
	return false
}
