package balancer

import (
	"sync"
	"time"
)

// learner is the limiter of one server, taught by its requests. What it has learned is this gateway's own:
// where several gateways send to the same server each of them finds, by how long its requests take beside
// those of the others, what the server takes from it, so there is nothing to divide among them. They come to
// shares that fill the server together, not to equal ones; what the server takes in all is only estimated, as
// if they were equal.
type learner struct {
	mu      sync.Mutex // guards all below
	limiter limiter
	taught  int
}

// learn lets the slots of s be learned, from now on if they were not. A new server begins with what its
// neighbours have come to. The caller holds setMu.
func (u *Upstream) learn(s *Server) {
	l := s.learner.Load()
	if l == nil {
		l = &learner{limiter: newLimiter(u.guess(s))}
		s.learner.Store(l)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s.setLearned(l)
}

// unlearn ends the learning; what requests under way would still teach does not change the slots any more.
func (s *Server) unlearn() {
	if l := s.learner.Load(); l != nil {
		l.mu.Lock()
		defer l.mu.Unlock()
		s.learner.Store(nil)
	}
}

// guess is the mean of what other servers have learned, else the slots that s had; 0 or less is none.
func (u *Upstream) guess(s *Server) float64 {
	n, sum := 0, 0.0
	for _, other := range u.set.Load().all {
		l := other.learner.Load()
		if l == nil || other == s {
			continue
		}
		l.mu.Lock()
		if l.limiter.founded() {
			n++
			sum += l.limiter.limit
		}
		l.mu.Unlock()
	}
	if n > 0 {
		return sum / float64(n)
	}
	return float64(s.slots.Load())
}

// setLearned puts what was learned in force and reports whether there are more slots now. The caller holds
// l's mutex.
func (s *Server) setLearned(l *learner) (more bool) {
	slots := int64(l.limiter.slots())
	s.learned.Store(int64(l.limiter.settled()))
	return s.slots.Swap(slots) < slots
}

// observe lets the server's limiter, if it has one, learn from a request: latency is the time that shows how
// busy the server is, 0 when the request shows nothing. ended says that it gives its slot back. It reports
// whether there are more slots now.
func (s *Server) observe(t *Ticket, latency time.Duration, refused, ended bool, at int64) (more bool) {
	l := s.learner.Load()
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if s.learner.Load() != l { // the bound is a number again
		return false
	}
	if ended {
		l.limiter.ended(at - t.started)
	}
	if latency > 0 || refused {
		l.taught++
		l.limiter.shared = s.upstream.gateways.Load() > 1
		l.limiter.observe(sample{at: at, started: t.started, load: t.load, latency: int64(latency), refused: refused})
	}
	return s.setLearned(l)
}

// Taught is how many requests have shown the limiter how long the server takes; 0 where nothing is learned.
func (s *Server) Taught() int {
	l := s.learner.Load()
	if l == nil {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.taught
}

// FirstByte says that the first byte of an answer has come: how long the server took until then shows how
// busy it is, while how long the request has its slot may depend on the length of a stream and on the client.
// To be called by the request between Acquire and Release, at most once. Without it the whole time counts.
func (u *Upstream) FirstByte(t *Ticket, now time.Time) {
	at := nanos(now)
	t.answered = true
	if t.server.observe(t, time.Duration(max(at-t.started, 1)), false, false, at) {
		u.changed(now)
	}
}

// learnFrom takes what the end of a request shows. Failures show nothing, but a 503 that the server has too much.
func (u *Upstream) learnFrom(t *Ticket, o Outcome, at int64) (more bool) {
	latency, whole := time.Duration(max(at-t.started, 1)), !o.Neutral && !o.Failed && o.Status < 500
	if t.answered || !whole || o.Status == 429 || o.Status == 101 {
		latency = 0
	}
	return t.server.observe(t, latency, o.Status == 503, whole, at)
}
