package discovery

import (
	"context"
	"errors"
	"math/rand/v2"
	"syscall"
	"time"

	"sluice/balancer"
)

// The pace of probes.
const (
	// quickest is the time between two probes of a server that was never ready.
	quickest = 50 * time.Millisecond
	// patience is the part of the time a server takes to start that quick probing may add to it: one
	// that has been starting for 10 s is probed every 500 ms.
	patience = 20
	// recheck is the time between a bad probe of a ready server and the one that confirms it.
	recheck = 100 * time.Millisecond
	// shortestGap lies between the end of a probe and the start of the next, in any case.
	shortestGap = 10 * time.Millisecond
)

// course is what a server's probe loop knows about the probes so far.
type course struct {
	begun  time.Time     // of the first probe
	bad    int           // bad probes in a row
	silent bool          // the last one ended by its time limit
	usual  time.Duration // how long the last good one took
	spread bool          // its time within the interval is its own
}

// took counts one probe in.
func (k *course) took(err error, d time.Duration) {
	k.silent = errors.Is(err, errSilent)
	if err != nil {
		k.bad++
		return
	}
	k.bad, k.usual = 0, d
}

// next is the time from the start of the last probe to the start of the next one, and the next
// one's limits. never says that the server has not been ready yet. jitter is in [0, 1).
//
// A server that goes silent is out, with a fall of 2, within interval + timeout: the next probe
// begins at most 0.93 intervals after the last good one, takes one timeout to fail, and the one that
// confirms it follows at once and need not wait as long.
func (k *course) next(c *check, never bool, jitter float64, now time.Time) (time.Duration, limits) {
	lim := limits{gate: started, connect: c.Timeout, total: c.Timeout}
	switch {
	case never:
		lim.gate = starting
		d := min(max(now.Sub(k.begun)/patience, quickest), c.Interval)
		// An address that swallows connections for now (no listener behind it yet) is asked again soon.
		lim.connect = min(2*max(d, quickest), c.Timeout)
		return d, lim
	case k.bad > 0 && k.bad < c.Fall:
		if k.silent {
			lim.total = min(max(c.Timeout/10, 4*k.usual), c.Timeout)
			lim.connect = lim.total
		}
		return min(recheck, c.Interval), lim
	}
	within := 0.1
	if !k.spread { // thousands that began together do not go on so
		k.spread, within = true, 0.8
	}
	return time.Duration(float64(c.Interval) * (0.93 - within*jitter)), lim
}

// probe probes s, one probe after the other, until ctx ends.
func (w *Watcher) probe(ctx context.Context, s *balancer.Server) {
	k := course{begun: time.Now()}
	told := balancer.StateStarting
	var c *check
	_, lim := k.next(w.check.Load(), s.ReadyAt().IsZero(), 0, k.begun)
	for {
		if latest := w.check.Load(); latest != c {
			c, k.spread = latest, false
		}
		begun := time.Now()
		err := balancer.Guard(w.log, "probe of "+s.Addr(), func() error { return w.try(ctx, c, s.Addr(), lim) })
		if ctx.Err() != nil {
			return
		}
		now := time.Now()
		if !short(err) {
			k.took(err, now.Sub(begun))
			s.Probe(err, c.Rise, c.Fall, now)
			told = w.tell(s, told, now)
		}
		var delay time.Duration
		delay, lim = k.next(c, s.ReadyAt().IsZero(), rand.Float64(), now)
		if !wait(ctx, s, c, begun.Add(delay), now) {
			return
		}
	}
}

// tell logs that the server's state is no longer the one that was told last, and returns it.
func (w *Watcher) tell(s *balancer.Server, told balancer.State, now time.Time) balancer.State {
	state, why := s.State(now)
	switch {
	case state == told:
		return told
	case state == balancer.StateReady || state == balancer.StateDraining || state == balancer.StateStarting:
		w.log.Info("server "+state.String(), "server", s.ID(), "addr", s.Addr())
	default:
		w.log.Warn("server "+state.String(), "server", s.ID(), "addr", s.Addr(), "why", why)
	}
	return state
}

// short tells an error that says nothing of the server: this machine has no descriptor, memory or port
// left to reach any. Servers that answered before stay ready, or all would be out, and held back as if
// they flapped, long after there is room again.
func short(err error) bool {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		if errors.Is(err, own) {
			return true
		}
	}
	return false
}

// wait returns at until, or sooner when requests failed on the server or the check was replaced; but
// leaves a little time between two probes in any case. It reports whether ctx goes on.
func wait(ctx context.Context, s *balancer.Server, c *check, until, now time.Time) bool {
	rest := max(until.Sub(now), shortestGap)
	timer := time.NewTimer(min(rest, recheck))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		return false
	}
	if rest <= recheck {
		return true
	}
	timer.Reset(rest - recheck)
	select {
	case <-timer.C:
	case <-s.Suspect():
	case <-c.replaced:
	case <-ctx.Done():
		return false
	}
	return true
}
