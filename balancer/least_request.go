package balancer

import "math/rand/v2"

// leastRequest sends to the server with the fewest requests in flight for its weight. Up to handful
// servers it looks at all of them; above, at two chosen at random, which is nearly as good, costs the
// same for any number of servers and keeps gateways from running after the same idle server
// (Mitzenmacher, "The Power of Two Choices", 2001).
type leastRequest struct {
	servers []*Server
}

const handful = 4

func newLeastRequest(servers []*Server, _ Config) policy { return &leastRequest{servers} }

func (p *leastRequest) pick(c *choice) *Server {
	n := uint64(len(p.servers))
	if n > handful {
		for range 3 {
			r := rand.Uint64()
			if s := c.lighter(p.servers[r%n], p.servers[(r>>32)%n]); s != nil {
				return s
			}
		}
	}
	if n == 0 {
		return nil
	}
	var best *Server
	for i, start := uint64(0), rand.Uint64()%n; i < n; i++ { // a random start spreads ties
		best = c.lighter(best, p.servers[(start+i)%n])
	}
	return best
}

// lighter is the usable one of a and b with less load; nil when neither is usable. a may be nil.
func (c *choice) lighter(a, b *Server) *Server {
	if a != nil && !c.usable(a) {
		a = nil
	}
	if !c.usable(b) {
		return a
	}
	if a == nil || c.load(b) < c.load(a) {
		return b
	}
	return a
}

// load is the requests the server would have, this one included, for its present weight.
func (c *choice) load(s *Server) float64 {
	return float64(s.inFlight.Load()+1) / (float64(s.weight.Load()) * s.share(c.now, c.cfg.SlowStart))
}
