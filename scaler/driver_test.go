package scaler

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// An engine that hangs freezes scaling and nothing else; after it all goes on.
func TestEngineHangs(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.engine.set(func() { b.engine.hang = true })
		stop := b.clients(30, 200*time.Millisecond)
		b.pass(time.Minute)
		s := b.loop.Status()
		if s.Ready != 1 || s.Wanted < 3 || s.Errors == 0 || !strings.Contains(s.Failure, "does not answer") {
			t.Errorf("while it hangs: %+v", s)
		}
		if age := time.Since(s.At); age > time.Second {
			t.Errorf("the last decision is %s old", age)
		}
		b.engine.set(func() { b.engine.hang = false })
		b.until("more", 40*time.Second, func(s Status) bool { return s.Ready >= 3 && s.Failure == "" })
		stop()
		if b.failed > 0 {
			t.Errorf("%d requests failed", b.failed)
		}
	})
}

func TestEngineErrors(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.engine.set(func() { b.engine.refuse = errors.New("connection refused") })
		b.loop.Pin(3, time.Time{})
		b.pass(2 * time.Minute)
		s := b.loop.Status()
		if s.Ready != 1 || s.FailedStarts != 0 || s.Errors < 3 || s.Errors > 15 || !strings.Contains(s.Failure, "connection refused") {
			t.Errorf("status %+v", s)
		}
		b.engine.set(func() { b.engine.refuse = nil })
		b.until("three", 20*time.Second, func(s Status) bool { return s.Ready == 3 && s.Failure == "" })
	})
}

// What the engine refuses to stop serves on.
func TestRefusalGivesBack(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(3, time.Time{})
		b.until("three", 10*time.Second, ready(3))
		b.engine.set(func() { b.engine.refuse = fmt.Errorf("%w: somebody else scales it", ErrRefused) })
		b.loop.Pin(1, time.Time{})
		refused := func(s Status) bool { return s.Errors > 0 }
		b.until("refused", 10*time.Second, refused)
		if s := b.loop.Status(); s.Ready != 3 || s.Draining != 0 || s.Failure != "scaling is refused: somebody else scales it" {
			t.Errorf("status %+v", s)
		}
		for _, s := range b.u.Servers() {
			if s.Draining() {
				t.Errorf("%s is still drained", s.ID())
			}
		}
		b.engine.set(func() { b.engine.refuse = nil })
		b.until("one", 30*time.Second, func(s Status) bool { return s.Ready == 1 && s.Failure == "" })
	})
}

// What panics over what an engine or a server says costs that call, or that turn: scaling goes on.
func TestPanicsCostATurn(t *testing.T) {
	cfg := demoConfig()
	cfg.QueuedPerReplica, cfg.CPU = 0, .8 // so that Usage is asked for in each turn
	stumbles := &stumbling{}
	inBubbleWith(t, cfg, func(f *fakeEngine) Driver { stumbles.fakeEngine = f; return stumbles }, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		stumbles.inList.Store(true)
		b.until("told", 10*time.Second, func(s Status) bool { return strings.Contains(s.Failure, "internal fault") })
		stumbles.inList.Store(false)
		b.until("over", 20*time.Second, func(s Status) bool { return s.Failure == "" })
		stumbles.inUsage.Store(true)
		b.pass(10 * time.Second)
		stumbles.inUsage.Store(false)
		b.loop.Pin(2, time.Time{})
		b.until("two", 20*time.Second, ready(2))
		for _, words := range []string{"call of the engine: list", "in=scaling"} {
			if !strings.Contains(b.log.String(), words) {
				t.Errorf("no record of the panic: %q", words)
			}
		}
	})
}

// stumbling panics where it is told to.
type stumbling struct {
	*fakeEngine
	inList, inUsage atomic.Bool
}

func (s *stumbling) List(ctx context.Context) ([]Replica, error) {
	if s.inList.Load() {
		panic("over a listing")
	}
	return s.fakeEngine.List(ctx)
}

func (s *stumbling) Usage() []Usage {
	if s.inUsage.Load() {
		panic("over usage")
	}
	return nil
}
