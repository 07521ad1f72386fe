package balancer

import (
	"math"
	"time"
)

// pace is how fast the slots of an upstream become free, measured in two ways: by how long requests have
// them, and by how many were handed over while somebody waited. The first follows the number of slots at
// once, the second holds whatever mixture of short and long requests there is. Not safe for concurrent use.
type pace struct {
	service float64 // ns, mean over about the last paceMemory requests
	n       int     // how many it is founded on, at most paceMemory
	served  float64 // slots handed over
	over    float64 // ns in which somebody waited; both fade with paceFade
	faded   int64   // up to when
}

const (
	paceMemory = 64
	paceFade   = 30 * time.Second
	// paceFew is how many requests a rate must be founded on.
	paceFew = 8
)

func (p *pace) finished(service int64) {
	p.n = min(p.n+1, paceMemory)
	p.service += (float64(service) - p.service) / float64(p.n)
}

func (p *pace) fade(at int64) {
	if past := at - p.faded; past >= int64(time.Second) {
		p.faded = at
		f := math.Exp(-float64(past) / float64(paceFade))
		p.served *= f
		p.over *= f
	}
}

// rate is how many slots become free in a nanosecond while inFlight requests are busy: the larger of what
// both ways say; 0 when neither is founded.
func (p *pace) rate(inFlight int64) float64 {
	r := 0.0
	if p.known() {
		r = float64(inFlight) / p.service
	}
	if p.served >= paceFew && p.over > 0 {
		r = max(r, p.served/p.over)
	}
	return r
}

// known reports whether it is known how long a request has its slot.
func (p *pace) known() bool { return p.n >= paceFew && p.service > 0 }
