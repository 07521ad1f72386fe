package balancer

import (
	"sync/atomic"
	"time"
)

// RecentWindow is the time that a Recent counts over: the second that runs, and those before it.
const RecentWindow = 10 * time.Second

// Recent counts what happened in the last RecentWindow, by whole seconds and without a lock. A counter has its second in
// the upper bits and how often in the lower. The zero value is ready, and it may be used concurrently.
type Recent [RecentWindow / time.Second]atomic.Uint64

const recentBits = 30 // of how often

// Add counts one more at now.
func (r *Recent) Add(now time.Time) {
	second := uint64(nanos(now)) / uint64(time.Second)
	for c := &r[second%uint64(len(r))]; ; {
		old := c.Load()
		switch {
		case old>>recentBits == second:
			c.Add(1)
			return
		case old>>recentBits > second: // a window later by now
			return
		case c.CompareAndSwap(old, second<<recentBits|1):
			return
		}
	}
}

// Count is how many there were in the window that ends at now.
func (r *Recent) Count(now time.Time) (n int) {
	second := uint64(nanos(now)) / uint64(time.Second)
	for i := range r {
		if c := r[i].Load(); c>>recentBits+uint64(len(r)) > second {
			n += int(c & (1<<recentBits - 1))
		}
	}
	return n
}

// Clear forgets all.
func (r *Recent) Clear() {
	for i := range r {
		r[i].Store(0)
	}
}
