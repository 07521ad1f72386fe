package scaler

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
)

// bench is a loop over a fake engine in a bubble.
type bench struct {
	t      *testing.T
	engine *fakeEngine
	loop   *Loop
	u      *balancer.Upstream
	log    bytes.Buffer
	ctx    context.Context
	failed int // requests
	mu     sync.Mutex
}

func demoConfig() Config {
	var c Config
	c.SetDefaults()
	c.Max, c.QueuedPerReplica, c.StartTime = 6, 8, 2*time.Second
	return c
}

// inBubble runs test with a loop over it; everything ends with it.
func inBubble(t *testing.T, cfg Config, prepare func(*fakeEngine), test func(b *bench)) {
	t.Helper()
	inBubbleWith(t, cfg, func(f *fakeEngine) Driver {
		if prepare != nil {
			prepare(f)
		}
		return f
	}, test)
}

// inBubbleWith is inBubble over what the test makes of the engine.
func inBubbleWith(t *testing.T, cfg Config, driver func(*fakeEngine) Driver, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		conf := balancer.DefaultConfig()
		conf.MaxConns = 4
		u := balancer.NewUpstream("demo", conf)
		b := &bench{t: t, u: u, engine: &fakeEngine{u: u, startTime: 2 * time.Second, changed: make(chan struct{}, 1)}}
		b.loop = NewLoop(u, driver(b.engine), cfg, NewBudget(0), slog.New(slog.NewTextHandler(&b.log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		b.ctx = ctx
		done := make(chan struct{})
		go func() { defer close(done); b.loop.Run(ctx) }()
		test(b)
		cancel()
		u.Close()
		<-done
		synctest.Wait()
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
}

// pass lets time go by and everything settle.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// until lets seconds pass until ok.
func (b *bench) until(what string, within time.Duration, ok func(Status) bool) time.Duration {
	b.t.Helper()
	for from := time.Now(); ; b.pass(100 * time.Millisecond) {
		s := b.loop.Status()
		if ok(s) {
			return time.Since(from)
		}
		if time.Since(from) > within {
			b.t.Fatalf("not %s within %s: %+v\n%s", what, within, s, b.log.String())
		}
	}
}

// clients send one request after the other until stop is called.
func (b *bench) clients(n int, service time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				var t balancer.Ticket
				if err := b.u.Acquire(&t, time.Now()); err != nil {
					if ctx.Err() == nil {
						b.mu.Lock()
						b.failed++
						b.mu.Unlock()
					}
					return
				}
				time.Sleep(service)
				b.u.Release(&t, balancer.Outcome{Status: 200}, time.Now())
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// stream holds a slot until end is called.
func (b *bench) stream() (server *balancer.Server, end func()) {
	b.t.Helper()
	t := new(balancer.Ticket)
	if err := b.u.Acquire(t, time.Now()); err != nil {
		b.t.Fatal(err)
	}
	return t.Server(), func() { b.u.Release(t, balancer.Outcome{Status: 200}, time.Now()) }
}

func ready(n int) func(Status) bool { return func(s Status) bool { return s.Ready == n } }

func (b *bench) events(kind string) (all []Event) {
	for _, e := range b.loop.Recent() {
		if e.Kind == kind {
			all = append(all, e)
		}
	}
	return all
}
