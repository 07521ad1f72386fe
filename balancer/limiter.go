package balancer

import (
	"math"
	"time"
)

// limiter learns how many requests a server works on at once: with more in flight they only wait inside of it.
// It is a gradient limit (Netflix, concurrency-limits, Gradient2): the latency under load against the latency
// without. What the original takes from a slow mean, which follows the congestion that it should show, is
// measured here as TCP BBR does (Cardwell et al., "BBR: Congestion-Based Congestion Control", 2016):
//
//   - For a short while, in which at most half the limit is in flight, nothing can wait inside: that is the
//     base latency. It costs throughput, so it takes at most a twentieth of the time.
//   - For a short while the limit is a quarter higher. If the latency L of the requests that started beyond
//     the limit is the base latency, the server takes as many: the limit grows, and faster the next time.
//     Else, by Little's law, of n in flight X·(L − base) waited inside; the rest is the limit.
//   - In between the same sum shows when the server has become slower at taking requests, as when it shares
//     its machine: the limit follows at once, and is taken back if that cost throughput: a server that works
//     on batches takes longer the more is in one, without that anything waits.
//
// Others are tried only while about as many are in flight as the limit allows, and with less than half of that
// in flight the limit stays: an idle server teaches nothing. Means are founded on the more requests the more their times differ.
//
// It is a value: observe is given one request and the time, and says the limit. Times are nanoseconds.
type limiter struct {
	limit float64
	gain  float64 // of the next try beyond the limit
	phase limitPhase
	until int64 // how long the phase lasts at most
	mayUp int64 // not before, try beyond the limit
	mayDn int64 // not before, measure the base again

	base spread // latency with little in flight
	held spread // time with a slot
	low  cohort // of the last time below
	high cohort // of the last time beyond
	busy cohort // of the present window at the limit
	last cohort // of the last whole one
	wide cohort // the one that made the limit smaller, until it is seen whether that was right
	// shared: others send to the server too. What a smaller limit loses goes to them then, and proves nothing.
	shared bool
	okay   float64 // share of those in flight that may wait inside, as it seems, before the limit follows
	fresh  bool    // low is to be compared with base
	tried  bool    // high is to be judged
}

type limitPhase uint8

const (
	atLimit limitPhase = iota
	below
	beyond
)

const (
	firstLimit = 10 // until something is learned
	mostLimit  = 1e6

	limitGain  = 1.25 // of a try beyond the limit
	limitStep  = 0.7  // how much of a difference is believed at once
	fullFrom   = 0.8  // share of the limit that must be in flight before others are tried
	insideOK   = 0.06 // the least okay
	insideMost = 0.35 // and the most: latencies half as long again
	latecomers = 3    // mean latencies until nearly all of a cohort have ended
	fewest     = 8    // requests that a mean is founded on, at least
)

// newLimiter starts with a guess; 0 is none.
func newLimiter(guess float64) limiter {
	if guess < 1 {
		guess = firstLimit
	}
	l := limiter{limit: guess, gain: 2, okay: insideOK}
	l.window(0)
	return l
}

// slots is how many may be in flight now.
func (l *limiter) slots() int {
	switch l.phase {
	case below:
		return max(int(l.limit/2), 1)
	case beyond:
		return max(int(math.Ceil(l.limit*l.gain)), l.settled()+1)
	}
	return l.settled()
}

// settled is the limit without what is only being tried.
func (l *limiter) settled() int { return max(int(l.limit+0.5), 1) }

// founded reports whether anything was learned.
func (l *limiter) founded() bool { return l.base.n >= fewest && l.held.n >= fewest }

// ended takes the whole time that a request had its slot.
func (l *limiter) ended(held int64) { l.held.add(float64(held), 32) }

// observe takes what one request tells.
func (l *limiter) observe(s sample) {
	if s.refused {
		if tooMany := float64(max(s.load-1, 1)); l.limit > tooMany {
			l.limit = tooMany
			l.enter(atLimit, s.at)
		}
		l.tried, l.gain, l.mayUp = false, limitGain, s.at+int64(30*time.Second)
		return
	}
	if s.load <= max(l.settled()/2, 1) {
		l.base.add(float64(s.latency), max(l.base.enough(0.03, 1024), 32))
	}
	l.low.add(s)
	l.high.add(s)
	if l.phase == atLimit {
		l.busy.add(s)
	}
	switch l.phase {
	case below:
		if l.ripe(&l.low, s.at, 0.12) || s.at >= l.until {
			l.low.to, l.fresh = s.at, true
			l.mayDn = s.at + 20*(s.at-l.low.from)
			l.enter(atLimit, s.at)
		}
	case beyond:
		if l.ripe(&l.high, s.at, 0.06) && s.at-l.high.from >= int64(2*l.base.mean) || s.at >= l.until {
			l.high.to, l.tried = s.at, true
			l.enter(atLimit, s.at)
		}
	case atLimit:
		l.judge(s.at)
	}
}

// judge draws the conclusions that can be drawn at the limit, and chooses what to try next.
func (l *limiter) judge(at int64) {
	late := int64(latecomers * max(l.busy.latency.mean, l.base.mean))
	if l.fresh && at >= l.low.to+late {
		l.fresh = false
		// A server that has become quicker or slower altogether takes as many requests as before.
		was, is := &l.base, &l.low.latency
		off := math.Abs(is.mean - was.mean)
		differs := is.n >= 2*fewest && off > 0.15*was.mean && off > 4*math.Sqrt(was.variance/float64(was.n)+is.variance/float64(is.n))
		if differs || is.n >= is.enough(0.03, 1024) {
			l.base = *is
		}
	}
	if l.tried && at >= l.high.to+late {
		l.tried = false
		l.conclude(at)
		return
	}
	if !l.ripe(&l.busy, at, 0.1) || l.fresh || l.tried {
		return
	}
	if l.base.n < fewest {
		l.enter(below, at)
		return
	}
	l.last = l.busy
	if l.shared {
		l.okay, l.wide = insideOK, cohort{}
	} else if l.wide.n > 0 {
		regret := l.regrets()
		l.wide = cohort{}
		if regret {
			l.window(at)
			return
		}
	}
	if c, inside := l.capacity(&l.busy); inside > l.noticed(2, l.busy.n) && c < l.limit {
		l.wide = l.busy
		l.move(c)
		l.window(at)
		return
	}
	full := l.busy.load/float64(l.busy.n) >= fullFrom*float64(l.settled())
	switch {
	case !full:
		l.window(at)
	case at >= l.mayDn, float64(l.low.most) > 0.65*l.limit && l.low.most > 1: // the base was measured with as much in flight
		l.enter(below, at)
	case at >= l.mayUp:
		l.enter(beyond, at)
	default:
		l.window(at)
	}
}

// regrets takes a smaller limit back if it cost throughput: a server that works on a batch takes longer the more is
// in it, without that anything waits. From then on its latency may be so much longer; a server that loses
// nothing by a smaller limit is measured ever more strictly again.
func (l *limiter) regrets() bool {
	was, is := &l.wide.latency, &l.busy.latency
	wasIn, isIn := l.wide.load/float64(l.wide.n), l.busy.load/float64(l.busy.n)
	less := 1 - isIn/wasIn
	lost := 1 - isIn/is.mean/(wasIn/was.mean)
	chance := math.Sqrt(was.variance/float64(was.n)/(was.mean*was.mean) + is.variance/float64(is.n)/(is.mean*is.mean))
	if less > 0.03 && lost-chance > less/2 {
		l.limit = max(wasIn, l.limit)
		l.okay = min(1.5*l.okay+0.03, insideMost)
		return true
	}
	l.okay = max(0.9*l.okay, insideOK)
	return false
}

// conclude judges the try beyond the limit.
func (l *limiter) conclude(at int64) {
	pause := int64(10 * max(l.held.mean, l.base.mean))
	l.mayUp = at + min(max(pause, int64(2*time.Second)), int64(time.Minute))
	if l.high.n >= fewest {
		c, inside := l.capacity(&l.high)
		more := l.pays()
		if more && inside > l.noticed(2, l.high.n) { // then the base is wrong
			l.base = l.last.latency
		}
		if more || inside <= l.noticed(1, l.high.n) {
			l.limit = min(max(l.high.load/float64(l.high.n), l.limit), mostLimit)
			l.gain = min(l.gain*1.3, 2)
			l.mayUp = at
		} else {
			l.move(max(c, l.limit)) // that it is lower the next window shows better
			l.gain = limitGain
		}
	}
	l.window(at)
}

// pays reports, whatever the base is, that more in flight gave more throughput: beyond the limit the latency
// was hardly longer than at it.
func (l *limiter) pays() bool {
	if l.last.n < fewest {
		return false
	}
	more := l.high.load / float64(l.high.n) / (l.last.load / float64(l.last.n))
	high, last := &l.high.latency, &l.last.latency
	longer := high.mean / last.mean
	chance := math.Sqrt(high.variance/float64(high.n)+last.variance/float64(last.n)) / last.mean
	return more > 1.1 && longer+2*chance < 1+(more-1)/2
}

// capacity is how many of the cohort's requests the server worked on at once, and the share of them that
// waited inside instead.
func (l *limiter) capacity(c *cohort) (n, inside float64) {
	m, in := c.latency.mean, c.load/float64(c.n)
	inside = max(m-l.base.mean, 0) / max(l.held.mean, m)
	return in * (1 - inside), inside
}

// noticed is the share inside above which it is more than chance, by so many standard deviations.
func (l *limiter) noticed(deviations float64, n int) float64 {
	share := min(l.base.mean/max(l.held.mean, l.base.mean), 1)
	return l.okay + share*deviations*l.chance(n)
}

// chance is the standard deviation of the difference between the mean of n latencies and the base, as a
// share of it.
func (l *limiter) chance(n int) float64 {
	if l.base.mean <= 0 || l.base.n == 0 {
		return 0
	}
	return math.Sqrt(l.base.variance*(1/float64(n)+1/float64(l.base.n))) / l.base.mean
}

// ripe reports whether a cohort has enough requests: as many as show their mean to within a thirtieth, or
// after a second as many as show it to within a share.
func (l *limiter) ripe(c *cohort, at int64, share float64) bool {
	return c.n >= l.base.enough(0.03, 1024) || c.n >= l.base.enough(share, 256) && at-c.since >= int64(time.Second)
}

func (l *limiter) move(to float64) {
	l.limit = min(max(l.limit+limitStep*(to-l.limit), l.limit/2, 1), mostLimit)
}

// enter begins a phase.
func (l *limiter) enter(p limitPhase, at int64) {
	l.phase = p
	typical := int64(max(10*l.held.mean, 10*l.base.mean, float64(2*time.Second)))
	switch p {
	case below:
		l.low = cohort{since: at, from: at, most: l.slots()}
		l.until = at + typical
	case beyond:
		l.high = cohort{since: at, from: at, least: l.settled() + 1, most: l.slots()}
		l.until = at + 10*typical
	}
	l.window(at)
}

// window begins a window at the limit.
func (l *limiter) window(at int64) {
	l.busy = cohort{since: at, least: l.settled()/2 + 1, most: l.settled()}
}
