package scaler

import (
	"errors"
	"fmt"
	"strings"
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
