package main

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// generator sends one message over and over and tallies what becomes of it.
type generator struct {
	client  *client
	message message
	tally   *tally
	workers int // requests under way at most
}

// open sends on schedule, whatever the server does. Latency counts from when a request was due, so a server that
// stalls is charged for the requests that had to wait for it too (no coordinated omission). Requests that are due
// while all workers wait are sent late; those not sent when stop ends, or a whole timeout after the last was due,
// are returned as unsent.
func (g *generator) open(ctx context.Context, s *schedule) (unsent int64) {
	begin := time.Now()
	end := begin.Add(s.shape.length() + g.client.timeout)
	var late atomic.Int64
	g.each(func(resp *fasthttp.Response) bool {
		due, ok := s.next()
		if !ok {
			return false
		}
		at := begin.Add(due)
		if !sleepUntil(ctx, at) {
			return false
		}
		if time.Now().After(end) {
			late.Add(1)
			return false
		}
		g.send(at, resp)
		return true
	})
	if ctx.Err() != nil {
		return 0 // interrupted: what was not due yet was not promised
	}
	return late.Load() + s.left()
}

// closed keeps every worker at one request after the other for d: it measures how fast the server can go, and
// waits for a slow one.
func (g *generator) closed(ctx context.Context, d time.Duration) {
	end := time.Now().Add(d)
	g.each(func(resp *fasthttp.Response) bool {
		now := time.Now()
		if ctx.Err() != nil || !now.Before(end) {
			return false
		}
		g.send(now, resp)
		return true
	})
}

// each runs step in every worker until it returns false there.
func (g *generator) each(step func(*fasthttp.Response) bool) {
	var wg sync.WaitGroup
	for range g.workers {
		wg.Go(func() {
			resp := fasthttp.AcquireResponse()
			defer fasthttp.ReleaseResponse(resp)
			for step(resp) {
			}
		})
	}
	wg.Wait()
}

func (g *generator) send(at time.Time, resp *fasthttp.Response) {
	n, err := g.client.do(g.message, resp, io.Discard)
	g.tally.add(newOutcome(resp, n, err, time.Since(at)))
}

func newOutcome(resp *fasthttp.Response, n int64, err error, latency time.Duration) outcome {
	o := outcome{bytes: n, latency: latency}
	if err != nil {
		e := err.(*exchangeError)
		o.failure, o.timeout = e.kind(), e.timeout()
		return o
	}
	o.status = resp.StatusCode()
	o.reason = string(resp.Header.Peek("X-Sluice-Reason"))
	return o
}

// sleepUntil returns false when ctx ended first.
func sleepUntil(ctx context.Context, at time.Time) bool {
	d := time.Until(at)
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
