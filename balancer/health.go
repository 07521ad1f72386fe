package balancer

import (
	"fmt"
	"sync"
	"time"
)

// health is the state machine of one server's active health checks, with damping: a server that goes
// down again soon after it came up is held down for a while that doubles, so that one which flaps
// changes its state seldom.
type health struct {
	mu        sync.Mutex // guards all below
	seen      bool       // has been up once
	down      bool       // failed its checks; neither seen nor down is starting
	good, bad int        // probes in a row
	reason    string
	readyAt   time.Time // first up
	upAt      time.Time // last up
	downAt    time.Time // last down
	hold      time.Duration
}

const (
	flapWindow = 10 * time.Second // up for less than this and down again is a flap
	flapHold   = 10 * time.Second // the first hold after a flap
	flapMax    = 5 * time.Minute
	flapForget = time.Minute // up for this long and the hold starts anew
)

// probe takes one result and reports whether the server is up after it and whether that changed.
// patient servers are still starting however often they failed before their first good probe.
func (h *health) probe(err error, rise, fall int, patient bool, now time.Time) (up, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	was := h.seen && !h.down
	if err == nil {
		h.good, h.bad = h.good+1, 0
		held := h.down && now.Sub(h.downAt) < h.hold
		if held {
			h.reason = fmt.Sprintf("answers again, held back %s because it flaps", (h.hold - now.Sub(h.downAt)).Round(time.Second))
		}
		if !was && h.good >= max(rise, 1) && !held {
			h.seen, h.down, h.reason, h.upAt = true, false, "", now
			if h.readyAt.IsZero() {
				h.readyAt = now
			}
		}
	} else {
		h.good, h.bad = 0, h.bad+1
		if !was || h.bad >= max(fall, 1) {
			h.reason = err.Error()
		}
		if h.bad >= max(fall, 1) && !h.down && (was || !patient) {
			h.down, h.downAt = true, now
			h.damp(was, now)
		}
	}
	up = h.seen && !h.down
	return up, up != was
}

// damp sets how long the server that just went down stays down at least.
func (h *health) damp(wasUp bool, now time.Time) {
	switch lasted := now.Sub(h.upAt); {
	case !wasUp:
	case lasted >= flapForget:
		h.hold = 0
	case lasted < flapWindow:
		h.hold = min(max(2*h.hold, flapHold), flapMax)
	}
}

// state is starting or unhealthy, with the reason; only asked while the server is not up.
func (h *health) state() (State, string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.down:
		return StateUnhealthy, h.reason
	case h.reason != "":
		return StateStarting, "not ready yet: " + h.reason
	}
	return StateStarting, "not probed yet"
}

// Probe takes the result of one active health check at now: nil is good. rise good ones in a row
// make the server ready, fall bad ones unhealthy.
func (s *Server) Probe(err error, rise, fall int, now time.Time) {
	up, changed := s.health.probe(err, rise, fall, s.upstream.elastic.Load(), now)
	if changed {
		if up {
			s.slowSince.Store(nanos(now))
			s.failures.Store(0)
		}
		s.up.Store(up)
	}
	if changed || err != nil {
		s.upstream.changed(now) // requests may have something to take, or nothing left to wait for
	}
}

// ReadyAt is when the server first became ready; zero before.
func (s *Server) ReadyAt() time.Time {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	return s.health.readyAt
}

// UnhealthySince is when the health checks last took the server out; zero while they do not.
func (s *Server) UnhealthySince() time.Time {
	s.health.mu.Lock()
	defer s.health.mu.Unlock()
	if !s.health.down {
		return time.Time{}
	}
	return s.health.downAt
}
