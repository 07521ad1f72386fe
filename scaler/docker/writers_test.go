package docker

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"sluice/scaler"
)

// stepped is a driver over an engine in memory whose time passes at will.
type stepped struct {
	*testing.T
	*memoryEngine
	d *Driver
}

func (s *stepped) list() (rs []scaler.Replica) {
	s.Helper()
	rs, err := s.d.List(s.Context())
	if err != nil {
		s.Fatal(err)
	}
	return rs
}

func (s *stepped) scale(n int, victims ...string) {
	s.Helper()
	if err := s.d.Scale(s.Context(), n, victims); err != nil {
		s.Fatalf("Scale(%d): %v", n, err)
	}
}

// settle waits for the stops under way.
func (s *stepped) settle() {
	s.Helper()
	if err := s.d.Close(s.Context()); err != nil {
		s.Fatal(err)
	}
}

// leaves asks whether n replicas would be left as few as they are.
func (s *stepped) leaves(n int) bool { return s.d.leaves(n, time.Now()) }

// A replica may take minutes to end after somebody told it to, and is only missed then. What was told longer ago than
// any grace has nothing to do with its end.
func TestStoppedInOrderLongAgo(t *testing.T) {
	for _, c := range []struct {
		what   string
		signal string
		ago    time.Duration
		theirs bool
	}{
		{"a moment ago", "15", time.Second, true},
		{"with a long grace", "15", longGrace - 2*time.Second, true},
		{"before any grace", "15", longGrace + 2*time.Second, false},
		{"by force", "9", time.Second, false},
		{"of another meaning", "1", time.Second, false},
		{"by nobody", "", 0, false},
	} {
		t.Run(c.what, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				e := &memoryEngine{}
				o, ids := e.clones(2)
				s := &stepped{t, e, New(e, o)}
				s.list()
				if c.signal != "" {
					e.signal(ids[0], c.signal)
				}
				for left := c.ago; left > 0; left -= 5 * time.Second { // it lives on, and is seen to
					time.Sleep(min(left, 5*time.Second))
					s.list()
				}
				e.gone(ids[0])
				s.list()
				if got := s.leaves(3); got != c.theirs {
					t.Errorf("taken for somebody else's doing: %v, want %v", got, c.theirs)
				}
			})
		})
	}
}

// What this driver stops is gone for other listings before it hears that it is, and for good afterwards.
func TestOwnStopsAreNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &memoryEngine{}
		o, ids := e.clones(3)
		s := &stepped{t, e, New(e, o)}
		e.stopped = func() { s.list() }
		s.list()
		s.scale(3, ids[2])
		s.settle()
		if s.list(); s.leaves(4) {
			t.Error("listed while it ended, and after")
		}
		e.stopped = nil
		before, _, err := s.d.look(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		s.scale(2, ids[1])
		s.settle()
		if s.list(); s.leaves(3) {
			t.Error("listed only after it was gone")
		}
		if err := s.d.sees(t.Context(), o, before, time.Now()); err != nil { // the end of a listing that began before
			t.Fatal(err)
		}
		if s.list(); s.leaves(3) {
			t.Error("listed late by a listing that began before")
		}
		time.Sleep(longGrace + time.Second)
		s.list()
		if n := len(s.d.others.mine); n != 0 {
			t.Errorf("%d stops are remembered for ever", n)
		}
		e.signal(ids[0], "15")
		e.gone(ids[0])
		if s.list(); !s.leaves(2) {
			t.Error("the last was stopped by somebody else, and is not noticed")
		}
	})
}

// A listing may see a replica that this driver makes before the engine has told its id. It is this driver's all the same:
// it may be stopped at once, and says nothing about somebody who starts what was stopped.
func TestOwnStartsAreNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &memoryEngine{}
		o := Options{Owner: "o", Upstream: "api", Max: 9, Container: &scaler.ContainerConfig{Image: "i"}, Log: slog.New(slog.DiscardHandler)}
		s := &stepped{t, e, New(e, o)}
		e.created = func() error { s.list(); return nil }
		time.Sleep(2 * time.Second) // the engine tells when a container was made in whole seconds
		s.scale(2)
		s.list()
		s.scale(0)
		s.settle()

		// Somebody else starts one, it is stopped when it has had its time, and then this driver starts one.
		labels := Labels("o", "api")
		labels[LabelOrdinal] = "0"
		e.add(name("o", "api", 0), labels)
		s.list()
		if err := s.d.Scale(t.Context(), 0, nil); !errors.Is(err, scaler.ErrRefused) {
			t.Errorf("somebody else's is stopped at once: %v", err)
		}
		time.Sleep(respect)
		s.scale(0)
		s.settle()
		s.scale(1)
		s.list()
		if s.d.others.fights != 0 {
			t.Error("its own start is taken for theirs, come back")
		}
	})
}

// A call that the engine did not answer may have made a replica, or still make one.
func TestUnansweredStartIsNobodyElses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &memoryEngine{}
		o := Options{Owner: "o", Upstream: "api", Max: 9, Container: &scaler.ContainerConfig{Image: "i"}, Log: slog.New(slog.DiscardHandler)}
		s := &stepped{t, e, New(e, o)}
		time.Sleep(2 * time.Second)
		e.created = func() error { return context.DeadlineExceeded }
		if err := s.d.Scale(t.Context(), 1, nil); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatalf("Scale: %v", err)
		}
		e.created = nil
		s.list()
		s.scale(1) // goes on with what was made
		if rs := s.list(); len(rs) != 1 || rs[0].State != scaler.ReplicaRunning {
			t.Fatalf("replicas %+v", rs)
		}
		s.scale(0)
		s.settle()
		time.Sleep(longGrace + time.Second)
		s.list()
		if n := len(s.d.making); n != 0 {
			t.Errorf("%d names are remembered for ever", n)
		}
	})
}

// A listing that began before a replica was made does not know it. Its start is not forgotten for that.
func TestOlderListingForgetsNoStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := &memoryEngine{}
		o := Options{Owner: "o", Upstream: "api", Max: 9, Container: &scaler.ContainerConfig{Image: "i"}, Log: slog.New(slog.DiscardHandler)}
		s := &stepped{t, e, New(e, o)}
		time.Sleep(2 * time.Second)
		s.scale(1)
		s.d.remember(o, nil, nil) // the end of such a listing
		s.list()
		s.scale(0)
		s.settle()
		time.Sleep(callTimeout + time.Second)
		s.list()
		if n := len(s.d.asked); n != 0 {
			t.Errorf("%d starts are remembered for ever", n)
		}
	})
}
