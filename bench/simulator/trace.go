package simulator

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"
)

// Request is one request of a trace.
type Request struct {
	// At is when it arrives, after the beginning of the trace.
	At time.Duration
	// Service is how long it has its slot; negative when the trace does not say.
	Service time.Duration
}

// Trace is requests in order of arrival.
type Trace struct {
	Requests []Request
	// Length is the time that is paid for: up to the last arrival, or the whole of the last second when the
	// trace counts requests per second.
	Length time.Duration
}

// unknown is the service time of a request whose trace does not say.
const unknown = time.Duration(-1)

// newTrace sorts requests and lets the trace begin with the first.
func newTrace(all []Request) Trace {
	slices.SortStableFunc(all, func(a, b Request) int { return cmp.Compare(a.At, b.At) })
	if len(all) == 0 {
		return Trace{}
	}
	first := all[0].At
	for i := range all {
		all[i].At -= first
	}
	return Trace{Requests: all, Length: all[len(all)-1].At}
}

// Mean is the mean of the known service times; 0 when there are none.
func (t Trace) Mean() time.Duration {
	var sum time.Duration
	n := 0
	for _, r := range t.Requests {
		if r.Service >= 0 {
			sum += r.Service
			n++
		}
	}
	if n == 0 {
		return 0
	}
	return sum / time.Duration(n)
}

// Part is the requests from share a to share b of the length, 0 ≤ a < b ≤ 1: to choose on one part and report on
// another.
func (t Trace) Part(a, b float64) Trace {
	from, to := time.Duration(a*float64(t.Length)), time.Duration(b*float64(t.Length))
	p := Trace{Length: to - from}
	for _, r := range t.Requests {
		if r.At >= from && (r.At < to || b >= 1) {
			p.Requests = append(p.Requests, Request{r.At - from, r.Service})
		}
	}
	return p
}

// Turned is the trace as it might have been instead: it begins somewhere in the middle, goes on with its beginning after
// its end, and every request comes up to jitter earlier or later. The same seed gives the same trace.
func (t Trace) Turned(jitter time.Duration, seed uint64) Trace {
	if t.Length <= 0 {
		return t
	}
	r := rand.New(rand.NewPCG(seed, 0x70b4))
	offset := time.Duration(r.Int64N(int64(t.Length)))
	turned := Trace{Requests: make([]Request, len(t.Requests)), Length: t.Length}
	for i, q := range t.Requests {
		at := (q.At + offset + time.Duration((2*r.Float64()-1)*float64(jitter))) % t.Length
		if at < 0 {
			at += t.Length
		}
		turned.Requests[i] = Request{at, q.Service}
	}
	slices.SortStableFunc(turned.Requests, func(a, b Request) int { return cmp.Compare(a.At, b.At) })
	return turned
}
