package main

import (
	"fmt"
	"math"
	"slices"
	"time"

	"sluice/bench/simulator"
)

// liveRun is one trace through all variants.
type liveRun struct {
	Seed     uint64  `json:"seed"`
	Requests int     `json:"requests"`
	LengthS  float64 `json:"length_s"`
	ServiceS float64 `json:"service_s"`
	Load     float64 `json:"load"`      // mean requests in service, if none had to wait
	PeakLoad float64 `json:"peak_load"` // what it is below for 99 % of the time
	// PeakFromS and PeakToS bound the part with the most load, a tenth of the trace.
	PeakFromS float64   `json:"peak_from_s"`
	PeakToS   float64   `json:"peak_to_s"`
	Rows      []liveRow `json:"rows"`
	// RankingHolds: the simulator orders the policies as the live run does, by cost and by wait.
	RankingHolds bool `json:"ranking_holds"`

	plan     livePlan
	problems []string
}

// liveRow is one variant. Times are those of requests that succeeded.
type liveRow struct {
	Policy string `json:"policy"` // scaled or fixed:N
	// Peak50 and the others are response times at the peak, from when a request was due.
	Peak50 float64 `json:"peak_p50_s"`
	Peak95 float64 `json:"peak_p95_s"`
	Peak99 float64 `json:"peak_p99_s"`
	// WaitP50 and the others are how much longer than its service time a request took, over the whole trace.
	WaitP50 float64 `json:"wait_p50_s"`
	WaitP95 float64 `json:"wait_p95_s"`
	WaitP99 float64 `json:"wait_p99_s"`
	// Utilisation is busy slot-seconds by those paid for.
	Utilisation float64 `json:"utilisation"`
	// ReplicaSeconds counts from asked to gone, from the first request to the last answer.
	ReplicaSeconds float64 `json:"replica_seconds"`
	// Availability is the share of requests that succeeded: refusals count against it.
	Availability float64           `json:"availability"`
	Sent         int64             `json:"sent"`
	OK           int64             `json:"ok"`
	Refused      int64             `json:"refused"`
	Lost         int64             `json:"lost"`
	Errors       map[string]int64  `json:"errors,omitempty"`
	Actions      float64           `json:"actions"`
	Flips        float64           `json:"flips"`
	Peak         float64           `json:"peak"`
	Simulated    *simulator.Result `json:"simulated"`
	// Spread is the least and the most over several seeds, by the name of the figure.
	Spread map[string][2]float64 `json:"spread,omitempty"`
}

// judge lists what is wrong with the ledgers and compares the simulator's order with the live one.
func (r *liveRun) judge() {
	for _, row := range r.Rows {
		if row.Lost > 0 {
			r.problems = append(r.problems, fmt.Sprintf("%s: %d requests were lost%s", row.Policy, row.Lost, list(row.Errors)))
		}
		if int(row.Sent) != r.Requests || row.Sent != row.OK+row.Refused+row.Lost {
			r.problems = append(r.problems, fmt.Sprintf("%s: the ledger does not add up: %d of %d sent, %d ok, %d refused, %d lost", row.Policy, row.Sent, r.Requests, row.OK, row.Refused, row.Lost))
		}
	}
	r.RankingHolds = true
	for i, a := range r.Rows {
		for _, b := range r.Rows[:i] {
			if contrary(a.ReplicaSeconds, b.ReplicaSeconds, a.Simulated.ReplicaSeconds, b.Simulated.ReplicaSeconds, 1) ||
				contrary(a.WaitP95, b.WaitP95, a.Simulated.WaitP95, b.Simulated.WaitP95, .05) {
				r.RankingHolds = false
			}
		}
	}
}

// contrary reports whether live and simulated figures of a and b are in opposite order. Figures that differ by less
// than a tenth of the larger, or by less than least, are equal.
func contrary(liveA, liveB, simA, simB, least float64) bool {
	order := func(a, b float64) int {
		switch d := a - b; {
		case math.Abs(d) <= max(least, .1*max(a, b)):
			return 0
		case d < 0:
			return -1
		}
		return 1
	}
	return order(liveA, liveB)*order(simA, simB) < 0
}

// finish makes the figures of what was collected.
func (row *liveRow) finish(p livePlan, answers []answer) {
	var c counts
	var peak, waits []time.Duration
	var busy time.Duration
	for i, a := range answers {
		c.add(a.outcome)
		if !a.outcome.ok() {
			continue
		}
		q := p.trace.Requests[i]
		busy += q.Service
		waits = append(waits, a.wait)
		if q.At >= p.peakFrom && q.At < p.peakTo {
			peak = append(peak, a.outcome.latency)
		}
	}
	row.Sent, row.OK, row.Refused, row.Lost, row.Errors = c.sent, c.ok, c.refused, c.failed, c.errors
	if c.sent > 0 {
		row.Availability = float64(c.ok) / float64(c.sent)
	}
	if row.ReplicaSeconds > 0 {
		row.Utilisation = busy.Seconds() / (row.ReplicaSeconds * float64(p.setup.Slots))
	}
	row.Peak50, row.Peak95, row.Peak99 = percentiles(peak)
	row.WaitP50, row.WaitP95, row.WaitP99 = percentiles(waits)
}

// percentiles are the 50th, 95th and 99th, in seconds; 0 of nothing.
func percentiles(all []time.Duration) (p50, p95, p99 float64) {
	if len(all) == 0 {
		return 0, 0, 0
	}
	slices.Sort(all)
	at := func(q float64) float64 { return all[min(int(q*float64(len(all))), len(all)-1)].Seconds() }
	return at(.5), at(.95), at(.99)
}
