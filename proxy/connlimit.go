package proxy

import "sync"

// connLimit bounds the requests in flight per key. Its memory is bounded by the requests in flight. It
// may be used concurrently.
type connLimit struct {
	cfg    LimitConnConfig
	source keySource
	shards sharded[connShard]
}

// connShard counts requests in flight by key. The key that came last, as mostly the next one does, is counted in hand: maps cost more.
type connShard struct {
	mu     sync.Mutex // guards what follows
	key    uint64     // in hand
	n      int        // of key
	others map[uint64]int
}

// count is how many requests of key are in flight, which becomes the one in hand. mu is held.
func (s *connShard) count(key uint64) *int {
	if key == s.key {
		return &s.n
	}
	if s.others == nil {
		s.others = make(map[uint64]int)
	}
	if s.n > 0 {
		s.others[s.key] = s.n
	}
	s.key, s.n = key, s.others[key]
	delete(s.others, key)
	return &s.n
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
	s := l.shards.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.count(key)
	if *n >= l.cfg.Max {
		return false
	}
	*n++
	return true
}

// give ends a request that take counted.
func (l *connLimit) give(key uint64) {
	s := l.shards.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	*s.count(key)--
}
