package peers

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

var day = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func reading(sec float64, arrivals uint64, inFlight int) balancer.Reading {
	return balancer.Reading{At: day.Add(seconds(sec)), Arrivals: arrivals, InFlight: inFlight, InFlightSeconds: float64(inFlight) * sec}
}

func load(sec float64, arrivals uint64, inFlight, queued int) *Load {
	return &Load{
		Arrivals: arrivals, Started: arrivals, InFlight: inFlight, Queued: queued,
		InFlightSeconds: float64(inFlight) * sec, QueuedSeconds: float64(queued) * sec, ServiceSeconds: float64(arrivals) / 10,
	}
}

// A story of one peer, told second by second.
func TestSum(t *testing.T) {
	var s Sum
	for _, step := range []struct {
		what      string
		sec       float64
		own       uint64
		peers     map[string]*Load
		arrivals  uint64
		inFlight  int
		flightSec float64
	}{
		{"alone", 0, 100, nil, 100, 2, 0},
		{"a new peer: its gauges, not what it counted before", 1, 110, map[string]*Load{"b": load(50, 5000, 3, 1)}, 110, 5, 2},
		{"its first difference", 2, 120, map[string]*Load{"b": load(51, 5020, 3, 1)}, 140, 5, 4 + 3},
		{"not heard: the gauges and their integral go on", 3, 130, map[string]*Load{"b": nil}, 150, 5, 6 + 6},
		{"still not heard", 4, 140, map[string]*Load{"b": nil}, 160, 5, 8 + 9},
		{"back after 3 s: a third of what it counted", 5, 150, map[string]*Load{"b": load(54, 5080, 3, 1)}, 190, 5, 10 + 12},
		{"it began anew", 6, 160, map[string]*Load{"b": load(.5, 7, 4, 0)}, 207, 6, 12 + 14},
		{"it left", 7, 170, map[string]*Load{}, 217, 2, 14 + 14},
		{"and came back as a new one", 8, 180, map[string]*Load{"b": load(1, 9, 1, 0)}, 227, 3, 16 + 14},
	} {
		r := s.Add(reading(step.sec, step.own, 2), step.peers)
		if r.Arrivals != step.arrivals || r.InFlight != step.inFlight || math.Abs(r.InFlightSeconds-step.flightSec) > 1e-9 {
			t.Errorf("%s: %d arrivals, %d in flight, %.2f request-seconds; want %d, %d, %.2f",
				step.what, r.Arrivals, r.InFlight, r.InFlightSeconds, step.arrivals, step.inFlight, step.flightSec)
		}
	}
}

// Whatever the peers do, every counter of the sum grows and the meter can measure every second.
func TestSumIsMonotonic(t *testing.T) {
	for seed := range uint64(50) {
		rnd := rand.New(rand.NewPCG(seed, 9))
		var s Sum
		var meter scaler.Meter
		var last balancer.Reading
		peers := map[string]*Load{}
		own := reading(0, 0, 0)
		for sec := range 200 {
			own.At = day.Add(time.Duration(sec) * time.Second)
			own.Arrivals += uint64(rnd.IntN(50))
			own.InFlight = rnd.IntN(9)
			own.InFlightSeconds += float64(own.InFlight)
			now := map[string]*Load{}
			for _, id := range []string{"b", "c", "d"} {
				l := peers[id]
				switch rnd.IntN(12) {
				case 0: // leaves
					delete(peers, id)
					continue
				case 1: // starts anew, with a few requests already
					l = &Load{Arrivals: uint64(rnd.IntN(5))}
				case 2:
					if l != nil {
						now[id] = nil
						continue
					}
				}
				if l == nil {
					l = load(float64(rnd.IntN(1000)), rnd.Uint64N(1e6), 1, 1)
				}
				next := *l
				next.Arrivals += uint64(rnd.IntN(50))
				next.InFlight, next.Queued = rnd.IntN(9), rnd.IntN(3)
				next.InFlightSeconds += float64(next.InFlight)
				next.QueuedSeconds += float64(next.Queued)
				peers[id], now[id] = &next, &next
			}
			r := s.Add(own, now)
			if r.Arrivals < last.Arrivals || r.InFlightSeconds < last.InFlightSeconds || r.QueuedSeconds < last.QueuedSeconds || r.ServiceSeconds < last.ServiceSeconds {
				t.Fatalf("seed %d, second %d: %+v after %+v", seed, sec, r, last)
			}
			if sig := meter.Measure(r); sec > 0 && (sig.Stale || sig.Rate1 > 4*60) {
				t.Fatalf("seed %d, second %d: %+v", seed, sec, sig)
			}
			last = r
		}
	}
}

// What a fair_by key has too much of at a peer is too much of the whole, and a peer that knows nothing of it has none.
func TestSumAddsTheExcess(t *testing.T) {
	var s Sum
	own := balancer.Reading{At: day}
	flooded := load(1, 100, 1, 9)
	flooded.RefusedExcess, flooded.ExcessSeconds = 40, 7
	s.Add(own, map[string]*Load{"b": flooded, "c": load(1, 100, 1, 9)})
	own.At, own.RefusedExcess, own.ExcessSeconds = day.Add(time.Second), 2, 1
	next := load(2, 150, 1, 9)
	next.RefusedExcess, next.ExcessSeconds = 60, 15
	if r := s.Add(own, map[string]*Load{"b": next, "c": load(2, 150, 1, 9)}); r.RefusedExcess != 22 || r.ExcessSeconds != 9 {
		t.Errorf("%d refused and %g request-seconds too many, want 22 and 9", r.RefusedExcess, r.ExcessSeconds)
	}
}
