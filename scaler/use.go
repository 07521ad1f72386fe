package scaler

import (
	"math"
	"time"
)

const (
	// useWindow is over how much time a replica's shares are averaged: what happens within a second is for the queue.
	useWindow = 15 * time.Second
	// useSettled is how long after a replica became ready the load has not been shared with it yet: what any of them
	// used until then says nothing of how they are now.
	useSettled = 3 * time.Second
)

// use is what the loop remembers of what its replicas used. It belongs to one goroutine.
type use struct {
	last   []Usage            // as last heard
	recent map[string][]Usage // by replica, oldest first, as far back as useWindow before the newest
}

// take takes what was heard, and forgets replicas of which nothing was.
func (u *use) take(all []Usage) {
	recent := make(map[string][]Usage, len(all))
	for _, one := range all {
		known := u.recent[one.Replica]
		if !one.At.IsZero() && (len(known) == 0 || one.At.After(known[len(known)-1].At)) {
			known = append(known, one)
		}
		for len(known) > 1 && known[len(known)-1].At.Sub(known[0].At) > useWindow {
			known = known[1:]
		}
		recent[one.Replica] = known
	}
	u.last, u.recent = all, recent
}

// why is why nothing of a replica is known.
func (u *use) why(replica string) string {
	for _, one := range u.last {
		if one.Replica == replica {
			return one.Why
		}
	}
	return ""
}

// fresh are the measurements of a replica that count: since all that are ready share the load.
func (u *use) fresh(replica string, settled, now time.Time) []Usage {
	all := u.recent[replica]
	if len(all) == 0 || !all[len(all)-1].Fresh(now) {
		return nil
	}
	for len(all) > 0 && all[0].At.Before(settled) {
		all = all[1:]
	}
	return all
}

// weighUse is what the replicas use of what they may have, if that is an objective.
func (l *Loop) weighUse(cfg Config, now time.Time) (cpu, memory ShareSignal) {
	if cfg.CPU <= 0 && cfg.Memory <= 0 {
		l.use = use{}
		return cpu, memory
	}
	if l.gauge != nil {
		l.use.take(l.gauge.Usage())
	}
	var ready []string
	var settled time.Time
	unready := 0
	for _, r := range l.replicas {
		server := l.upstream.Server(r.ID)
		switch {
		case !r.live(), l.drains[r.ID] != nil, server != nil && server.Draining():
		case server == nil || server.ReadyAt().IsZero():
			unready++
		default:
			ready = append(ready, r.ID)
			if at := server.ReadyAt().Add(useSettled); at.After(settled) {
				settled = at
			}
		}
	}
	cpu, memory = ShareSignal{Unready: unready}, ShareSignal{Unready: unready}
	for _, id := range ready {
		all := l.use.fresh(id, settled, now)
		why := l.use.why(id)
		if l.gauge == nil {
			why = "this engine does not tell it"
		}
		cpu.add(all, why, func(u Usage) float64 { return u.CPUShare })
		memory.add(all, why, func(u Usage) float64 { return u.MemoryShare })
	}
	cpu.mean()
	memory.mean()
	return cpu, memory
}

// add takes the measurements of one replica; Mean is their sum until mean is called.
func (s *ShareSignal) add(all []Usage, why string, of func(Usage) float64) {
	if len(all) == 0 {
		s.Missing++
		if s.Why == "" {
			s.Why = why
		}
		return
	}
	s.Measured++
	sum, n := 0.0, 0
	for _, u := range all {
		if share := of(u); !math.IsNaN(share) {
			sum += share
			n++
		}
	}
	latest := all[len(all)-1]
	if n == 0 || math.IsNaN(of(latest)) {
		s.Boundless++
		return
	}
	s.Mean += sum / float64(n)
	s.Of = latest.Of
}

func (s *ShareSignal) mean() {
	if n := s.Measured - s.Boundless; n > 0 {
		s.Mean /= float64(n)
	}
}
