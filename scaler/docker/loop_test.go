package docker

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/balancer"
	"sluice/scaler"
)

// TestUnderTheLoop lets the scaler's loop drive the driver: replicas that are removed, or that die, are
// replaced, a changed declaration rolls through without ever being below what is wanted, and what an earlier
// gateway left half done is finished.
func TestUnderTheLoop(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Max = 3
	d := b.driver(o)

	// An earlier gateway was cut off: one replica created and not started, one ended.
	b.scale(d, 2)
	left := b.list(d)
	if err := b.cli.ContainerKill(t.Context(), left[0].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	ctx, cut := context.WithCancel(t.Context())
	f := newFaulty(t, b.cli.DaemonHost(), 1, true, cut)
	cli, err := newClient(f.host)
	if err != nil {
		t.Fatal(err)
	}
	defer cli.Close()
	if err := New(cli, o).Scale(ctx, 2, nil); err == nil {
		t.Fatal("the cut call gave no error")
	}
	cut()
	d = b.driver(o) // the next life

	u := balancer.NewUpstream("api", balancer.Config{})
	loop := scaler.NewLoop(u, d, scaler.Config{Min: 2, Max: 3, Mode: "apply", DrainTimeout: time.Second, StartTime: time.Second}, nil, o.Log)
	stop := make(chan struct{})
	ended := make(chan struct{})
	running, end := context.WithCancel(context.Background())
	go func() { loop.Run(running); ended <- struct{}{} }()
	go func() { // what discovery does: every running replica is a server, and answers
		defer func() { ended <- struct{}{} }()
		for {
			rs, err := d.List(running)
			if err == nil {
				var specs []balancer.ServerSpec
				for _, r := range rs {
					if r.State == scaler.ReplicaRunning {
						specs = append(specs, balancer.ServerSpec{ID: r.ID, Addr: r.Addr})
					}
				}
				u.Update(specs, time.Now())
				for _, s := range u.Servers() {
					s.Probe(nil, 1, 1, time.Now())
				}
			}
			select {
			case <-stop:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	t.Cleanup(func() {
		close(stop)
		end()
		<-ended
		<-ended
	})

	// settled waits until exactly n replicas run, all ready, and nothing else is there.
	settled := func(what string, n int, ok func([]scaler.Replica) bool) []scaler.Replica {
		t.Helper()
		var rs []scaler.Replica
		began := time.Now()
		for time.Since(began) < 30*time.Second {
			rs = b.list(d)
			good := len(rs) == n && len(b.names()) == n && len(u.Servers()) == n
			for _, r := range rs {
				good = good && r.State == scaler.ReplicaRunning && u.Server(r.ID) != nil
			}
			if good && (ok == nil || ok(rs)) {
				t.Logf("%s: after %v", what, time.Since(began).Round(time.Millisecond))
				return rs
			}
			time.Sleep(50 * time.Millisecond)
		}
		t.Fatalf("%s: not settled at %d: %+v, engine %v, status %+v", what, n, rs, b.names(), loop.Status())
		return nil
	}
	without := func(id string) func([]scaler.Replica) bool {
		return func(rs []scaler.Replica) bool {
			return !slices.ContainsFunc(rs, func(r scaler.Replica) bool { return r.ID == id })
		}
	}

	rs := settled("what was left half done", 2, nil)
	if err := b.cli.ContainerRemove(t.Context(), rs[0].ID, container.RemoveOptions{Force: true}); err != nil {
		t.Fatal(err)
	}
	rs = settled("one removed by hand", 2, without(rs[0].ID))
	if err := b.cli.ContainerKill(t.Context(), rs[1].ID, "KILL"); err != nil {
		t.Fatal(err)
	}
	rs = settled("one killed", 2, without(rs[1].ID))

	changed := *o.Container
	changed.Env = map[string]string{"VERSION": "2"}
	o.Container = &changed
	d.Configure(o)
	old := []string{rs[0].ID, rs[1].ID}
	least := 9
	settled("a changed declaration", 2, func(rs []scaler.Replica) bool {
		least = min(least, len(rs))
		return !slices.ContainsFunc(rs, func(r scaler.Replica) bool { return r.Outdated || slices.Contains(old, r.ID) })
	})
	if least < 2 {
		t.Errorf("while it rolled there were only %d", least)
	}
	loop.Pin(0, time.Time{})
	settled("pinned to none", 0, nil)
	if s := loop.Status(); s.Failure != "" {
		t.Error(fmt.Errorf("failure: %s", s.Failure))
	}
}
