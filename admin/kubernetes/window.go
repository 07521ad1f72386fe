package kubernetes

import (
	"sync"
	"time"

	"sluice/balancer"
)

// Upstream is one upstream whose load is shown.
type Upstream struct {
	Name string
	// Service is the Service whose endpoints are its servers, and whose metrics its load is; "" for none, then the load is
	// an external metric only.
	Service string
	// Read is the meter, over all gateways that share the load; false when some could not be heard. It may be called
	// concurrently and returns at once.
	Read func(now time.Time) (r balancer.Reading, complete bool)
}

// load is what passed through upstreams over a window.
type load struct {
	queued, inFlight float64 // means: requests
	arrivals         float64 // requests a second
}

func (l load) plus(m load) load {
	return load{l.queued + m.queued, l.inFlight + m.inFlight, l.arrivals + m.arrivals}
}

// leastWindow is what a mean has to be over: gateways hear each other once a second, and their sum stands still
// between.
const leastWindow = time.Second

// reading is what a mean is made of.
type reading struct {
	at               time.Time
	queued, inFlight float64 // integrals, request-seconds
	arrivals         uint64
}

// window is the load of one upstream over the last seconds. All methods may be called concurrently.
type window struct {
	mu       sync.Mutex // guards all below
	readings []reading  // oldest first; all but the first are younger than the window
	whole    load       // as last measured while all gateways were heard
	measured bool       // whole is set
}

// sample reads the meter and forgets what is older than length, but for the one reading that the mean is from.
func (w *window) sample(u Upstream, now time.Time, length time.Duration) {
	r, complete := u.Read(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.take(r, complete)
	if n := len(w.readings); n == 0 || r.At.After(w.readings[n-1].at) {
		w.readings = append(w.readings, readingOf(r))
	}
	first := 0
	for first+1 < len(w.readings) && r.At.Sub(w.readings[first+1].at) >= length {
		first++
	}
	w.readings = append(w.readings[:0], w.readings[first:]...)
}

// load is the mean until now; false while too little was measured. When some gateways are not heard there may be more
// load than is known: then it is not said to be lower than it was when all were, because who scales by it would take a
// silent gateway for one without work.
func (w *window) load(u Upstream, now time.Time) (load, bool) {
	r, complete := u.Read(now)
	w.mu.Lock()
	defer w.mu.Unlock()
	l, ok := w.take(r, complete)
	switch {
	case !ok || complete:
		return l, ok
	case !w.measured:
		return load{}, false
	}
	return load{max(l.queued, w.whole.queued), max(l.inFlight, w.whole.inFlight), max(l.arrivals, w.whole.arrivals)}, true
}

// take is the mean from the oldest reading to r. The caller holds mu.
func (w *window) take(r balancer.Reading, complete bool) (load, bool) {
	if len(w.readings) == 0 {
		return load{}, false
	}
	from, last, to := w.readings[0], w.readings[len(w.readings)-1], readingOf(r)
	if to.arrivals < last.arrivals || to.queued < last.queued || to.inFlight < last.inFlight || to.at.Before(from.at) {
		w.readings = w.readings[:0] // another meter, or a clock that went back
		return load{}, false
	}
	seconds := to.at.Sub(from.at).Seconds()
	if seconds < leastWindow.Seconds() {
		return load{}, false
	}
	l := load{(to.queued - from.queued) / seconds, (to.inFlight - from.inFlight) / seconds, float64(to.arrivals-from.arrivals) / seconds}
	if complete {
		w.whole, w.measured = l, true
	}
	return l, true
}

func readingOf(r balancer.Reading) reading {
	return reading{r.At, r.QueuedSeconds, r.InFlightSeconds, r.Arrivals}
}
