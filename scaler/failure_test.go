package scaler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
)

func TestCrashLoop(t *testing.T) {
	inBubble(t, demoConfig(), func(f *fakeEngine) { f.dead = func(int) string { return "exit status 1" } }, func(b *bench) {
		b.until("given up", time.Minute, func(s Status) bool { return strings.Contains(s.Failure, "3 starts failed in a row") })
		b.pass(10 * time.Minute)
		if b.engine.now().started != 3 {
			t.Errorf("%d starts", b.engine.now().started)
		}
		if s := b.loop.Status(); !strings.Contains(s.Failure, "exit status 1") || s.FailedStarts != 3 {
			t.Errorf("status %+v", s)
		}
		fails := b.events("failure")
		if len(fails) != 3 || fails[1].At.Sub(fails[0].At) < 2*time.Second || fails[2].At.Sub(fails[1].At) < 3*time.Second {
			t.Errorf("no back-off: %+v", fails)
		}
		// With nobody to start anything requests are refused at once.
		if err := b.u.Acquire(new(balancer.Ticket), time.Now()); !errors.Is(err, balancer.ErrNoHealthyServer) {
			t.Errorf("a request gets %v", err)
		}
		b.engine.set(func() { b.engine.dead = nil })
		b.loop.Configure(demoConfig())
		b.until("well", 10*time.Second, func(s Status) bool { return s.Ready == 1 && s.Failure == "" })
	})
}

// Several that fail together are one failed attempt.
func TestTogetherIsOnce(t *testing.T) {
	cfg := demoConfig()
	cfg.Min = 4
	inBubble(t, cfg, func(f *fakeEngine) { f.dead = func(int) string { return "exit status 1" } }, func(b *bench) {
		b.until("given up", time.Minute, func(s Status) bool { return strings.Contains(s.Failure, "3 starts failed in a row") })
		b.pass(10 * time.Second) // a call of the driver may be under way as this is said
		// One that dies while the others of its attempt are cleared away may be started once more with them.
		n := b.engine.now().started
		if n < 12 || n > 2*12 || len(b.events("failure")) != 3 {
			t.Errorf("%d starts, %+v", n, b.events("failure"))
		}
		time.Sleep(time.Hour)
		if later := b.engine.now().started; later != n {
			t.Errorf("%d more starts after giving up", later-n)
		}
	})
}

// Replicas that do not start never cost one that works.
func TestHealthyIsNotTraded(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.engine.set(func() { b.engine.never = true })
		stop := b.clients(20, 200*time.Millisecond)
		b.until("given up", 10*time.Minute, func(s Status) bool { return strings.Contains(s.Failure, "3 starts failed") })
		b.pass(5 * time.Minute)
		stop()
		s := b.loop.Status()
		if s.Ready != 1 || slices.Contains(b.engine.now().stopped, "r1") {
			t.Errorf("the healthy one went: %+v, stopped %v", s, b.engine.now().stopped)
		}
		if !strings.Contains(s.Failure, "not ready after 1m") || !strings.Contains(s.Failure, "not probed yet") {
			t.Errorf("failure %q", s.Failure)
		}
		if len(b.engine.now().replicas) != 1 {
			t.Errorf("what did not start is left: %+v", b.engine.now().replicas)
		}
		// A pin tries again.
		b.engine.set(func() { b.engine.never = false })
		b.loop.Pin(2, time.Time{})
		b.until("two", 10*time.Second, ready(2))
	})
}

func TestImageMissing(t *testing.T) {
	inBubble(t, demoConfig(), func(f *fakeEngine) { f.refuse = fmt.Errorf("%w: image x not found", ErrStart) }, func(b *bench) {
		b.until("given up", time.Minute, func(s Status) bool { return strings.Contains(s.Failure, "3 starts failed") })
		calls := b.engine.now().calls
		b.pass(time.Minute)
		if s := b.loop.Status(); s.Errors != 3 || !strings.Contains(s.Failure, "image x not found") {
			t.Errorf("status %+v", s)
		}
		if n := b.engine.now().calls; n-calls > 70 {
			t.Errorf("%d calls in a minute of nothing", n-calls)
		}
	})
}

// What worked for long and then dies is replaced at once, and is no failed start.
func TestCrashIsReplaced(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(3, time.Time{})
		for range 6 {
			b.until("three", 10*time.Second, ready(3))
			b.pass(15 * time.Second)
			id := b.engine.now().replicas[0].ID
			b.engine.crash(id, "signal: killed")
			b.pass(time.Millisecond)
			if took := b.until("replaced", 5*time.Second, ready(3)); took > 3*time.Second {
				t.Errorf("replaced after %s", took)
			}
		}
		if s := b.loop.Status(); s.FailedStarts != 0 || len(b.events("crash")) != 6 {
			t.Errorf("status %+v, events %+v", s, b.events("crash"))
		}
	})
}

// Replicas that start well and die of something soon after are replaced, ever more slowly but never given up.
func TestCrashesSoonAfter(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		from := time.Now()
		for i := range 8 {
			b.until("up", 15*time.Second, ready(1))
			b.pass(12 * time.Second)
			b.engine.crash(fmt.Sprintf("r%d", i+1), "out of memory")
			b.pass(time.Millisecond)
		}
		if took := time.Since(from); took < 8*14*time.Second+25*time.Second {
			t.Errorf("no pause: eight in %s", took)
		}
		if s := b.loop.Status(); !strings.Contains(s.Failure, "8 replicas in a row crashed") || !strings.Contains(s.Failure, "out of memory") || s.FailedStarts != 0 {
			t.Errorf("status %+v", s)
		}
		b.until("up", 15*time.Second, ready(1))
		b.pass(40 * time.Second)
		b.engine.crash("r9", "out of memory")
		b.pass(time.Millisecond)
		if s := b.loop.Status(); s.Failure != "" {
			t.Errorf("failure %q", s.Failure)
		}
		if took := b.until("up", 5*time.Second, ready(1)); took > 3*time.Second {
			t.Errorf("replaced after %s", took)
		}
	})
}
