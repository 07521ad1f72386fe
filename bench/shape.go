package main

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// segment is a stretch of time in which the rate goes evenly from one value to another (requests per second).
type segment struct {
	length   time.Duration
	from, to float64
}

// count is how many requests the segment holds: the integral of its rate.
func (s segment) count() float64 { return (s.from + s.to) / 2 * s.length.Seconds() }

// at is the time within the segment at which its integral reaches n, 0 ≤ n ≤ count.
func (s segment) at(n float64) time.Duration {
	T, slope := s.length.Seconds(), 0.0
	if T > 0 {
		slope = (s.to - s.from) / T
	}
	// n = from·t + slope·t²/2, solved in the form that keeps its digits when slope is small.
	root := math.Sqrt(max(0, s.from*s.from+2*slope*n))
	if s.from+root == 0 {
		return 0
	}
	return time.Duration(min(2*n/(s.from+root), T) * float64(time.Second))
}

// shape is the rate over time.
type shape []segment

func (s shape) length() (d time.Duration) {
	for _, seg := range s {
		d += seg.length
	}
	return d
}

func (s shape) count() (n float64) {
	for _, seg := range s {
		n += seg.count()
	}
	return n
}

// at is when request n of the shape is due after its beginning, counted in the integral of the rate; false
// beyond its end.
func (s shape) at(n float64) (time.Duration, bool) {
	var begin time.Duration
	for _, seg := range s {
		if c := seg.count(); n < c {
			return begin + seg.at(n), true
		} else {
			n -= c
		}
		begin += seg.length
	}
	return 0, false
}

// rate is the rate at time t.
func (s shape) rate(t time.Duration) float64 {
	for _, seg := range s {
		if t < seg.length {
			return seg.from + (seg.to-seg.from)*t.Seconds()/seg.length.Seconds()
		}
		t -= seg.length
	}
	return 0
}

// parseShape reads --rate, --ramp and --steps, of which one is set.
func parseShape(rate float64, ramp, steps string, d time.Duration) (shape, error) {
	var s shape
	switch {
	case ramp != "":
		from, to, ok := strings.Cut(ramp, ":")
		a, err1 := strconv.ParseFloat(from, 64)
		b, err2 := strconv.ParseFloat(to, 64)
		if !ok || err1 != nil || err2 != nil {
			return nil, fmt.Errorf("--ramp %q: want FROM:TO, two rates", ramp)
		}
		s = shape{{d, a, b}}
	case steps != "":
		list := strings.Split(steps, ",")
		for _, v := range list {
			r, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
			if err != nil {
				return nil, fmt.Errorf("--steps %q: want rates separated by commas", steps)
			}
			s = append(s, segment{d / time.Duration(len(list)), r, r})
		}
	default:
		s = shape{{d, rate, rate}}
	}
	for _, seg := range s {
		if !(seg.from >= 0 && seg.to >= 0) || math.IsInf(seg.from+seg.to, 0) {
			return nil, errors.New("a rate is a number that is not negative")
		}
	}
	if s.count() == 0 {
		return nil, errors.New("the rate is 0 throughout")
	}
	return s, nil
}

// schedule hands out the times at which requests are due, in order, to any number of goroutines.
type schedule struct {
	shape   shape
	poisson bool

	mu sync.Mutex
	n  float64 // guarded by mu: integral of the rate at the next request
}

// next is the time after the beginning at which one more request is due; false when there is none.
func (s *schedule) next() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.poisson {
		s.n += rand.ExpFloat64()
		return s.shape.at(s.n)
	}
	d, ok := s.shape.at(s.n)
	s.n++
	return d, ok
}

// left is how many requests have not been handed out yet, about.
func (s *schedule) left() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int64(max(0, math.Ceil(s.shape.count()-s.n)))
}
