package main

import (
	"maps"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// outcome is what became of one request.
type outcome struct {
	status  int    // 0: no whole answer
	reason  string // X-Sluice-Reason
	failure string // kind of error when status is 0
	timeout bool
	bytes   int64
	latency time.Duration // from when it was due (open loop) or sent (closed loop)
}

// refused: sluice itself answered, and said why.
func (o outcome) refused() bool { return o.reason != "" }

func (o outcome) ok() bool { return o.reason == "" && o.status >= 200 && o.status < 400 }

// counts are sums over requests. The zero value counts nothing yet.
type counts struct {
	sent, ok, refused, failed, bytes int64
	status                           map[int]int64    // answers by status
	reasons                          map[string]int64 // refusals by reason
	errors                           map[string]int64 // requests without a whole answer, by kind of error
}

func (c *counts) add(o outcome) {
	c.sent++
	c.bytes += o.bytes
	switch {
	case o.refused():
		c.refused++
		bump(&c.reasons, o.reason)
	case o.ok():
		c.ok++
	default:
		c.failed++
	}
	if o.status != 0 {
		bump(&c.status, o.status)
	} else {
		bump(&c.errors, o.failure)
	}
}

func bump[K comparable](m *map[K]int64, k K) {
	if *m == nil {
		*m = map[K]int64{}
	}
	(*m)[k]++
}

// tally counts outcomes and their latencies for many goroutines: in total and since the last look.
// Latencies are those of requests that succeeded or timed out: an instant refusal must not improve the median,
// and a timeout must not vanish.
type tally struct {
	mu       sync.Mutex
	total    counts                  // guarded by mu
	latency  *hdrhistogram.Histogram // guarded by mu; µs, up to the last look
	interval *hdrhistogram.Histogram // guarded by mu; µs, since the last look
	refusals *hdrhistogram.Histogram // guarded by mu; µs, of refused requests
}

const maxLatency = time.Hour

func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, maxLatency.Microseconds(), 3)
}

func newTally() *tally {
	return &tally{latency: newHistogram(), interval: newHistogram(), refusals: newHistogram()}
}

func (t *tally) add(o outcome) {
	us := max(1, min(o.latency, maxLatency).Microseconds())
	t.mu.Lock()
	defer t.mu.Unlock()
	t.total.add(o)
	// RecordValue fails only on values out of range.
	switch {
	case o.refused():
		_ = t.refusals.RecordValue(us)
	case o.ok() || o.timeout:
		_ = t.interval.RecordValue(us)
	}
}

// look returns the sums so far and the 99th percentile of the latencies since the last look (0: there were none).
func (t *tally) look() (counts, time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	p99 := quantile(t.interval, 99)
	t.latency.Merge(t.interval)
	t.interval.Reset()
	c := t.total
	c.status, c.reasons, c.errors = maps.Clone(c.status), maps.Clone(c.reasons), maps.Clone(c.errors)
	return c, p99
}

// percentile is over the whole run.
func (t *tally) percentile(p float64) time.Duration {
	t.look()
	t.mu.Lock()
	defer t.mu.Unlock()
	return quantile(t.latency, p)
}

func (t *tally) refusedPercentile(p float64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return quantile(t.refusals, p)
}

func quantile(h *hdrhistogram.Histogram, p float64) time.Duration {
	if h.TotalCount() == 0 {
		return 0
	}
	return time.Duration(h.ValueAtPercentile(p)) * time.Microsecond
}
