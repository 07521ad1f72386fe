package process

import (
	"cmp"
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"sluice/scaler"
)

// gaugeEvery is the time between two measurements.
const gaugeEvery = time.Second

// gauge measures the processes of the replicas while somebody asks.
type gauge struct {
	mu        sync.Mutex // guards all below
	listening scaler.Listening
	last      map[string]measured
}

// measured is the last measurement of one replica.
type measured struct {
	usage scaler.Usage
	at    time.Time
	cpu   time.Duration // since it began
}

// consumed is what the processes of one replica used until now.
type consumed struct {
	cpu    time.Duration
	memory int64
}

// Usage is scaler.Gauge's. A process has no limit: what it uses of CPU is given as a share of one core, whatever the
// machine has, so that the number of replicas follows from the work and not from the machine, and memory as no share.
// Counted is the command with all that descends from it; memory that they share counts for each.
func (d *Driver) Usage() []scaler.Usage {
	g := &d.gauge
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listening.Asked(time.Now(), d.measureUntil) {
		g.last = make(map[string]measured)
	}
	all := make([]scaler.Usage, 0, len(g.last))
	for _, m := range g.last {
		all = append(all, m.usage)
	}
	slices.SortFunc(all, func(a, b scaler.Usage) int { return cmp.Compare(a.Replica, b.Replica) })
	return all
}

// measureUntil measures each second until ctx ends or nobody asks any more.
func (d *Driver) measureUntil(ctx context.Context) {
	tick := time.NewTicker(gaugeEvery)
	defer tick.Stop()
	for {
		running := d.running()
		now, err := consumption(running)
		if !d.gauge.take(ctx, running, now, err, time.Now()) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// running are the pids of the replicas that run.
func (d *Driver) running() map[string]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	pids := make(map[string]int)
	for _, r := range d.replicas {
		if r.live() {
			pids[r.id] = r.pid
		}
	}
	return pids
}

// take takes a measurement; false when there shall be no other.
func (g *gauge) take(ctx context.Context, running map[string]int, all map[string]consumed, err error, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.listening.GoesOn(ctx, now) {
		return false
	}
	for id := range g.last {
		if _, runs := running[id]; !runs {
			delete(g.last, id)
		}
	}
	for id := range running {
		was, known := g.last[id]
		if !known {
			was.usage = scaler.Unmeasured(id)
		}
		is, told := all[id]
		switch took := now.Sub(was.at); {
		case err != nil:
			was.usage.Why = err.Error()
		case !told: // ended a moment ago
		case was.at.IsZero() || took <= 0 || is.cpu < was.cpu:
			was.at, was.cpu = now, is.cpu
		default:
			cores := (is.cpu - was.cpu).Seconds() / took.Seconds()
			was = measured{at: now, cpu: is.cpu, usage: scaler.Usage{
				Replica: id, At: now, CPU: cores, Memory: is.memory, CPUShare: cores, MemoryShare: math.NaN(), Of: "one core",
			}}
		}
		g.last[id] = was
	}
	return true
}

// close ends measuring. It begins again when somebody asks.
func (g *gauge) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listening.End()
}
