package docker

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/scaler"
)

const (
	streamsMost   = 256              // replicas that are measured at the same time
	streamSilence = 10 * time.Second // after which a stream, which has a line a second, counts as broken
	streamPause   = time.Second      // before a broken one is opened again, doubling
	streamPauses  = 30 * time.Second // and the longest of those
	limitsEvery   = 5 * time.Second  // limits may be changed while a container runs
)

// gauge follows what the replicas use: a stream of the engine's statistics for each that runs, as one answer alone takes
// the engine a second. The listings of the driver say which those are.
type gauge struct {
	engine Engine

	mu        sync.Mutex // guards all below
	listening scaler.Listening
	running   []string // ids of the replicas that run
	streams   map[string]*stream
}

// stream is one replica that is listened to.
type stream struct {
	stop  context.CancelFunc
	usage scaler.Usage
}

// Usage is scaler.Gauge's. Replicas are those of the last List or Scale, as far as they ran then.
func (d *Driver) Usage() []scaler.Usage { return d.gauge.usage(time.Now()) }

func (g *gauge) usage(now time.Time) []scaler.Usage {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.listening.Asked(now, g.run) {
		g.streams = make(map[string]*stream)
	}
	all := make([]scaler.Usage, 0, len(g.streams))
	for _, s := range g.streams {
		all = append(all, s.usage)
	}
	slices.SortFunc(all, func(a, b scaler.Usage) int { return cmp.Compare(a.Replica, b.Replica) })
	return all
}

// follow takes a listing.
func (g *gauge) follow(members []*member) {
	var running []string
	for _, m := range members {
		if m.state == "running" && !m.stopping {
			running = append(running, m.id)
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.running = running
}

// close ends listening. It begins again when somebody asks.
func (g *gauge) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.listening.End()
}

// run opens and closes streams as replicas come and go, until ctx ends or nobody asks any more.
func (g *gauge) run(ctx context.Context) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for g.adjust(ctx, time.Now()) {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// adjust makes the streams those of what runs; false when there shall be none any more.
func (g *gauge) adjust(ctx context.Context, now time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.listening.GoesOn(ctx, now) {
		return false
	}
	for id, s := range g.streams {
		if !slices.Contains(g.running, id) {
			s.stop()
			delete(g.streams, id)
		}
	}
	for _, id := range g.running {
		if g.streams[id] != nil || len(g.streams) >= streamsMost {
			continue
		}
		own, stop := context.WithCancel(ctx)
		s := &stream{stop, scaler.Unmeasured(short(id))}
		g.streams[id] = s
		go g.listen(own, id, s)
	}
	return true
}

// listen keeps a stream open until ctx ends.
func (g *gauge) listen(ctx context.Context, id string, s *stream) {
	var last sample
	pause := streamPause
	for {
		heard, err := g.read(ctx, id, s, &last)
		if ctx.Err() != nil {
			return
		}
		g.mu.Lock()
		s.usage.Why = err.Error()
		g.mu.Unlock()
		if heard {
			pause = streamPause
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
		pause = min(2*pause, streamPauses)
	}
}

// errSilent is the cause of a stream's end.
var errSilent = fmt.Errorf("the engine has told nothing of it for %s", streamSilence)

// read opens a stream and reads it to its end, which is always an error. last goes on over streams: the counters are the
// container's.
func (g *gauge) read(ctx context.Context, id string, s *stream, last *sample) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(streamSilence, func() { cancel(errSilent) })
	defer quiet.Stop()
	defer func() {
		if errors.Is(context.Cause(ctx), errSilent) {
			err = errSilent
		}
	}()
	answer, err := g.engine.ContainerStats(ctx, id, true)
	if err != nil {
		return false, fmt.Errorf("its statistics: %w", err)
	}
	defer answer.Body.Close()
	var may limits
	var asked time.Time
	for lines := json.NewDecoder(answer.Body); ; {
		var stats container.StatsResponse
		if err := lines.Decode(&stats); err != nil {
			return heard, fmt.Errorf("its statistics have ended: %w", err)
		}
		quiet.Reset(streamSilence)
		is, runs := sampleOf(&stats)
		if !runs {
			continue
		}
		now := time.Now()
		used, known := cores(*last, is)
		*last = is
		if now.Sub(asked) >= limitsEvery {
			c, err := g.engine.ContainerInspect(ctx, id)
			if err != nil {
				return heard, fmt.Errorf("its limits: %w", err)
			}
			may, asked = limitsOf(c.HostConfig), now
		}
		if !known {
			continue
		}
		heard = true
		memory := memoryOf(&stats.MemoryStats)
		g.mu.Lock()
		s.usage = scaler.Usage{
			Replica: short(id), At: now, CPU: used, Memory: memory,
			CPUShare: share(used, may.cpus), MemoryShare: share(float64(memory), float64(may.memory)), Of: "limit",
		}
		g.mu.Unlock()
	}
}

// memory is what a replica uses now; -1 when that is not known.
func (g *gauge) memory(replica string, now time.Time) int64 {
	for _, u := range g.usage(now) {
		if u.Replica == replica && u.Fresh(now) {
			return u.Memory
		}
	}
	return -1
}
