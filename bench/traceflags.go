package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/bench/simulator"
)

// traceFlags say which trace to take and how long its requests are served.
type traceFlags struct {
	file, accessLog, synthetic, part string

	rate    float64
	length  time.Duration
	service simulator.Service
	tokens  simulator.Tokens
}

// traceFlags adds the flags; rate and length are the defaults of a synthetic trace, and note says what is done with it.
func (c *command) traceFlags(rate float64, length time.Duration, note string) *traceFlags {
	t := &traceFlags{tokens: simulator.DefaultTokens}
	c.StringVar(&t.file, "trace", "", "`file` with timestamp_seconds,service_seconds a line, requests per second a line, an Azure LLM trace (CSV) or a Mooncake trace (jsonl)")
	c.StringVar(&t.accessLog, "access-log", "", "`file` in nginx's combined format, with the request time (rt=, request_time= or a last number) where it is known, or in sluice's JSON")
	c.StringVar(&t.synthetic, "synthetic", "", "make the trace: `kind` "+strings.Join(simulator.Kinds, ", "))
	c.Float64Var(&t.rate, "rate", rate, "synthetic: mean requests a second"+note)
	c.DurationVar(&t.length, "length", length, "synthetic: length"+note)
	c.StringVar(&t.part, "part", "", "only the part `FROM:TO` of the trace, as shares of its length")
	c.DurationVar(&t.service.Mean, "service", 0, "mean service time where the trace knows none (default 1s); rescales it where it does"+note)
	c.StringVar(&t.service.Distribution, "distribution", "exp", "of service times where the trace knows none: "+strings.Join(simulator.Distributions, ", "))
	c.DurationVar(&t.tokens.Prompt, "prompt-token", t.tokens.Prompt, "LLM traces: service time per token read"+note)
	c.DurationVar(&t.tokens.Output, "output-token", t.tokens.Output, "LLM traces: service time per token written"+note)
	return t
}

// setupFlags are what a simulated and a real fleet have in common; start and most are the defaults. seeds is how many
// times everything is done, each time with the next seed.
func (c *command) setupFlags(setup *simulator.Setup, start time.Duration, most int) (seeds *int) {
	c.IntVar(&setup.Slots, "slots", 4, "requests a replica takes at once")
	c.DurationVar(&setup.Start, "start", start, "start time of a replica")
	c.IntVar(&setup.Min, "min", 1, "least replicas")
	c.IntVar(&setup.Max, "max", most, "most replicas")
	c.Float64Var(&setup.Headroom, "headroom", 0, "the law's headroom; 0 is its default")
	c.Uint64Var(&setup.Seed, "seed", 1, "of everything random")
	return c.Int("seeds", 1, "repeat with that `number` of seeds, from --seed on, and print means or medians, with the spread")
}

// check says what is wrong with the flags; nil is nothing.
func (t *traceFlags) check() error {
	sources := 0
	for _, s := range []string{t.file, t.accessLog, t.synthetic} {
		if s != "" {
			sources++
		}
	}
	from, to := t.shares()
	switch {
	case sources != 1:
		return errors.New("want one of --trace, --access-log and --synthetic")
	case !slices.Contains(simulator.Distributions, t.service.Distribution):
		return fmt.Errorf("no distribution %q: want one of %s", t.service.Distribution, strings.Join(simulator.Distributions, ", "))
	case t.service.Mean < 0 || t.tokens.Prompt < 0 || t.tokens.Output < 0:
		return errors.New("a time is not negative")
	case !(from >= 0 && from < to && to <= 1):
		return fmt.Errorf("--part %q: want FROM:TO, shares from 0 to 1", t.part)
	}
	return nil
}

// shares are the ends of the part; -1 when they cannot be read.
func (t *traceFlags) shares() (from, to float64) {
	if t.part == "" {
		return 0, 1
	}
	if n, err := fmt.Sscanf(t.part, "%g:%g", &from, &to); n != 2 || err != nil {
		return -1, -1
	}
	return from, to
}

// load reads or makes the trace, its service times still unknown where it knows none. passed is how many lines of an
// access log have no time.
func (t *traceFlags) load(seed uint64) (trace simulator.Trace, passed simulator.Passed, err error) {
	switch {
	case t.file != "":
		trace, err = simulator.LoadFile(t.file, t.tokens, seed)
	case t.accessLog != "":
		trace, passed, err = simulator.AccessLogFile(t.accessLog, seed)
	default:
		trace, err = simulator.Synthetic(t.synthetic, t.rate, t.length, seed)
	}
	if err != nil {
		return trace, passed, err
	}
	if t.part != "" {
		trace = trace.Part(t.shares())
	}
	if len(trace.Requests) == 0 {
		err = errors.New("no request in this part")
	}
	return trace, passed, err
}
