package scaler

import "math"

// fluid is a second of arrivals on its way through a queue, as if requests could be divided.
type fluid struct {
	arrived, service, dt float64 // service and dt in seconds
	stays                float64 // share of what is in service that still is, dt later
}

// pass serves what is in the queue's system, and what arrives, with that many slots. late is how many of those that arrive will have
// waited for longer than lateAfter.
func (f fluid) pass(in *float64, slots float64) (late float64) {
	slots = max(slots-spareSigmas*math.Sqrt(slots), 0)
	all := *in + f.arrived
	switch {
	case slots == 0:
		*in = all
		return f.arrived
	case all <= slots:
		*in = all * f.stays
		return 0
	}
	if wait := (all - slots) * f.service / slots; wait >= f.dt {
		*in = all - slots*f.dt/f.service
	} else {
		*in = slots * math.Exp((wait-f.dt)/f.service)
	}
	return min(max(all-slots*(1+lateAfter/f.service), 0), f.arrived)
}

// fleet are the replicas that would be ready if only the law decided: those that it asks for are ready one start time later.
type fleet struct {
	in     float64 // requests in service or waiting
	clock  float64
	ready  float64
	coming [comingMost]coming // ever later, ever more
	n      int
}

// coming tells when how many replicas will be ready.
type coming struct{ at, upTo float64 }

const comingMost = 32

func (f *fleet) want(wanted, dt, start float64) {
	if f.clock == 0 {
		f.ready = wanted
	}
	f.clock += dt
	f.ready = min(f.ready, wanted)
	asked, n := f.ready, 0
	for _, c := range f.coming[:f.n] {
		c.upTo = min(c.upTo, wanted)
		switch {
		case c.at <= f.clock:
			f.ready = max(f.ready, c.upTo)
		case c.upTo > asked:
			f.coming[n] = c
			n++
		}
		asked = max(asked, c.upTo)
	}
	f.n = n
	switch {
	case wanted <= asked:
	case n == comingMost:
		f.coming[n-1].upTo = wanted
	default:
		f.coming[n] = coming{f.clock + start, wanted}
		f.n++
	}
}
