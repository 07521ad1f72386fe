package balancer

import (
	"math"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// plainExcess is what crowd.excess says, counted anew.
func plainExcess(waiting []uint64, company int64) int64 {
	counts, most := map[uint64]int{}, 0
	for i, key := range waiting {
		if key == 0 {
			key = uint64(1000 + i)
		}
		counts[key]++
		most = max(most, counts[key])
	}
	if others := len(waiting) - most; company != 0 && most > max(others, 1) {
		return int64(most - others)
	}
	return 0
}

func TestCrowdIsWhatItsPlainVersionIs(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 7))
		var c crowd
		var waiting []uint64
		for at := int64(1); at < 300; at++ {
			if len(waiting) == 0 || r.IntN(100) < 52 {
				key := uint64(r.IntN(2))
				if r.IntN(6) == 0 {
					key = uint64(r.IntN(4))
				}
				waiting = append(waiting, key)
				c.add(key, at)
			} else {
				i := r.IntN(len(waiting))
				c.drop(waiting[i], at)
				waiting = append(waiting[:i], waiting[i+1:]...)
			}
			if got, want := c.excess().n, plainExcess(waiting, c.company); got != want {
				t.Fatalf("seed %d at %d, %v: excess %d, want %d", seed, at, waiting, got, want)
			}
		}
		for _, key := range waiting {
			c.drop(key, 300)
		}
		if c.n != 0 || c.most != 0 || len(c.keys) != 0 || c.excess().n != 0 {
			t.Fatalf("something is left of nobody: %+v", c)
		}
	}
}

// The story of a flood, second by second: what counts of the queue is an exact integral.
func TestFloodCountsInSizingNoMoreThanTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue.Timeout = 10 * time.Minute
		u := newTestUpstream(t, cfg, 1)
		held := mustAcquire(t, u)
		var last Reading
		counted := func(what string, want float64) {
			t.Helper()
			r := u.Read(time.Now())
			got := r.QueuedSeconds - last.QueuedSeconds - (r.ExcessSeconds - last.ExcessSeconds)
			if last = r; math.Abs(got-want) > 1e-6 {
				t.Errorf("%s: %g request-seconds count, want %g", what, got, want)
			}
		}
		for range 10 {
			wait(u, &Ticket{FairKey: 1})
		}
		time.Sleep(2 * time.Second)
		counted("a key that is alone", 20)
		quiet := []waiter{
			wait(u, &Ticket{FairKey: 2}), wait(u, &Ticket{}), wait(u, &Ticket{FairKey: 3, Priority: PriorityHigh}),
		}
		time.Sleep(2 * time.Second)
		counted("beside three others", 2*(3+3))
		for _, w := range quiet {
			u.Cancel(w.ticket)
			w.result()
		}
		time.Sleep(2 * time.Second)
		counted("the others were just here", 0)
		time.Sleep(time.Duration(companyMemory))
		counted("alone again after a minute", 20)
		release(u, held)
		u.Close()
	})
}

// What a flood is refused is no demand, what others are refused is.
func TestRefusalsOfAFloodAreNoDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue.Size = 10
		u := newTestUpstream(t, cfg, 1)
		mustAcquire(t, u)
		for range 12 {
			wait(u, &Ticket{FairKey: 1})
		}
		if r := u.Read(time.Now()); r.Refused != 4 || r.RefusedExcess != 0 {
			t.Errorf("a key that is alone: %d refused, %d of them no demand; want 4 and 0", r.Refused, r.RefusedExcess)
		}
		wait(u, &Ticket{FairKey: 2})
		for range 5 {
			wait(u, &Ticket{FairKey: 1})
		}
		if r := u.Read(time.Now()); r.Refused != 9 || r.RefusedExcess != 5 {
			t.Errorf("beside another: %d refused, %d of them no demand; want 9 and 5", r.Refused, r.RefusedExcess)
		}
		wait(u, &Ticket{})
		wait(u, &Ticket{}) // full
		if r := u.Read(time.Now()); r.Refused != 10 || r.RefusedExcess != 5 {
			t.Errorf("without a key: %d refused, %d of them no demand; want 10 and 5", r.Refused, r.RefusedExcess)
		}
		u.Close()
	})
}
