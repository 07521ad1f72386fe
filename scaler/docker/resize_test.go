package docker

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/balancer"
	"sluice/scaler"
	"sluice/scaler/vertical"
)

var _ scaler.Resizer = (*Driver)(nil)

const mib = 1 << 20

func TestResized(t *testing.T) {
	for _, one := range []struct {
		what    string
		now     container.Resources
		to      vertical.Resources
		written container.Resources
	}{
		{"cores stay cores", container.Resources{NanoCPUs: 5e8}, vertical.Resources{CPUs: .25}, container.Resources{NanoCPUs: 25e7}},
		{"a quota stays one", container.Resources{CPUQuota: 50000}, vertical.Resources{CPUs: .25}, container.Resources{CPUPeriod: 100000, CPUQuota: 25000}},
		{"of its own period", container.Resources{CPUPeriod: 20000, CPUQuota: 10000}, vertical.Resources{CPUs: .25}, container.Resources{CPUPeriod: 20000, CPUQuota: 5000}},
		{"a quota has a least", container.Resources{CPUPeriod: 20000, CPUQuota: 10000}, vertical.Resources{CPUs: .01}, container.Resources{CPUPeriod: 20000, CPUQuota: 1000}},
		{"no swap stays none", container.Resources{Memory: 64 * mib, MemorySwap: 64 * mib}, vertical.Resources{Memory: 128 * mib}, container.Resources{Memory: 128 * mib, MemorySwap: 128 * mib}},
		{"as much swap as before", container.Resources{Memory: 64 * mib, MemorySwap: 128 * mib}, vertical.Resources{Memory: 256 * mib}, container.Resources{Memory: 256 * mib, MemorySwap: 320 * mib}},
		{"swap without bound", container.Resources{Memory: 64 * mib, MemorySwap: -1}, vertical.Resources{Memory: 32 * mib}, container.Resources{Memory: 32 * mib, MemorySwap: -1}},
		{"an engine that counts no swap", container.Resources{Memory: 64 * mib}, vertical.Resources{Memory: 32 * mib}, container.Resources{Memory: 32 * mib}},
		{"nothing", container.Resources{Memory: 64 * mib, NanoCPUs: 1e9}, vertical.Resources{}, container.Resources{}},
	} {
		if got := resized(one.now, one.to); fmt.Sprint(got) != fmt.Sprint(one.written) {
			t.Errorf("%s: %+v", one.what, got)
		}
	}
	// What a new one starts with: limits that are there, and no others.
	rec := vertical.Recommendation{Target: vertical.Resources{CPUs: .5, Memory: 100 * mib}, Lower: vertical.Resources{CPUs: .4, Memory: 90 * mib}, Upper: vertical.Resources{CPUs: .6, Memory: 110 * mib}}
	for _, one := range []struct{ has, gets container.Resources }{
		{container.Resources{NanoCPUs: 2e9, Memory: 512 * mib, MemorySwap: 512 * mib}, container.Resources{NanoCPUs: 5e8, Memory: 100 * mib, MemorySwap: 100 * mib}},
		{container.Resources{CPUQuota: 200000}, container.Resources{CPUPeriod: 100000, CPUQuota: 50000}},
		{container.Resources{NanoCPUs: 55e7, PidsLimit: new(int64)}, container.Resources{NanoCPUs: 55e7, PidsLimit: new(int64)}},
		{container.Resources{}, container.Resources{}},
	} {
		s := &spec{host: &container.HostConfig{Resources: one.has}}
		if s.fit(rec); s.host.NanoCPUs != one.gets.NanoCPUs || s.host.CPUQuota != one.gets.CPUQuota || s.host.CPUPeriod != one.gets.CPUPeriod || s.host.Memory != one.gets.Memory || s.host.MemorySwap != one.gets.MemorySwap {
			t.Errorf("declared %+v starts with %+v", one.has, s.host.Resources)
		}
	}
}

// load asks a replica without pause until the returned function is called, which says how many requests failed.
func (b *bench) load(addr string) (end func() (sent, failed int64)) {
	var sent, failed atomic.Int64
	get(b.T, addr) // it listens
	stop := make(chan struct{})
	var all sync.WaitGroup
	client := &http.Client{Timeout: 30 * time.Second}
	for range 2 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(5 * time.Millisecond):
				}
				sent.Add(1)
				res, err := client.Get("http://" + addr)
				if err != nil || res.StatusCode != http.StatusOK {
					failed.Add(1)
					b.Logf("a request failed: %v", err)
				}
				if err == nil {
					res.Body.Close()
				}
			}
		})
	}
	return func() (int64, int64) {
		close(stop)
		all.Wait()
		return sent.Load(), failed.Load()
	}
}

// uses waits until the driver has measured a replica and ok says so.
func (b *bench) uses(d *Driver, id, what string, ok func(scaler.Usage) bool) scaler.Usage {
	b.Helper()
	var u scaler.Usage
	for began := time.Now(); time.Since(began) < 60*time.Second; time.Sleep(200 * time.Millisecond) {
		for _, u = range d.Usage() {
			if u.Replica == id && u.Fresh(time.Now()) && ok(u) {
				return u
			}
		}
	}
	b.Fatalf("%s: it uses %+v", what, u)
	return u
}

// A container that runs is changed in place, up and down, under load: it goes on without a lost request, and nothing
// takes it for outdated.
func TestResizeInPlace(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Container.CPUs, o.Container.Memory = .2, 64*mib
	o.Container.Command = []string{"-burn", "-hold", "40"}
	d := b.driver(o)
	b.scale(d, 1)
	r := b.list(d)[0]
	was, err := b.cli.ContainerInspect(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	end := b.load(r.Addr)
	b.uses(d, r.ID, "at its limit", func(u scaler.Usage) bool { return u.CPU > .1 && u.CPU < .3 && u.Memory > 40*mib })

	allowed := func() vertical.Resources {
		t.Helper()
		all, err := d.Allowances(t.Context())
		if err != nil || len(all.Replicas) != 1 || all.Replicas[0].Replica != r.ID || !all.Replicas[0].RanOut.IsZero() || all.Most.CPUs < 1 || all.Most.Memory < 1<<30 {
			t.Fatalf("%+v, %v", all, err)
		}
		return all.Replicas[0].Has
	}
	if got := allowed(); got != (vertical.Resources{CPUs: .2, Memory: 64 * mib}) {
		t.Errorf("it may use %v", got)
	}
	for _, to := range []vertical.Resources{{CPUs: .7, Memory: 200 * mib}, {Memory: 80 * mib}, {CPUs: .5}} {
		want := allowed()
		if to.CPUs > 0 {
			want.CPUs = to.CPUs
		}
		if to.Memory > 0 {
			want.Memory = to.Memory
		}
		if err := d.Resize(t.Context(), r.ID, to); err != nil {
			t.Fatal(err)
		}
		if got := allowed(); got != want {
			t.Errorf("after %v it may use %v, not %v", to, got, want)
		}
	}
	// The kernel has it too: of CPU more is used, of memory the engine's statistics tell the limit.
	b.uses(d, r.ID, "with more", func(u scaler.Usage) bool { return u.CPU > .3 && u.CPUShare < 1.2 })
	res, err := b.cli.ContainerStatsOneShot(t.Context(), r.ID)
	if err != nil {
		t.Fatal(err)
	}
	var stats container.StatsResponse
	if err := json.NewDecoder(res.Body).Decode(&stats); err != nil || stats.MemoryStats.Limit != 80*mib {
		t.Errorf("the kernel's limit is %d, %v", stats.MemoryStats.Limit, err)
	}
	res.Body.Close()

	// Below what it uses nothing is changed.
	if err := d.Resize(t.Context(), r.ID, vertical.Resources{Memory: 30 * mib}); err == nil || !strings.Contains(err.Error(), "not below the 30 MiB") {
		t.Errorf("below what it uses: %v", err)
	}
	if got := allowed(); got.Memory != 80*mib {
		t.Errorf("then it may use %v", got)
	}
	sent, failed := end()
	is, err := b.cli.ContainerInspect(t.Context(), r.ID)
	if err != nil || is.ID != was.ID || is.State.StartedAt != was.State.StartedAt || is.RestartCount != 0 {
		t.Errorf("it was started again: %+v, %v", is.State, err)
	}
	if sent < 50 || failed > 0 {
		t.Errorf("of %d requests %d failed", sent, failed)
	}
	if rs := b.list(d); len(rs) != 1 || rs[0].Outdated || rs[0].State != scaler.ReplicaRunning {
		t.Errorf("it is listed as %+v", rs)
	}
	if err := d.Resize(t.Context(), b.stranger("sluice-"+b.owner+"-stranger", nil, true), vertical.Resources{CPUs: .1}); err == nil {
		t.Error("a stranger was changed")
	}
	if err := d.Resize(t.Context(), "0123456789ab", vertical.Resources{CPUs: .1}); err != nil {
		t.Errorf("one that is gone: %v", err)
	}

	// A new one starts with what is recommended, and is not outdated by that.
	d.StartWith(vertical.Recommendation{Target: vertical.Resources{CPUs: .4, Memory: 96 * mib}, Lower: vertical.Resources{CPUs: .3, Memory: 90 * mib}, Upper: vertical.Resources{CPUs: .6, Memory: 128 * mib}})
	b.scale(d, 2)
	rs := b.list(d)
	young, err := b.cli.ContainerInspect(t.Context(), rs[1].ID)
	if err != nil || young.HostConfig.NanoCPUs != 4e8 || young.HostConfig.Memory != 96*mib || young.HostConfig.MemorySwap != 96*mib || rs[1].Outdated {
		t.Errorf("a new one has %+v, %v", young.HostConfig.Resources, err)
	}
}

// A container that Compose made is changed in place too, with a quota where it has one, and its clones are like it.
func TestResizeExemplar(t *testing.T) {
	b := newBench(t)
	o := b.options()
	project := "sluice-" + b.owner
	o.Container, o.Service = nil, &Service{Project: project, Name: "web", Port: 8000}
	labels := map[string]string{testLabel: b.owner, composeProject: project, composeService: "web", composeNumber: "1", composeHash: "abc", composeOneOff: "False", "com.docker.compose.version": "2.40.0"}
	c, err := b.cli.ContainerCreate(t.Context(), &container.Config{Image: run, Labels: labels}, &container.HostConfig{
		RestartPolicy: container.RestartPolicy{Name: "always"},
		Resources:     container.Resources{CPUPeriod: 50000, CPUQuota: 10000, Memory: 64 * mib},
	}, nil, nil, project+"-web-1")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.cli.ContainerStart(t.Context(), c.ID, container.StartOptions{}); err != nil {
		t.Fatal(err)
	}
	d := b.driver(o)
	r := b.list(d)[0]
	if err := d.Resize(t.Context(), r.ID, vertical.Resources{CPUs: .6, Memory: 128 * mib}); err != nil {
		t.Fatal(err)
	}
	is, err := b.cli.ContainerInspect(t.Context(), c.ID)
	if h := is.HostConfig; err != nil || h.CPUQuota != 30000 || h.CPUPeriod != 50000 || h.NanoCPUs != 0 || h.Memory != 128*mib || h.RestartPolicy.Name != "always" {
		t.Errorf("%+v, %v", h.Resources, err)
	}
	b.scale(d, 2)
	rs := b.list(d)
	if len(rs) != 2 || rs[0].Outdated || rs[1].Outdated {
		t.Fatalf("listed: %+v", rs)
	}
	all, err := d.Allowances(t.Context())
	if err != nil || len(all.Replicas) != 2 {
		t.Fatalf("%+v, %v", all, err)
	}
	for _, a := range all.Replicas {
		if a.Has != (vertical.Resources{CPUs: .6, Memory: 128 * mib}) {
			t.Errorf("%s has %v", a.Replica, a.Has)
		}
	}
}

// One that is killed for want of memory is told, with what it had, even when it is gone.
func TestAllowancesOfOneThatRanOut(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Container.Memory = 32 * mib
	o.Container.Command = []string{"-hold", "200"}
	d := b.driver(o)
	b.scale(d, 1)
	id := b.list(d)[0].ID
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		if c, err := b.cli.ContainerInspect(t.Context(), id); err == nil && c.State.Status == "exited" {
			break
		}
		if time.Since(began) > time.Minute {
			t.Fatal("it does not run out of memory")
		}
	}
	b.scale(d, 0) // clears it away
	all, err := d.Allowances(t.Context())
	if err != nil || len(all.Replicas) != 1 {
		t.Fatalf("%+v, %v", all, err)
	}
	if a := all.Replicas[0]; a.Replica != id || a.Has.Memory != 32*mib || time.Since(a.RanOut) > time.Minute || time.Since(a.RanOut) < -10*time.Second {
		t.Errorf("told: %+v", a)
	}
}

// One that runs out of memory as it starts is followed by one that has more, which runs.
func TestNextHasMoreMemory(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Container.Memory = 32 * mib
	o.Container.Command = []string{"-hold", "80"}
	d := b.driver(o)
	cfg := scaler.Config{}
	cfg.SetDefaults()
	cfg.Min, cfg.Max, cfg.Vertical = 1, 1, "apply"
	u := balancer.NewUpstream("api", balancer.Config{})
	loop := scaler.NewLoop(u, d, cfg, nil, o.Log)
	ctx, end := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() { loop.Run(ctx) })
	t.Cleanup(func() { end(); all.Wait() })
	for began := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		if rs := b.list(d); len(rs) == 1 && rs[0].State == scaler.ReplicaRunning {
			c, err := b.cli.ContainerInspect(t.Context(), rs[0].ID)
			if err == nil && c.HostConfig.Memory > 32*mib {
				if c.HostConfig.Memory < 132*mib || c.HostConfig.Memory > 300*mib || c.HostConfig.MemorySwap != c.HostConfig.Memory {
					t.Errorf("it has %d bytes", c.HostConfig.Memory)
				}
				get(t, rs[0].Addr)
				return
			}
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("none has more: %+v, %+v", b.list(d), loop.Status().Vertical)
		}
	}
}

// TestSizedUnderTheLoop lets the scaler's loop, which remembers eight days of little use, lower what its replica may use,
// while it serves, and leave alone what uses more than it should have.
func TestSizedUnderTheLoop(t *testing.T) {
	for _, one := range []struct {
		what   string
		hold   int // MiB
		memory int64
		most   int64
	}{
		{"too large", 20, 400 * mib, 0},
		{"in use", 150, 200 * mib, 100 * mib},
	} {
		t.Run(one.what, func(t *testing.T) {
			b := newBench(t)
			o := b.options()
			o.Container.CPUs, o.Container.Memory = 1, one.memory
			o.Container.Command = []string{"-hold", fmt.Sprint(one.hold)}
			d := b.driver(o)
			memory := scaler.NewMemory(o.Log)
			memory.Configure(stateFile(t, vertical.Resources{CPUs: .2, Memory: 40 * mib}))
			cfg := scaler.Config{}
			cfg.SetDefaults()
			cfg.Min, cfg.Max, cfg.Vertical = 1, 1, "apply"
			cfg.VerticalMin, cfg.VerticalMax = vertical.Resources{Memory: 16 * mib}, vertical.Resources{Memory: one.most}
			u := balancer.NewUpstream("api", balancer.Config{})
			loop := scaler.NewLoop(u, d, cfg, nil, o.Log)
			loop.Remember(memory)
			b.scale(d, 1) // from before: a new one would start with what is recommended
			ctx, end := context.WithCancel(context.Background())
			var all sync.WaitGroup
			all.Go(func() { loop.Run(ctx) })
			all.Go(func() { discover(ctx, d, u) })
			t.Cleanup(func() { end(); all.Wait() })

			var r scaler.Replica
			for r.Addr == "" {
				if time.Sleep(100 * time.Millisecond); len(b.list(d)) == 1 {
					r = b.list(d)[0]
				}
			}
			was, err := b.cli.ContainerInspect(t.Context(), r.ID)
			if err != nil {
				t.Fatal(err)
			}
			finish := b.load(r.Addr)
			var v *scaler.VerticalStatus
			for began := time.Now(); time.Since(began) < 2*time.Minute; time.Sleep(time.Second) {
				v = loop.Status().Vertical
				if v != nil && strings.Contains(v.Reason, "1 cores to ") && len(v.Replicas) == 1 && v.Replicas[0].Has.CPUs < 1 {
					break
				}
			}
			sent, failed := finish()
			is, err := b.cli.ContainerInspect(t.Context(), r.ID)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("after %d requests: %+v", sent, v)
			if is.ID != was.ID || is.State.StartedAt != was.State.StartedAt || is.RestartCount != 0 || !is.State.Running {
				t.Errorf("it was started again: %+v", is.State)
			}
			if sent < 500 || failed > 0 {
				t.Errorf("of %d requests %d failed", sent, failed)
			}
			if cpus := float64(is.HostConfig.NanoCPUs) / 1e9; cpus < v.Recommendation.Lower.CPUs*.98 || cpus > v.Recommendation.Upper.CPUs*1.02 {
				t.Errorf("it may use %v cores, and should %+v", cpus, v.Recommendation)
			}
			if one.most == 0 && (is.HostConfig.Memory >= one.memory || is.HostConfig.Memory < v.Recommendation.Lower.Memory || is.HostConfig.MemorySwap != is.HostConfig.Memory) {
				t.Errorf("it may use %d bytes, and should %+v", is.HostConfig.Memory, v.Recommendation)
			}
			if one.most != 0 && (is.HostConfig.Memory != one.memory || !strings.Contains(v.Reason, "stays at 200 MiB, not 100 MiB")) {
				t.Errorf("it may use %d bytes: %s", is.HostConfig.Memory, v.Reason)
			}
			if rs := b.list(d); len(rs) != 1 || rs[0].Outdated {
				t.Errorf("listed: %+v", rs)
			}
		})
	}
}

// stateFile is a state file of eight days in which replicas of the upstream api used so much.
func stateFile(t *testing.T, use vertical.Resources) string {
	t.Helper()
	m := vertical.NewModel()
	for at := time.Now().Add(-8 * 24 * time.Hour); at.Before(time.Now()); at = at.Add(vertical.Every) {
		m.Add(vertical.Sample{Replica: "before", CPU: use.CPUs, Memory: use.Memory, Has: 1, Limit: 1}, at)
	}
	b, err := json.Marshal(map[string]any{"version": 1, "upstreams": map[string]any{"api": map[string]any{"at": time.Now(), "vertical": m.Checkpoint()}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "state.json")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// discover does what discovery does: every running replica is a server, and answers.
func discover(ctx context.Context, d *Driver, u *balancer.Upstream) {
	for ctx.Err() == nil {
		if rs, err := d.List(ctx); err == nil {
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
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
}
