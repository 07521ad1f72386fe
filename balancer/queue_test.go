package balancer

import (
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// waiter is one Acquire in a goroutine of its own.
type waiter struct {
	ticket *Ticket
	err    chan error
}

// wait starts an Acquire and returns once it is in the queue or over. Only in a synctest bubble.
func wait(u *Upstream, ticket *Ticket) waiter {
	w := waiter{ticket, make(chan error, 1)}
	go func() { w.err <- u.Acquire(ticket, time.Now()) }()
	synctest.Wait()
	return w
}

// result is what the Acquire returned, or "waiting".
func (w waiter) result() string {
	synctest.Wait()
	select {
	case err := <-w.err:
		return fmt.Sprint(err)
	default:
		return "waiting"
	}
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Fatalf("%s: %s, want %s", what, got, want)
	}
}

func TestFreedSlotGoesToTheFirstWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1)
		held := mustAcquire(t, u)
		var order []int
		var mu sync.Mutex
		var done sync.WaitGroup
		for i := range 20 {
			done.Go(func() {
				ticket := mustAcquire(t, u)
				mu.Lock()
				order = append(order, i)
				mu.Unlock()
				time.Sleep(time.Millisecond)
				release(u, ticket)
			})
			synctest.Wait()
		}
		release(u, held)
		done.Wait()
		if !slices.IsSorted(order) || len(order) != 20 {
			t.Errorf("served in the order %v", order)
		}
	})
}

// A slot must not be free for a newcomer while others wait: the newcomer that comes right after a
// release must find the slot handed over.
func TestNobodyPassesTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1)
		held := mustAcquire(t, u)
		first := wait(u, &Ticket{})
		release(u, held)
		// The waiter has not run yet, its slot is taken all the same.
		if n := u.Servers()[0].InFlight(); n != 1 {
			t.Fatalf("after the release %d in flight: the slot was free for anybody", n)
		}
		newcomer := wait(u, &Ticket{})
		want(t, "first waiter", first.result(), "<nil>")
		want(t, "newcomer", newcomer.result(), "waiting")
		release(u, first.ticket)
		want(t, "newcomer after the release", newcomer.result(), "<nil>")
	})
}

func TestQueueBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue = QueueConfig{Size: 2, Timeout: 5 * time.Second}
		u := newTestUpstream(t, cfg, 1)
		held := mustAcquire(t, u)
		a, b := wait(u, &Ticket{}), wait(u, &Ticket{})
		want(t, "third waiter", wait(u, &Ticket{}).result(), ErrQueueFull.Error())
		time.Sleep(5*time.Second - time.Nanosecond)
		want(t, "just before the deadline", a.result(), "waiting")
		time.Sleep(time.Nanosecond)
		want(t, "at the deadline", a.result(), ErrQueueTimeout.Error())
		want(t, "at the deadline", b.result(), ErrQueueTimeout.Error())
		if u.Queued() != 0 {
			t.Errorf("%d left in the queue", u.Queued())
		}
		release(u, held)
		mustAcquire(t, u)
	})
}

func TestCancelledWaiterLeavesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1)
		held := mustAcquire(t, u)
		a, b, c := wait(u, &Ticket{}), wait(u, &Ticket{}), wait(u, &Ticket{})
		u.Cancel(b.ticket)
		want(t, "cancelled", b.result(), ErrCanceled.Error())
		release(u, held)
		want(t, "first", a.result(), "<nil>")
		u.Cancel(a.ticket) // not waiting any more: it keeps its slot
		release(u, a.ticket)
		want(t, "third", c.result(), "<nil>")
		release(u, c.ticket)
		b.ticket.Reset()
		want(t, "the cancelled ticket used again", wait(u, b.ticket).result(), "<nil>")
		early := &Ticket{}
		u.Cancel(early)
		want(t, "cancelled before it could wait", wait(u, early).result(), ErrCanceled.Error())
	})
}

func TestWaitersLearnThatNothingWillCome(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1)
		mustAcquire(t, u)
		w := wait(u, &Ticket{})
		u.Servers()[0].Probe(errProbe, 1, 1, time.Now())
		want(t, "waiting for a server that went down", w.result(), ErrNoHealthyServer.Error())
	})
}

func TestElasticUpstreamHoldsAndWakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := NewUpstream("test", DefaultConfig())
		u.SetElastic(true)
		w := wait(u, &Ticket{})
		want(t, "at zero", w.result(), "waiting")
		select {
		case <-u.Wake():
		default:
			t.Fatal("nobody was woken")
		}
		u.Update([]ServerSpec{{ID: "a", Addr: "a:1"}}, time.Now())
		u.Servers()[0].Probe(errProbe, 1, 2, time.Now())
		u.Servers()[0].Probe(errProbe, 1, 2, time.Now())
		want(t, "while it starts", w.result(), "waiting")
		if state, why := u.Servers()[0].State(time.Now()); state != StateStarting {
			t.Errorf("a replica that does not answer yet is %s (%s), want starting", state, why)
		}
		u.Servers()[0].Probe(nil, 1, 2, time.Now())
		want(t, "once it is ready", w.result(), "<nil>")
	})
}

func TestWaiterGetsTheServerWhoseEjectionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Outlier.Errors = 1
		u := newTestUpstream(t, cfg, 1, 1)
		a, b := mustAcquire(t, u), mustAcquire(t, u)
		u.Release(a, Outcome{Failed: true}, time.Now())
		w := wait(u, &Ticket{})
		want(t, "one ejected, one busy", w.result(), "waiting")
		time.Sleep(cfg.Outlier.EjectFor + 10*time.Millisecond)
		want(t, "after the ejection", w.result(), "<nil>")
		if w.ticket.Server() == b.Server() {
			t.Error("served by the busy server")
		}
	})
}

func TestStickyWaitsForItsServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1, 1)
		a, b := u.Server("a"), u.Server("b")
		onA := &Ticket{Sticky: a.StickyID()}
		want(t, "bound to a", wait(u, onA).result(), "<nil>")
		bound := wait(u, &Ticket{Sticky: a.StickyID()})
		want(t, "bound to the busy a", bound.result(), "waiting")
		other := wait(u, &Ticket{})
		want(t, "not bound, behind it", other.result(), "<nil>")
		if other.ticket.Server() != b {
			t.Error("the free server was not used")
		}
		release(u, other.ticket)
		want(t, "b became free", bound.result(), "waiting")
		release(u, onA)
		want(t, "a became free", bound.result(), "<nil>")
		release(u, bound.ticket)
		a.Drain()
		moved := wait(u, &Ticket{Sticky: a.StickyID()})
		want(t, "bound to a server that drains", moved.result(), "<nil>")
	})
}

func TestRetryWaitsForABusyServerBeforeItTakesTheOneThatFailed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1, 1)
		busy := mustAcquire(t, u)
		failed := mustAcquire(t, u)
		release(u, failed)
		failed.Avoid(failed.Server())
		w := wait(u, failed)
		want(t, "the other server is busy", w.result(), "waiting")
		release(u, busy)
		want(t, "the other server is free", w.result(), "<nil>")
		if failed.Again() {
			t.Error("it was sent to the server that failed")
		}
		release(u, failed)
		busy.Server().Drain()
		want(t, "the other server drains", wait(u, failed).result(), "<nil>")
		if !failed.Again() {
			t.Error("Again does not tell that there was no other server")
		}
	})
}

func TestCloseSendsEverybodyAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1)
		held := mustAcquire(t, u)
		w := wait(u, &Ticket{})
		u.Close()
		want(t, "waiting", w.result(), ErrDraining.Error())
		release(u, held)
	})
}

// Slots are neither lost nor handed out twice, with servers that drain and come back in between.
func TestSlotsUnderRace(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Queue.Timeout = 10 * time.Second
	u := newTestUpstream(t, cfg, 2, 3)
	var peak atomic.Int64
	var done sync.WaitGroup
	stop := make(chan struct{})
	var toggler sync.WaitGroup
	toggler.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			s := u.Server("a")
			s.Drain()
			runtime.Gosched()
			s.Enable()
			runtime.Gosched()
		}
	})
	for range 16 {
		done.Go(func() {
			ticket := &Ticket{}
			for range 500 {
				if err := u.Acquire(ticket, time.Now()); err != nil {
					t.Error(err)
					return
				}
				if n := int64(ticket.Server().InFlight()); n > int64(ticket.Server().Slots()) {
					peak.Store(n)
				}
				runtime.Gosched()
				u.Release(ticket, Outcome{Status: 200}, time.Now())
				ticket.Reset()
			}
		})
	}
	done.Wait()
	close(stop)
	toggler.Wait()
	if peak.Load() != 0 {
		t.Errorf("a server had %d in flight, more than its slots", peak.Load())
	}
	for _, s := range u.Servers() {
		if s.InFlight() != 0 {
			t.Errorf("server %s has %d in flight at the end", s.ID(), s.InFlight())
		}
	}
	if r := u.Read(time.Now()); r.Started != 8000 || r.Finished != 8000 || r.InFlight != 0 || r.Queued != 0 {
		t.Errorf("meter at the end: %+v", r)
	}
}

// Drain flags and then reads the count, take counts and then looks at the flag: once Idle was told
// and nothing is in flight, nothing comes any more.
func TestDrainedServerGetsNothing(t *testing.T) {
	for range 2000 {
		u := newTestUpstream(t, DefaultConfig(), 0)
		s := u.Servers()[0]
		var took atomic.Bool
		var both sync.WaitGroup
		both.Go(func() { took.Store(s.take()) })
		both.Go(func() { s.Drain() })
		both.Wait()
		if took.Load() {
			s.give()
		}
		<-s.Idle()
		if s.take() || s.InFlight() != 0 {
			t.Fatal("a drained server got a request")
		}
	}
}

func TestUpdateKeepsWhatIsStillListed(t *testing.T) {
	u := newTestUpstream(t, DefaultConfig(), 1, 1)
	var joined, left []string
	u.SetHooks(func(s *Server) any { joined = append(joined, s.ID()); return s.ID() + "!" }, func(s *Server) { left = append(left, s.ID()) })
	a, b := u.Server("a"), u.Server("b")
	busy := &Ticket{Sticky: b.StickyID()}
	if err := u.Acquire(busy, time.Now()); err != nil {
		t.Fatal(err)
	}
	u.Update([]ServerSpec{{ID: "a", Addr: a.Addr(), Weight: 3, Slots: 7}, {ID: "c", Addr: "c:1"}}, time.Now())
	if u.Server("a") != a || a.Weight() != 3 || a.Slots() != 7 {
		t.Error("a server that is still listed was not kept, or not brought up to date")
	}
	if fmt.Sprint(joined, left) != "[c] [b]" || u.Server("c").Attached() != "c!" {
		t.Errorf("hooks saw %v join and %v leave", joined, left)
	}
	if state, _ := b.State(time.Now()); state != StateDraining {
		t.Errorf("a server that left is %s", state)
	}
	release(u, busy)
	<-b.Idle()
	u.Update([]ServerSpec{{ID: "a", Addr: "elsewhere:1"}}, time.Now())
	if u.Server("a") == a {
		t.Error("the same ID at another address is another server")
	}
}

func TestConfigureChangesBoundsAndKeepsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.MaxConns, cfg.Breaker = 1, &BreakerConfig{FailureRatio: 0.5, MinRequests: 2, OpenFor: time.Second}
		u := newTestUpstream(t, cfg, 0)
		s := u.Servers()[0]
		breaker := s.breaker.Load()
		held := mustAcquire(t, u)
		w := wait(u, &Ticket{})
		same := *cfg.Breaker
		cfg.MaxConns, cfg.Breaker, cfg.Balance = 2, &same, "round_robin"
		u.Configure(cfg)
		want(t, "with one more slot", w.result(), "<nil>")
		if s.breaker.Load() != breaker {
			t.Error("an unchanged breaker was made anew")
		}
		if u.Servers()[0] != s || s.InFlight() != 2 {
			t.Error("the server did not live on")
		}
		release(u, held, w.ticket)
	})
}

func TestAcquireAllocatesNothing(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Breaker = &BreakerConfig{FailureRatio: 0.5, MinRequests: 20, OpenFor: time.Second}
	forEachPolicy(t, func(t *testing.T, c Config) {
		cfg.Balance = c.Balance
		u := newTestUpstream(t, cfg, 4, 4, 4, 4, 4, 4)
		ticket := &Ticket{}
		fn := func() (time.Time, error) { return time.Now(), nil }
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for range 5000 {
			ticket.Reset()
			now := time.Now()
			if err := u.Acquire(ticket, now); err != nil {
				t.Fatal(err)
			}
			if err := ticket.Server().Execute(fn); err != nil {
				t.Fatal(err)
			}
			u.Release(ticket, Outcome{Status: 200}, now)
		}
		runtime.ReadMemStats(&after)
		if n := float64(after.Mallocs-before.Mallocs) / 5000; n > 0.01 {
			t.Errorf("%.3f allocations per request", n)
		}
	})
}

func BenchmarkAcquireRelease(b *testing.B) {
	u := newTestUpstream(b, DefaultConfig(), 4, 4, 4)
	ticket := &Ticket{}
	for b.Loop() {
		now := time.Now()
		if err := u.Acquire(ticket, now); err != nil {
			b.Fatal(err)
		}
		u.Release(ticket, Outcome{Status: 200}, now)
	}
}

func BenchmarkAcquireReleaseLearning(b *testing.B) {
	cfg := DefaultConfig()
	cfg.MaxConns = AutoSlots
	u := newTestUpstream(b, cfg, 0, 0, 0)
	ticket := &Ticket{}
	for b.Loop() {
		now := time.Now()
		if err := u.Acquire(ticket, now); err != nil {
			b.Fatal(err)
		}
		u.Release(ticket, Outcome{Status: 200}, now)
	}
}

// A request that says by when it is wanted waits no longer, and no longer than the others either.
func TestDeadlineEndsTheWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue.Timeout = 10 * time.Second
		u := newTestUpstream(t, cfg, 1)
		held := mustAcquire(t, u)
		defer release(u, held)
		for _, row := range []struct{ deadline, waits time.Duration }{
			{3 * time.Second, 3 * time.Second}, {time.Minute, 10 * time.Second}, {-time.Second, 0}, {0, 10 * time.Second},
		} {
			ticket := &Ticket{}
			if row.deadline != 0 {
				ticket.Deadline = time.Now().Add(row.deadline)
			}
			begun := time.Now()
			if err := u.Acquire(ticket, begun); err != ErrQueueTimeout || time.Since(begun) != row.waits {
				t.Errorf("deadline in %v: %v after %v, want %v", row.deadline, err, time.Since(begun), row.waits)
			}
			ticket.Reset()
			if !ticket.Deadline.IsZero() {
				t.Error("the deadline stays for the next request")
			}
		}
	})
}
