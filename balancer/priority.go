package balancer

import (
	"fmt"
	"time"
)

// Priority orders the requests that wait in one upstream's queue. The zero value is PriorityNormal.
//
// Requests of a higher one go first, but none waits for good: a request rises one priority for each quarter
// of queue.timeout that it has waited (ageMax at most), and those that stand equally high take turns with
// the others there, one request of each priority. So however many urgent requests come, of the slots that
// become free the normal and the low ones that have risen get a third each.
type Priority int8

// The priorities of a route.
const (
	PriorityLow Priority = iota - 1
	PriorityNormal
	PriorityHigh
)

// ageMax is the longest time in which a request rises one priority.
const ageMax = 10 * time.Second

// ageStep is the time in which a request rises one priority.
func ageStep(timeout time.Duration) int64 { return int64(max(min(timeout/4, ageMax), 1)) }

// ParsePriority reads "high", "normal" or "low"; "" is normal.
func ParsePriority(s string) (Priority, error) {
	switch s {
	case "high":
		return PriorityHigh, nil
	case "normal", "":
		return PriorityNormal, nil
	case "low":
		return PriorityLow, nil
	}
	return PriorityNormal, fmt.Errorf("%q is none of high, normal and low", s)
}

// String is the priority as it is written in the configuration.
func (p Priority) String() string {
	switch {
	case p > 0:
		return "high"
	case p < 0:
		return "low"
	}
	return "normal"
}

// rank is 0 for the highest.
func (p Priority) rank() int { return int(PriorityHigh - min(max(p, PriorityLow), PriorityHigh)) }
