package balancer

import "math"

// sample is what one request tells of its server.
type sample struct {
	at      int64
	started int64
	load    int   // in flight on the server when it started, itself included
	latency int64 // until the end, of a stream until its first byte
	refused bool  // the server said that it was too much
}

// cohort is the requests that started in a time with a number in flight.
type cohort struct {
	since       int64 // begun
	from, to    int64 // when they started; to is 0 while they still do
	least, most int
	n           int
	load        float64 // sum
	latency     spread
}

func (c *cohort) add(s sample) {
	if s.load < c.least || s.load > c.most || s.started < c.from || c.to != 0 && s.started >= c.to {
		return
	}
	c.n++
	c.load += float64(s.load)
	c.latency.add(float64(s.latency), math.MaxInt)
}

// spread is a mean and a variance over about the last many.
type spread struct {
	n              int
	mean, variance float64
}

func (d *spread) add(x float64, many int) {
	d.n = min(d.n+1, many)
	off := x - d.mean
	d.mean += off / float64(d.n)
	d.variance += (off*(x-d.mean) - d.variance) / float64(d.n)
}

// enough is how many requests show the mean to within a share of it, at most most.
func (d *spread) enough(share float64, most int) int {
	if d.mean <= 0 {
		return fewest
	}
	return int(math.Min(math.Max(d.variance/(d.mean*d.mean)/(share*share), fewest), float64(most)))
}
