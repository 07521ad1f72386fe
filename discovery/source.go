package discovery

import (
	"context"

	"sluice/balancer"
)

// Source learns the servers of one upstream.
type Source interface {
	// Run sends the full set of servers first and the full set again whenever it changed, until ctx
	// ends. An empty set is a set: there are none. While the source cannot tell, it sends nothing, so
	// that the last set stays. It never closes out. An error it returns before ctx ends is noted and
	// Run is called again after a while.
	Run(ctx context.Context, out chan<- []balancer.ServerSpec) error
}

// Note says in words why something that was found is not routed, or what ails a source.
type Note struct {
	// ID is the server's; "" when the note is about the source itself.
	ID string
	// Name is what people call it: a container's name, a DNS name.
	Name string
	// Why, in words.
	Why string
}

// static is the source of a fixed list.
type static []balancer.ServerSpec

// NewStatic returns the source of the servers that the configuration lists. The ID of each is its
// address; of entries with the same address the first counts.
func NewStatic(servers []ServerConfig) Source {
	specs := make(static, 0, len(servers))
	seen := make(map[string]bool, len(servers))
	for _, s := range servers {
		if seen[s.Addr] {
			continue
		}
		seen[s.Addr] = true
		specs = append(specs, balancer.ServerSpec{ID: s.Addr, Addr: s.Addr, Weight: s.Weight, Slots: s.MaxConns, Backup: s.Backup})
	}
	return specs
}

// Run sends the list once.
func (s static) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	select {
	case out <- s:
		<-ctx.Done()
	case <-ctx.Done():
	}
	return ctx.Err()
}
