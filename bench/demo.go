package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"time"

	"github.com/valyala/fasthttp"
)

// demoResult is the ledger at the end of a demo.
type demoResult struct {
	Sent          int64            `json:"sent"`
	Succeeded     int64            `json:"succeeded"`
	Refused       int64            `json:"refused"`
	Reasons       map[string]int64 `json:"reasons"`
	Lost          int64            `json:"lost"` // every other answer, and errors
	Errors        map[string]int64 `json:"errors"`
	Status        map[string]int64 `json:"status"`
	ReplicasStart int              `json:"replicas_start"`
	ReplicasPeak  int              `json:"replicas_peak"` // most that were ready
	ReplicasEnd   int              `json:"replicas_end"`
	P50           float64          `json:"p50_ms"`
	P99           float64          `json:"p99_ms"`
	PeakRate      float64          `json:"peak_rate"`
	DurationS     float64          `json:"duration_s"`
	Interrupted   bool             `json:"interrupted"`
	Problems      []string         `json:"problems"` // why the exit code is 1
	Samples       []sample         `json:"samples"`
}

func demoCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("demo", "[flags]", stdout, stderr)
	duration := c.Duration("duration", time.Minute, "how long the load goes up and down; it goes on, low, for up to a minute more until replicas were stopped")
	configFile := c.String("config", "", "`file` to start sluice with (default config.toml of the module)")
	if code, ok := c.parse(args); !ok {
		return code
	}
	if c.NArg() > 0 || *duration < 10*time.Second {
		return c.wrong("want no arguments, and a duration of 10s or more")
	}
	r, err := demo(ctx, *configFile, *duration, c.screen())
	if err != nil {
		return c.failed(err)
	}
	return c.report(r, len(r.Problems) == 0)
}

// demo builds and starts sluice, drives the load, stops sluice. An error is one that left nothing to report.
func demo(ctx context.Context, configFile string, d time.Duration, screen io.Writer) (r demoResult, err error) {
	root, err := moduleRoot()
	if err != nil {
		return r, err
	}
	if configFile == "" {
		configFile = filepath.Join(root, "config.toml")
	}
	s, err := readSettings(configFile)
	if err != nil {
		return r, err
	}
	if err := s.free(); err != nil {
		return r, fmt.Errorf("%w\nstop what listens there, or give another file with --config", err)
	}
	w, err := newWorkshop()
	if err != nil {
		return r, err
	}
	defer w.close()
	if err := w.build(ctx, screen); err != nil {
		return r, err
	}
	fmt.Fprintf(screen, "starting sluice with %s …\n", configFile)
	g, err := w.launch(ctx, configFile, s)
	if err != nil {
		return r, err
	}
	stopped := false
	defer func() {
		if !stopped {
			err = errors.Join(err, g.stop(stopGrace))
		}
	}()
	if r, err = drive(ctx, g, s, d, screen); err != nil {
		return r, err
	}
	fmt.Fprintln(screen, "stopping sluice …")
	stopped = true
	if err := g.stop(40 * time.Second); err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	return r, nil
}

// drive sends a load that goes up and down to a running sluice and watches it.
func drive(ctx context.Context, g *gateway, s settings, d time.Duration, screen io.Writer) (demoResult, error) {
	c, err := newClient(s.url, time.Minute)
	if err != nil {
		return demoResult{}, err
	}
	defer c.close()
	one, err := capacity(ctx, c, s.maxConns)
	if err != nil {
		return demoResult{}, fmt.Errorf("%w\n%s", err, g.tail())
	}
	wave := demoShape(d, one, s.max)
	first, err := g.status(ctx, s.upstream)
	if err != nil {
		return demoResult{}, err
	}
	r := demoResult{ReplicasStart: first.replicas(), ReplicasPeak: first.Ready, PeakRate: wave.rate(d / 2), Problems: []string{}}
	fmt.Fprintf(screen, "one replica answers about %.0f requests a second; the load goes up to %.0f/s\n\n", one, r.PeakRate)

	gen := &generator{client: c, message: c.newMessage("GET", 0, nil), tally: newTally(), workers: 2000}
	begin := time.Now()
	sent := make(chan int64, 1)
	go func() { sent <- gen.open(ctx, &schedule{shape: wave}) }()
	board := newDashboard(screen, "sluice "+s.url, s.max, d)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	var unsent int64
	var last sample
	for running := true; running; {
		select {
		case n := <-sent:
			unsent += n
			// Scaling down is slow by design; wait for it with a little load, but not for ever.
			fell := last.Wanted < r.ReplicasPeak
			if running = !fell && r.ReplicasPeak > r.ReplicasStart && time.Since(begin) < d+time.Minute && ctx.Err() == nil; running {
				low := wave[len(wave)-1].to
				go func() { sent <- gen.open(ctx, &schedule{shape: shape{{2 * time.Second, low, low}}}) }()
			}
		case now := <-tick.C:
			u, err := g.status(ctx, s.upstream)
			if err != nil && ctx.Err() == nil {
				r.Problems = append(r.Problems, err.Error())
			}
			next := newSample(now.Sub(begin), u, gen.tally, last)
			if err != nil {
				next.Wanted, next.Ready = last.Wanted, last.Ready
			}
			r.ReplicasPeak = max(r.ReplicasPeak, next.Ready)
			r.Samples = append(r.Samples, next)
			board.add(next)
			last = next
		}
	}
	if u, err := g.status(context.WithoutCancel(ctx), s.upstream); err == nil {
		r.ReplicasEnd = u.Ready
	}
	r.Interrupted = ctx.Err() != nil
	r.close(newLoadResult(gen.tally, time.Since(begin)), unsent)
	return r, nil
}

func newSample(at time.Duration, u upstreamStatus, t *tally, last sample) sample {
	c, p99 := t.look()
	s := sample{
		At: at.Seconds(), InFlight: u.InFlight, Queue: u.Queue, Wanted: u.Wanted, Ready: u.Ready, Starting: u.Starting, Draining: u.Draining,
		P99: p99, P99MS: milliseconds(p99), OK: c.ok, Refused: c.refused, Lost: c.failed, Reason: u.Reason,
	}
	s.Rate = float64(c.sent-last.OK-last.Refused-last.Lost) / (s.At - last.At)
	return s
}

// capacity measures how many requests per second one replica answers: slots over the median time of a request.
func capacity(ctx context.Context, c *client, slots int) (float64, error) {
	if slots <= 0 {
		slots = 4 // what demo-backend works on at a time unless told otherwise
	}
	m := c.newMessage("GET", 0, nil)
	var resp fasthttp.Response
	var times []time.Duration
	for range 5 {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		begin := time.Now()
		if _, err := c.do(m, &resp, io.Discard); err != nil {
			return 0, fmt.Errorf("the first requests failed: %w", err)
		}
		if resp.StatusCode() != 200 {
			return 0, fmt.Errorf("the first requests were answered %d %s", resp.StatusCode(), resp.Header.Peek("X-Sluice-Reason"))
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	return min(float64(slots)/times[len(times)/2].Seconds(), 500), nil
}

// demoShape is a load that one replica carries easily, then most of what the highest number of replicas can
// carry, and then little again.
func demoShape(d time.Duration, one float64, most int) shape {
	low, high := 0.3*one, 0.75*one*float64(most)
	return shape{{d * 10 / 100, low, low}, {d * 15 / 100, low, high}, {d * 27 / 100, high, high}, {d * 8 / 100, high, low}, {d * 40 / 100, low, low}}
}

// close completes the ledger and lists what is wrong with it.
func (r *demoResult) close(l loadResult, unsent int64) {
	r.Sent, r.Succeeded, r.Refused, r.Lost = l.Sent, l.OK, l.Refused, l.Failed
	r.Reasons, r.Errors, r.Status = l.Reasons, l.Errors, l.Status
	r.P50, r.P99, r.DurationS = l.P50, l.P99, l.DurationS
	problem := func(wrong bool, format string, v ...any) {
		if wrong {
			r.Problems = append(r.Problems, fmt.Sprintf(format, v...))
		}
	}
	problem(r.Interrupted, "interrupted")
	problem(r.Sent == 0 || r.Succeeded == 0, "no request succeeded")
	problem(r.Lost > 0, "%d requests were lost", r.Lost)
	problem(r.Sent != r.Succeeded+r.Refused+r.Lost, "the ledger does not add up")
	problem(unsent > 0, "%d requests could not be sent: every connection was waiting", unsent)
	problem(r.ReplicasPeak <= r.ReplicasStart && !r.Interrupted, "sluice never scaled up")
	problem(r.ReplicasPeak > r.ReplicasStart && !r.Interrupted && r.ReplicasEnd >= r.ReplicasPeak, "sluice never scaled down")
}

func (r demoResult) print(w io.Writer) {
	fmt.Fprintf(w, "\nledger\n  sent       %d\n  succeeded  %d\n  refused    %d%s\n  lost       %d%s\n", r.Sent, r.Succeeded, r.Refused, list(r.Reasons), r.Lost, list(r.Errors))
	fmt.Fprintf(w, "  replicas   %d at the start, %d at the peak, %d at the end\n", r.ReplicasStart, r.ReplicasPeak, r.ReplicasEnd)
	fmt.Fprintf(w, "  latency    p50 %.0f ms, p99 %.0f ms\n", r.P50, r.P99)
	for _, p := range r.Problems {
		fmt.Fprintf(w, "  WRONG      %s\n", p)
	}
}
