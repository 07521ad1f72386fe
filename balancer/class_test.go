package balancer

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// served releases held and then each that was served, and tells in which order tickets got their slot.
func served(u *Upstream, held *Ticket, waiters map[string]waiter) []string {
	var order []string
	release(u, held)
	for len(waiters) > 0 {
		synctest.Wait()
		before := len(waiters)
		for name, w := range waiters {
			select {
			case err := <-w.err:
				delete(waiters, name)
				if err != nil {
					order = append(order, name+": "+err.Error())
				} else {
					order = append(order, name)
					release(u, w.ticket)
				}
			default:
				continue
			}
			break
		}
		if len(waiters) == before {
			return append(order, "nobody")
		}
	}
	return order
}

func TestKeysTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1)
		held := mustAcquire(t, u)
		waiters := map[string]waiter{}
		for _, name := range []string{"a1", "a2", "a3", "b1", "a4", "-1", "b2", "-2", "c1"} {
			ticket := &Ticket{}
			if name[0] != '-' {
				ticket.FairKey = uint64(name[0])
			}
			waiters[name] = wait(u, ticket)
		}
		u.Cancel(waiters["a1"].ticket) // a2 takes its place
		want(t, "cancelled", waiters["a1"].result(), ErrCanceled.Error())
		delete(waiters, "a1")
		order := served(u, held, waiters)
		want(t, "order", fmt.Sprint(order), "[a2 b1 -1 -2 c1 a3 b2 a4]")
		if c := &u.queue.classes[1]; len(c.lines) != 0 || slices.Max(c.rounds) != 0 || c.turns.first != nil || c.all.first != nil {
			t.Errorf("something is left in the empty queue: %+v", c)
		}
	})
}

// A key that floods the queue costs another one turn, and cannot fill the queue against it.
func TestFloodDoesNotStarveOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue.Size = 100
		u := newTestUpstream(t, cfg, 1)
		held := mustAcquire(t, u)
		waiting := 0
		var first waiter
		for i := range 300 {
			w := wait(u, &Ticket{FairKey: 1})
			if i == 0 {
				first = w
			}
			switch r := w.result(); r {
			case "waiting":
				waiting++
			case ErrQueueFull.Error():
			default:
				t.Fatal(r)
			}
		}
		if waiting != 80 {
			t.Errorf("one key has %d of 100 places, want four times what is left", waiting)
		}
		other := wait(u, &Ticket{FairKey: 2})
		want(t, "another key", other.result(), "waiting")
		want(t, "a request without a key", wait(u, &Ticket{}).result(), "waiting")
		release(u, held)
		want(t, "the first of the flood", first.result(), "<nil>")
		release(u, first.ticket)
		want(t, "the other after one turn", other.result(), "<nil>")
		u.Close()
	})
}

// plainClass is a class's behaviour written plainly: a list of lines, the first has the next turn.
type plainClass struct{ lines [][]*Ticket }

func (p *plainClass) push(t *Ticket) {
	for i, l := range p.lines {
		if t.FairKey != 0 && l[0].FairKey == t.FairKey {
			p.lines[i] = append(l, t)
			return
		}
	}
	p.lines = append(p.lines, []*Ticket{t})
}

func (p *plainClass) remove(t *Ticket, served bool) {
	for i, l := range p.lines {
		at := slices.Index(l, t)
		if at < 0 {
			continue
		}
		if l = slices.Delete(l, at, at+1); len(l) == 0 || served {
			p.lines = slices.Delete(p.lines, i, i+1)
			if len(l) > 0 {
				p.lines = append(p.lines, l)
			}
			return
		}
		p.lines[i] = l
		return
	}
}

func (p *plainClass) order() (all []*Ticket) {
	for _, l := range p.lines {
		all = append(all, l...)
	}
	return all
}

func TestClassIsWhatItsPlainVersionIs(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		var q queue
		q.start()
		var plain plainClass
		for step := range 200 {
			now := int64(step + 1)
			all := plain.order()
			switch {
			case len(all) == 0 || r.IntN(5) < 3:
				n := &Ticket{FairKey: r.Uint64N(4)}
				q.push(n, now)
				plain.push(n)
			default:
				gone, how := all[r.IntN(len(all))], r.IntN(2) == 0
				q.remove(gone, how)
				plain.remove(gone, how)
			}
			var got []*Ticket
			w := q.walk(now, time.Hour)
			for n := w.next(); n != nil; n = w.next() {
				got = append(got, n)
			}
			if want := plain.order(); !slices.Equal(got, want) {
				t.Fatalf("seed %d, step %d: %d tickets, want %d, or in another order", seed, step, len(got), len(want))
			}
			// A newcomer is served after as many as ahead says, give or take those of its last round.
			key := r.Uint64N(5)
			after := aheadPlainly(plain, key)
			own := 0
			for _, l := range plain.lines {
				if key != 0 && l[0].FairKey == key {
					own = len(l)
				}
			}
			lastRound := 0
			for _, l := range plain.lines {
				if len(l) > own {
					lastRound++
				}
			}
			if got := q.ahead(&Ticket{FairKey: key}); got < after || got > after+lastRound {
				t.Fatalf("seed %d, step %d: %d are said to be ahead of key %d, %d are", seed, step, got, key, after)
			}
		}
	}
}

// aheadPlainly plays the turns until the newcomer's.
func aheadPlainly(p plainClass, key uint64) int {
	var lines [][]*Ticket
	for _, l := range p.lines {
		lines = append(lines, slices.Clone(l))
	}
	own := &Ticket{FairKey: key}
	play := plainClass{lines}
	play.push(own)
	for n := 0; ; n++ {
		next := play.lines[0][0]
		if next == own {
			return n
		}
		play.remove(next, true)
	}
}

func TestQueueingAllocatesNothing(t *testing.T) {
	u := newTestUpstream(t, DefaultConfig(), 1)
	now := nanos(time.Now())
	tickets := make([]*Ticket, 64)
	for i := range tickets {
		tickets[i] = &Ticket{granted: make(chan struct{}, 1), FairKey: uint64(i % 8), Priority: Priority(i%3 - 1)}
	}
	round := func() {
		u.queue.mu.Lock()
		defer u.queue.mu.Unlock()
		for _, w := range tickets {
			if err := u.admit(w, u.cfg.Load(), now); err != nil {
				t.Fatal(err)
			}
			u.queue.push(w, now)
		}
		for range tickets {
			walk := u.queue.walk(now, time.Minute)
			w := walk.next()
			u.settle(w, u.Servers()[0], nil, now)
			<-w.granted
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n > 0 {
		t.Errorf("%v allocations for %d requests that waited", n, len(tickets))
	}
}

func BenchmarkQueue(b *testing.B) {
	for _, keys := range []uint64{1, 100, 10000} {
		b.Run(fmt.Sprint(keys, " keys"), func(b *testing.B) {
			var q queue
			q.start()
			tickets := make([]Ticket, 20000)
			for i := range tickets {
				tickets[i].FairKey = uint64(i)%keys + 1
				q.push(&tickets[i], 1)
			}
			for b.Loop() {
				w := q.walk(2, time.Minute)
				next := w.next()
				q.remove(next, true)
				q.push(next, 2)
			}
		})
	}
}
