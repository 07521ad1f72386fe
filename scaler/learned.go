package scaler

import "math"

// Learned is what the law knows of an upstream's load and of its replicas. The zero value knows nothing. It is a
// value of fixed size, kept across reloads and, as JSON, across restarts. Its clock counts the seconds that were
// measured: a leap of the wall clock, a restart or a gap in the measurements is no time for it.
type Learned struct {
	// Clock is in seconds.
	Clock float64 `json:"clock"`
	// Service is how long a request has its slot.
	Service ServiceTime `json:"service"`
	// Load is the offered load in requests in service, as if there were always a free slot, so that it does not
	// depend on how many replicas there are.
	Load float64 `json:"load"`
	// Forecast predicts the load, Margin knows how far it was off, Bursts what became of bursts.
	Forecast Forecast `json:"forecast"`
	Margin   Margin   `json:"margin"`
	Bursts   Bursts   `json:"bursts"`
	// Loads and Plans are the largest loads, and the largest predictions, of the recent past.
	Loads Peaks `json:"loads"`
	Plans Peaks `json:"plans"`
	// Gaps are how long replicas were without work.
	Gaps Gaps `json:"gaps"`
	// Levels are what numbers of replicas that stay would have done.
	Levels Levels `json:"levels"`
}

// features are what is known of the load now, in requests in service.
type features [5]float64

// learn takes a measured second. Only a signal with a Length is one.
func (l Learned) learn(s Sizing, sig Signal) Learned {
	dt := sig.Length.Seconds()
	l.Clock += dt
	l.Service.add(dt, sig)
	if service := l.Service.Mean; service > 0 {
		keep := math.Exp(-dt / service)
		l.Load = l.Load*keep + sig.Arrived*service*(1-keep)/dt
	}
	load := max(l.Load, sig.InFlight) // open streams are load, however few arrive
	start := sig.Start.Seconds()

	l.Loads.add(l.Clock, load, loadsMemory(start))
	l.Gaps.add(l.Clock, dt, ceil(load/s.slots(sig)))
	l.Gaps.learn(l.Clock, start)

	l.Margin.fade(math.Exp2(-dt / memoryHalf))
	for due := range l.Forecast.due(l.Clock) {
		l.Forecast.learn(math.Exp2(-due.Stands/memoryHalf), due.Stands, due, load)
		l.Margin.add(due.Plan, load, due.Stands)
		l.Bursts.learn(due.Burst, load)
	}
	x := l.features(sig)
	y := l.Forecast.predict(x)
	l.Plans.add(l.Clock, y, holdLeast)
	burst, _ := l.burst(sig, y)
	l.Forecast.expect(l.Clock, dt, start, expected{X: x, Plan: l.Plans.most(l.Clock, holdLeast), Burst: burst})
	return l
}

// features of now: the load, and what it would be one start time from now if requests went on to arrive as they did
// in the last 10, 60 and 600 s. With a long service time the load follows the arrivals slowly.
func (l *Learned) features(sig Signal) features {
	ahead := func(rate float64) float64 { return l.ahead(rate, sig.Start.Seconds()) }
	return features{l.Load, ahead(sig.Rate10), ahead(sig.Rate60), ahead(sig.Rate600), 1}
}

// ahead is the load some seconds from now with arrivals at a rate.
func (l *Learned) ahead(rate, seconds float64) float64 {
	s := l.Service.Mean
	if s <= 0 {
		return 0
	}
	keep := math.Exp(-max(seconds, horizonLeast) / s)
	return l.Load*keep + rate*s*(1-keep)
}

// slots is how many requests a replica takes at once.
func (s Sizing) slots(sig Signal) float64 {
	if sig.Slots <= 0 {
		return guessedSlots
	}
	return float64(sig.Slots)
}

// memoryHalf is the seconds after which what the law has learned counts half.
const memoryHalf = 5400
