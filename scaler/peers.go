package scaler

import (
	"time"

	"sluice/balancer"
)

// Peers are the other gateways that use the servers of a loop's upstream. All methods may be called
// concurrently and return at once.
type Peers interface {
	// Read is the upstream's meter over all gateways, this one too; false when some could not be heard:
	// nothing is scaled down on it. Counters are monotonic.
	Read(now time.Time) (r balancer.Reading, complete bool)
	// InFlight is how many requests the others have on a server; of one that they were asked to leave it is
	// 0 only when none of them can send it any more.
	InFlight(server string) int
	// Leave asks the others to send nothing new to a server, and Stay takes that back; of one that is gone
	// nothing is said.
	Leave(server string)
	Stay(server string)
}

// Join makes the loop one of several gateways': it measures the load of all, and stops a replica when none
// of them has a request on it. To be called before Run.
func (l *Loop) Join(p Peers) { l.peers = p }

// read is the meter, and whether it is complete.
func (l *Loop) read(now time.Time) (balancer.Reading, bool) {
	if l.peers == nil {
		return l.upstream.Read(now), true
	}
	return l.peers.Read(now)
}

// inFlight is how many requests a server has, wherever they came through.
func (l *Loop) inFlight(s *balancer.Server) int {
	n := s.InFlight()
	if l.peers != nil {
		n += l.peers.InFlight(s.ID())
	}
	return n
}
