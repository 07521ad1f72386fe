package proxy

import (
	"time"

	"sluice/balancer"
)

// budgetFloor is how many retries a second are always allowed.
const budgetFloor = 3

// retryBudget bounds retries to a share of the requests of the last ten seconds, so that retries cannot
// multiply the load of servers that fail, but lets 3/s pass when there are few requests. It may be used
// concurrently; retries that ask at the same moment may be one or two too many.
type retryBudget struct{ requests, retries balancer.Recent }

// request counts a request.
func (b *retryBudget) request(now time.Time) { b.requests.Add(now) }

// retry takes one retry out of the budget, whose share is 0…1, or tells that it is used up.
func (b *retryBudget) retry(share float64, now time.Time) bool {
	if float64(b.retries.Count(now)) >= max(share*float64(b.requests.Count(now)), budgetFloor*balancer.RecentWindow.Seconds()) {
		return false
	}
	b.retries.Add(now)
	return true
}
