package balancer

import (
	"sync"
	"time"
)

// meter counts what passes through an upstream. Counters only grow and gauges are also kept as
// integrals over time, so that two readings give exact rates and means for the time between them,
// whoever reads how often. One short mutex keeps every figure consistent with the others; a request
// takes it twice.
type meter struct {
	mu         sync.Mutex // guards all below
	at         int64      // up to when the integrals are complete
	inFlight   int64
	queueLen   int64
	busy       float64 // integral of inFlight, request-nanoseconds
	queueBusy  float64 // integral of queueLen
	excess     excess  // part of queueLen
	excessBusy float64 // its integral

	arrivals, startedN, finishedN, refused, refusedExcess uint64
	serviceSum                                            int64
	service                                               decayed
	pace                                                  pace
	waits                                                 histogram
	lastArrival                                           int64
}

// Reading is the meter at one time. Counters are monotonic.
type Reading struct {
	At time.Time
	// Arrivals asked for a slot, Started got one, Finished gave it back, Refused left without one.
	Arrivals, Started, Finished, Refused uint64
	// InFlight have a slot and Queued wait for one, at At.
	InFlight, Queued int
	// QueuedHigh and QueuedLow are those of Queued that have a high and a low priority.
	QueuedHigh, QueuedLow int
	// InFlightSeconds and QueuedSeconds are their integrals over time, in request-seconds.
	InFlightSeconds, QueuedSeconds float64
	// RefusedExcess are those of Refused whose fair_by key had as many waiting as all others together, and
	// ExcessSeconds is the part of QueuedSeconds that a key has beyond that. Neither is demand to size for.
	RefusedExcess uint64
	ExcessSeconds float64
	// OldestWait is how long the one in the queue that came first waits; 0 when it is empty.
	OldestWait time.Duration
	// LastArrival is when the last request came; zero before the first.
	LastArrival time.Time
	// ServiceSeconds is the sum over finished requests of the time they had their slot.
	ServiceSeconds float64
	// ServiceP95 is the 95th percentile of that time over about the last minute.
	ServiceP95 time.Duration
	// Waits are the times spent waiting, of requests that got a slot at once (0) or later.
	Waits HistogramReading
	// Ready, Starting, Draining and Unhealthy count the servers; Unhealthy includes those ejected and
	// those with an open breaker.
	Ready, Starting, Draining, Unhealthy int
	// Slots is the sum over ready servers, this gateway's part; 0 when one of them has no bound.
	Slots int
}

func (m *meter) start(at int64) { m.at = at }

// advance brings the integrals up to at. The caller holds the mutex.
func (m *meter) advance(at int64) {
	if d := at - m.at; d > 0 { // callers read the clock before they get the mutex
		m.busy += float64(m.inFlight) * float64(d)
		m.queueBusy += float64(m.queueLen) * float64(d)
		m.excessBusy += float64(m.excess.n) * float64(max(min(at, m.excess.until)-m.at, 0))
		m.pace.fade(at)
		if m.queueLen > 0 {
			m.pace.over += float64(d)
		}
		m.at = at
	}
}

func (m *meter) arrived(at int64) {
	m.arrivals++
	m.lastArrival = max(m.lastArrival, at)
}

func (m *meter) startedAtOnce(at int64) {
	m.mu.Lock()
	m.advance(at)
	m.arrived(at)
	m.startedN++
	m.inFlight++
	m.waits.add(0)
	m.mu.Unlock()
}

func (m *meter) refusedAtOnce(at int64, excess bool) {
	m.mu.Lock()
	m.arrived(at)
	m.refused++
	if excess {
		m.refusedExcess++
	}
	m.mu.Unlock()
}

func (m *meter) queued(at int64, e excess) {
	m.mu.Lock()
	m.advance(at)
	m.arrived(at)
	m.queueLen++
	m.excess = e
	m.mu.Unlock()
}

func (m *meter) startedAfter(at, waited int64, e excess) {
	m.mu.Lock()
	m.advance(at)
	m.queueLen--
	m.excess = e
	m.inFlight++
	m.pace.served++
	m.startedN++
	m.waits.add(waited)
	m.mu.Unlock()
}

func (m *meter) left(at int64, e excess) {
	m.mu.Lock()
	m.advance(at)
	m.queueLen--
	m.excess = e
	m.refused++
	m.mu.Unlock()
}

func (m *meter) finished(at, service int64) {
	service = max(service, 0)
	m.mu.Lock()
	m.advance(at)
	m.inFlight--
	m.finishedN++
	m.serviceSum += service
	m.service.add(at, service)
	m.pace.finished(service)
	m.mu.Unlock()
}

func (m *meter) gauge() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return int(m.inFlight)
}

// Read is the meter at now.
func (u *Upstream) Read(now time.Time) Reading {
	at := nanos(now)
	r := Reading{At: now}
	since, waiting := u.queue.read()
	r.QueuedHigh, r.QueuedLow = waiting[PriorityHigh.rank()], waiting[PriorityLow.rank()]
	if since != 0 {
		r.OldestWait = time.Duration(max(at-since, 0))
	}
	m := &u.meter
	m.mu.Lock()
	m.advance(at)
	r.Arrivals, r.Started, r.Finished, r.Refused = m.arrivals, m.startedN, m.finishedN, m.refused
	r.InFlight, r.Queued = int(m.inFlight), int(m.queueLen)
	r.InFlightSeconds, r.QueuedSeconds = m.busy/1e9, m.queueBusy/1e9
	r.RefusedExcess, r.ExcessSeconds = m.refusedExcess, m.excessBusy/1e9
	r.ServiceSeconds = float64(m.serviceSum) / 1e9
	r.ServiceP95 = m.service.quantile(0.95)
	r.Waits = m.waits.read()
	if m.lastArrival != 0 {
		r.LastArrival = instant(m.lastArrival)
	}
	m.mu.Unlock()

	unbounded := false
	for _, s := range u.Servers() {
		switch s.state(at) {
		case StateReady:
			r.Ready++
			r.Slots += max(s.Lasting(), 0)
			unbounded = unbounded || s.Lasting() == 0
		case StateStarting:
			r.Starting++
		case StateDraining:
			r.Draining++
		default:
			r.Unhealthy++
		}
	}
	if unbounded {
		r.Slots = 0
	}
	return r
}
