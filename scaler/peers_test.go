package scaler

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
)

// fakePeers is another gateway: what it has in flight and queued is added to the loop's own.
type fakePeers struct {
	u *balancer.Upstream

	mu            sync.Mutex // guards all below
	at            time.Time  // of the last Read
	queued        int
	queuedSeconds float64
	inFlight      int // on each server
	silent        bool
	leaving       map[string]bool
}

func (f *fakePeers) Read(now time.Time) (balancer.Reading, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.u.Read(now)
	r.Queued += f.queued
	if !f.at.IsZero() {
		f.queuedSeconds += float64(f.queued) * now.Sub(f.at).Seconds()
	}
	f.at = now
	r.QueuedSeconds += f.queuedSeconds
	return r, !f.silent
}

func (f *fakePeers) InFlight(string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inFlight
}

func (f *fakePeers) Leave(server string) { f.set(func() { f.leaving[server] = true }) }
func (f *fakePeers) Stay(server string)  { f.set(func() { delete(f.leaving, server) }) }

func (f *fakePeers) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakePeers) left() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.leaving)
}

// amongPeers is inBubble with a loop that has joined others, and follows one of them from the start or acts.
func amongPeers(t *testing.T, cfg Config, follows bool, test func(b *bench, p *fakePeers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := balancer.NewUpstream("demo", balancer.DefaultConfig())
		b := &bench{t: t, u: u, engine: &fakeEngine{u: u, startTime: 2 * time.Second, changed: make(chan struct{}, 1)}}
		p := &fakePeers{u: u, leaving: map[string]bool{}}
		b.loop = NewLoop(u, b.engine, cfg, NewBudget(0), slog.New(slog.NewTextHandler(&b.log, nil)))
		b.loop.Join(p)
		b.loop.Follow(follows)
		ctx, cancel := context.WithCancel(t.Context())
		b.ctx = ctx
		done := make(chan struct{})
		go func() { defer close(done); b.loop.Run(ctx) }()
		test(b, p)
		cancel()
		u.Close()
		<-done
		synctest.Wait()
	})
}

func TestLoopAmongPeers(t *testing.T) {
	cfg := demoConfig()
	cfg.CooldownDown, cfg.DrainTimeout = 5*time.Second, 20*time.Second
	amongPeers(t, cfg, false, func(b *bench, p *fakePeers) {
		b.until("up", 10*time.Second, ready(1))
		p.set(func() { p.queued = 24 })
		b.until("sized for the others' queue", 10*time.Second, ready(3))

		p.set(func() { p.queued, p.silent = 0, true })
		b.pass(30 * time.Second)
		if s := b.loop.Status(); s.Wanted != 3 || s.Code != "stale" {
			t.Errorf("scaled down to %d on half a measurement: %s", s.Wanted, s.Reason)
		}
		p.set(func() { p.queued = 32 })
		b.until("but up", 10*time.Second, ready(4))

		p.set(func() { p.queued, p.silent, p.inFlight = 0, false, 1 })
		b.until("drains are told", 30*time.Second, func(Status) bool { return p.left() == 3 })
		b.pass(10 * time.Second)
		if n := len(b.engine.now().stopped); n != 0 {
			t.Errorf("%d replicas stopped while another gateway has requests on them", n)
		}
		p.set(func() { p.inFlight = 0 })
		b.until("down", 5*time.Second, ready(1))
	})
}

// One that follows measures, lists and decides, but changes nothing; when it is to act it does so at once,
// and when it is not any more it gives back what it drains.
func TestFollow(t *testing.T) {
	cfg := demoConfig()
	cfg.CooldownDown = 5 * time.Second
	amongPeers(t, cfg, true, func(b *bench, p *fakePeers) {
		p.set(func() { p.queued = 24 })
		b.pass(20 * time.Second)
		s := b.loop.Status()
		if len(b.engine.now().replicas) != 0 || s.Wanted == 0 || !s.Follows || !strings.HasSuffix(s.Reason, "another gateway scales") || len(s.Decisions) != 0 {
			t.Errorf("%d replicas, status %+v", len(b.engine.now().replicas), s)
		}
		b.loop.Follow(false)
		b.until("three", 10*time.Second, ready(3))
		p.set(func() { p.queued, p.inFlight = 0, 1 })
		b.until("drains", 20*time.Second, func(Status) bool { return p.left() == 2 })
		b.loop.Follow(true)
		b.pass(time.Second)
		if b.u.Read(time.Now()).Draining != 0 || p.left() != 0 {
			t.Errorf("%d drain after another has taken over, %d were told to", b.u.Read(time.Now()).Draining, p.left())
		}
		p.set(func() { p.inFlight = 0 })
		b.pass(20 * time.Second)
		if n := len(b.engine.now().stopped); n != 0 {
			t.Errorf("%d stopped by one that follows", n)
		}
	})
}
