package balancer

import (
	"math/rand/v2"
	"sync/atomic"
)

// roundRobin sends to the servers in turn, each as often as its weight says, the turns of a heavy one
// spread out. The order is that of nginx's smooth weighted round robin, worked out once for the fixed
// servers, so that a pick is one atomic increment.
type roundRobin struct {
	turns []*Server
	next  atomic.Uint64
}

// maxTurns bounds the worked-out order; larger weights are scaled down to fit.
const maxTurns = 1 << 16

func newRoundRobin(servers []*Server, _ Config) policy {
	p := &roundRobin{turns: smooth(servers)}
	if len(p.turns) > 0 {
		p.next.Store(rand.Uint64N(uint64(len(p.turns)))) // gateways must not start in step
	}
	return p
}

// smooth is one whole round: at each step every server gains its weight, and the richest is chosen
// and pays the sum of all.
func smooth(servers []*Server) []*Server {
	weights := make([]int64, len(servers))
	divisor := int64(0)
	for i, s := range servers {
		weights[i] = s.weight.Load()
		divisor = gcd(divisor, weights[i])
	}
	sum := int64(0)
	for i := range weights {
		weights[i] /= divisor
		sum += weights[i]
	}
	if limit := int64(max(maxTurns/max(len(servers), 1), 1)); sum > maxTurns {
		sum = 0
		heaviest := int64(1)
		for _, w := range weights {
			heaviest = max(heaviest, w)
		}
		for i := range weights {
			weights[i] = max(weights[i]*limit/heaviest, 1)
			sum += weights[i]
		}
	}
	if sum == int64(len(servers)) { // all alike, the usual case
		return servers
	}
	turns := make([]*Server, 0, sum)
	credit := make([]int64, len(servers))
	for range sum {
		best := 0
		for i := range credit {
			credit[i] += weights[i]
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= sum
		turns = append(turns, servers[best])
	}
	return turns
}

func gcd(a, b int64) int64 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

func (p *roundRobin) pick(c *choice) *Server {
	n := uint64(len(p.turns))
	var slow *Server
	for i := uint64(0); i < n; i++ {
		s := p.turns[p.next.Add(1)%n]
		if !c.usable(s) {
			continue
		}
		if c.passesOver(s) {
			slow = s
			continue
		}
		return s
	}
	return slow
}

// passesOver reports that a server in slow start should miss this turn.
func (c *choice) passesOver(s *Server) bool {
	share := s.share(c.now, c.cfg.SlowStart)
	return share < 1 && rand.Float64() >= share
}
