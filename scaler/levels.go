package scaler

import "math"

// Levels are what would have become of the requests if the number of replicas had stayed the same, number by number, beside what
// the law would have made of them. Where a number that stays would have cost no more and let far fewer wait, letting go of replicas gains
// nothing: the load comes back before new ones are ready, and the law pays for them after its peaks. That number is kept, then; the law
// still adds to it. Each level is a queue that runs beside the real one, with the same arrivals.
type Levels struct {
	// Seconds is how much was seen, decayed, as is the rest.
	Seconds float64 `json:"seconds"`
	// Late are the requests that would have waited for longer than lateAfter.
	Late [levelCount]float64 `json:"late"`
	// LawLate and LawCost, in replica-seconds, are the law's.
	LawLate float64 `json:"law_late"`
	LawCost float64 `json:"law_cost"`

	in    [levelCount]float64 // requests in service or waiting
	fleet fleet               // of the law
}

const (
	// levelCount numbers of replicas, at least 1 and else 6 % apart, reach up to about 10,000.
	levelCount = 128
	// levelHalf is in seconds after how long what was seen counts half, levelProof how much of it is needed.
	levelHalf  = 1800
	levelProof = 600
	// levelGain is the largest share of the law's late requests that a level may have.
	levelGain = .2
	// lateAfter is in seconds the wait that counts.
	lateAfter = 1
	// spareSigmas square roots of its slots are taken off a queue: services are of random length, and what is in service varies.
	spareSigmas = 1
)

// levelsOf are the numbers of replicas.
var levelsOf = func() (all [levelCount]float64) {
	n := 0.0
	for i := range all {
		n = max(n+1, math.Round(n*1.06))
		all[i] = n
	}
	return all
}()

// learn takes a measured second: its arrivals, and how many replicas the law wants. service, start and dt are in seconds.
func (l *Levels) learn(dt, arrived, service, slots, start float64, wanted int) {
	if service <= 0 {
		return
	}
	fade := math.Exp2(-dt / levelHalf)
	l.Seconds = l.Seconds*fade + dt
	s := fluid{arrived, service, dt, math.Exp(-dt / service)}
	for i := range l.in {
		l.Late[i] = l.Late[i]*fade + s.pass(&l.in[i], levelsOf[i]*slots)
	}
	l.fleet.want(float64(wanted), dt, start)
	l.LawLate = l.LawLate*fade + s.pass(&l.fleet.in, l.fleet.ready*slots)
	l.LawCost = l.LawCost*fade + float64(wanted)*dt
}

// kept is the lowest number of replicas that would have been better than following the load; 0 for none.
func (l *Levels) kept() int {
	if l.Seconds < levelProof {
		return 0
	}
	for i, level := range levelsOf {
		switch {
		case level*l.Seconds > l.LawCost:
			return 0
		case l.Late[i] <= levelGain*l.LawLate:
			return int(level)
		}
	}
	return 0
}
