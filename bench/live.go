package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/bench/simulator"
)

// The bounds of a live run: it is to be over before anybody gives up on it, on a machine of two cores.
const (
	liveLongest  = 10 * time.Minute
	liveRequests = 60_000
	liveReplicas = 60 // of all variants that are fixed, and the most of the one that scales
	liveSeeds    = 20
)

// traceJitter is how much earlier or later a request of a recorded trace comes when it is repeated.
const traceJitter = time.Second

func liveCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("live", "--trace FILE | --access-log FILE | --synthetic KIND [flags]", stdout, stderr)
	var setup simulator.Setup
	traces := c.traceFlags(1, time.Hour, ", before it is sped up")
	seeds := c.setupFlags(&setup, 2*time.Second, 20)
	driver := c.String("driver", "process", "what the replicas are: `process`, or docker (containers of an image built for the run)")
	speed := c.Float64("speed", 20, "how many `times` as fast: distances and service times are divided; start time and the gateway's own times are not")
	fixed := c.String("fixed", "", "besides scaling, these fixed numbers of `replicas`, separated by commas")
	mean := c.Bool("mean", false, "besides scaling, as many replicas as the mean load needs")
	peak := c.Bool("peak", false, "besides scaling, as many replicas as the load needs 99 % of the time; with none of --fixed, --mean and --peak both of the latter")
	c.IntVar(&setup.InFlight, "in-flight", 0, "scaling: in_flight_per_replica instead of the law; 0 is the law")
	c.DurationVar(&setup.Cooldown, "cooldown-down", 0, "scaling: cooldown_down; 0 is its default")
	if code, ok := c.parse(args); !ok {
		return code
	}
	switch {
	case c.NArg() > 0:
		return c.wrong("want no arguments, got %q", c.Args())
	case *driver != "process" && *driver != "docker":
		return c.wrong("--driver %q: want process or docker", *driver)
	case !(*speed > 0 && *speed <= 1e4):
		return c.wrong("--speed is above 0 and at most 10000")
	case setup.Slots < 1 || setup.Min < 1 || setup.Max < setup.Min || setup.Max > liveReplicas || setup.InFlight < 0:
		return c.wrong("--slots and --min want 1 or more, --in-flight 0 or more, --max no less than --min and at most %d", liveReplicas)
	case setup.Start < 0 || setup.Start > time.Minute || setup.Cooldown < 0:
		return c.wrong("a time is not negative, and --start at most a minute")
	case !(setup.Headroom >= 0 && setup.Headroom < 1):
		return c.wrong("--headroom is 0 or more and below 1")
	case *seeds < 1 || *seeds > liveSeeds:
		return c.wrong("--seeds is 1 or more and at most %d", liveSeeds)
	}
	if err := traces.check(); err != nil {
		return c.wrong("%w", err)
	}
	setup.Initial, setup.Jitter, setup.SLO = setup.Min, .1, time.Second
	r := &liveResult{Driver: *driver, Speed: *speed, Slots: setup.Slots, StartS: setup.Start.Seconds(), Problems: []string{}}
	for i := range uint64(*seeds) {
		one := setup
		one.Seed += i
		trace, err := liveTrace(traces, one.Seed, i > 0, *speed)
		if err != nil {
			return c.failed(err)
		}
		switch {
		case len(trace.Requests) == 0 || trace.Length < 2*time.Second:
			return c.wrong("the trace is shorter than 2s: lower --speed")
		case trace.Length > liveLongest || len(trace.Requests) > liveRequests:
			return c.wrong("%d requests in %v: at most %d in %v; raise --speed or take a --part", len(trace.Requests), trace.Length.Round(time.Second), liveRequests, liveLongest)
		}
		r.Runs = append(r.Runs, newLiveRun(trace, one))
	}
	for _, run := range r.Runs {
		r.Load += run.Load / float64(len(r.Runs))
		r.PeakLoad += run.PeakLoad / float64(len(r.Runs))
	}

	sizes := []int{0} // 0 scales
	add := func(n int) string {
		sizes = append(sizes, n)
		return fmt.Sprintf("fixed:%d", n)
	}
	if *fixed == "" && !*mean && !*peak {
		*mean, *peak = true, true
	}
	if *mean {
		r.AtMean = add(replicasFor(r.Load, setup.Slots))
	}
	if *peak {
		r.AtPeak = add(replicasFor(r.PeakLoad, setup.Slots))
	}
	if *fixed != "" {
		for text := range strings.SplitSeq(*fixed, ",") {
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return c.wrong("--fixed %q: want numbers of replicas, separated by commas", *fixed)
			}
			add(n)
		}
	}
	slices.Sort(sizes)
	sizes = slices.Compact(sizes)
	sum := 0
	for _, n := range sizes {
		sum += n
	}
	if sum > liveReplicas {
		return c.wrong("%d fixed replicas: at most %d; raise --slots", sum, liveReplicas)
	}
	if err := r.run(ctx, sizes, stderr); err != nil {
		return c.failed(err)
	}
	return c.report(r, len(r.Problems) == 0)
}

// liveTrace is the trace of one seed, sped up. A synthetic one is made anew for each; another one is turned.
func liveTrace(f *traceFlags, seed uint64, again bool, speed float64) (simulator.Trace, error) {
	trace, _, err := f.load(seed)
	if err != nil {
		return trace, err
	}
	if again && f.synthetic == "" {
		trace = trace.Turned(traceJitter, seed)
	}
	if trace, err = f.service.Fill(trace, seed); err != nil {
		return trace, err
	}
	return speedUp(trace, speed), nil
}

// replicasFor is how many replicas a load occupies.
func replicasFor(load float64, slots int) int { return max(int(math.Ceil(load/float64(slots))), 1) }

func newLiveRun(t simulator.Trace, s simulator.Setup) *liveRun {
	const step = 100 * time.Millisecond
	load := offered(t, step)
	from := busiest(load, step, t.Length/10)
	p := livePlan{trace: t, setup: s, peakFrom: from, peakTo: from + t.Length/10}
	r := &liveRun{
		Seed: s.Seed, Requests: len(t.Requests), LengthS: t.Length.Seconds(), ServiceS: t.Mean().Seconds(),
		PeakFromS: p.peakFrom.Seconds(), PeakToS: p.peakTo.Seconds(), plan: p,
	}
	for _, v := range load {
		r.Load += v / float64(len(load))
	}
	slices.Sort(load)
	r.PeakLoad = load[len(load)*99/100]
	return r
}

// run does all runs, one after the other, and sums them up.
func (r *liveResult) run(ctx context.Context, sizes []int, screen io.Writer) error {
	w, err := newWorkshop()
	if err != nil {
		return err
	}
	defer w.close()
	if err := w.build(ctx, screen); err != nil {
		return err
	}
	place := livePlace{workshop: w}
	if r.Driver == "docker" {
		if place.image, err = buildImage(ctx, w.binary); err != nil {
			return err
		}
		defer func() {
			if err := removeImage(place.image); err != nil {
				r.Problems = append(r.Problems, err.Error())
			}
		}()
	}
	for i, run := range r.Runs {
		if err := run.run(ctx, place, sizes, screen); err != nil {
			return err
		}
		r.Interrupted = r.Interrupted || ctx.Err() != nil
		r.Problems = append(r.Problems, run.problems...)
		if ctx.Err() != nil {
			r.Problems = append(r.Problems, "interrupted")
			r.Runs = r.Runs[:i+1]
			break
		}
	}
	r.sumUp()
	return nil
}

// run drives all variants at the same time: what the machine does to one it does to all.
func (r *liveRun) run(ctx context.Context, place livePlace, sizes []int, screen io.Writer) (err error) {
	variants := make([]*liveVariant, len(sizes))
	for i, n := range sizes {
		variants[i] = newLiveVariant(r.plan, n)
	}
	fmt.Fprintf(screen, "starting %d gateways …\n", len(variants))
	defer func() {
		for _, v := range variants {
			if e := v.stop(); e != nil {
				r.problems = append(r.problems, v.policy+": "+e.Error())
			}
		}
	}()
	for _, v := range variants {
		if err := v.start(ctx, place); err != nil {
			return err
		}
	}
	fmt.Fprintf(screen, "replaying %d requests over %.0f s …\n", r.Requests, r.LengthS)
	r.Rows = make([]liveRow, len(variants))
	begin := time.Now().Add(time.Second)
	var wg sync.WaitGroup
	for i, v := range variants {
		wg.Go(func() { r.Rows[i] = v.run(ctx, begin) })
	}
	wg.Wait()
	for i, v := range variants {
		if r.Rows[i].Simulated, err = simulator.Run(v.plan.trace, v.plan.setup, v.policy); err != nil {
			return err
		}
	}
	r.judge()
	return nil
}
