package proxy

import (
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	limiterWays = 8   // buckets that a key may take
	limiterSets = 256 // largest number of sets of a shard: 64 × 256 × 8 = 131,072 keys, about 13 MiB
)

// rateLimit is a token bucket per key, for any number of keys in bounded memory: a key has one of eight
// places, and when all are taken the place goes whose bucket was used longest ago. It may be used
// concurrently. Keys are 64-bit hashes with a seed of this process, so that a client cannot aim at another's.
type rateLimit struct {
	cfg    RateLimitConfig
	source keySource
	rate   rate.Limit
	burst  int
	refill time.Duration // after so long without use a bucket is full and its place free
	shards sharded[limiterShard]
}

type limiterShard struct {
	mu   sync.Mutex // guards sets and the buckets in it
	sets []limiterSet
	_    [32]byte // keeps the locks of two shards off one cache line
}

type limiterSet [limiterWays]*bucket

type bucket struct {
	key     uint64
	used    time.Time
	limiter rate.Limiter
}

// newRateLimit compiles a rate limit.
func newRateLimit(cfg RateLimitConfig) (*rateLimit, error) {
	l := &rateLimit{cfg: cfg, rate: rate.Limit(cfg.Rate), burst: cfg.Burst}
	if !(cfg.Rate > 0) || math.IsInf(cfg.Rate, 0) {
		return nil, invalid("rate_limit.rate", "the rate must be above 0")
	}
	if cfg.Burst < 0 {
		return nil, invalid("rate_limit.burst", "the burst must not be negative")
	}
	if cfg.Status != 429 && cfg.Status != 503 {
		return nil, invalid("rate_limit.status", "the status must be 429 or 503")
	}
	if l.burst == 0 {
		l.burst = max(1, int(math.Ceil(cfg.Rate)))
	}
	var err error
	if l.source, err = parseLimitKey(cfg.Key); err != nil {
		return nil, invalid("rate_limit.key", "%v", err)
	}
	l.refill = time.Duration(min(float64(l.burst)/cfg.Rate*float64(time.Second), math.MaxInt64/2))
	return l, nil
}

// allow takes a token of key's bucket. When there is none, wait is how long it takes until there is one;
// a refused request takes nothing.
func (l *rateLimit) allow(key uint64, now time.Time) (ok bool, wait time.Duration) {
	s := l.shards.of(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.bucket(key, now, l)
	b.used = now
	if b.limiter.AllowN(now, 1) {
		return true, 0
	}
	r := b.limiter.ReserveN(now, 1)
	wait = r.DelayFrom(now)
	r.CancelAt(now)
	return false, wait
}

// bucket finds or makes key's bucket.
func (s *limiterShard) bucket(key uint64, now time.Time, l *rateLimit) *bucket {
	for {
		if s.sets == nil {
			s.sets = make([]limiterSet, 1)
		}
		set := &s.sets[key/shardCount%uint64(len(s.sets))]
		oldest := 0
		for i, b := range set {
			if b == nil {
				set[i] = new(bucket)
				set[i].reset(key, now, l)
				return set[i]
			}
			if b.key == key {
				return b
			}
			if b.used.Before(set[oldest].used) {
				oldest = i
			}
		}
		b := set[oldest]
		if now.Sub(b.used) >= l.refill || len(s.sets) == limiterSets {
			b.reset(key, now, l)
			return b
		}
		s.grow()
	}
}

// grow doubles the number of sets. A set's keys go to itself and to its twin, so none is lost.
func (s *limiterShard) grow() {
	before := s.sets
	s.sets = make([]limiterSet, 2*len(before))
	for i := range before {
		var taken [2]int
		for _, b := range before[i] {
			if b == nil {
				continue
			}
			to := b.key / shardCount % uint64(len(s.sets))
			twin := int(to) / len(before)
			s.sets[to][taken[twin]] = b
			taken[twin]++
		}
	}
}

// reset makes b the full bucket of a new key. A zero Limiter is empty; one that got its rate when its
// refill began is full now.
func (b *bucket) reset(key uint64, now time.Time, l *rateLimit) {
	b.key, b.used = key, now
	b.limiter = rate.Limiter{}
	b.limiter.SetBurstAt(now.Add(-l.refill-time.Second), l.burst)
	b.limiter.SetLimitAt(now.Add(-l.refill-time.Second), l.rate)
}
