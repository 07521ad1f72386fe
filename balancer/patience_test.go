package balancer

import (
	"testing"
	"testing/synctest"
	"time"
)

// How long a request waits when no server is ready and one is started for it.
func TestColdTimeout(t *testing.T) {
	for _, c := range []struct{ set, start, want time.Duration }{
		{0, 0, 30 * time.Second}, // nobody knows how long a start takes
		{0, time.Second, 10 * time.Second},
		{0, 10 * time.Second, 35 * time.Second},
		{0, 3 * time.Minute, 630 * time.Second},
		{5 * time.Second, 3 * time.Minute, 5 * time.Second}, // what is written holds
		{time.Hour, time.Second, time.Hour},
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Queue.Timeout = c.set
			u := NewUpstream("test", cfg)
			u.SetElastic(true)
			u.SetStartTime(c.start)
			w := wait(u, &Ticket{})
			time.Sleep(c.want - time.Nanosecond)
			want(t, "just before the deadline", w.result(), "waiting")
			time.Sleep(time.Nanosecond)
			want(t, "at the deadline", w.result(), ErrQueueTimeout.Error())
		})
	}
}

// It is the state of the servers when a request comes that counts, and not that of the queue.
func TestOnlyColdRequestsWaitForAStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.MaxConns = 1
		u := NewUpstream("test", cfg)
		u.SetElastic(true)
		u.SetStartTime(time.Minute)
		cold := wait(u, &Ticket{})
		u.Update([]ServerSpec{{ID: "a", Addr: "127.0.0.1:1"}}, time.Now())
		starting := wait(u, &Ticket{})
		time.Sleep(40 * time.Second)
		want(t, "at zero", cold.result(), "waiting")
		want(t, "while the first starts", starting.result(), "waiting")
		u.Servers()[0].Probe(nil, 1, 2, time.Now())
		want(t, "with the first ready", cold.result(), "<nil>")
		warm := wait(u, &Ticket{})
		time.Sleep(queueTimeout)
		want(t, "behind a busy server", warm.result(), ErrQueueTimeout.Error())
		want(t, "that waits since zero", starting.result(), "waiting")
		u.Servers()[0].Probe(errProbe, 1, 1, time.Now())
		lost := wait(u, &Ticket{})
		time.Sleep(queueTimeout)
		want(t, "when the only server is lost", lost.result(), "waiting")
		u.SetElastic(false)
		want(t, "when nobody starts any", lost.result(), ErrNoHealthyServer.Error())
	})
}

// Before any request has shown how long it takes nobody is told when to come again.
func TestRetryAfterWhileNothingIsKnown(t *testing.T) {
	for _, elastic := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			cfg := DefaultConfig()
			cfg.Queue.Size = 1
			u := newTestUpstream(t, cfg, 1)
			u.SetElastic(elastic)
			u.Expect(0, 0, time.Now())
			mustAcquire(t, u)
			in, over := &Ticket{}, &Ticket{}
			first := wait(u, in)
			want(t, "the first", first.result(), "waiting")
			want(t, "the second", wait(u, over).result(), ErrQueueFull.Error())
			time.Sleep(cfg.Queue.usual())
			want(t, "the first", first.result(), ErrQueueTimeout.Error())
			if in.RetryAfter() != 0 || over.RetryAfter() != 0 {
				t.Errorf("they are told to wait %v and %v", in.RetryAfter(), over.RetryAfter())
			}
			u.Close()
		})
	}
}

// What does not fit into the queue at zero is told when a server may be ready, before any request has shown how
// long it takes.
func TestRetryAfterAtZero(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue.Size = 1
		u := NewUpstream("test", cfg)
		u.SetElastic(true)
		u.SetStartTime(20 * time.Second)
		u.Expect(3, 20*time.Second, time.Now())
		want(t, "the first", wait(u, &Ticket{}).result(), "waiting")
		time.Sleep(5 * time.Second)
		over := &Ticket{}
		want(t, "the second", wait(u, over).result(), ErrQueueFull.Error())
		if w := over.RetryAfter(); w != 15*time.Second {
			t.Errorf("it is told to wait %v, want 15s", w)
		}
		u.Close()
	})
}
