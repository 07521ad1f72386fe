package proxy

import "sync"

// connLimit bounds the requests in flight per key. Its memory is bounded by the requests in flight. It
// may be used concurrently.
type connLimit struct {
	cfg    LimitConnConfig
	source keySource
	shards [limiterShards]connShard
}

type connShard struct {
	mu       sync.Mutex // guards inFlight
	inFlight map[uint64]int
}

// newConnLimit compiles a bound on requests in flight.
func newConnLimit(cfg LimitConnConfig) (*connLimit, error) {
	l := &connLimit{cfg: cfg}
	if cfg.Max <= 0 {
		return nil, invalid("limit_conn.max", "the number must be above 0")
	}
	if cfg.Status != 429 && cfg.Status != 503 {
		return nil, invalid("limit_conn.status", "the status must be 429 or 503")
	}
	var err error
	if l.source, err = parseLimitKey(cfg.Key); err != nil {
		return nil, invalid("limit_conn.key", "%v", err)
	}
	return l, nil
}

// take counts a request of key, or tells that there are Max already.
func (l *connLimit) take(key uint64) bool {
	s := &l.shards[key%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight == nil {
		s.inFlight = make(map[uint64]int)
	}
	if s.inFlight[key] >= l.cfg.Max {
		return false
	}
	s.inFlight[key]++
	return true
}

// give ends a request that take counted.
func (l *connLimit) give(key uint64) {
	s := &l.shards[key%limiterShards]
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.inFlight[key]--; s.inFlight[key] <= 0 {
		delete(s.inFlight, key)
	}
}
