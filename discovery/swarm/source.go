package swarm

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"sluice/balancer"
	"sluice/discovery"
)

// Source finds the servers of one upstream among the tasks of a Swarm service. The ID of a server is
// its task's short ID. While the manager does not answer, the last set stays; a service that is gone
// has no servers.
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

// Run is discovery.Source's: it sends the first set when the manager has listed its tasks
// once since.
func (s *Source) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	hub, member, leave := join(s.cli, &s.query, s.log)
	defer leave()
	defer s.found.Store(nil)
	look := func() (specs []balancer.ServerSpec, notes []discovery.Note, ready bool) {
		v := hub.view.Load()
		if ready = v.number > member.after; ready {
			specs, notes = s.query.servers(v)
		}
		s.found.Store(&finding{hub, notes})
		return specs, notes, ready
	}
	return discovery.Follow(ctx, out, member.changed, s.log.With("what", s.query.String()), look)
}

// Notes says which tasks were found and are not routed and why, and what ails the engine.
func (s *Source) Notes() []discovery.Note {
	f := s.found.Load()
	if f == nil {
		return nil
	}
	notes := slices.Clone(f.notes)
	if why := f.hub.view.Load().trouble(time.Now()); why != "" {
		notes = append(notes, discovery.Note{Name: "swarm", Why: why})
	}
	return notes
}
