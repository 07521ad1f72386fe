package process

import (
	"context"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

// The whole circle with real processes: load brings replicas, one that is killed is replaced, and they go
// when the load does, without a request that fails but for those the killed one had.
func TestLoopOverProcesses(t *testing.T) {
	d, log := newDriver(t, config("", time.Second))
	conf := balancer.DefaultConfig()
	conf.MaxConns = 2
	u := balancer.NewUpstream("demo", conf)
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer all.Wait()
	defer u.Close()
	defer cancel()

	// Discovery: the driver's list, probed by dialling.
	out := make(chan []balancer.ServerSpec)
	all.Go(func() { _ = d.Run(ctx, out) })
	all.Go(func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case specs := <-out:
				u.Update(specs, time.Now())
			case <-tick.C:
				for _, s := range u.Servers() {
					c, err := net.Dial("tcp", s.Addr())
					if err == nil {
						c.Close()
					}
					s.Probe(err, 1, 2, time.Now())
				}
			}
		}
	})
	var cfg scaler.Config
	cfg.SetDefaults()
	cfg.Max, cfg.QueuedPerReplica, cfg.CooldownDown, cfg.DrainTimeout = 3, 2, time.Second, 5*time.Second
	loop := scaler.NewLoop(u, d, cfg, nil, d.log)
	all.Go(func() { loop.Run(ctx) })

	until := func(what string, ok func(scaler.Status) bool) {
		t.Helper()
		for from := time.Now(); !ok(loop.Status()); time.Sleep(20 * time.Millisecond) {
			if time.Since(from) > 10*time.Second {
				t.Fatalf("never %s: %+v\n%s", what, loop.Status(), log.all())
			}
		}
	}
	var lost atomic.Int64
	var killed atomic.Value // the ID of the one whose requests may fail
	killed.Store("")
	loaded, unload := context.WithCancel(ctx)
	var clients sync.WaitGroup
	defer clients.Wait()
	defer unload()
	for range 12 {
		clients.Go(func() {
			for loaded.Err() == nil {
				var ticket balancer.Ticket
				if u.Acquire(&ticket, time.Now()) != nil {
					lost.Add(1)
					return
				}
				addr, ok := ticket.Server().Addr(), false
				if c, err := net.Dial("tcp", addr); err == nil {
					b, _ := io.ReadAll(c)
					_, err = strconv.Atoi(string(b))
					ok = err == nil
					c.Close()
				}
				if !ok && ticket.Server().ID() != killed.Load() {
					lost.Add(1)
				}
				time.Sleep(50 * time.Millisecond)
				u.Release(&ticket, balancer.Outcome{Status: 200, Failed: !ok}, time.Now())
			}
		})
	}
	until("three", func(s scaler.Status) bool { return s.Ready == 3 })
	if n := lost.Load(); n > 0 {
		t.Errorf("%d requests failed on the way up", n)
	}

	list, _ := d.List(ctx)
	victim := list[0].ID
	killed.Store(victim)
	_ = syscall.Kill(pidOf(t, victim), syscall.SIGKILL)
	until("replaced", func(s scaler.Status) bool { return s.Ready == 3 && u.Server(victim) == nil })

	unload()
	clients.Wait()
	until("one", func(s scaler.Status) bool { return s.Ready == 1 && s.Wanted == 1 && s.Draining == 0 })
	if n := lost.Load(); n > 0 {
		t.Errorf("%d requests failed", n)
	}
	if s := loop.Status(); s.StartSeconds.Count < 3 || s.Errors != 0 {
		t.Errorf("status %+v", s)
	}
}
