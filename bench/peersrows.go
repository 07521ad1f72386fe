package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// peerRow is one peer under one workload: the medians of all rounds. What was not measured is 0.
type peerRow struct {
	Workload string  `json:"workload"`
	Peer     string  `json:"peer"`
	CPU      float64 `json:"cpu_us"`    // user and system time of the proxy's processes per request (or event)
	Ratio    float64 `json:"ratio"`     // of cpu_us to that of the base in the same round
	RatioMin float64 `json:"ratio_min"` // of the rounds
	RatioMax float64 `json:"ratio_max"`
	RPS      float64 `json:"rps"`  // as many as load, peer and cores allow together
	Busy     float64 `json:"busy"` // processors that the peer used meanwhile: well below those it has, something else was the limit
	P50      float64 `json:"p50_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p999_ms"`
	Rate     float64 `json:"rate"`    // requests a second at which the latencies were measured
	RSS      float64 `json:"rss_kib"` // at the end of the load
	Switches float64 `json:"switches"`
	Idle     float64 `json:"idle_kib"` // per idle connection
	Added    float64 `json:"added_ms"` // of an event's way: p50 beyond that without a proxy, in the same round
	Streams  float64 `json:"streams"`  // that were held open
	Rounds   int     `json:"rounds"`
	Error    string  `json:"error,omitempty"` // why the row has no figures

	title string
	asked int // streams
}

// baseOf is the peer that ratios are to: nginx, or the first where nginx is not measured.
func baseOf(ps []peer) string {
	if len(ps) == 0 || slices.ContainsFunc(ps, func(p peer) bool { return p.name == "nginx" }) {
		return "nginx"
	}
	return ps[0].name
}

// newPeerRow takes the samples of a peer and, of the same rounds, those of the base (nil: it was not measured).
func newPeerRow(w workload, name string, samples, ofBase []peerSample) peerRow {
	of := func(f func(peerSample) float64) float64 {
		var v []float64
		for _, s := range samples {
			v = append(v, f(s))
		}
		return median(v)
	}
	r := peerRow{Workload: w.name, Peer: name, title: w.title, Rounds: len(samples),
		CPU: of(func(s peerSample) float64 { return s.cpu }), RPS: of(func(s peerSample) float64 { return s.rps }),
		P50: of(func(s peerSample) float64 { return s.p50 }), P99: of(func(s peerSample) float64 { return s.p99 }), P999: of(func(s peerSample) float64 { return s.p999 }),
		Busy:  of(func(s peerSample) float64 { return s.busy }),
		Added: of(func(s peerSample) float64 { return s.added }),
		RSS:   of(func(s peerSample) float64 { return s.rss }), Switches: of(func(s peerSample) float64 { return s.switches }), Idle: of(func(s peerSample) float64 { return s.idle }),
		Streams: of(func(s peerSample) float64 { return s.streams }), asked: w.connections,
	}
	if ratios := ratiosOf(w, samples, ofBase); len(ratios) > 0 {
		r.Ratio, r.RatioMin, r.RatioMax = median(ratios), slices.Min(ratios), slices.Max(ratios)
	}
	return r
}

// ratiosOf is, round by round, what a peer costs in units of what the base costs: processor time, or memory of idle connections
// and of streams.
func ratiosOf(w workload, samples, ofBase []peerSample) (ratios []float64) {
	cost := func(s peerSample) float64 { return s.cpu }
	switch w.kind {
	case idle:
		cost = func(s peerSample) float64 { return s.idle }
	case held:
		cost = func(s peerSample) float64 { return s.rss }
	}
	for i := range min(len(samples), len(ofBase)) {
		if c := cost(ofBase[i]); c > 0 {
			ratios = append(ratios, cost(samples[i])/c)
		}
	}
	return ratios
}

// median of an even number is the mean of the two in the middle; 0 of none.
func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// printRows writes a Markdown-like table.
func printRows(w io.Writer, rows []peerRow) {
	t := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprint(t, "| workload\t| peer\t| CPU µs\t| ratio\t| min…max\t| requests/s\t| busy\t| at rate\t| p50 ms\t| p99\t| p99.9\t| RSS KiB\t| switches\t| idle KiB\t| added ms\t|\n")
	fmt.Fprint(t, "|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|---\t|\n")
	for _, r := range rows {
		if r.Error != "" {
			fmt.Fprintf(t, "| %s\t| %s\t| failed%s\n", r.title, r.Peer, strings.Repeat("\t|", 13))
			continue
		}
		span := "–"
		if r.Ratio > 0 {
			span = fmt.Sprintf("%.2f…%.2f", r.RatioMin, r.RatioMax)
		}
		fmt.Fprintf(t, "| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t| %s\t|\n", r.title, r.Peer, figure(r.CPU, 1), figure(r.Ratio, 2), span,
			figure(r.RPS, 0), figure(r.Busy, 2), figure(r.Rate, 0), figure(r.P50, 2), figure(r.P99, 2), figure(r.P999, 2), figure(r.RSS, 0), figure(r.Switches, 2), figure(r.Idle, 1), figure(r.Added, 2))
	}
	_ = t.Flush()
	for _, r := range rows {
		if r.Error != "" {
			fmt.Fprintf(w, "%s, %s failed: %s\n", r.title, r.Peer, r.Error)
		} else if r.Streams > 0 {
			fmt.Fprintf(w, "%s: %s held %.0f of %d in %.1f MiB%s\n", r.title, r.Peer, r.Streams, r.asked, r.RSS/1024, r.heldVerdict())
		}
	}
}

// heldVerdict says what becomes of the goal, which is sluice's and for all streams.
func (r peerRow) heldVerdict() string {
	all, verdict := r.RSS/1024, ""
	if int(r.Streams) < r.asked {
		all *= float64(r.asked) / r.Streams
		verdict = fmt.Sprintf(", which is %.1f MiB for all", all)
	}
	if r.Peer != "sluice" {
		return verdict
	}
	if all > heldGoal>>20 {
		return verdict + fmt.Sprintf(", more than the goal of %d MiB", heldGoal>>20)
	}
	return verdict + fmt.Sprintf(", within the goal of %d MiB", heldGoal>>20)
}

// figure is a number for people; 0 is a dash, as nothing was measured.
func figure(v float64, digits int) string {
	if v == 0 {
		return "–"
	}
	return fmt.Sprintf("%.*f", digits, v)
}
