package scaler

import (
	"time"

	"sluice/balancer"
)

// Signal is what Decide knows of an upstream: means and rates over whole seconds, never point samples, but
// for the few fields that say "now".
type Signal struct {
	// Length is how long the last second was, of which Arrived, Finished and Served tell: requests that came,
	// requests that gave their slot back, and for how many seconds those had it. 0 when nothing was measured
	// since the last signal: a look between two ticks, or a stale one.
	Length                    time.Duration
	Arrived, Finished, Served float64
	// Rate1 to Rate600 are arrivals per second over that many seconds, or over as many as there were yet.
	Rate1, Rate4, Rate10, Rate60, Rate600 float64
	// InFlight and Queue are time-weighted means over the last second. Excess is what one fair_by key had waiting beyond
	// what all others had together: it is no part of Queue, and what was refused of it no part of arrivals and Refused.
	InFlight, Queue, Excess float64
	// Refused is how many requests a second left without a slot.
	Refused float64
	// Waiting is the queue now and OldestWait how long its first request has waited.
	Waiting    int
	OldestWait time.Duration
	// Service is the mean time a request had its slot, over the last minute; 0 when none has finished.
	Service time.Duration
	// ServiceP95 is its 95th percentile.
	ServiceP95 time.Duration
	// Start is how long a replica takes from asked to ready: the decayed 90th percentile, or a first guess.
	Start time.Duration
	// Slots is how many requests one replica takes at once; 0 is no bound.
	Slots int
	// Ready, Starting, Draining and Unhealthy count servers now.
	Ready, Starting, Draining, Unhealthy int
	// Replicas is how many the driver has (starting or running), as of its last listing.
	Replicas int
	// Idle is the time since the last request came or was in flight, counted in ticks and not by the wall
	// clock; since the first tick when there was none.
	Idle time.Duration
	// Stale says that the second could not be measured (the first one, a clock that jumped, a tick that
	// came far too late, a counter that went back). Means and rates are then those of before, and nothing
	// is scaled down on them.
	Stale bool
	// Query is what the configured query gave, and Servers what the servers tell of their own queues.
	Query   QuerySignal
	Servers ServersSignal
	// CPU and Memory are what the replicas use of what they may have, where that is an objective.
	CPU, Memory ShareSignal
	// Partial says that other gateways have a share in the load and some could not be heard: there may be
	// more of it, so nothing is scaled down.
	Partial bool
}

const (
	// tickMin and tickMax bound the time between two readings that makes a regular second.
	tickMin = 200 * time.Millisecond
	tickMax = 5 * time.Second
	// serviceTicks is over how many seconds Signal.Service is the mean.
	serviceTicks = 60
)

// Meter makes Signals of readings, one a second. The zero value is ready; it belongs to one goroutine.
type Meter struct {
	last   balancer.Reading
	any    bool
	signal Signal
	ring   [600]second
	n      int // seconds ever written to the ring
}

// second is one bucket of the ring.
type second struct {
	length, service    float64 // seconds; slot-seconds of what finished
	arrivals, finished uint64
}

// Measure makes the signal of the time since the last call of Measure.
func (m *Meter) Measure(r balancer.Reading) Signal {
	last, known := m.last, m.any
	m.last, m.any = r, true
	m.look(r)
	dt := r.At.Sub(last.At)
	m.signal.Length, m.signal.Arrived, m.signal.Finished, m.signal.Served = 0, 0, 0, 0
	m.signal.Stale = !known || dt < tickMin || dt > tickMax || r.Arrivals < last.Arrivals ||
		r.Finished < last.Finished || r.InFlightSeconds < last.InFlightSeconds || r.QueuedSeconds < last.QueuedSeconds
	if m.signal.Stale {
		return m.signal
	}
	sec := dt.Seconds()
	greedy := r.RefusedExcess - min(last.RefusedExcess, r.RefusedExcess)
	arrivals := r.Arrivals - last.Arrivals
	arrivals -= min(greedy, arrivals)
	now := second{sec, r.ServiceSeconds - last.ServiceSeconds, arrivals, r.Finished - last.Finished}
	m.ring[m.n%len(m.ring)] = now
	m.n++
	s := &m.signal
	s.Length, s.Arrived, s.Finished, s.Served = dt, float64(now.arrivals), float64(now.finished), max(now.service, 0)
	s.Rate1, s.Rate4, s.Rate10, s.Rate60, s.Rate600 = m.rate(1), m.rate(4), m.rate(10), m.rate(60), m.rate(600)
	s.InFlight = (r.InFlightSeconds - last.InFlightSeconds) / sec
	queued := (r.QueuedSeconds - last.QueuedSeconds) / sec
	s.Excess = max(0, min((r.ExcessSeconds-last.ExcessSeconds)/sec, queued))
	s.Queue = queued - s.Excess
	s.Refused = max(0, float64(r.Refused-last.Refused)-float64(greedy)) / sec
	s.Service = m.service()
	if r.Arrivals > last.Arrivals || s.InFlight > 0 || queued > 0 || r.InFlight > 0 || r.Queued > 0 {
		s.Idle = 0
	} else {
		s.Idle += dt
	}
	return *s
}

// Glance is the last signal with what is true now, for a decision between two ticks.
func (m *Meter) Glance(r balancer.Reading) Signal {
	m.look(r)
	if r.Queued > 0 {
		m.signal.Idle = 0
	}
	s := m.signal
	s.Length, s.Arrived, s.Finished, s.Served = 0, 0, 0, 0
	return s
}

func (m *Meter) look(r balancer.Reading) {
	s := &m.signal
	s.Waiting, s.OldestWait, s.ServiceP95 = r.Queued, r.OldestWait, r.ServiceP95
	s.Ready, s.Starting, s.Draining, s.Unhealthy = r.Ready, r.Starting, r.Draining, r.Unhealthy
}

// rate is arrivals per second over the last k buckets, or over as many as there are.
func (m *Meter) rate(k int) float64 {
	var n uint64
	var length float64
	for i := m.n - 1; i >= max(0, m.n-k); i-- {
		b := m.ring[i%len(m.ring)]
		n += b.arrivals
		length += b.length
	}
	if length == 0 {
		return 0
	}
	return float64(n) / length
}

func (m *Meter) service() time.Duration {
	var n uint64
	var sum float64
	for i := m.n - 1; i >= max(0, m.n-serviceTicks); i-- {
		b := m.ring[i%len(m.ring)]
		n += b.finished
		sum += b.service
	}
	if n == 0 {
		return 0
	}
	return time.Duration(sum / float64(n) * float64(time.Second))
}
