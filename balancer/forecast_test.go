package balancer

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// work sends n requests of a service time one after the other, so that it is known.
func work(t *testing.T, u *Upstream, n int, service time.Duration) {
	t.Helper()
	for range n {
		ticket := mustAcquire(t, u)
		time.Sleep(service)
		release(u, ticket)
	}
}

func TestHopelessRequestsAreRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue = QueueConfig{Size: 1000, Timeout: 10 * time.Second}
		u := newTestUpstream(t, cfg, 2)
		work(t, u, paceFew, time.Second)
		for range 2 {
			mustAcquire(t, u)
		}
		for i := range 20 { // two a second: the twentieth waits 10 s
			if r := wait(u, &Ticket{}).result(); r != "waiting" {
				t.Fatalf("request %d: %s", i+1, r)
			}
		}
		now := time.Now()
		late := &Ticket{}
		want(t, "one that would wait longer than it may", wait(u, late).result(), ErrQueueTimeout.Error())
		if time.Since(now) != 0 || late.RetryAfter() != 10250*time.Millisecond {
			t.Errorf("refused after %v, with %v to wait", time.Since(now), late.RetryAfter())
		}
		want(t, "one of a higher priority", wait(u, &Ticket{Priority: PriorityHigh}).result(), "waiting")
		bound := &Ticket{Sticky: u.Servers()[0].StickyID()}
		want(t, "one that waits for its own server", wait(u, bound).result(), "waiting")
		time.Sleep(cfg.Queue.Timeout)
		synctest.Wait()
		want(t, "afterwards", wait(u, &Ticket{}).result(), "waiting")
		u.Close()
	})
}

// Nothing is refused for a wait that nobody can know.
func TestUnfoundedPredictionRefusesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		u := newTestUpstream(t, cfg, 1)
		work(t, u, paceFew-1, time.Minute)
		mustAcquire(t, u)
		for range 100 {
			want(t, "with too few measured", wait(u, &Ticket{}).result(), "waiting")
		}
		u.Close()

		u = newTestUpstream(t, cfg, 1)
		work(t, u, paceFew, time.Minute)
		u.SetElastic(true)
		mustAcquire(t, u)
		for range 100 {
			want(t, "while nobody says how long a start takes", wait(u, &Ticket{}).result(), "waiting")
		}
		u.Expect(1000, 20*time.Second, time.Now()) // and 6 s to serve all
		want(t, "with many to come", wait(u, &Ticket{}).result(), "waiting")
		u.Expect(1000, 29*time.Second, time.Now())
		want(t, "with many to come too late", wait(u, &Ticket{}).result(), ErrQueueTimeout.Error())
		time.Sleep(6 * time.Second)
		want(t, "6 s later", wait(u, &Ticket{}).result(), "waiting")
		u.Expect(0, 0, time.Now())
		want(t, "with none to come", wait(u, &Ticket{}).result(), ErrQueueTimeout.Error())
		u.Close()
	})
}

// At zero, a request is not kept for a replica that will come too late, and still wakes it.
func TestForecastAtZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.MaxConns = 1
		u := NewUpstream("test", cfg)
		u.SetElastic(true)
		u.Expect(3, time.Minute, time.Now())
		first := wait(u, &Ticket{})
		want(t, "the first", first.result(), "waiting")
		want(t, "the second, with nothing measured", wait(u, &Ticket{}).result(), "waiting")
		<-u.Wake()
		for range paceFew {
			u.meter.pace.finished(int64(time.Second))
		}
		late := &Ticket{}
		want(t, "the third", wait(u, late).result(), ErrQueueTimeout.Error())
		<-u.Wake()
		if w := late.RetryAfter(); w < time.Minute || w > 62*time.Second {
			t.Errorf("it is told to wait %v", w)
		}
		u.Expect(3, 5*time.Second, time.Now())
		want(t, "with a quick start", wait(u, &Ticket{}).result(), "waiting")
		u.Close()
	})
}

// Long streams among many short requests make the mean service time long and the queue no slower.
func TestPaceOfAMixture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue.Timeout = 5 * time.Second
		u := newTestUpstream(t, cfg, 8)
		var streams []*Ticket
		for range 7 {
			streams = append(streams, mustAcquire(t, u))
		}
		time.Sleep(time.Hour)
		var refused atomic.Int64
		var done sync.WaitGroup
		client := func() {
			ticket := &Ticket{}
			for range 40 {
				ticket.Reset()
				if err := u.Acquire(ticket, time.Now()); err != nil {
					refused.Add(1)
					continue
				}
				time.Sleep(50 * time.Millisecond)
				release(u, ticket)
			}
		}
		for range 40 {
			done.Go(client)
		}
		time.Sleep(2 * time.Second)
		release(u, streams[:3]...) // the mean is minutes now
		done.Wait()
		if n := refused.Load(); n != 0 {
			t.Errorf("%d requests were refused although each waits 2 s at most", n)
		}
		release(u, streams[3:]...)
	})
}

// Three times the capacity for a minute: everything that is served is served at full speed, what is refused
// is refused at once.
func TestOverload(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue = QueueConfig{Size: 100000, Timeout: 5 * time.Second}
		u := newTestUpstream(t, cfg, 10, 10)
		var done sync.WaitGroup
		var ok, late, slow int
		var mu sync.Mutex
		for range 60 * 300 { // 20 slots, 200 ms: 100 a second
			time.Sleep(time.Second / 300)
			done.Go(func() {
				ticket := &Ticket{}
				begun := time.Now()
				err := u.Acquire(ticket, begun)
				mu.Lock()
				switch {
				case err == nil:
					ok++
				case errors.Is(err, ErrQueueTimeout) && time.Since(begun) == 0:
				case errors.Is(err, ErrQueueTimeout):
					late++
				default:
					slow++
				}
				mu.Unlock()
				if err == nil {
					time.Sleep(200 * time.Millisecond)
					release(u, ticket)
				}
			})
		}
		done.Wait()
		if ok < 6000 || late > ok/50 || slow > 0 {
			t.Errorf("%d served of 6000 possible, %d refused after waiting in vain, %d otherwise", ok, late, slow)
		}
	})
}

// Where nothing is ready the wait is the time until a server is tried again.
func TestRetryAfterAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Breaker = &BreakerConfig{FailureRatio: 0.5, MinRequests: 1, OpenFor: 7 * time.Second}
		u := newTestUpstream(t, cfg, 1)
		ticket := mustAcquire(t, u)
		_ = ticket.Server().Execute(func() (time.Time, error) { return time.Now(), errProbe })
		release(u, ticket)
		time.Sleep(2 * time.Second)
		want(t, "while it is open", wait(u, ticket).result(), ErrBreakerOpen.Error())
		if w := ticket.RetryAfter().Round(time.Millisecond); w != 5*time.Second {
			t.Errorf("%v to wait, want 5s", w)
		}
	})
}
