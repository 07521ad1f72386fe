package discovery

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"sluice/balancer"
)

func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out, changed, ended := make(chan []balancer.ServerSpec, 10), make(chan struct{}), make(chan error, 1)
		var now []balancer.ServerSpec
		ready := false
		look := func() ([]balancer.ServerSpec, []Note, bool) { return now, nil, ready }
		go func() { ended <- Follow(ctx, out, changed, slog.New(slog.DiscardHandler), look) }()
		is := func(when string, sets ...int) {
			t.Helper()
			synctest.Wait()
			if len(out) != len(sets) {
				t.Fatalf("%s: %d sets, want %d", when, len(out), len(sets))
			}
			for _, n := range sets {
				if set := <-out; len(set) != n {
					t.Errorf("%s: %v", when, set)
				}
			}
		}
		change := func(to bool, specs ...balancer.ServerSpec) {
			synctest.Wait()
			now, ready = specs, to
			changed <- struct{}{}
		}
		one, two := balancer.ServerSpec{ID: "a", Addr: "127.0.0.1:1"}, balancer.ServerSpec{ID: "a", Addr: "127.0.0.1:2"}
		is("not ready")
		change(false, one)
		is("still not ready")
		change(true)
		is("ready, and there are none", 0)
		change(true)
		is("nothing new")
		change(true, one)
		change(true, one)
		change(true, two)
		is("one, the same, another", 1, 1)
		change(false)
		is("not ready any more")
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// It ends with ctx even while nobody takes what it sends.
func TestFollowEndsWhileItSends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		none := func() ([]balancer.ServerSpec, []Note, bool) { return nil, nil, true }
		go func() {
			ended <- Follow(ctx, make(chan []balancer.ServerSpec), nil, slog.New(slog.DiscardHandler), none)
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
