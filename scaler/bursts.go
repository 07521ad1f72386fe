package scaler

import "math"

// Bursts knows what became of the bursts so far: whether replicas for one would have been of use, by whether at
// least half of its load was still there one start time later.
type Bursts struct {
	Seen float64 `json:"seen"` // decayed by each further one
	Kept float64 `json:"kept"`
}

const (
	burstFade     = .95
	burstSigmas   = 3  // of the arrivals expected
	burstLeast    = 3  // arrivals
	burstSensible = .7 // share of bursts that have to be kept; the first is given the benefit of the doubt
)

// burst looks for one: more arrivals in the last 4 or 10 s than chance explains when a load of y is expected. It
// returns the load that it comes to one start time from now, 0 if there is none, and how many came.
func (l *Learned) burst(sig Signal, y float64) (load, count float64) {
	service := l.Service.Mean
	if service <= 0 {
		return 0, 0
	}
	for _, w := range []struct{ rate, seconds float64 }{{sig.Rate4, 4}, {sig.Rate10, 10}} {
		e, c := y/service*w.seconds, w.rate*w.seconds
		fast := l.ahead(w.rate, sig.Start.Seconds())
		if c > e+burstSigmas*math.Sqrt(e)+burstLeast && fast+math.Sqrt(fast) > load {
			load, count = fast+math.Sqrt(fast), c
		}
	}
	return load, count
}

// worthwhile reports whether replicas for a burst are likely of use.
func (b *Bursts) worthwhile() bool { return (b.Kept+1)/(b.Seen+1) > burstSensible }

// learn takes the load one start time after a burst.
func (b *Bursts) learn(burst, load float64) {
	if burst <= 0 {
		return
	}
	b.Seen, b.Kept = b.Seen*burstFade+1, b.Kept*burstFade
	if load >= burst/2 {
		b.Kept++
	}
}
