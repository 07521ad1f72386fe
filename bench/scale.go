package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"sluice/bench/simulator"
)

// scaleResult is what `scale --json` prints.
type scaleResult struct {
	Requests int                 `json:"requests"`
	LengthS  float64             `json:"length_s"`
	Load     float64             `json:"load"` // mean requests in service
	ServiceS float64             `json:"service_s"`
	Slots    int                 `json:"slots"`
	StartS   float64             `json:"start_s"`
	SLO      float64             `json:"slo_s"`
	Rows     []*simulator.Result `json:"rows"`
}

func scaleCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("scale", "--trace FILE | --access-log FILE | --synthetic KIND [flags]", stdout, stderr)
	var setup simulator.Setup
	traces := c.traceFlags(20, 2*time.Hour, "")
	seeds := c.setupFlags(&setup, 30*time.Second, 1000)
	policies := c.String("policy", "ltd,hpa,hpa-queue,kpa,kpa-delay,oracle", "`policies`, separated by commas: "+strings.Join(simulator.Policies, ", ")+", fixed:N")
	c.Float64Var(&setup.Jitter, "jitter", .1, "share of the start time by which it varies")
	c.DurationVar(&setup.SLO, "slo", time.Second, "longest wait that is good enough")
	c.DurationVar(&setup.Deadline, "deadline", 0, "longest wait before a request is rejected; 0 is none")
	c.IntVar(&setup.Queue, "queue", 0, "most requests that may wait; 0 is no bound")
	c.IntVar(&setup.Initial, "initial", 0, "replicas at the beginning; 0 is what the first minute needs")
	c.Float64Var(&setup.Target, "target", .7, "utilisation that hpa and kpa aim at")
	plot := c.String("plot", "", "write demand, queue and replicas of every policy into an SVG `file`")
	if code, ok := c.parse(args); !ok {
		return code
	}
	names := strings.Split(*policies, ",")
	unknown := slices.IndexFunc(names, func(n string) bool { return !simulator.Known(n) })
	switch {
	case c.NArg() > 0:
		return c.wrong("want no arguments, got %q", c.Args())
	case unknown >= 0:
		return c.wrong("no policy %q: want some of %s, fixed:N", names[unknown], strings.Join(simulator.Policies, ", "))
	case setup.Slots < 1 || setup.Min < 0 || setup.Max < max(setup.Min, 1) || setup.Initial < 0 || *seeds < 1 || setup.Queue < 0:
		return c.wrong("--slots, --max and --seeds want 1 or more, --min, --initial and --queue 0 or more, and --max no less than --min")
	case setup.Start < 0 || setup.SLO < 0 || setup.Deadline < 0:
		return c.wrong("a time is not negative")
	case !(setup.Target > 0 && setup.Target <= 1) || !(setup.Headroom >= 0 && setup.Headroom < 1) || !(setup.Jitter >= 0 && setup.Jitter <= 1):
		return c.wrong("--target is above 0 and at most 1, --headroom 0 or more and below 1, --jitter from 0 to 1")
	}
	if err := traces.check(); err != nil {
		return c.wrong("%w", err)
	}
	trace, passed, err := traces.load(setup.Seed)
	if passed.Lines > 0 {
		c.say(fmt.Errorf("%d lines without a time were passed over, the first is line %d", passed.Lines, passed.First))
	}
	if err != nil {
		return c.failed(err)
	}
	result := newScaleResult(trace, traces.service, setup)
	for _, name := range names {
		if ctx.Err() != nil {
			return 1
		}
		r, err := simulator.Seeds(trace, traces.service, setup, name, *seeds)
		if err != nil {
			return c.failed(err)
		}
		result.Rows = append(result.Rows, r)
	}
	if *plot != "" {
		filled, err := traces.service.Fill(trace, setup.Seed)
		if err == nil {
			err = os.WriteFile(*plot, simulator.Plot(filled, result.Rows, setup.Slots), 0o644)
		}
		if err != nil {
			return c.failed(err)
		}
	}
	return c.report(result, true)
}

func newScaleResult(t simulator.Trace, svc simulator.Service, s simulator.Setup) scaleResult {
	r := scaleResult{Requests: len(t.Requests), LengthS: t.Length.Seconds(), Slots: s.Slots, StartS: s.Start.Seconds(), SLO: s.SLO.Seconds()}
	if filled, err := svc.Fill(t, s.Seed); err == nil {
		r.ServiceS = filled.Mean().Seconds()
	}
	if r.LengthS > 0 {
		r.Load = float64(r.Requests) * r.ServiceS / r.LengthS
	}
	return r
}

func (r scaleResult) print(w io.Writer) {
	fmt.Fprintf(w, "%d requests in %.0f s, service time %.3g s, load %.3g; %d slots a replica, start time %.3g s, SLO %.3g s\n\n",
		r.Requests, r.LengthS, r.ServiceS, r.Load, r.Slots, r.StartS, r.SLO)
	fmt.Fprintf(w, "%-10s %9s %9s %9s %10s %9s %16s %8s %6s %6s %6s\n", "policy", "wait p50", "p95", "p99", "beyond SLO", "rejected", "replica-seconds", "actions", "flips", "peak", "used")
	for _, p := range r.Rows {
		fmt.Fprintf(w, "%-10s %8.3gs %8.3gs %8.3gs %9.3f%% %9d %16.0f %8d %6d %6d %5.0f%%\n", p.Policy, p.WaitP50, p.WaitP95, p.WaitP99, 100*p.BeyondSLO, p.Rejected,
			p.ReplicaSeconds, p.Actions, p.Flips, p.Peak, 100*p.Utilisation)
		if s := p.Spread; s != nil {
			fmt.Fprintf(w, "%-10s %28s %4.3f…%.3f%% %10s %7.0f…%.0f %4d…%d\n", "", "", 100*s.BeyondSLO[0], 100*s.BeyondSLO[1], "", s.ReplicaSeconds[0], s.ReplicaSeconds[1], s.Actions[0], s.Actions[1])
		}
	}
}
