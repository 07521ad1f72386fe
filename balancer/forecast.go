package balancer

import (
	"math"
	"time"
)

// outlook is what an elastic upstream may hope for: so many servers more, none of them ready before.
type outlook struct {
	servers int
	before  int64
}

// Expect says of an elastic upstream how many servers more may become ready, at most, and how long the
// first of them takes at least from now on; 0 says that there will not be more. While nothing is known, until
// the first call and after one with -1, no request is refused for a wait that more servers could shorten.
func (u *Upstream) Expect(servers int, in time.Duration, now time.Time) {
	if servers < 0 {
		u.outlook.Store(nil)
		return
	}
	u.outlook.Store(&outlook{servers, nanos(now.Add(in))})
}

// forecast predicts how long t would wait if it joined the queue at a time: so many are served before it,
// at the measured pace, sped up by the servers that may come. It is the least that can be expected, as
// those of a higher priority that come later are not in it. known is false where it would not be founded:
// before requests have shown how long they take (wait is then until a server may come, else 0), while nobody has said
// how long a start takes, and for a request that waits for a server of its own. The caller holds the queue's
// mutex.
func (u *Upstream) forecast(t *Ticket, cfg *Config, at int64) (wait time.Duration, known bool) {
	set := u.set.Load()
	if t.Sticky != 0 && set.sticky[t.Sticky] != nil {
		return 0, false
	}
	u.meter.mu.Lock()
	rate, service := u.meter.pace.rate(u.meter.inFlight), 0.0
	if u.meter.pace.known() {
		service = u.meter.pace.service
	}
	u.meter.mu.Unlock()
	turns := float64(u.queue.ahead(t)) + 0.5
	alone := turns / rate // +Inf while nothing is busy
	hope := &outlook{}
	if u.elastic.Load() {
		hope = u.outlook.Load()
	}
	switch {
	case hope == nil, hope.servers == 0 && rate == 0:
		return 0, false
	case hope.servers == 0:
		return cap64(alone), true
	}
	start := float64(max(hope.before-at, 0))
	if alone <= start {
		return cap64(alone), true
	}
	slots := set.slotsEach(cfg)
	if slots == 0 { // no bound: whoever waits then is served at once
		return cap64(start), true
	}
	if service == 0 {
		return cap64(start), false
	}
	more := float64(slots*hope.servers) / service
	return cap64(start + (turns-rate*start)/(rate+more)), true
}

// slotsEach is how many slots a server has on average, or would have; 0 is no bound.
func (set *Set) slotsEach(cfg *Config) int {
	n, sum := 0, 0
	for _, s := range set.all {
		switch slots := s.Lasting(); {
		case slots == 0:
			return 0
		case slots > 0:
			n++
			sum += slots
		}
	}
	switch {
	case n > 0:
		return max(sum/n, 1)
	case cfg.MaxConns == AutoSlots:
		return firstLimit
	}
	return cfg.MaxConns
}

// cap64 is ns as a duration, a day at most.
func cap64(ns float64) time.Duration {
	return time.Duration(math.Min(ns, float64(24*time.Hour)))
}
