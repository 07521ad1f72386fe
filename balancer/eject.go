package balancer

import (
	"fmt"
	"sync"
	"time"
)

// ejection is passive health: how often and why requests took this server out.
type ejection struct {
	mu    sync.Mutex // guards all below
	times int        // ejections in a row, for the doubling
	until time.Time
	cause string
}

const (
	ejectMax    = 5 * time.Minute
	ejectForget = 5 * time.Minute // without an ejection for this long, the doubling starts anew
)

// next is the length of an ejection that begins at now.
func (e *ejection) next(first time.Duration, cause string, now time.Time) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if now.Sub(e.until) > ejectForget {
		e.times = 0
	}
	length := ejectMax
	if e.times < 16 && first<<e.times < ejectMax {
		length = first << e.times
	}
	e.times++
	e.until, e.cause = now.Add(length), cause
	return e.until
}

func (e *ejection) why(now, until time.Time) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return fmt.Sprintf("%s, back in %s", e.cause, until.Sub(now).Round(100*time.Millisecond))
}

// report takes what a request says of its server: enough failures in a row eject it, unless too
// large a share of its upstream is ejected already.
func (s *Server) report(o Outcome, now time.Time) {
	if o.Neutral {
		return
	}
	if !o.bad() {
		if s.failures.Load() != 0 {
			s.failures.Store(0)
		}
		return
	}
	if o.Failed {
		select {
		case s.suspect <- struct{}{}:
		default:
		}
	}
	n := s.failures.Add(1)
	u := s.upstream
	cfg := u.cfg.Load().Outlier
	if cfg.Errors == 0 || n < int64(cfg.Errors) {
		return
	}
	u.ejectMu.Lock()
	defer u.ejectMu.Unlock()
	if s.ejectedUntil.Load() > nanos(now) || !u.mayEject(cfg.MaxShare, now) {
		return
	}
	cause := fmt.Sprintf("%d requests in a row without an answer", n)
	if !o.Failed {
		cause = fmt.Sprintf("%d failed requests in a row, the last with status %d", n, o.Status)
	}
	s.ejectedUntil.Store(nanos(s.eject.next(cfg.EjectFor, cause, now)))
	s.failures.Store(0)
}

// mayEject reports whether one more server may be ejected: at most share of them, so that the last
// one never is.
func (u *Upstream) mayEject(share float64, now time.Time) bool {
	servers, ejected := u.set.Load().all, 1
	for _, s := range servers {
		if s.ejectedUntil.Load() > nanos(now) {
			ejected++
		}
	}
	return float64(ejected) <= share*float64(len(servers)) && ejected < max(len(servers), 1)
}
