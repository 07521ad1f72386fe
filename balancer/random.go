package balancer

import "math/rand/v2"

// random sends to a server chosen at random, each with the probability its weight gives it.
type random struct {
	servers []*Server
	upTo    []int64 // running sum of the weights
}

func newRandom(servers []*Server, _ Config) policy {
	p := &random{servers: servers, upTo: make([]int64, len(servers))}
	sum := int64(0)
	for i, s := range servers {
		sum += s.weight.Load()
		p.upTo[i] = sum
	}
	return p
}

func (p *random) pick(c *choice) *Server {
	n := len(p.servers)
	if n == 0 {
		return nil
	}
	for range 4 {
		if s := p.servers[p.draw()]; c.usable(s) && !c.passesOver(s) {
			return s
		}
	}
	for i, start := 0, p.draw(); i < n; i++ { // few are usable: the next one after a draw
		if s := p.servers[(start+i)%n]; c.usable(s) {
			return s
		}
	}
	return nil
}

// draw is an index, by weight.
func (p *random) draw() int {
	x := rand.Int64N(p.upTo[len(p.upTo)-1])
	low, high := 0, len(p.upTo)-1
	for low < high {
		if mid := (low + high) / 2; p.upTo[mid] > x {
			high = mid
		} else {
			low = mid + 1
		}
	}
	return low
}
