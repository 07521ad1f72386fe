package scaler

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
)

// choosing is an engine that chooses itself which replicas go: the first, whatever is asked.
type choosing struct{ *fakeEngine }

func (c choosing) Chooses() {}

func TestEngineThatChoosesIsAskedForTheNumberOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conf := balancer.DefaultConfig()
		conf.MaxConns = 4
		u := balancer.NewUpstream("demo", conf)
		e := &fakeEngine{u: u, startTime: 2 * time.Second, changed: make(chan struct{}, 1)}
		l := NewLoop(u, choosing{e}, demoConfig(), NewBudget(0), slog.New(slog.DiscardHandler))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); l.Run(ctx) }()
		defer func() { cancel(); u.Close(); <-done }()
		pass := func(d time.Duration) { time.Sleep(d); synctest.Wait() }

		l.Pin(4, time.Time{})
		pass(10 * time.Second)
		if s := l.Status(); s.Ready != 4 {
			t.Fatalf("%+v", s)
		}
		var busy balancer.Ticket // on a replica that may be any
		if err := u.Acquire(&busy, time.Now()); err != nil {
			t.Fatal(err)
		}
		l.Pin(2, time.Time{})
		pass(3 * time.Second)
		if got := e.now(); !slices.Equal(got.stopped, []string{"unasked r1", "unasked r2"}) {
			t.Errorf("stopped %v", got.stopped)
		}
		if s := l.Status(); s.Ready != 2 || s.Draining != 0 {
			t.Errorf("after going down: %+v", s)
		}
		u.Release(&busy, balancer.Outcome{Status: 200}, time.Now())

		// What does not get ready is the engine's to replace, and nothing is given back meanwhile.
		e.set(func() { e.never = true })
		l.Pin(3, time.Time{})
		pass(5 * time.Minute)
		if got := e.now(); len(got.stopped) != 2 || got.started != 5 {
			t.Errorf("stopped %v, started %d", got.stopped, got.started)
		}
		if s := l.Status(); s.FailedStarts != 1 || s.Failure == "" || s.Ready != 2 {
			t.Errorf("with one that does not start: %+v", s)
		}

		// An engine that refuses is not asked again and again.
		e.set(func() { e.refuse = fmt.Errorf("%w: no", ErrStart) })
		l.Pin(5, time.Time{})
		pass(5 * time.Minute)
		if s := l.Status(); s.FailedStarts != 1+startFailsMost {
			t.Errorf("%d failed starts", s.FailedStarts)
		}
	})
}
