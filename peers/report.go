package peers

import (
	"time"

	"sluice/balancer"
)

// Report is what one gateway tells the others, as JSON. No time of day is in it, as clocks differ.
type Report struct {
	Gateway string `json:"gateway"`
	// Term is that of the lease the gateway holds; 0 when another acts.
	Term      uint64          `json:"term,omitempty"`
	Upstreams map[string]Load `json:"upstreams"`
}

// Load is what an upstream does on one gateway. Counters are monotonic as long as the gateway runs, and
// the upstream with it.
type Load struct {
	Arrivals uint64 `json:"arrivals"`
	Started  uint64 `json:"started"`
	Finished uint64 `json:"finished"`
	Refused  uint64 `json:"refused"`
	// InFlightSeconds and QueuedSeconds are integrals of the gauges, ServiceSeconds a sum.
	InFlightSeconds float64 `json:"in_flight_seconds"`
	QueuedSeconds   float64 `json:"queued_seconds"`
	ServiceSeconds  float64 `json:"service_seconds"`

	// RefusedExcess and ExcessSeconds are what a fair_by key has beyond what counts in sizing.
	RefusedExcess uint64  `json:"refused_excess,omitempty"`
	ExcessSeconds float64 `json:"excess_seconds,omitempty"`

	InFlight   int     `json:"in_flight"`
	Queued     int     `json:"queued"`
	OldestWait float64 `json:"oldest_wait"` // seconds; 0 when nothing is queued
	ServiceP95 float64 `json:"service_p95"` // seconds; 0 when nothing has finished

	// Servers by their ID.
	Servers map[string]ServerLoad `json:"servers"`
}

// ServerLoad is what one server has to do with one gateway.
type ServerLoad struct {
	InFlight int `json:"in_flight"`
	// Slots is the gateway's part of the server's bound; 0 is no bound, -1 is no part.
	Slots int `json:"slots"`
	// Leaving is said by the gateway that scales: the others are to drain the server. Another drain of the
	// same server is another number; 0 is none.
	Leaving uint64 `json:"leaving,omitempty"`
	// Follows is the number of the drain that this gateway has heard of and follows.
	Follows uint64 `json:"follows,omitempty"`
}

// loadOf is the load of u now, without what its servers have to do with drains.
func loadOf(u *balancer.Upstream, now time.Time) Load {
	r := u.Read(now)
	return Load{
		Arrivals: r.Arrivals, Started: r.Started, Finished: r.Finished, Refused: r.Refused,
		InFlightSeconds: r.InFlightSeconds, QueuedSeconds: r.QueuedSeconds, ServiceSeconds: r.ServiceSeconds,
		RefusedExcess: r.RefusedExcess, ExcessSeconds: r.ExcessSeconds,
		InFlight: r.InFlight, Queued: r.Queued, OldestWait: r.OldestWait.Seconds(), ServiceP95: r.ServiceP95.Seconds(),
	}
}
