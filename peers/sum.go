package peers

import (
	"time"

	"sluice/balancer"
)

// Sum adds the loads of the other gateways to an upstream's own reading, so that what is measured is the
// whole. The counters of the result are monotonic whatever the peers do: come, go, start anew or fall
// silent. The zero value is ready; it belongs to one goroutine.
type Sum struct {
	peers map[string]*peer
	added Load // what the peers' counters grew by since they are known
	last  time.Time
}

// peer is one other gateway as last heard.
type peer struct {
	load  Load
	heard bool // load is of the last round
	at    time.Time
}

// Add takes one round: own is this gateway's reading, and peers has an entry for every other member, nil
// for one that could not be reached. The counters of a new peer are what its next are compared with; a
// counter that got smaller starts from 0; a peer that left takes its gauges along. Of one that cannot be
// reached the gauges stay, and their integrals go on, but no rate is made up. When it is back, only as much
// of what it counted meanwhile is taken as falls on this round: the rest is over, and is no burst of now.
//
// The counts of servers and Waits are this gateway's: all see the same servers.
func (s *Sum) Add(own balancer.Reading, peers map[string]*Load) balancer.Reading {
	if s.peers == nil {
		s.peers = map[string]*peer{}
	}
	dt := max(own.At.Sub(s.last).Seconds(), 0)
	if s.last.IsZero() {
		dt = 0
	}
	s.last = own.At
	for id := range s.peers {
		if _, member := peers[id]; !member {
			delete(s.peers, id)
		}
	}
	for id, now := range peers {
		p := s.peers[id]
		switch {
		case now != nil && p == nil:
			s.peers[id] = &peer{load: *now, heard: true, at: own.At}
		case now != nil:
			share := 1.0
			if gap := own.At.Sub(p.at).Seconds(); !p.heard && gap > dt && gap > 0 {
				share = dt / gap
			}
			s.added.grow(p.load, *now, share)
			*p = peer{load: *now, heard: true, at: own.At}
		case p != nil:
			p.heard = false
			s.added.InFlightSeconds += float64(p.load.InFlight) * dt
			s.added.QueuedSeconds += float64(p.load.Queued) * dt
		}
	}
	return s.whole(own)
}

// grow adds share of the difference between two loads of one peer.
func (l *Load) grow(before, now Load, share float64) {
	if now.Arrivals < before.Arrivals || now.Started < before.Started || now.Finished < before.Finished || now.Refused < before.Refused ||
		now.InFlightSeconds < before.InFlightSeconds || now.QueuedSeconds < before.QueuedSeconds || now.ServiceSeconds < before.ServiceSeconds {
		before = Load{} // one meter: when one of its counters began anew, all did
	}
	part := func(a, b uint64) uint64 { return uint64(float64(b-a)*share + .5) }
	l.Arrivals += part(before.Arrivals, now.Arrivals)
	l.Started += part(before.Started, now.Started)
	l.Finished += part(before.Finished, now.Finished)
	l.Refused += part(before.Refused, now.Refused)
	l.InFlightSeconds += (now.InFlightSeconds - before.InFlightSeconds) * share
	l.QueuedSeconds += (now.QueuedSeconds - before.QueuedSeconds) * share
	l.RefusedExcess += part(before.RefusedExcess, max(now.RefusedExcess, before.RefusedExcess))
	l.ExcessSeconds += max(now.ExcessSeconds-before.ExcessSeconds, 0) * share
	l.ServiceSeconds += (now.ServiceSeconds - before.ServiceSeconds) * share
}

// whole is own with what the peers have.
func (s *Sum) whole(own balancer.Reading) balancer.Reading {
	r, a := own, s.added
	r.Arrivals += a.Arrivals
	r.Started += a.Started
	r.Finished += a.Finished
	r.Refused += a.Refused
	r.InFlightSeconds += a.InFlightSeconds
	r.QueuedSeconds += a.QueuedSeconds
	r.RefusedExcess += a.RefusedExcess
	r.ExcessSeconds += a.ExcessSeconds
	r.ServiceSeconds += a.ServiceSeconds
	s.gauges(&r)
	return r
}

// gauges adds what is true now of the peers to r.
func (s *Sum) gauges(r *balancer.Reading) {
	for _, p := range s.peers {
		r.InFlight += p.load.InFlight
		r.Queued += p.load.Queued
		r.OldestWait = max(r.OldestWait, seconds(p.load.OldestWait))
		r.ServiceP95 = max(r.ServiceP95, seconds(p.load.ServiceP95))
	}
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
