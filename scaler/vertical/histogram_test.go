package vertical

import (
	"encoding/json"
	"math"
	"testing"
	"time"
)

var day0 = time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)

func near1(a, b float64) bool { return math.Abs(a-b) <= 1e-6*math.Max(1, math.Abs(b)) }

// Buckets of CPU by hand: 0, 0.01, 0.01+0.0105 = 0.0205, 0.0205+0.011025 = 0.031525, …; of memory 0, 10, 20.5, 31.525 MB.
func TestScale(t *testing.T) {
	if cpuScale.buckets != 176 || memoryScale.buckets != 176 { // ln(5001)/ln(1.05) = 174.57, up, and one beyond
		t.Errorf("%d and %d buckets", cpuScale.buckets, memoryScale.buckets)
	}
	for b, want := range []float64{0, .01, .0205, .031525, .04310125} {
		if got := cpuScale.start(b); !near1(got, want) {
			t.Errorf("bucket %d of CPU begins at %g, not %g", b, got, want)
		}
		if got := memoryScale.start(b); !near1(got, want*1e9) {
			t.Errorf("bucket %d of memory begins at %g, not %g", b, got, want*1e9)
		}
	}
	for _, one := range []struct {
		v    float64
		want int
	}{{0, 0}, {.00999, 0}, {.0101, 1}, {.0204, 1}, {.0206, 2}, {.0316, 3}, {.1, 8}, {1, 36}, {1e9, 175}, {math.NaN(), 0}} {
		if got := cpuScale.bucket(one.v); got != one.want {
			t.Errorf("%g cores are in bucket %d, not %d", one.v, got, one.want)
		}
	}
}

func TestQuantile(t *testing.T) {
	h := newHistogram(cpuScale)
	if h.quantile(.9) != 0 {
		t.Error("an empty histogram has a quantile")
	}
	for range 9 {
		h.add(.015, 1, day0) // ends at 0.0205
	}
	h.add(.025, 1, day0) // ends at 0.031525
	for _, one := range []struct{ q, want float64 }{{.5, .0205}, {.9, .0205}, {.91, .031525}, {1, .031525}} {
		if got := h.quantile(one.q); !near1(got, one.want) {
			t.Errorf("quantile %g is %g, not %g", one.q, got, one.want)
		}
	}
	h.add(1e9, 100, day0) // the last bucket has no end
	if got, want := h.quantile(.9), cpuScale.start(175); got != want {
		t.Errorf("%g, not %g", got, want)
	}
}

// A sample that is a day old counts half of one of today: two of yesterday and one of today weigh the same.
func TestDecay(t *testing.T) {
	h := newHistogram(cpuScale)
	h.add(.015, 2, day0)
	h.add(.025, 1, day0.Add(24*time.Hour))
	if got := h.quantile(.5); !near1(got, .0205) {
		t.Errorf("at half of all weight %g", got)
	}
	h.add(.025, .1, day0.Add(24*time.Hour))
	if got := h.quantile(.5); !near1(got, .031525) {
		t.Errorf("with a little more of today %g", got)
	}
	h.subtract(.025, 1.1, day0.Add(24*time.Hour))
	if got := h.quantile(1); !near1(got, .0205) || !near1(h.total, 2) {
		t.Errorf("taken back: %g of weight %g", got, h.total)
	}
	// Years later nothing has overflowed, and what is old counts for nothing.
	h.add(.5, 1, day0.Add(5*365*24*time.Hour))
	if got := h.quantile(.01); got < .5 || !near1(h.total, 1) {
		t.Errorf("after years %g of weight %g", got, h.total)
	}
}

func TestHistogramIsSaved(t *testing.T) {
	h := newHistogram(memoryScale)
	for i := range 1000 {
		h.add(float64(i)*1e6, 1+float64(i%3), day0.Add(time.Duration(i)*time.Hour))
	}
	b, err := json.Marshal(h.save())
	if err != nil || len(b) > 4000 {
		t.Fatalf("%d bytes, %v", len(b), err)
	}
	var s savedHistogram
	if err := json.Unmarshal(b, &s); err != nil {
		t.Fatal(err)
	}
	is, err := s.load(memoryScale)
	if err != nil {
		t.Fatal(err)
	}
	for q := 1; q < 100; q++ {
		if q := float64(q) / 100; is.quantile(q) != h.quantile(q) {
			t.Errorf("quantile %g is %g, and was %g", q, is.quantile(q), h.quantile(q))
		}
	}
	for name, bad := range map[string]savedHistogram{
		"a bucket too many": {day0, 1, map[int]int{176: 1}}, "a bucket below": {day0, 1, map[int]int{-1: 1}},
		"no weight": {day0, 1, nil}, "a weight too large": {day0, 1, map[int]int{1: 10001}}, "a weight of none": {day0, 1, map[int]int{1: 0}},
		"no total": {day0, 0, map[int]int{1: 1}}, "less than none": {day0, -1, map[int]int{1: 1}}, "no time": {time.Time{}, 1, map[int]int{1: 1}},
	} {
		if _, err := bad.load(memoryScale); err == nil {
			t.Errorf("%s is believed", name)
		}
	}
}
