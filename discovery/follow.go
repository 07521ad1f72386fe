package discovery

import (
	"context"
	"log/slog"
	"slices"

	"sluice/balancer"
)

// Look finds the servers of a source in its view as it is now, and notes of what is not routed; while it is not ready they
// say nothing.
type Look func() (specs []balancer.ServerSpec, notes []Note, ready bool)

// Follow is the Run of a source that keeps a view and tells on changed that there is a new one: it sends what look finds,
// at once and after each change, but never the same set twice in a row. It returns ctx's error when that ends.
func Follow(ctx context.Context, out chan<- []balancer.ServerSpec, changed <-chan struct{}, log *slog.Logger, look Look) error {
	var sent []balancer.ServerSpec
	first := true
	for {
		if specs, notes, ready := look(); ready && (first || !slices.Equal(specs, sent)) {
			select {
			case out <- specs:
			case <-ctx.Done():
				return ctx.Err()
			}
			log.Info("servers found", "servers", len(specs), "not_routed", len(notes))
			first, sent = false, specs
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
