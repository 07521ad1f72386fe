package scaler

import (
	"slices"
	"testing"
	"time"

	"sluice/balancer"
)

// A drain is taken back when replicas are wanted again, before anything is started.
func TestDrainCancelled(t *testing.T) {
	cfg := demoConfig()
	cfg.DrainTimeout = 5 * time.Minute
	inBubble(t, cfg, nil, func(b *bench) {
		b.loop.Pin(2, time.Time{})
		b.until("two", 10*time.Second, ready(2))
		s1, end1 := b.stream()
		s2, end2 := b.stream()
		if s1 == s2 {
			t.Fatal("both streams on one server")
		}
		b.loop.Pin(1, time.Time{})
		b.until("draining", 5*time.Second, func(s Status) bool { return s.Draining == 1 })
		b.pass(time.Minute)
		started := b.engine.now().started
		b.loop.Pin(2, time.Time{})
		b.until("back", 3*time.Second, ready(2))
		if b.engine.now().started != started || len(b.engine.now().stopped) > 0 {
			t.Errorf("%d started, stopped %v", b.engine.now().started-started, b.engine.now().stopped)
		}
		// The youngest of equals goes, and once it has nothing in flight it is stopped.
		b.loop.Pin(1, time.Time{})
		b.until("draining", 5*time.Second, func(s Status) bool { return s.Draining == 1 })
		if !b.u.Server("r2").Draining() {
			t.Error("not the youngest is draining")
		}
		end1()
		end2()
		b.until("stopped", 3*time.Second, func(s Status) bool { return s.Draining == 0 && s.Ready == 1 })
		if !slices.Equal(b.engine.now().stopped, []string{"r2"}) || len(b.events("cut")) > 0 {
			t.Errorf("stopped %v, cut %v", b.engine.now().stopped, b.events("cut"))
		}
	})
}

// What an operator has taken out of use is no capacity: another is started within max. It is not stopped, and not taken into use again by
// whatever the load asks for.
func TestOperatorsDrain(t *testing.T) {
	cfg := demoConfig()
	cfg.Max = 2
	inBubble(t, cfg, nil, func(b *bench) {
		b.until("one", 10*time.Second, ready(1))
		b.u.Server("r1").Hold()
		b.until("another", 10*time.Second, func(s Status) bool { return s.Ready == 1 && s.Draining == 1 })
		b.loop.Pin(2, time.Time{}) // no room for a third
		b.pass(time.Minute)
		b.loop.Pin(1, time.Time{})
		b.pass(time.Minute)
		if seen := b.engine.now(); seen.started != 2 || len(seen.stopped) > 0 || !b.u.Server("r1").Held() || b.u.Server("r2").Draining() {
			t.Errorf("%+v", seen)
		}
		b.u.Server("r1").Enable()
		b.until("one of two", 10*time.Second, func(s Status) bool { return s.Ready == 1 && s.Draining == 0 && len(b.engine.now().stopped) == 1 })
	})
}

// What stands in for a replica that an operator has drained, or for one that hangs, stays within the budget too.
func TestOperatorsDrainWithinTheBudget(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.budget.Configure(1)
		b.until("one", 10*time.Second, ready(1))
		b.u.Server("r1").Hold()
		b.pass(time.Minute)
		if n := b.engine.now().started; n != 1 {
			t.Errorf("%d started with a budget of one", n)
		}
		b.loop.budget.Configure(2)
		b.until("another", 10*time.Second, ready(1))
	})
}

// An engine that chooses which replicas go is asked for one more than wanted.
func TestOperatorsDrainWhereTheEngineChooses(t *testing.T) {
	cfg := demoConfig()
	cfg.Max = 2
	inBubbleWith(t, cfg, func(f *fakeEngine) Driver { return choosing{f} }, func(b *bench) {
		b.until("one", 10*time.Second, ready(1))
		b.u.Server("r1").Hold()
		b.until("another", 10*time.Second, func(s Status) bool { return s.Ready == 1 && s.Draining == 1 })
		b.pass(time.Minute)
		if seen := b.engine.now(); seen.started != 2 || len(seen.stopped) > 0 {
			t.Errorf("%+v", seen)
		}
	})
}

// A replica that the scaler lets go of and that an operator has drained as well does not come back with the load.
func TestOperatorsDrainStays(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(2, time.Time{})
		b.until("two", 10*time.Second, ready(2))
		_, end1 := b.stream()
		defer end1()
		_, end2 := b.stream()
		defer end2()
		b.loop.Pin(1, time.Time{})
		b.until("draining", 5*time.Second, func(s Status) bool { return s.Draining == 1 })
		b.u.Server("r2").Hold()
		b.loop.Pin(2, time.Time{})
		b.until("another", 10*time.Second, ready(2))
		if s := b.u.Server("r2"); !s.Held() || !s.Draining() {
			t.Error("taken back into use")
		}
	})
}

func TestDrainDeadline(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(1, time.Time{})
		b.until("one", 10*time.Second, ready(1))
		_, end := b.stream()
		b.loop.Pin(0, time.Time{})
		b.pass(29 * time.Second)
		if len(b.engine.now().stopped) > 0 {
			t.Error("stopped before drain_timeout")
		}
		b.pass(3 * time.Second)
		if len(b.engine.now().stopped) != 1 || len(b.events("cut")) != 1 {
			t.Errorf("stopped %v, cut %v", b.engine.now().stopped, b.events("cut"))
		}
		end()
	})
}

// tunnelled is what a proxy attaches to a server: when its WebSockets were told to go.
type tunnelled struct{ told chan time.Time }

func (a tunnelled) EndTunnels() int {
	a.told <- time.Now()
	return 1
}

// At the drain deadline the clients of WebSockets are told to go, once, and only then is the replica stopped.
func TestTunnelsAreToldBeforeTheStop(t *testing.T) {
	told := make(chan time.Time, 9)
	hooks := func(f *fakeEngine) {
		f.u.SetHooks(func(*balancer.Server) any { return tunnelled{told} }, nil)
	}
	inBubble(t, demoConfig(), hooks, func(b *bench) {
		b.loop.Pin(1, time.Time{})
		b.until("one", 10*time.Second, ready(1))
		_, end := b.stream()
		begun := time.Now()
		b.loop.Pin(0, time.Time{})
		b.until("told", time.Minute, func(Status) bool { return len(told) > 0 })
		if after := (<-told).Sub(begun); after < 30*time.Second || after > 32*time.Second || len(b.engine.now().stopped) > 0 {
			t.Errorf("told after %s, stopped %v", after, b.engine.now().stopped)
		}
		b.pass(2100 * time.Millisecond)
		if len(b.engine.now().stopped) != 1 || len(told) > 0 {
			t.Errorf("stopped %v, told again %d times", b.engine.now().stopped, len(told))
		}
		end()
	})
}
