package peers

import (
	"math"

	"sluice/balancer"
)

// Slots is the part of a server's cap that the gateway self has among gateways, which self is one of, in
// any order: the same in every gateway that knows the same others. The parts of all add up to cap, which
// must be above 0, and differ by at most 1. Who has one more, or, where there are fewer slots than
// gateways, who has one at all, is chosen for each server anew by rendezvous hashing, so that it evens out
// over the servers. When a gateway comes no part of another grows; when one goes none shrinks.
//
// Source: Thaler and Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", 1998.
func Slots(cap int, server, self string, gateways []string) int {
	n := len(gateways)
	if n <= 1 {
		return cap
	}
	part, rest := cap/n, cap%n
	if rest > 0 && rank(server, self, gateways) < rest {
		part++
	}
	return part
}

// rank is how many of the gateways come before self for that server.
func rank(server, self string, gateways []string) int {
	own := balancer.HashString(self + "\x00" + server)
	before := 0
	for _, g := range gateways {
		if h := balancer.HashString(g + "\x00" + server); g != self && (h > own || h == own && g < self) {
			before++
		}
	}
	return before
}

// Rate is the part of a rate limit that each of n gateways has: an n-th of the rate, and of the burst as
// many whole requests as all can have, but at least one, as a bucket of none would let nothing through. So
// over any time the rates add up to rate, and at one moment the bursts to the larger of burst and n.
func Rate(rate float64, burst, n int) (float64, int) {
	if n <= 1 {
		return rate, burst
	}
	if burst == 0 { // what the limiter takes for it
		burst = max(1, int(math.Ceil(rate)))
	}
	return rate / float64(n), max(burst/n, 1)
}
