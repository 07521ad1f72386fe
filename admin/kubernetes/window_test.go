package kubernetes

import (
	"sync"
	"testing"
	"time"

	"sluice/balancer"
)

// meter is an upstream with constant load, as Read would tell it.
type meter struct {
	mu               sync.Mutex // guards all below while a server reads
	at               time.Time
	queued, inFlight float64
	rate             float64
	r                balancer.Reading
	silent           bool // some gateway is not heard
}

// until brings the meter up to t.
func (m *meter) until(t time.Time) {
	if !m.at.IsZero() {
		d := t.Sub(m.at).Seconds()
		m.r.QueuedSeconds += m.queued * d
		m.r.InFlightSeconds += m.inFlight * d
		m.r.Arrivals += uint64(m.rate*d + .5)
	}
	m.at, m.r.At = t, t
}

func (m *meter) upstream(name, service string) Upstream {
	return Upstream{Name: name, Service: service, Read: func(now time.Time) (balancer.Reading, bool) {
		m.mu.Lock()
		defer m.mu.Unlock()
		m.until(now)
		return m.r, !m.silent
	}}
}

func TestWindowIsAMean(t *testing.T) {
	m := &meter{queued: 10, inFlight: 4, rate: 6}
	u := m.upstream("api", "api")
	now := time.Now()
	var w window
	if _, ok := w.load(u, now); ok {
		t.Error("a load before anything was measured")
	}
	w.sample(u, now, 10*time.Second)
	if _, ok := w.load(u, now.Add(900*time.Millisecond)); ok {
		t.Error("a load of less than a second")
	}
	second := func(n int) {
		for range n {
			now = now.Add(time.Second)
			w.sample(u, now, 10*time.Second)
		}
	}
	want := func(queued, inFlight, arrivals float64) {
		t.Helper()
		got, ok := w.load(u, now)
		if near := func(a, b float64) bool { return a-b < 1e-9 && b-a < 1e-9 }; !ok || !near(got.queued, queued) || !near(got.inFlight, inFlight) || !near(got.arrivals, arrivals) {
			t.Errorf("%+v %v, want %v %v %v", got, ok, queued, inFlight, arrivals)
		}
	}
	second(5)
	want(10, 4, 6)
	m.queued, m.inFlight, m.rate = 0, 0, 0
	second(5)
	want(5, 2, 3)
	second(20)
	want(0, 0, 0)
	if len(w.readings) != 11 {
		t.Errorf("%d readings are kept for 10 seconds", len(w.readings))
	}
	// A burst between two samples is seen: it is no sample that is taken.
	now = now.Add(300 * time.Millisecond)
	m.until(now)
	m.r.QueuedSeconds += 20
	now = now.Add(700 * time.Millisecond)
	w.sample(u, now, 10*time.Second)
	want(2, 0, 0)
}

func TestWindowOfAnotherMeter(t *testing.T) {
	m := &meter{queued: 10, rate: 6}
	u := m.upstream("api", "api")
	now := time.Now()
	var w window
	w.sample(u, now, 10*time.Second)
	w.sample(u, now.Add(2*time.Second), 10*time.Second)
	m.r = balancer.Reading{}
	if l, ok := w.load(u, now.Add(3*time.Second)); ok {
		t.Errorf("counters that went back make %+v", l)
	}
	w.sample(u, now.Add(4*time.Second), 10*time.Second)
	if l, ok := w.load(u, now.Add(6*time.Second)); !ok || l.queued < 9.99 || l.queued > 10.01 {
		t.Errorf("afterwards %+v %v", l, ok)
	}
}

// TestSilentGateway: who cannot be heard is no reason to scale down.
func TestSilentGateway(t *testing.T) {
	m := &meter{queued: 10, silent: true}
	u := m.upstream("api", "api")
	now := time.Now()
	var w window
	tick := func() (load, bool) {
		now = now.Add(time.Second)
		w.sample(u, now, time.Second)
		return w.load(u, now.Add(time.Millisecond))
	}
	for range 3 {
		if l, ok := tick(); ok {
			t.Errorf("all were never heard, yet %+v", l)
		}
	}
	m.silent = false
	tick()
	m.silent, m.queued = true, 4
	for range 3 {
		if l, ok := tick(); !ok || l.queued < 9.9 {
			t.Errorf("%+v %v with a gateway that is not heard", l, ok)
		}
	}
	m.queued = 30 // more is more, whoever is silent
	tick()
	if l, ok := tick(); !ok || l.queued < 29.9 {
		t.Errorf("more load: %+v %v", l, ok)
	}
	m.silent, m.queued = false, 4
	tick()
	if l, ok := tick(); !ok || l.queued > 4.1 {
		t.Errorf("all are heard again: %+v %v", l, ok)
	}
}

func TestWindowsForget(t *testing.T) {
	var w windows
	a, b := (&meter{}).upstream("a", ""), (&meter{}).upstream("b", "")
	w.sample([]Upstream{a, b}, time.Now(), time.Second)
	w.sample([]Upstream{b}, time.Now(), time.Second)
	if len(w.byName) != 1 || w.byName["b"] == nil {
		t.Errorf("%v are left", w.byName)
	}
}

func TestQuantity(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 20: "20", 0.0004: "1m", 12.3456: "12346m", 3.5: "3500m", 1e6: "1M"} {
		q := quantity(v)
		if got := q.String(); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
