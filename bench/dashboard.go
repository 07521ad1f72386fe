package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// sample is what is known about one second of a demo.
type sample struct {
	At       float64       `json:"at_s"` // since the beginning
	Rate     float64       `json:"rate"` // requests sent per second
	InFlight int           `json:"in_flight"`
	Queue    int           `json:"queue"`
	Wanted   int           `json:"wanted"`
	Ready    int           `json:"ready"`
	Starting int           `json:"starting"`
	Draining int           `json:"draining"`
	P99      time.Duration `json:"-"`
	P99MS    float64       `json:"p99_ms"`
	OK       int64         `json:"ok"` // sums from the beginning
	Refused  int64         `json:"refused"`
	Lost     int64         `json:"lost"`
	Reason   string        `json:"reason"` // of the last decision
}

// dashboard draws samples: over itself on a terminal, one plain line each elsewhere.
type dashboard struct {
	w       io.Writer
	width   int // columns of the terminal; 0 = none
	title   string
	max     int // most replicas
	total   time.Duration
	samples []sample
	drawn   int // lines on the screen
}

func newDashboard(w io.Writer, title string, max int, total time.Duration) *dashboard {
	width, _ := terminalWidth(w)
	return &dashboard{w: w, width: width, title: title, max: max, total: total}
}

func (d *dashboard) add(s sample) {
	d.samples = append(d.samples, s)
	if d.width == 0 {
		fmt.Fprintln(d.w, s.line())
		return
	}
	if d.drawn > 0 {
		fmt.Fprintf(d.w, "\x1b[%dA", d.drawn)
	}
	lines := d.lines()
	for _, l := range lines {
		fmt.Fprintf(d.w, "\r\x1b[K%s\n", clip(l, d.width-1))
	}
	d.drawn = len(lines)
}

func (s sample) line() string {
	return fmt.Sprintf("%3.0fs  rate %.0f/s  in flight %d  queue %d  replicas %d/%d  p99 %s  ok %d  refused %d  lost %d",
		s.At, s.Rate, s.InFlight, s.Queue, s.Ready, s.Wanted, latency(s.P99), s.OK, s.Refused, s.Lost)
}

func (d *dashboard) lines() []string {
	s := d.samples[len(d.samples)-1]
	n := max(10, min(len(d.samples), d.width-32))
	history := d.samples[max(0, len(d.samples)-n):]
	row := func(name, value string, f func(sample) float64) string {
		values := make([]float64, len(history))
		for i, h := range history {
			values[i] = f(h)
		}
		return fmt.Sprintf("  %-10s %9s  %s", name, value, sparkline(values))
	}
	return []string{
		fmt.Sprintf("%s   %.0fs of %.0fs", d.title, s.At, max(s.At, d.total.Seconds())),
		row("rate", fmt.Sprintf("%.0f/s", s.Rate), func(s sample) float64 { return s.Rate }),
		row("in flight", fmt.Sprint(s.InFlight), func(s sample) float64 { return float64(s.InFlight) }),
		row("queue", fmt.Sprint(s.Queue), func(s sample) float64 { return float64(s.Queue) }),
		row("replicas", fmt.Sprintf("%d/%d", s.Ready, s.Wanted), func(s sample) float64 { return float64(s.Ready) }),
		row("p99", latency(s.P99), func(s sample) float64 { return float64(s.P99) }),
		fmt.Sprintf("  %-10s %s  %d ready, %d starting, %d draining", "", replicaBar(s, d.max), s.Ready, s.Starting, s.Draining),
		fmt.Sprintf("  ok %d   refused %d   lost %d", s.OK, s.Refused, s.Lost),
		"  decision: " + s.Reason,
	}
}

var bars = []rune("▁▂▃▄▅▆▇█")

// sparkline draws values from 0 to their highest.
func sparkline(values []float64) string {
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		i := 0
		if top > 0 {
			i = min(len(bars)-1, int(max(0, v)/top*float64(len(bars)-1)+0.5))
		}
		b.WriteRune(bars[i])
	}
	return b.String()
}

// replicaBar draws ready replicas as █, starting ones as ▒, draining ones as ░, and · up to the most.
func replicaBar(s sample, most int) string {
	b := strings.Repeat("█", s.Ready) + strings.Repeat("▒", s.Starting) + strings.Repeat("░", s.Draining)
	return b + strings.Repeat("·", max(0, most-s.Ready-s.Starting-s.Draining))
}

// clip cuts a line to so many columns.
func clip(s string, columns int) string {
	if r := []rune(s); len(r) > columns {
		return string(r[:columns])
	}
	return s
}
