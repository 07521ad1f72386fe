package balancer

import (
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestMeterIntegrals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newTestUpstream(t, DefaultConfig(), 1, 1)
		start := u.Read(time.Now())
		a, b := mustAcquire(t, u), mustAcquire(t, u)
		w := wait(u, &Ticket{})
		time.Sleep(3 * time.Second)
		if r := u.Read(time.Now()); r.InFlight != 2 || r.Queued != 1 || r.OldestWait != 3*time.Second || r.Ready != 2 || r.Slots != 2 {
			t.Errorf("after 3 s: %+v", r)
		}
		release(u, a) // its slot goes to the one that waits
		time.Sleep(2 * time.Second)
		release(u, b, w.ticket)
		time.Sleep(5 * time.Second)
		r := u.Read(time.Now())
		for _, c := range []struct {
			what      string
			got, want float64
		}{
			{"arrivals", float64(r.Arrivals - start.Arrivals), 3},
			{"started", float64(r.Started), 3},
			{"finished", float64(r.Finished), 3},
			{"in flight", float64(r.InFlight), 0},
			{"in-flight seconds", r.InFlightSeconds - start.InFlightSeconds, 2*3 + 2*2},
			{"queued seconds", r.QueuedSeconds, 3},
			{"service seconds", r.ServiceSeconds, 3 + 5 + 2},
			{"waits", float64(r.Waits.Count), 3},
			{"seconds waited", r.Waits.Sum, 3},
		} {
			if math.Abs(c.got-c.want) > 1e-6 {
				t.Errorf("%s: %v, want %v", c.what, c.got, c.want)
			}
		}
		if w.ticket.Waited() != 3*time.Second {
			t.Errorf("the ticket waited %v", w.ticket.Waited())
		}
		if r.ServiceP95 < 5*time.Second || r.ServiceP95 > 6500*time.Millisecond {
			t.Errorf("p95 of 3, 5 and 2 s: %v", r.ServiceP95)
		}
	})
}

func TestMeterCountsRefusals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		cfg.Queue = QueueConfig{Size: 1, Timeout: time.Second}
		u := newTestUpstream(t, cfg, 1)
		mustAcquire(t, u)
		wait(u, &Ticket{})
		wait(u, &Ticket{})
		time.Sleep(time.Second)
		synctest.Wait()
		if r := u.Read(time.Now()); r.Arrivals != 3 || r.Started != 1 || r.Refused != 2 || r.Queued != 0 {
			t.Errorf("%+v", r)
		}
	})
}

func TestDecayedQuantile(t *testing.T) {
	var d decayed
	if d.quantile(0.95) != 0 {
		t.Error("nothing remembered has a quantile")
	}
	for _, ns := range []int64{0, 1, 1 << 13, 1 << 14, 1 << 20, 12345678, int64(time.Second), int64(10 * time.Minute), math.MaxInt64} {
		i := decayBucket(ns)
		if i < 0 || i > 127 || i < 127 && int64(decayBound(i)) <= ns {
			t.Errorf("%d ns in bucket %d, whose bound is %d", ns, i, decayBound(i))
		}
		if i > 0 && i < 127 && int64(decayBound(i-1)) > ns {
			t.Errorf("%d ns in bucket %d, but the one before reaches %d", ns, i, decayBound(i-1))
		}
	}
	for i := range 1000 {
		d.add(int64(i)*int64(10*time.Millisecond), int64(time.Second))
	}
	for i := range 1000 { // ten minutes later only the new ones count
		d.add(int64(10*time.Minute)+int64(i)*int64(10*time.Millisecond), int64(time.Millisecond))
	}
	if got := d.quantile(0.95); got > 2*time.Millisecond {
		t.Errorf("p95 %v still remembers what was ten minutes ago", got)
	}
}
