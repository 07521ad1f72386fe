package docker

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"sluice/balancer"
	"sluice/discovery"
)

// Source finds the servers of one upstream among the engine's containers. The ID of a server is its
// container's short ID.
//
// A container is taken out at the event that it is being stopped, was paused or has ended, and
// comes back by a listing. While the engine does not answer, the last set stays.
type Source struct {
	cli   Client
	query Query
	log   *slog.Logger
	found atomic.Pointer[finding] // nil while Run does not run
}

// finding is what Notes tells from.
type finding struct {
	hub   *hub
	notes []discovery.Note
}

// NewSource returns the source of what query finds through cli.
func NewSource(cli Client, query Query, log *slog.Logger) *Source {
	return &Source{cli: cli, query: query, log: log}
}

// Run is discovery.Source's: it sends the first set when the engine has listed its containers
// once since.
func (s *Source) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	hub, sub, leave := subscribe(s.cli, s.query.matches, s.log)
	defer leave()
	defer s.found.Store(nil)
	look := func() (specs []balancer.ServerSpec, notes []discovery.Note, ready bool) {
		v := hub.view.Load()
		if ready = v.number > sub.after; ready {
			specs, notes = s.query.servers(v)
		}
		s.found.Store(&finding{hub, notes})
		return specs, notes, ready
	}
	return discovery.Follow(ctx, out, sub.changed, s.log.With("what", s.query.String()), look)
}

// Notes says which containers were found and are not routed and why, and what ails the engine.
func (s *Source) Notes() []discovery.Note {
	f := s.found.Load()
	if f == nil {
		return nil
	}
	notes := slices.Clone(f.notes)
	if why := f.hub.view.Load().trouble(time.Now()); why != "" {
		notes = append(notes, discovery.Note{Name: "docker", Why: why})
	}
	return notes
}
