package main

import (
	"context"
	"io"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

func runSoak(t *testing.T, target *target, faults ...string) soakResult {
	t.Helper()
	r, err := soak(context.Background(), target, soakPlan{duration: 1500 * time.Millisecond, every: 100 * time.Millisecond, faults: faults, workers: 16, seed: 3}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Problems) > 0 {
		t.Fatalf("problems: %v", r.Problems)
	}
	return r
}

func TestSoakSeesWhatFasthttpsShutdownLoses(t *testing.T) {
	t.Parallel()
	target, err := startControl(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	r := runSoak(t, target, "shutdown")
	if r.clean() || r.Lost == 0 || r.Faults["shutdown"] < 5 {
		t.Errorf("the control passed: %+v", r)
	}
}

func TestSoakWithoutFaultsIsClean(t *testing.T) {
	t.Parallel()
	target, err := startControl(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	if r := runSoak(t, target); !r.clean() || r.Succeeded < 100 {
		t.Errorf("not clean: %+v", r)
	}
}

// Each way to answer wrongly must be found out.
func TestSoakFindsBrokenServers(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(ctx *fasthttp.RequestCtx)
		found func(soakResult) bool
	}{
		"another id":   {func(ctx *fasthttp.RequestCtx) { ctx.Response.Header.Set("X-Ledger-Id", "other-1") }, func(r soakResult) bool { return r.Crossed > 0 }},
		"another body": {func(ctx *fasthttp.RequestCtx) { ctx.Response.AppendBodyString("x") }, func(r soakResult) bool { return r.Crossed > 0 }},
		"an error":     {func(ctx *fasthttp.RequestCtx) { ctx.Response.SetStatusCode(500) }, func(r soakResult) bool { return r.Lost > 0 }},
		"a refusal after delivery": {func(ctx *fasthttp.RequestCtx) {
			ctx.Response.SetStatusCode(503)
			ctx.Response.Header.Set("X-Sluice-Reason", "queue_full")
		}, func(r soakResult) bool { return r.RefusedDelivered > 0 }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			broken := &control{addr: "127.0.0.1:0"}
			broken.handler = func(ctx *fasthttp.RequestCtx) {
				broken.handle(ctx)
				c.spoil(ctx)
			}
			target, err := broken.target(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			if r := runSoak(t, target); r.clean() || !c.found(r) {
				t.Errorf("not found: %+v", r)
			}
		})
	}
}
