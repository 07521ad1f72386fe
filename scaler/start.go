package scaler

import (
	"slices"
	"time"

	"sluice/balancer"
)

// startBounds are the buckets of sluice_replica_start_seconds.
var startBounds = []float64{.05, .1, .25, .5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600}

// StartTimes remembers how long replicas took from asked to ready. It belongs to one goroutine.
type StartTimes struct {
	recent []time.Duration // the last startMemory, newest last
	counts []uint64
	sum    float64
	n      uint64
}

const (
	startMemory = 32
	startDecay  = 0.9 // weight of each start against the one after it
)

// Add takes one start.
func (t *StartTimes) Add(d time.Duration) {
	if d < 0 {
		return
	}
	if t.recent = append(t.recent, d); len(t.recent) > startMemory {
		t.recent = t.recent[1:]
	}
	if t.counts == nil {
		t.counts = make([]uint64, len(startBounds)+1)
	}
	i, _ := slices.BinarySearch(startBounds, d.Seconds())
	t.counts[i]++
	t.sum += d.Seconds()
	t.n++
}

// P90 is the decayed 90th percentile, or guess while there is none.
func (t *StartTimes) P90(guess time.Duration) time.Duration {
	if len(t.recent) == 0 {
		return guess
	}
	type weighted struct {
		d time.Duration
		w float64
	}
	all, sum, w := make([]weighted, 0, len(t.recent)), 0.0, 1.0
	for _, d := range slices.Backward(t.recent) {
		all = append(all, weighted{d, w})
		sum += w
		w *= startDecay
	}
	slices.SortFunc(all, func(a, b weighted) int { return int(a.d - b.d) })
	below := 0.0
	for _, a := range all {
		if below += a.w; below >= 0.9*sum-1e-9 {
			return a.d
		}
	}
	return all[len(all)-1].d
}

// Histogram is every start since the beginning.
func (t *StartTimes) Histogram() balancer.HistogramReading {
	counts := slices.Clone(t.counts)
	if counts == nil {
		counts = make([]uint64, len(startBounds)+1)
	}
	return balancer.HistogramReading{Bounds: startBounds, Counts: counts, Sum: t.sum, Count: t.n}
}
