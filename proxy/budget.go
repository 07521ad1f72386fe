package proxy

import (
	"sync/atomic"
	"time"
)

const (
	budgetSeconds = 10 // length of the window
	budgetFloor   = 3  // retries a second that are always allowed
)

// retryBudget bounds retries to a share of the requests of the last ten seconds, so that retries cannot
// multiply the load of servers that fail, but lets 3/s pass when there are few requests. It may be used
// concurrently; the counts of the second that begins may lose a request or two.
type retryBudget struct {
	slots [16]budgetSlot // by second; a power of two above budgetSeconds
}

type budgetSlot struct {
	second            atomic.Int64
	requests, retries atomic.Int64
}

// at is the slot of a second, emptied if it still counts an older one.
func (b *retryBudget) at(second int64) *budgetSlot {
	s := &b.slots[second%int64(len(b.slots))]
	if old := s.second.Load(); old != second && s.second.CompareAndSwap(old, second) {
		s.requests.Store(0)
		s.retries.Store(0)
	}
	return s
}

// request counts a request.
func (b *retryBudget) request(now time.Time) { b.at(now.Unix()).requests.Add(1) }

// retry takes one retry out of the budget, whose share is 0…1, or tells that it is used up.
func (b *retryBudget) retry(share float64, now time.Time) bool {
	second := now.Unix()
	own := b.at(second)
	var requests, retries int64
	for i := range b.slots {
		if s := &b.slots[i]; second-s.second.Load() < budgetSeconds {
			requests += s.requests.Load()
			retries += s.retries.Load()
		}
	}
	if float64(retries) >= max(share*float64(requests), budgetFloor*budgetSeconds) {
		return false
	}
	own.retries.Add(1)
	return true
}
