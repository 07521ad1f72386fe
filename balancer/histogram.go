package balancer

import (
	"math"
	"math/bits"
	"slices"
	"time"
)

// HistogramReading is a histogram as Prometheus has it.
type HistogramReading struct {
	Bounds []float64 // upper bounds, seconds, ascending; shared, not to be modified
	Counts []uint64  // per bound, not cumulative; one more for what lies above the last
	Sum    float64   // seconds
	Count  uint64
}

// waitBounds are the buckets of time spent in the queue, in seconds.
var waitBounds = []float64{.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

// histogram counts durations in waitBounds. Not safe for concurrent use.
type histogram struct {
	counts [18]uint64
	sum    int64 // ns
	count  uint64
}

func (h *histogram) add(ns int64) {
	i, _ := slices.BinarySearch(waitBounds, float64(ns)/1e9)
	h.counts[i]++
	h.sum += ns
	h.count++
}

func (h *histogram) read() HistogramReading {
	return HistogramReading{Bounds: waitBounds, Counts: slices.Clone(h.counts[:]), Sum: float64(h.sum) / 1e9, Count: h.count}
}

// decayed is a histogram of durations in which what is older than about decayTime has faded, four
// buckets to each doubling from 16 µs to a day. Not safe for concurrent use.
type decayed struct {
	counts [128]float64
	last   int64 // ns, of the last fading
}

const (
	decayTime = 60 * time.Second
	decayStep = time.Second
	decayUnit = 14 // as a power of two of ns: the finest bucket is 16 µs
)

func (d *decayed) add(at, ns int64) {
	if past := at - d.last; past >= int64(decayStep) {
		d.last = at
		f := math.Exp(-float64(past) / float64(decayTime))
		for i := range d.counts {
			d.counts[i] *= f
		}
	}
	d.counts[decayBucket(ns)]++
}

// decayBucket: two bits below the leading one choose the quarter.
func decayBucket(ns int64) int {
	v := uint64(max(ns, 0)) >> decayUnit
	if v < 4 {
		return int(v)
	}
	top := bits.Len64(v) - 3
	return min(top<<2|int(v>>top&3)+4, 127)
}

// decayBound is the upper bound of bucket i.
func decayBound(i int) time.Duration {
	if i < 4 {
		return time.Duration(i+1) << decayUnit
	}
	top := (i - 4) >> 2
	return time.Duration(4+(i-4)&3+1) << (top + decayUnit)
}

// quantile is the duration that the share q of the remembered ones does not exceed; 0 when there are
// none.
func (d *decayed) quantile(q float64) time.Duration {
	sum := 0.0
	for _, c := range d.counts {
		sum += c
	}
	if sum < 1e-6 {
		return 0
	}
	rest := q * sum
	for i, c := range d.counts {
		if rest -= c; rest <= 0 && c > 0 {
			return decayBound(i)
		}
	}
	return decayBound(len(d.counts) - 1)
}
