package balancer

import (
	"math"
	"time"
)

// crowd counts those that wait by FairKey, whatever their priorities, for sizing: turns keep a key that floods the
// queue from the others' slots, and this keeps it from buying replicas for itself. A key counts for no more waiting
// requests than all others have together, so at most one key has too many; what it has beyond that is the excess.
// A single request always counts, a request without a key is a key of its own, and a key that nobody else has waited
// with for companyMemory counts in full: there is nobody to be unfair to. The queue's mutex guards it.
type crowd struct {
	n     int            // all that wait
	keys  map[uint64]int // how many of each key; nil until the first key waits
	sizes []int          // sizes[i] is how many keys have more than i waiting
	most  int            // how many the largest key has
	// company is when two keys last waited at once; 0 is never.
	company int64
}

// companyMemory is how long after others have waited too a key is not taken to be alone: while a flood stands the
// requests of a quiet key wait for a turn only, and between them the flood would count in full.
const companyMemory = int64(time.Minute)

// add takes one more of a key.
func (c *crowd) add(key uint64, at int64) {
	before := 0
	if key != 0 {
		if c.keys == nil {
			c.keys = make(map[uint64]int)
		}
		before = c.keys[key]
		c.keys[key] = before + 1
	}
	if before == len(c.sizes) {
		c.sizes = append(c.sizes, 0)
	}
	c.sizes[before]++
	c.n++
	c.most = max(c.most, before+1)
	c.met(at)
}

// drop takes one of a key away.
func (c *crowd) drop(key uint64, at int64) {
	c.met(at)
	left := 0
	if key != 0 {
		left = c.keys[key] - 1
		if left > 0 {
			c.keys[key] = left
		} else {
			delete(c.keys, key)
		}
	}
	c.sizes[left]--
	c.n--
	if c.sizes[left] == 0 {
		c.most = left
	}
}

func (c *crowd) met(at int64) {
	if c.n > c.most {
		c.company = max(c.company, at)
	}
}

// excess is how many of those that wait count for nothing in sizing, and until when if nothing changes.
type excess struct{ n, until int64 }

func (c *crowd) excess() excess {
	others := c.n - c.most
	switch {
	case c.most <= max(others, 1) || c.company == 0:
		return excess{0, math.MaxInt64}
	case others > 0:
		return excess{int64(c.most - others), math.MaxInt64}
	}
	return excess{int64(c.most), c.company + companyMemory}
}

// greedy reports whether another request of the key would add to the excess.
func (c *crowd) greedy(key uint64, at int64) bool {
	n := c.keys[key]
	others := c.n - n
	return n > 0 && n >= max(others, 1) && (others > 0 || c.company != 0 && at-c.company < companyMemory)
}
