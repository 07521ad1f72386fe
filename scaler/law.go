package scaler

import (
	"fmt"
	"math"
	"time"
)

const (
	// peakSeconds and peakStarts (start times), whichever is longer, are how far the law looks back for the largest
	// load: it never plans for more than that load and twice its square root, however large the margin is that an
	// earlier burst has left.
	peakSeconds = 300
	peakStarts  = 5
	peakSigmas  = 2
	// drainLeast and drainShare (of the start time), whichever is longer, are in how many seconds the backlog that
	// is left when new replicas are ready should be gone. With a service time longer than that, what waits is the more
	// a part of the load that is expected, which takes those that wait for served.
	drainLeast = 10
	drainShare = .5
	// A step down by less than smallStep of the replicas saves little, and waits smallHolds times as long, but no
	// longer than smallMost unless cooldown_down is.
	smallStep  = .2
	smallHolds = 5
	smallMost  = 10 * time.Minute
)

// predictive reports whether the law sizes: no objective was given.
func (s Sizing) predictive() bool {
	return s.QueuedPerReplica <= 0 && s.InFlightPerReplica <= 0 && s.QueryPerReplica <= 0 && s.CPU <= 0 && s.Memory <= 0
}

// leadTime is the law, "lead-time demand": replicas for the load that will be there when one that is asked for now is
// ready. That is the forecast, and a margin so large that Headroom of the past would have been within it; more than
// that when a burst comes of a kind that stays, and when a queue stands that would not be gone by then; and never
// less than what the requests in flight occupy.
func (s Sizing) leadTime(l *Learned, sig Signal) (n int, why, code string) {
	per, service, start := s.slots(sig), l.Service.Mean, sig.Start.Seconds()
	most := func(load float64, code2 string, words func() string) {
		if m := ceil(load / per); m > n || code == "" {
			n, why, code = m, words(), code2
		}
	}
	if service <= 0 { // nothing has ever been served for a second
		most(sig.InFlight+sig.Queue, "in_flight", func() string { return loadWords(sig, int(per)) })
		return n, why, code
	}
	y := l.Forecast.predict(l.features(sig))
	plan := max(y, l.Plans.most(l.Clock, holdLeast))
	margin := l.Margin.over(plan, s.Headroom)
	peak := l.Loads.most(l.Clock, loadsMemory(start))
	total := max(0, min(plan+margin, peak+peakSigmas*math.Sqrt(peak)))
	most(total, "load", func() string {
		words := fmt.Sprintf("load %s, %s expected with a start taking %s", number(max(l.Load, sig.InFlight)), number(y), words(sig.Start))
		if total-y >= .05 {
			words += fmt.Sprintf(" and %s more for what may come", number(total-y))
		}
		return words
	})
	most(sig.InFlight, "in_flight", func() string { return fmt.Sprintf("in flight %s, %d a replica", number(sig.InFlight), int(per)) })
	if burst, count := l.burst(sig, y); burst > 0 && l.Bursts.worthwhile() {
		most(burst, "burst", func() string {
			return fmt.Sprintf("burst: %s requests within seconds, load %s instead of %s", number(count), number(burst), number(y))
		})
	}
	if sig.Queue > 0 {
		left := sig.Queue + (y-float64(sig.Ready)*per)/service*start
		if left > 0 {
			in := max(drainLeast, drainShare*start)
			most(y+left*min(service/in, in/service), "queue", func() string {
				return fmt.Sprintf("%s; start takes %s", queueWords(sig), words(sig.Start))
			})
		}
	}
	if sig.Queue >= 1 && s.stuck(&l.Service, sig) {
		most(sig.InFlight+sig.Queue, "saturated", func() string { return queueWords(sig) + ", every slot busy for longer than usual" })
	}
	return n, why, code
}

// stuck reports whether every slot is busy and the first in the queue waits, while far fewer requests finish than should:
// streams may hold the slots, so what the service time says of the queue is worth nothing.
func (s Sizing) stuck(t *ServiceTime, sig Signal) bool {
	slots := s.slots(sig) * float64(sig.Ready)
	should := t.RecentlyOccupied / t.Mean
	return sig.Ready > 0 && sig.InFlight >= .95*slots && sig.OldestWait >= patience && should >= 9 && 3*t.RecentlyFinished < should
}

// loadsMemory is how far back the largest load counts, in seconds.
func loadsMemory(start float64) float64 { return max(peakSeconds, peakStarts*start) }

// holds are how long demand must have been lower before a step down, and before a small one.
func (s Sizing) holds(l *Learned, sig Signal) (hold, small time.Duration) {
	if s.Min == 0 && sig.Idle >= s.ToZeroAfter {
		return s.CooldownDown, s.CooldownDown
	}
	hold = max(s.CooldownDown, l.Gaps.hold())
	return hold, max(hold, min(smallHolds*hold, smallMost))
}
