package docker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/scaler"
)

var _ scaler.Gauge = (*Driver)(nil)

// meteredEngine tells of every container that it uses a quarter of a core and 40 MiB, once a second, until it is broken.
type meteredEngine struct {
	Engine

	mu     sync.Mutex // guards all below
	opened map[string]int
	open   map[string]*io.PipeWriter
	refuse bool
	may    container.Resources
}

func (e *meteredEngine) ContainerStats(ctx context.Context, id string, follow bool) (container.StatsResponseReader, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.opened[id]++
	if e.refuse || !follow {
		return container.StatsResponseReader{}, errors.New("no")
	}
	r, w := io.Pipe()
	e.open[id] = w
	context.AfterFunc(ctx, func() {
		w.CloseWithError(ctx.Err())
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.open[id] == w {
			delete(e.open, id)
		}
	})
	return container.StatsResponseReader{Body: r}, nil
}

func (e *meteredEngine) ContainerInspect(context.Context, string) (container.InspectResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return container.InspectResponse{ContainerJSONBase: &container.ContainerJSONBase{HostConfig: &container.HostConfig{Resources: e.may}}}, nil
}

// send lets every stream have a line, each second for n seconds.
func (e *meteredEngine) send(t *testing.T, n int) {
	t.Helper()
	for range n {
		synctest.Wait()
		e.mu.Lock()
		for _, w := range e.open {
			s := container.StatsResponse{Read: time.Now()}
			s.CPUStats.CPUUsage.TotalUsage = uint64(time.Now().UnixNano()) / 4
			s.MemoryStats = container.MemoryStats{Usage: 48 << 20, Stats: map[string]uint64{"inactive_file": 8 << 20}}
			line, err := json.Marshal(s)
			if err != nil {
				t.Error(err)
			}
			go func() { _, _ = w.Write(append(line, '\n')) }() // to one that has ended: nowhere
		}
		e.mu.Unlock()
		time.Sleep(time.Second)
	}
	synctest.Wait()
}

func (e *meteredEngine) change(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}

func (e *meteredEngine) listened() (ids []string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for id := range e.open {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

func metered(t *testing.T, test func(t *testing.T, e *meteredEngine, d *Driver)) {
	synctest.Test(t, func(t *testing.T) {
		e := &meteredEngine{opened: map[string]int{}, open: map[string]*io.PipeWriter{}, may: container.Resources{NanoCPUs: 5e8, Memory: 80 << 20}}
		d := New(e, Options{})
		d.gauge.follow([]*member{{id: "one", state: "running"}, {id: "two", state: "running"}, {id: "gone", state: "exited"}, {id: "going", state: "running", stopping: true}})
		test(t, e, d)
		if err := d.Close(t.Context()); err != nil {
			t.Error(err)
		}
		synctest.Wait()
		if ids := e.listened(); len(ids) != 0 {
			t.Errorf("after Close it listens to %v", ids)
		}
	})
}

func TestUsageIsListenedTo(t *testing.T) {
	metered(t, func(t *testing.T, e *meteredEngine, d *Driver) {
		if us := d.Usage(); len(us) != 0 {
			t.Errorf("at once: %+v", us)
		}
		e.send(t, 1)
		if us := d.Usage(); len(us) != 2 || !us[0].At.IsZero() || us[0].Replica != "one" {
			t.Errorf("a single line is no measurement: %+v", us)
		}
		e.send(t, 2)
		us := d.Usage()
		if len(us) != 2 {
			t.Fatalf("usage %+v", us)
		}
		for _, u := range us {
			if time.Since(u.At) != time.Second || math.Abs(u.CPU-0.25) > 1e-6 || u.Memory != 40<<20 || math.Abs(u.CPUShare-0.5) > 1e-6 || u.MemoryShare != 0.5 || u.Why != "" {
				t.Errorf("usage %+v", u)
			}
		}

		// A limit that is changed while they run counts soon.
		e.change(func() { e.may = container.Resources{Memory: 160 << 20} })
		e.send(t, 6)
		if us = d.Usage(); !math.IsNaN(us[0].CPUShare) || us[0].MemoryShare != 0.25 {
			t.Errorf("with another limit: %+v", us[0])
		}

		// The list of replicas is followed.
		d.gauge.follow([]*member{{id: "two", state: "running"}, {id: "three", state: "running"}})
		e.send(t, 4)
		us = d.Usage()
		if ids := e.listened(); !slices.Equal(ids, []string{"three", "two"}) || len(us) != 2 || us[0].Replica != "three" || us[0].At.IsZero() {
			t.Errorf("listens to %v: %+v", ids, us)
		}
	})
}

func TestUsageEndsWhenNobodyAsks(t *testing.T) {
	metered(t, func(t *testing.T, e *meteredEngine, d *Driver) {
		d.Usage()
		e.send(t, 59)
		if ids := e.listened(); len(ids) != 2 {
			t.Errorf("after 59 s it listens to %v", ids)
		}
		e.send(t, 3)
		if ids := e.listened(); len(ids) != 0 {
			t.Errorf("after 62 s it listens to %v", ids)
		}
		d.Usage()
		e.send(t, 3)
		if us := d.Usage(); len(us) != 2 || time.Since(us[0].At) > time.Second {
			t.Errorf("asked again: %+v", us)
		}
	})
}

func TestUsageStreamIsOpenedAgain(t *testing.T) {
	metered(t, func(t *testing.T, e *meteredEngine, d *Driver) {
		ask := func(seconds int) []scaler.Usage {
			for range seconds {
				d.Usage()
				e.send(t, 1)
			}
			return d.Usage()
		}
		ask(3)
		e.change(func() {
			e.refuse = true
			e.open["one"].CloseWithError(io.ErrUnexpectedEOF)
		})
		us := ask(100)
		if us[0].At.IsZero() || time.Since(us[0].At) < 90*time.Second || us[0].Why != "its statistics: no" || us[1].Why != "" || time.Since(us[1].At) > time.Second {
			t.Errorf("refused: %+v", us)
		}
		tries := e.opened["one"]
		if tries < 5 || tries > 10 { // after 1, 2, 4, 8, 16, 30, 30 seconds
			t.Errorf("opened %d times in 100 s", tries)
		}
		e.change(func() { e.refuse = false })
		if us = ask(32); us[0].Why != "" || time.Since(us[0].At) > time.Second || math.Abs(us[0].CPU-0.25) > 1e-6 {
			t.Errorf("opened again: %+v", us[0])
		}

		// An engine that hangs says nothing, and ends nothing.
		e.change(func() { clear(e.open) })
		d.Usage()
		time.Sleep(11 * time.Second)
		synctest.Wait()
		if us = d.Usage(); us[0].Why != errSilent.Error() {
			t.Errorf("silent: %+v", us[0])
		}
		if us = ask(8); us[0].Why != "" || time.Since(us[0].At) > time.Second {
			t.Errorf("after it was silent: %+v", us[0])
		}
	})
}

// TestUsageOfContainers measures a replica that is busy and holds memory, and one that does nothing.
func TestUsageOfContainers(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Container.CPUs, o.Container.Memory = 0.2, 128<<20
	idle := b.driver(o)
	b.scale(idle, 1)
	o.Upstream = "busy"
	declared := *o.Container
	declared.Command = []string{"-burn", "-hold", "32"}
	o.Container = &declared
	busy := b.driver(o)
	b.scale(busy, 1)

	// measured waits until one replica is measured and what was measured is as it should be.
	measured := func(d *Driver, ok func(scaler.Usage) bool) {
		t.Helper()
		id := b.list(d)[0].ID
		var us []scaler.Usage
		for began := time.Now(); time.Since(began) < time.Minute; time.Sleep(200 * time.Millisecond) {
			us = d.Usage()
			if len(us) == 1 && us[0].Replica == id && time.Since(us[0].At) < 10*time.Second && ok(us[0]) {
				t.Logf("after %v: %+v", time.Since(began).Round(100*time.Millisecond), us[0])
				return
			}
		}
		t.Errorf("usage %+v", us)
	}
	whole := func(u scaler.Usage) bool {
		return math.Abs(u.CPUShare-u.CPU/0.2) < 1e-9 && math.Abs(u.MemoryShare-float64(u.Memory)/(128<<20)) < 1e-9
	}
	measured(idle, func(u scaler.Usage) bool {
		return whole(u) && u.CPUShare < 0.1 && u.Memory > 100<<10 && u.Memory < 32<<20
	})
	measured(busy, func(u scaler.Usage) bool {
		return whole(u) && u.CPUShare > 0.5 && u.Memory > 32<<20 && u.Memory < 80<<20
	})

	// What is raised while it runs is seen.
	id := b.list(busy)[0].ID
	if _, err := b.cli.ContainerUpdate(t.Context(), id, container.UpdateConfig{Resources: container.Resources{NanoCPUs: 4e8}}); err != nil {
		t.Fatal(err)
	}
	measured(busy, func(u scaler.Usage) bool { return math.Abs(u.CPUShare-u.CPU/0.4) < 1e-9 })

	// What has ended is measured no longer.
	b.scale(busy, 0)
	b.settle(busy)
	b.list(busy)
	time.Sleep(1100 * time.Millisecond)
	if us := busy.Usage(); len(us) != 0 {
		t.Errorf("of what has ended: %+v", us)
	}
	if strings.Contains(strings.Join(b.names(), " "), "busy") {
		t.Errorf("left: %v", b.names())
	}
}
