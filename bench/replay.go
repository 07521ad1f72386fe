package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/bench/simulator"
)

// answer is what became of one request of a trace.
type answer struct {
	// wait is how much longer than its service time the request took, from when it was due; never negative.
	wait    time.Duration
	outcome outcome
}

// speedUp is the trace x times as fast: distances and service times are divided.
func speedUp(t simulator.Trace, x float64) simulator.Trace {
	fast := simulator.Trace{Requests: make([]simulator.Request, len(t.Requests)), Length: time.Duration(float64(t.Length) / x)}
	for i, q := range t.Requests {
		fast.Requests[i] = simulator.Request{At: time.Duration(float64(q.At) / x), Service: max(time.Duration(float64(q.Service)/x), time.Microsecond)}
	}
	return fast
}

// replay sends every request of t when it is due after begin, whatever became of those before it, and tells the backend
// how long to work on it. The result is in the trace's order. It returns when all are answered, or early, with those
// that were sent, when ctx ends.
func replay(ctx context.Context, c *client, t simulator.Trace, begin time.Time) []answer {
	answers := make([]answer, len(t.Requests))
	var wg sync.WaitGroup
	sent := 0
	for i, q := range t.Requests {
		due := begin.Add(q.At)
		if !sleepUntil(ctx, due) {
			break
		}
		sent++
		wg.Go(func() {
			resp := fasthttp.AcquireResponse()
			defer fasthttp.ReleaseResponse(resp)
			n, err := c.do(c.newMessageTo(fmt.Sprintf("/?work=%dus", q.Service.Microseconds()), "GET", 0, nil), resp, io.Discard)
			took := time.Since(due)
			answers[i] = answer{max(took-q.Service, 0), newOutcome(resp, n, err, took)}
		})
	}
	wg.Wait()
	return answers[:sent]
}

// offered is the load of a trace in requests in service if none had to wait, as the mean of every step.
func offered(t simulator.Trace, step time.Duration) []float64 {
	load := make([]float64, int(t.Length/step)+1)
	for _, q := range t.Requests {
		for from, end := q.At, q.At+q.Service; from < end; {
			i := int(from / step)
			if i >= len(load) {
				break
			}
			to := min(end, time.Duration(i+1)*step)
			load[i] += (to - from).Seconds() / step.Seconds()
			from = to
		}
	}
	return load
}

// busiest is the beginning of the window of that length in which a trace offers the most load, to the step.
func busiest(load []float64, step, window time.Duration) time.Duration {
	n := min(max(int(window/step), 1), len(load))
	sum := 0.0
	for _, v := range load[:n] {
		sum += v
	}
	best, at := sum, 0
	for i := n; i < len(load); i++ {
		if sum += load[i] - load[i-n]; sum > best {
			best, at = sum, i-n+1
		}
	}
	return time.Duration(at) * step
}
