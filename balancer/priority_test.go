package balancer

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

func TestPriorityOrdersTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1)
		held := mustAcquire(t, u)
		waiters := map[string]waiter{}
		for i, p := range []Priority{PriorityLow, PriorityNormal, PriorityHigh, PriorityLow, PriorityNormal, PriorityHigh} {
			waiters[fmt.Sprintf("%s%d", p, i)] = wait(u, &Ticket{Priority: p})
		}
		if r := u.Read(time.Now()); r.Queued != 6 || r.QueuedHigh != 2 || r.QueuedLow != 2 {
			t.Errorf("%d wait, %d high and %d low", r.Queued, r.QueuedHigh, r.QueuedLow)
		}
		order := served(u, held, waiters)
		want(t, "order", fmt.Sprint(order), "[high2 high5 normal1 normal4 low0 low3]")
	})
}

// With one slot a second and more urgent requests than that, a low one still has its turn.
func TestLowPriorityIsNeverStarved(t *testing.T) {
	for _, timeout := range []time.Duration{4 * time.Second, 30 * time.Second, 5 * time.Minute} {
		t.Run(timeout.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := DefaultConfig()
				cfg.Queue = QueueConfig{Size: 10000, Timeout: timeout}
				u := newTestUpstream(t, cfg, 1)
				held := mustAcquire(t, u)
				step := time.Duration(ageStep(timeout))
				low, normal := wait(u, &Ticket{Priority: PriorityLow}), wait(u, &Ticket{})
				got := map[Priority]time.Duration{}
				begun := time.Now()
				var high []waiter
				for len(got) < 2 && time.Since(begun) < timeout {
					high = append(high, wait(u, &Ticket{Priority: PriorityHigh}), wait(u, &Ticket{Priority: PriorityHigh}))
					time.Sleep(50 * time.Millisecond)
					release(u, held)
					synctest.Wait()
					for _, w := range append([]waiter{low, normal}, high...) {
						select {
						case err := <-w.err:
							if err != nil {
								continue
							}
							held = w.ticket
							if p := w.ticket.Priority; p != PriorityHigh {
								got[p] = time.Since(begun)
							}
						default:
						}
					}
				}
				slack := 300 * time.Millisecond
				if w := got[PriorityNormal]; w < step || w > step+slack {
					t.Errorf("the normal one waited %v, want about %v", w, step)
				}
				if w := got[PriorityLow]; w < 2*step || w > 2*step+slack {
					t.Errorf("the low one waited %v, want about %v", w, 2*step)
				}
				u.Close()
			})
		})
	}
}

// Low ones that have risen take turns with the high ones: they do not shut them out.
func TestRisenRequestsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1)
		held := mustAcquire(t, u)
		waiters := map[string]waiter{}
		for i := range 4 {
			waiters[fmt.Sprint("low", i)] = wait(u, &Ticket{Priority: PriorityLow})
		}
		time.Sleep(20 * time.Second)
		for i := range 3 {
			waiters[fmt.Sprint("high", i)] = wait(u, &Ticket{Priority: PriorityHigh})
			waiters[fmt.Sprint("normal", i)] = wait(u, &Ticket{})
		}
		order := served(u, held, waiters)
		want(t, "order", fmt.Sprint(order), "[high0 low0 high1 low1 high2 low2 low3 normal0 normal1 normal2]")
	})
}

func TestFullQueueMakesRoomForAHigherPriority(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue.Size = 2
		u := newTestUpstream(t, cfg, 1)
		held := mustAcquire(t, u)
		first, last := wait(u, &Ticket{Priority: PriorityLow}), wait(u, &Ticket{Priority: PriorityLow})
		want(t, "a third of the same priority", wait(u, &Ticket{Priority: PriorityLow}).result(), ErrQueueFull.Error())
		normal := wait(u, &Ticket{})
		want(t, "the last low one", last.result(), ErrQueueFull.Error())
		want(t, "the first low one", first.result(), "waiting")
		high := wait(u, &Ticket{Priority: PriorityHigh})
		want(t, "the first low one", first.result(), ErrQueueFull.Error())
		want(t, "a low one again", wait(u, &Ticket{Priority: PriorityLow}).result(), ErrQueueFull.Error())
		release(u, held)
		want(t, "high", high.result(), "<nil>")
		release(u, high.ticket)
		want(t, "normal", normal.result(), "<nil>")
	})
}

func TestParsePriority(t *testing.T) {
	for _, p := range []Priority{PriorityLow, PriorityNormal, PriorityHigh} {
		if got, err := ParsePriority(p.String()); err != nil || got != p {
			t.Errorf("%s is read as %s, %v", p, got, err)
		}
	}
	if _, err := ParsePriority("urgent"); err == nil {
		t.Error("an unknown priority is taken")
	}
}
