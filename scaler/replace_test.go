package scaler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A broken replica that still has requests is not yet gone: max holds for it too.
func TestReplacementKeepsMax(t *testing.T) {
	cfg := demoConfig()
	cfg.Max = 2
	inBubble(t, cfg, nil, func(b *bench) {
		b.loop.Pin(2, time.Time{})
		b.until("two", 10*time.Second, ready(2))
		s1, end1 := b.stream()
		_, end2 := b.stream()
		b.engine.probe(s1.ID(), errors.New("status 500"))
		b.pass(50 * time.Second)
		if seen := b.engine.now(); !s1.Draining() || seen.most != 2 || seen.started != 2 {
			t.Errorf("draining %v, %+v", s1.Draining(), seen)
		}
		b.until("replaced", time.Minute, ready(2))
		if seen := b.engine.now(); seen.most != 2 || !slices.Equal(seen.stopped, []string{s1.ID()}) {
			t.Errorf("%+v", seen)
		}
		end1()
		end2()
	})
}

func TestUnhealthyIsReplaced(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(3, time.Time{})
		b.until("three", 10*time.Second, ready(3))
		b.engine.probe("r2", errors.New("status 500"))
		b.pass(28 * time.Second)
		if len(b.engine.now().stopped) > 0 {
			t.Error("replaced within its grace")
		}
		b.until("replaced", 10*time.Second, func(s Status) bool { return s.Ready == 3 })
		if !slices.Equal(b.engine.now().stopped, []string{"r2"}) || b.engine.now().most > 3 || len(b.events("replace")) != 1 {
			t.Errorf("stopped %v, at most %d, events %v", b.engine.now().stopped, b.engine.now().most, b.events("replace"))
		}
		// Most at once are left alone, with an alarm.
		b.engine.probe("r1", errors.New("status 500"))
		b.engine.probe("r3", errors.New("status 500"))
		b.pass(5 * time.Minute)
		if s := b.loop.Status(); len(b.engine.now().stopped) != 1 || !strings.Contains(s.Alarm, "2 of 3 replicas") || len(b.events("alarm")) != 1 {
			t.Errorf("alarm %q, stopped %v", s.Alarm, b.engine.now().stopped)
		}
		// When one recovers the other is replaced.
		b.engine.probe("r1", nil)
		b.until("replaced", time.Minute, func(s Status) bool { return s.Ready == 3 && s.Alarm == "" })
	})
}

// A single replica that hangs is replaced too: nothing healthy is lost by it.
func TestTheOnlyOneIsReplaced(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.pass(15 * time.Second)
		b.engine.probe("r1", errors.New("timeout"))
		b.until("replaced", 40*time.Second, func(Status) bool { s := b.u.Server("r2"); return s != nil && !s.ReadyAt().IsZero() })
	})
}

// While requests wait and the only one is unhealthy, another is started beside it at once, and no third: whichever is well first stays.
func TestStranded(t *testing.T) {
	for _, recovers := range []bool{false, true} {
		t.Run(fmt.Sprintf("recovers=%v", recovers), func(t *testing.T) {
			cfg := demoConfig()
			cfg.QueuedPerReplica = 100
			inBubble(t, cfg, nil, func(b *bench) {
				b.until("up", 10*time.Second, ready(1))
				b.pass(time.Minute) // less would be taken for flapping
				b.engine.probe("r1", errors.New("timeout"))
				b.pass(5 * time.Second)
				if n := b.engine.now().started; n != 1 {
					t.Fatalf("%d started while nobody waits", n-1)
				}
				defer b.clients(3, time.Second)()
				b.until("another", 2*time.Second, func(Status) bool { return b.engine.now().started == 2 })
				gone := "r1"
				if recovers {
					b.engine.probe("r1", nil)
					gone = "r2"
				}
				b.until("one left", 10*time.Second, func(s Status) bool { return s.Ready == 1 && len(b.engine.now().stopped) == 1 })
				if seen := b.engine.now(); seen.started != 2 || seen.stopped[0] != gone {
					t.Errorf("%d started, stopped %v", seen.started, seen.stopped)
				}
			})
		})
	}
}

func TestRollingReplacement(t *testing.T) {
	for _, most := range []int{3, 6} {
		t.Run(fmt.Sprintf("max=%d", most), func(t *testing.T) { rolls(t, most) })
	}
}

func rolls(t *testing.T, most int) {
	cfg := demoConfig()
	cfg.Max = most
	inBubble(t, cfg, nil, func(b *bench) {
		b.loop.Pin(3, time.Time{})
		b.until("three", 10*time.Second, ready(3))
		b.pass(15 * time.Second)
		for range 3 { // whoever drains has something to finish
			_, end := b.stream()
			time.AfterFunc(15*time.Second, end)
		}
		b.engine.set(func() {
			for i := range b.engine.replicas {
				b.engine.replicas[i].Outdated = true
			}
		})
		least, drains, draining := 3, 0, false
		b.until("all new", time.Minute, func(s Status) bool {
			least = min(least, s.Ready)
			if s.Draining > 0 && !draining {
				drains++
			}
			draining = s.Draining > 0
			return len(b.engine.now().stopped) == 3 && s.Ready == 3
		})
		if least < 3 || drains > 3 || b.engine.now().most != 4 || b.engine.now().started != 6 {
			t.Errorf("at least %d ready, at most %d live, %d started, %d drains", least, b.engine.now().most, b.engine.now().started, drains)
		}
	})
}
