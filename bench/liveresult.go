package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"sluice/bench/simulator"
)

// liveResult is what `live --json` prints.
type liveResult struct {
	Driver   string  `json:"driver"`
	Speed    float64 `json:"speed"`
	Slots    int     `json:"slots"`
	StartS   float64 `json:"start_s"`
	Load     float64 `json:"load"` // Load and PeakLoad are the means over the runs
	PeakLoad float64 `json:"peak_load"`
	// Rows are the medians over the runs, and sums of what is counted in requests.
	Rows []liveRow  `json:"rows"`
	Runs []*liveRun `json:"runs"`
	// AtMean and AtPeak name the rows with as many replicas as the mean load and the peak need; "" is none.
	AtMean string `json:"at_mean,omitempty"`
	AtPeak string `json:"at_peak,omitempty"`
	// Gains compare scaling with those, run by run.
	Gains        []liveGain `json:"gains"`
	RankingHolds bool       `json:"ranking_holds"` // in every run
	Interrupted  bool       `json:"interrupted,omitempty"`
	Problems     []string   `json:"problems"` // why the exit code is 1
}

// liveGain is one comparison, in percent: above 0 is better.
type liveGain struct {
	What    string  `json:"what"`
	Against string  `json:"against"`
	Median  float64 `json:"median"`
	Least   float64 `json:"least"`
	Most    float64 `json:"most"`
}

// liveFigures are what is summed up by its median.
var liveFigures = []struct {
	name string
	of   func(*liveRow) *float64
}{
	{"peak_p50_s", func(r *liveRow) *float64 { return &r.Peak50 }},
	{"peak_p95_s", func(r *liveRow) *float64 { return &r.Peak95 }},
	{"peak_p99_s", func(r *liveRow) *float64 { return &r.Peak99 }},
	{"wait_p50_s", func(r *liveRow) *float64 { return &r.WaitP50 }},
	{"wait_p95_s", func(r *liveRow) *float64 { return &r.WaitP95 }},
	{"wait_p99_s", func(r *liveRow) *float64 { return &r.WaitP99 }},
	{"utilisation", func(r *liveRow) *float64 { return &r.Utilisation }},
	{"replica_seconds", func(r *liveRow) *float64 { return &r.ReplicaSeconds }},
	{"availability", func(r *liveRow) *float64 { return &r.Availability }},
	{"actions", func(r *liveRow) *float64 { return &r.Actions }},
	{"flips", func(r *liveRow) *float64 { return &r.Flips }},
	{"peak", func(r *liveRow) *float64 { return &r.Peak }},
}

// sumUp makes the rows and gains of the runs.
func (r *liveResult) sumUp() {
	r.RankingHolds = true
	for _, run := range r.Runs {
		r.RankingHolds = r.RankingHolds && run.RankingHolds
	}
	for i := range r.Runs[0].Rows {
		r.Rows = append(r.Rows, r.sumRow(i))
	}
	gain := func(what, against string, of func(scaled, other liveRow) float64) {
		var all []float64
		for _, run := range r.Runs {
			j := slices.IndexFunc(run.Rows, func(row liveRow) bool { return row.Policy == against })
			if j < 0 {
				return
			}
			all = append(all, 100*of(run.Rows[0], run.Rows[j]))
		}
		r.Gains = append(r.Gains, liveGain{what, against, median(all), slices.Min(all), slices.Max(all)})
	}
	lower := func(of func(*liveRow) *float64) func(scaled, other liveRow) float64 {
		return func(scaled, other liveRow) float64 { return 1 - *of(&scaled)/(*of(&other)) }
	}
	gain("response time at the peak, p50, lower by", r.AtMean, lower(liveFigures[0].of))
	gain("response time at the peak, p95, lower by", r.AtMean, lower(liveFigures[1].of))
	gain("response time at the peak, p99, lower by", r.AtMean, lower(liveFigures[2].of))
	gain("utilisation higher by", r.AtPeak, func(scaled, other liveRow) float64 { return scaled.Utilisation/other.Utilisation - 1 })
	gain("replica-seconds lower by", r.AtPeak, func(scaled, other liveRow) float64 { return 1 - scaled.ReplicaSeconds/other.ReplicaSeconds })
}

// sumRow is row i over all runs.
func (r *liveResult) sumRow(i int) liveRow {
	sum := liveRow{Policy: r.Runs[0].Rows[i].Policy, Errors: map[string]int64{}}
	var waits, used, paid, actions, flips, peaks []float64
	for _, run := range r.Runs {
		row := run.Rows[i]
		sum.Sent, sum.OK, sum.Refused, sum.Lost = sum.Sent+row.Sent, sum.OK+row.OK, sum.Refused+row.Refused, sum.Lost+row.Lost
		for kind, n := range row.Errors {
			sum.Errors[kind] += n
		}
		s := row.Simulated
		waits, used, paid = append(waits, s.WaitP95), append(used, s.Utilisation), append(paid, s.ReplicaSeconds)
		actions, flips, peaks = append(actions, float64(s.Actions)), append(flips, float64(s.Flips)), append(peaks, float64(s.Peak))
	}
	sum.Simulated = &simulator.Result{
		Policy: r.Runs[0].Rows[i].Simulated.Policy, WaitP95: median(waits), Utilisation: median(used), ReplicaSeconds: median(paid),
		Actions: int(median(actions)), Flips: int(median(flips)), Peak: int(median(peaks)),
	}
	for _, f := range liveFigures {
		var all []float64
		for _, run := range r.Runs {
			all = append(all, *f.of(&run.Rows[i]))
		}
		*f.of(&sum) = median(all)
		if len(all) > 1 {
			if sum.Spread == nil {
				sum.Spread = map[string][2]float64{}
			}
			sum.Spread[f.name] = [2]float64{slices.Min(all), slices.Max(all)}
		}
	}
	return sum
}

func (r *liveResult) print(w io.Writer) {
	fmt.Fprintf(w, "replicas by the driver %s, %d slots each, start time %.3g s; load %.3g, below %.3g for 99 %% of the time\n", r.Driver, r.Slots, r.StartS, r.Load, r.PeakLoad)
	for _, run := range r.Runs {
		fmt.Fprintf(w, "seed %d: %d requests in %.0f s (%g times as fast), service time %.3g s, peak from %.0f to %.0f s\n",
			run.Seed, run.Requests, run.LengthS, r.Speed, run.ServiceS, run.PeakFromS, run.PeakToS)
	}
	fmt.Fprintln(w)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	columns := []struct{ head, figure, format string }{
		{"peak p50", "peak_p50_s", "%.3gs"}, {"p95", "peak_p95_s", "%.3gs"}, {"p99", "peak_p99_s", "%.3gs"}, {"wait p95", "wait_p95_s", "%.3gs"},
		{"used", "utilisation", "%.0f%%"}, {"replica-seconds", "replica_seconds", "%.0f"}, {"availability", "availability", "%.3f%%"},
		{"actions", "actions", "%.0f"}, {"flips", "flips", "%.0f"}, {"peak", "peak", "%.0f"},
	}
	line := func(first string, cell func(figure, format string) string) {
		cells := []string{first}
		for _, c := range columns {
			cells = append(cells, cell(c.figure, c.format))
		}
		fmt.Fprintln(table, strings.Join(cells, "\t")+"\t")
	}
	heads := []string{"policy"}
	for _, c := range columns {
		heads = append(heads, c.head)
	}
	fmt.Fprintln(table, strings.Join(heads, "\t")+"\t")
	for _, row := range r.Rows {
		line(row.Policy, func(figure, format string) string { return fmt.Sprintf(format, percent(format, row.figure(figure))) })
		if row.Spread != nil {
			line("", func(figure, format string) string {
				s := row.Spread[figure]
				number := strings.TrimSuffix(strings.TrimSuffix(format, "%%"), "s")
				return fmt.Sprintf(number+"…"+format, percent(format, s[0]), percent(format, s[1]))
			})
		}
		s := row.Simulated
		simulated := map[string]float64{
			"wait_p95_s": s.WaitP95, "utilisation": s.Utilisation, "replica_seconds": s.ReplicaSeconds,
			"actions": float64(s.Actions), "flips": float64(s.Flips), "peak": float64(s.Peak),
		}
		line("simulated", func(figure, format string) string {
			if v, ok := simulated[figure]; ok {
				return fmt.Sprintf(format, percent(format, v))
			}
			return ""
		})
	}
	table.Flush()
	fmt.Fprintln(w)
	for _, g := range r.Gains {
		fmt.Fprintf(w, "against %s: %s %.0f %%", g.Against, g.What, g.Median)
		if len(r.Runs) > 1 {
			fmt.Fprintf(w, " (%.0f…%.0f)", g.Least, g.Most)
		}
		fmt.Fprintln(w)
	}
	for _, p := range r.Rows {
		fmt.Fprintf(w, "%-10s sent %d, ok %d, refused %d, lost %d%s\n", p.Policy, p.Sent, p.OK, p.Refused, p.Lost, list(p.Errors))
	}
	holds := "holds"
	if !r.RankingHolds {
		holds = "does NOT hold"
	}
	fmt.Fprintf(w, "the simulator's ranking, by replica-seconds and by wait p95, %s\n", holds)
	for _, p := range r.Problems {
		fmt.Fprintf(w, "WRONG      %s\n", p)
	}
}

// figure is the one with that name.
func (r liveRow) figure(name string) float64 {
	for _, f := range liveFigures {
		if f.name == name {
			return *f.of(&r)
		}
	}
	panic(name) // the columns name those that there are
}

// percent is a share as a format with a percent sign shows it.
func percent(format string, v float64) float64 {
	if strings.HasSuffix(format, "%%") {
		return 100 * v
	}
	return v
}
