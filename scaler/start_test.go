package scaler

import (
	"errors"
	"testing"
	"time"

	"sluice/balancer"
)

// A request at zero waits for as long as starts were seen to take: the first guess, then how long the one under way has
// taken already, then what was measured.
func TestPatienceAtZeroFollowsTheMeasuredStart(t *testing.T) {
	cfg := demoConfig() // with a first guess of its own
	cfg.Min, cfg.ToZeroAfter, cfg.CooldownDown, cfg.StartTime = 0, 5*time.Second, time.Second, 4*time.Second
	inBubble(t, cfg, nil, func(b *bench) {
		b.engine.startTime = 20 * time.Second
		waits := func() (how time.Duration, err error) {
			begun := time.Now()
			ticket := &balancer.Ticket{}
			if err = b.u.Acquire(ticket, begun); err == nil {
				b.u.Release(ticket, balancer.Outcome{}, time.Now())
			}
			return time.Since(begun), err
		}
		b.pass(2500 * time.Millisecond)
		if how, err := waits(); !errors.Is(err, balancer.ErrQueueTimeout) || how != 14*time.Second {
			t.Errorf("on a guess of 4 s: %v after %v, want a timeout after 3.5 times that", err, how)
		}
		if how, err := waits(); err != nil || how > 6*time.Second { // the start is under way for 14 s
			t.Errorf("the second: %v after %v", err, how)
		}
		b.until("zero", time.Minute, func(s Status) bool { return s.Wanted == 0 && s.Ready == 0 && s.StartSeconds.Count == 1 })
		b.engine.mu.Lock()
		b.engine.never = true
		b.engine.mu.Unlock()
		if how, err := waits(); !errors.Is(err, balancer.ErrQueueTimeout) || how.Round(time.Second) != 70*time.Second {
			t.Errorf("with a start of 20 s measured: %v after %v, want a timeout after 3.5 times that", err, how)
		}
	})
}

func TestWakeFromZero(t *testing.T) {
	cfg := demoConfig()
	cfg.Min, cfg.ToZeroAfter = 0, time.Minute
	inBubble(t, cfg, nil, func(b *bench) {
		b.pass(5 * time.Second)
		if b.engine.now().started != 0 {
			t.Fatal("something was started without any request")
		}
		b.pass(300 * time.Millisecond)
		stop := b.clients(500, 20*time.Millisecond)
		b.pass(50 * time.Millisecond)
		if n := b.engine.now().started; n != 1 {
			t.Fatalf("%d starts 50 ms after the first request", n)
		}
		b.pass(1900 * time.Millisecond)
		if n := b.engine.now().started; n != 1 {
			t.Errorf("%d starts for one wake-up", n)
		}
		b.until("more", 20*time.Second, ready(6))
		stop()
		if b.failed > 0 {
			t.Errorf("%d requests failed", b.failed)
		}
		b.until("zero", 3*time.Minute, func(s Status) bool { return s.Wanted == 0 && s.Ready == 0 && s.Draining == 0 })
	})
}

// Before the first start is measured, one that takes longer than the guess says so itself.
func TestStartTimeUnknown(t *testing.T) {
	cfg := demoConfig()
	cfg.StartTime = time.Second
	inBubble(t, cfg, func(f *fakeEngine) { f.startTime = 20 * time.Second }, func(b *bench) {
		b.pass(12 * time.Second)
		if d := b.loop.Status().Signal.Start; d < 9*time.Second || d > 12*time.Second {
			t.Errorf("12 s after the first was asked for a start is taken to last %s", d)
		}
		b.until("ready", 30*time.Second, ready(1))
		b.pass(2 * time.Second)
		if d := b.loop.Status().Signal.Start; d < 19*time.Second || d > 21*time.Second {
			t.Errorf("a start takes %s, not 20 s", d)
		}
	})
}
