package peers

import (
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/balancer"
)

// Shared is one upstream whose servers several gateways use. A scaler.Loop measures the whole by it, tells
// the others through it which servers are to go, and hears from it what they still have in flight there; to
// the balancer it says which part of the slots is this gateway's. All methods may be called concurrently.
type Shared struct {
	upstream *balancer.Upstream
	group    *Group

	mu       sync.Mutex // guards all below
	alive    roster
	sum      Sum
	whole    balancer.Reading  // as of the last round
	elders   []string          // the members when this gateway began to share; nil: not known
	heard    map[string]*Load  // of every other member, as last heard; nil: never
	complete bool              // the last round heard all of them
	parts    map[string]int    // slots of each server that this gateway uses
	leaving  map[string]uint64 // by server: drains of our own loop
	follows  map[string]uint64 // by server: drains of the gateway that acts
}

// Read is the upstream's meter over all gateways; false: some could not be heard, and nothing should be
// scaled down on it. The counters are of the last round, whose time is the reading's, and the gauges of now.
func (s *Shared) Read(now time.Time) (r balancer.Reading, complete bool) {
	own := s.upstream.Read(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.heard) == 0 {
		return s.sum.whole(own), s.alive.ids != nil
	}
	r = s.whole
	r.InFlight, r.Queued, r.OldestWait, r.ServiceP95 = own.InFlight, own.Queued, own.OldestWait, own.ServiceP95
	r.Ready, r.Starting, r.Draining, r.Unhealthy = own.Ready, own.Starting, own.Draining, own.Unhealthy
	r.LastArrival, r.Waits, r.Slots = own.LastArrival, own.Waits, own.Slots
	s.sum.gauges(&r)
	return r, s.complete
}

// InFlight is how many requests the other gateways have on a server. One that has none, but does not yet
// follow the drain asked for with Leave, counts as 1: it may send one at any moment.
func (s *Shared) InFlight(server string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.heard {
		if l == nil {
			n++
			continue
		}
		has, known := l.Servers[server]
		if !known {
			continue
		}
		if number := s.leaving[server]; number == 0 || has.Follows != number {
			has.InFlight = max(has.InFlight, 1)
		}
		n += has.InFlight
	}
	return n
}

// Leave tells the other gateways to send nothing new to a server, as long as this one acts.
func (s *Shared) Leave(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaving[server] = s.group.drains.Add(1)
}

// Stay takes Leave back.
func (s *Shared) Stay(server string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.leaving, server)
}

// part is what the balancer asks: how many of a server's slots are this gateway's; -1 is none. A part gets
// smaller at once and larger only when the members have been the same for a while, so that all know them,
// and by no more than the others have given up, requests in flight beyond their parts included: the cap
// holds also while members come and go.
func (s *Shared) part(server string, slots int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	want := 0
	if s.alive.ids != nil {
		want = Slots(slots, server, s.group.id, s.alive.ids)
	}
	part := min(s.parts[server], want)
	if want > part && s.alive.settled {
		free := slots
		for id, l := range s.heard {
			if l == nil {
				free = 0
				break
			}
			has := l.Servers[server]
			uses := max(has.Slots, has.InFlight, 0)
			if id < s.group.id { // of several that wait for the same slots the first by name is first
				uses = max(uses, Slots(slots, server, id, s.alive.ids))
			}
			free -= uses
		}
		part = max(part, min(want, free))
	}
	s.parts[server] = part
	if part == 0 {
		return -1
	}
	return part
}

// round takes what was heard; heard has an entry for every other member, nil for one that was not.
func (s *Shared) round(now time.Time, alive roster, heard map[string]*Load, leader string) {
	own := s.upstream.Read(now)
	s.mu.Lock()
	s.alive, s.complete = alive, true
	if s.elders == nil {
		s.elders = alive.ids
	}
	next := make(map[string]*Load, len(heard))
	for id, l := range heard {
		next[id] = l
		if l == nil {
			next[id] = s.assume(id)
			s.complete = false
		}
	}
	s.heard = next
	s.whole = s.sum.Add(own, heard)
	present := make(map[string]bool)
	for _, server := range s.upstream.Servers() {
		present[server.ID()] = true
	}
	for id := range s.parts {
		if !present[id] {
			delete(s.parts, id)
		}
	}
	for id := range s.leaving {
		if !present[id] {
			delete(s.leaving, id)
		}
	}
	s.mu.Unlock()
	s.follow(leader)
	s.upstream.SetGateways(alive.size())
	s.upstream.Divide(s.part)
}

// assume is the load of a member that was not heard: what it last said, and as many slots as it may have
// taken since. Nothing is known of one that was there before and never heard. The caller holds mu.
func (s *Shared) assume(id string) *Load {
	var l Load
	switch last := s.heard[id]; {
	case last != nil:
		l = *last
	case slices.Contains(s.elders, id):
		return nil
	}
	servers := make(map[string]ServerLoad, len(l.Servers))
	maps.Copy(servers, l.Servers)
	for _, server := range s.upstream.Servers() {
		has := servers[server.ID()]
		if bound := server.MaxConns(); bound > 0 {
			has.Slots = max(has.Slots, Slots(bound, server.ID(), id, s.alive.ids))
		}
		servers[server.ID()] = has
	}
	l.Servers = servers
	return &l
}

// follow drains what the gateway that acts says, and takes back what it says no more. While nobody is
// known to act everything stays; when this gateway acts its own loop says what drains.
func (s *Shared) follow(leader string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	asked := map[string]uint64{}
	says := s.heard[leader]
	switch {
	case leader == "" || leader != s.group.id && says == nil:
		return
	case leader != s.group.id:
		for id, server := range says.Servers {
			if server.Leaving != 0 {
				asked[id] = server.Leaving
			}
		}
		for id, number := range s.follows { // gone there, and soon here
			if _, listed := says.Servers[id]; !listed {
				asked[id] = number
			}
		}
	}
	for id := range s.follows {
		if server := s.upstream.Server(id); asked[id] == 0 && s.leaving[id] == 0 && server != nil {
			server.Enable()
		}
	}
	for id := range asked {
		server := s.upstream.Server(id)
		if server == nil {
			delete(asked, id)
		} else if !server.Draining() {
			server.Drain()
		}
	}
	s.follows = asked
}

// load is what this gateway reports.
func (s *Shared) load(now time.Time, acts bool) Load {
	l := loadOf(s.upstream, now)
	l.Servers = map[string]ServerLoad{}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, server := range s.upstream.Servers() {
		one := ServerLoad{Slots: server.Slots()}
		if acts {
			one.Leaving = s.leaving[server.ID()]
		}
		if server.Draining() { // looked at before the requests are counted: none is added after
			one.Follows = s.follows[server.ID()]
		}
		one.InFlight = server.InFlight()
		l.Servers[server.ID()] = one
	}
	return l
}
