package scaler

import (
	"math"
	"testing"
	"time"

	"sluice/balancer"
)

func TestMeasure(t *testing.T) {
	at := time.Unix(1000, 0)
	var m Meter
	r := balancer.Reading{At: at, Arrivals: 100, Finished: 100, InFlightSeconds: 50, QueuedSeconds: 7, ServiceSeconds: 20}
	if s := m.Measure(r); !s.Stale {
		t.Error("the first reading says nothing of a second")
	}
	next := func(dt time.Duration, arrivals, finished uint64, inFlight, queued, service float64) Signal {
		r.At = r.At.Add(dt)
		r.Arrivals += arrivals
		r.Finished += finished
		r.InFlightSeconds += inFlight
		r.QueuedSeconds += queued
		r.ServiceSeconds += service
		return m.Measure(r)
	}
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 1e-9 {
			t.Errorf("%s is %g, not %g", what, got, want)
		}
	}

	s := next(2*time.Second, 30, 10, 8, 5, 2)
	near("rate1", s.Rate1, 15)
	near("in flight", s.InFlight, 4)
	near("queue", s.Queue, 2.5)
	near("service", s.Service.Seconds(), 0.2)
	near("arrived", s.Arrived, 30)
	near("finished", s.Finished, 10)
	near("served", s.Served, 2)
	if s.Length != 2*time.Second {
		t.Errorf("length %s", s.Length)
	}

	for range 9 {
		s = next(time.Second, 5, 5, 1, 0, 1)
	}
	near("rate1", s.Rate1, 5)
	near("rate4", s.Rate4, 5)
	near("rate10", s.Rate10, (30+45)/11.0)
	near("rate60", s.Rate60, (30+45)/11.0)
	near("rate600", s.Rate600, (30+45)/11.0)
	for range 60 {
		s = next(time.Second, 0, 0, 0, 0, 0)
	}
	near("rate60", s.Rate60, 0)
	near("rate600", s.Rate600, (30+45)/71.0)
	if s.Idle != 60*time.Second {
		t.Errorf("idle %s", s.Idle)
	}

	// An open stream without any arrival is not idle.
	r.InFlight = 1
	if s = next(time.Second, 0, 0, 1, 0, 0); s.Idle != 0 {
		t.Errorf("idle %s with a stream open", s.Idle)
	}
	r.InFlight = 0

	for _, dt := range []time.Duration{-time.Hour, time.Hour, 0, 6 * time.Second, 10 * time.Millisecond} {
		if s = next(dt, 1, 0, 0, 0, 0); !s.Stale || s.Idle != 0 || s.Length != 0 || s.Arrived != 0 {
			t.Errorf("after %s: %+v", dt, s)
		}
		if s = next(time.Second, 3, 0, 0, 0, 0); s.Stale || s.Rate1 != 3 {
			t.Errorf("a second after %s: %+v", dt, s)
		}
	}
	r.Arrivals = 0
	if s = next(time.Second, 1, 0, 0, 0, 0); !s.Stale {
		t.Error("a counter that went back is a fresh measurement")
	}
}

func TestGlance(t *testing.T) {
	var m Meter
	r := balancer.Reading{At: time.Unix(1000, 0)}
	m.Measure(r)
	r.At = r.At.Add(time.Second)
	m.Measure(r)
	r.At = r.At.Add(100 * time.Millisecond)
	r.Queued, r.Arrivals, r.Ready = 3, 3, 1
	if s := m.Glance(r); s.Waiting != 3 || s.Ready != 1 || s.Idle != 0 || s.Rate1 != 0 || s.Length != 0 {
		t.Errorf("glance: %+v", s)
	}
	r.At = r.At.Add(900 * time.Millisecond)
	if s := m.Measure(r); s.Rate1 != 3 {
		t.Errorf("what came before the glance is lost: %+v", s)
	}
}

func TestStartTimes(t *testing.T) {
	var s StartTimes
	if d := s.P90(7 * time.Second); d != 7*time.Second {
		t.Errorf("without any start: %s", d)
	}
	for range 20 {
		s.Add(2 * time.Second)
	}
	if d := s.P90(0); d != 2*time.Second {
		t.Errorf("p90 %s", d)
	}
	for range 4 {
		s.Add(30 * time.Second)
	}
	if d := s.P90(0); d != 30*time.Second {
		t.Errorf("p90 %s does not follow slower starts", d)
	}
	for range startMemory {
		s.Add(time.Second)
	}
	if d := s.P90(0); d != time.Second {
		t.Errorf("p90 %s does not forget", d)
	}
	h := s.Histogram()
	if h.Count != 24+startMemory || h.Sum != 20*2+4*30+startMemory || h.Counts[4] != startMemory {
		t.Errorf("histogram %+v", h)
	}
}

// What one key has too much of is no part of the queue, of arrivals or of refusals, and no idleness either.
func TestExcessIsNoDemand(t *testing.T) {
	var m Meter
	r := balancer.Reading{At: time.Unix(1000, 0)}
	m.Measure(r)
	r.At = r.At.Add(time.Second)
	r.Arrivals, r.Refused, r.RefusedExcess, r.QueuedSeconds, r.ExcessSeconds = 50, 32, 30, 40, 36
	s := m.Measure(r)
	if s.Stale || s.Arrived != 20 || s.Rate1 != 20 || s.Refused != 2 || s.Queue != 4 || s.Excess != 36 || s.Idle != 0 {
		t.Errorf("%+v", s)
	}
	if got, want := queueWords(s), "queue 4 without 36 too many of one key"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	flood := Sizing{Max: 50, QueuedPerReplica: 2}
	s.InFlight, s.Slots, s.Ready, s.OldestWait, s.Refused = 4, 4, 1, 9*time.Second, 0
	s.Queue, s.Excess = 0, 40
	if n, why, _ := flood.demand(s, 1); n != 1 {
		t.Errorf("a flood alone buys %d replicas: %s", n, why)
	}
	r.At = r.At.Add(time.Second)
	r.QueuedSeconds, r.ExcessSeconds = 80, 76
	if s = m.Measure(r); s.Queue != 0 || s.Idle != 0 {
		t.Errorf("a flood that waits is not idle: %+v", s)
	}
}
