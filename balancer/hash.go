package balancer

import (
	"math"
	"slices"
	"strconv"
)

// hashRing sends the same key to the same server, and when servers come or go, moves only the keys of
// those. A server that has more than boundedLoad times its fair part of what is in flight passes the
// key on to the next on the ring, so that one popular key cannot drown it (Mirrokni, Thorup and
// Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018).
type hashRing struct {
	points  []ringPoint // by hash
	servers []*Server
	weight  int64 // of all
}

type ringPoint struct {
	hash   uint64
	server *Server
}

const (
	boundedLoad = 1.25
	// ringPoints is about how many points a ring has; each server gets at least 16 and at most 160 for a weight of 1.
	ringPoints = 1 << 16
)

func newHash(servers []*Server, _ Config) policy {
	p := &hashRing{servers: servers}
	for _, s := range servers {
		p.weight += s.weight.Load()
	}
	if p.weight == 0 {
		return p
	}
	perWeight := min(max(ringPoints/p.weight, 16), 160)
	for _, s := range servers {
		for i := range min(perWeight*s.weight.Load(), 4096) {
			p.points = append(p.points, ringPoint{HashString(s.id + "#" + strconv.FormatInt(i, 10)), s})
		}
	}
	slices.SortFunc(p.points, func(a, b ringPoint) int {
		switch {
		case a.hash < b.hash:
			return -1
		case a.hash > b.hash:
			return 1
		}
		return 0
	})
	return p
}

func (p *hashRing) pick(c *choice) *Server {
	n := len(p.points)
	if n == 0 {
		return nil
	}
	start, _ := slices.BinarySearchFunc(p.points, c.key, func(pt ringPoint, key uint64) int {
		switch {
		case pt.hash < key:
			return -1
		case pt.hash > key:
			return 1
		}
		return 0
	})
	total := int64(1)
	for _, s := range p.servers {
		total += s.inFlight.Load()
	}
	var full *Server // usable, but above its part: taken only when all are
	var last *Server
	for i := range n {
		s := p.points[(start+i)%n].server
		if s == last || !c.usable(s) {
			continue
		}
		last = s
		part := boundedLoad * float64(total) * float64(s.weight.Load()) / float64(p.weight)
		if float64(s.inFlight.Load()+1) <= math.Ceil(part) {
			return s
		}
		if full == nil {
			full = s
		}
	}
	return full
}

// HashString is a hash for Ticket.Key and cookies: the same in every process (FNV-1a with a final
// mix, as plain FNV clusters short keys).
func HashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return mix(h)
}

// HashBytes is HashString of b.
func HashBytes(b []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range b {
		h = (h ^ uint64(c)) * 1099511628211
	}
	return mix(h)
}

// mix is the finaliser of splitmix64; 0 stays free to mean "no key".
func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return max(h^h>>31, 1)
}
