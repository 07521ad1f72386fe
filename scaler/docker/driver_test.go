package docker

import (
	"context"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/image"

	"sluice/scaler"
)

var (
	_ scaler.Driver  = (*Driver)(nil)
	_ scaler.Changer = (*Driver)(nil)
)

func TestScaleUpAndDown(t *testing.T) {
	b := newBench(t)
	o := b.options()
	one, two := b.network("one"), b.network("two")
	o.Max = 3
	o.Container.Networks = []string{one, two}
	o.Container.Env = map[string]string{"MODEL": "small"}
	o.Container.Memory = 64 << 20
	o.Container.CPUs = 0.5
	d := b.driver(o)

	b.scale(d, 0)
	b.wantNames()
	b.scale(d, 9) // no more than max
	b.wantNames("N-0 running", "N-1 running", "N-2 running")
	b.scale(d, 3) // nothing to do
	rs := b.list(d)
	for i, r := range rs {
		if r.State != scaler.ReplicaRunning || r.Index != i+1 || r.Outdated || r.Fixed || r.Asked.IsZero() || len(r.ID) != 12 {
			t.Errorf("replica %d is %+v", i, r)
		}
	}

	c, err := b.cli.ContainerInspect(t.Context(), rs[0].ID)
	if err != nil {
		t.Fatal(err)
	}
	if h := c.HostConfig; h.Memory != 64<<20 || h.MemorySwap != 64<<20 || h.NanoCPUs != 5e8 {
		t.Errorf("memory %d, with swap %d, cpus %d", h.Memory, h.MemorySwap, h.NanoCPUs)
	}
	if c.NetworkSettings.Networks[one] == nil || c.NetworkSettings.Networks[two] == nil || *c.Config.StopTimeout != 5 {
		t.Errorf("networks %v, stop timeout %v", c.NetworkSettings.Networks, *c.Config.StopTimeout)
	}
	if want := c.NetworkSettings.Networks[one].IPAddress + ":8000"; rs[0].Addr != want {
		t.Errorf("addr %q, want %q: the exposed port on the first network", rs[0].Addr, want)
	}
	if body := get(t, rs[0].Addr); !strings.Contains(body, "MODEL=small") {
		t.Errorf("its environment is %q", body)
	}
	for key, want := range Labels(b.owner, "api") {
		if c.Config.Labels[key] != want {
			t.Errorf("label %s is %q, want %q", key, c.Config.Labels[key], want)
		}
	}

	b.scale(d, 1, rs[2].ID, rs[0].ID)
	b.settle(d)
	b.wantNames("N-1 running")
	b.scale(d, 2) // the lowest free number
	b.wantNames("N-0 running", "N-1 running")
	b.scale(d, 2, rs[1].ID, "gone before") // a broken one replaced
	b.settle(d)
	b.wantNames("N-0 running", "N-2 running")
	b.scale(d, 1) // without victims: the youngest
	b.settle(d)
	b.wantNames("N-0 running")
	b.scale(d, 0)
	b.settle(d)
	b.wantNames()
}

func get(t *testing.T, addr string) string {
	t.Helper()
	var last error
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		res, err := http.Get("http://" + addr)
		if err != nil {
			last = err // it has started, and does not listen yet
			continue
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	t.Fatal(last)
	return ""
}

func TestStopGraceAndStopping(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Max = 1
	o.Container.Command = []string{"-stubborn"}
	o.Container.StopGrace = 1500 * time.Millisecond // the engine counts in whole seconds: 2
	d := b.driver(o)
	b.scale(d, 1)
	first := b.list(d)[0]
	get(t, first.Addr) // before that it would heed SIGTERM
	id := first.ID
	began := time.Now()
	b.scale(d, 1, id) // its number is not free before it is gone
	if took := time.Since(began); took > 1500*time.Millisecond {
		t.Errorf("Scale waited %v for a replica to stop", took)
	}
	if rs := b.list(d); len(rs) != 1 || rs[0].State != scaler.ReplicaStopping {
		t.Errorf("while it stops: %+v", rs)
	}
	b.scale(d, 1)
	b.wantNames("N-0 running") // still the old one: never two under one name
	<-d.Changed()
	if took := time.Since(began); took < 1500*time.Millisecond {
		t.Errorf("killed after %v, before its grace was over", took)
	}
	b.wantNames()
	b.scale(d, 1)
	if rs := b.list(d); len(rs) != 1 || rs[0].ID == id || rs[0].State != scaler.ReplicaRunning {
		t.Errorf("in its place: %+v", rs)
	}
	b.wipe(LabelOwner + "=" + b.owner)
}

func TestStrangersAreLeftAlone(t *testing.T) {
	b := newBench(t)
	d := b.driver(b.options())
	prefix := "sluice-" + b.owner + "-"
	strangers := map[string]string{
		"our name, no label": b.stranger(prefix+"api-0", nil, true),
		"our upstream, another owner": b.stranger(prefix+"forged-owner", map[string]string{
			LabelOwner: "someone-else", LabelUpstream: "api", LabelOrdinal: "1"}, true),
		"our labels, another name": b.stranger(prefix+"forged-name", map[string]string{
			LabelOwner: b.owner, LabelUpstream: "api", LabelOrdinal: "2"}, true),
		"our labels, ended": b.stranger(prefix+"forged-ended", map[string]string{
			LabelOwner: b.owner, LabelUpstream: "api", LabelOrdinal: "x"}, false),
	}
	before := make(map[string]string)
	for what, id := range strangers {
		before[what] = b.state(id)
	}
	b.scale(d, 2)
	rs := b.list(d)
	if len(rs) != 2 || rs[0].Index != 2 || rs[1].Index != 3 {
		t.Errorf("replicas %+v, want ordinals 1 and 2: the name of 0 is taken", rs)
	}
	victims := slices.Collect(func(yield func(string) bool) {
		for _, id := range strangers {
			if !yield(id) {
				return
			}
		}
	})
	b.scale(d, 0, victims...)
	b.settle(d)
	if rs := b.list(d); len(rs) != 0 {
		t.Errorf("left: %+v", rs)
	}
	for what, id := range strangers {
		if got := b.state(id); got != before[what] {
			t.Errorf("%s: it was %s, now it is %s", what, before[what], got)
		}
	}
	notes := strings.Join(d.Notes(), "\n")
	for _, want := range []string{
		"has the name of a replica of ours, but it has no label sluice.owner: left alone",
		`its label sluice.owner is "someone-else"`,
		"its name does not follow from its labels",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("notes do not say %q:\n%s", want, notes)
		}
	}

	// When strangers hold every name there is no replica, and that is an error.
	o := b.options()
	o.Max = 1
	one := b.driver(o)
	err := one.Scale(t.Context(), 1, nil)
	if !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), "is taken by container") {
		t.Errorf("error %v", err)
	}
}

// What was ours when it was listed is looked at again before it is touched.
func TestSecondLookBeforeStop(t *testing.T) {
	b := newBench(t)
	o := b.options()
	d := b.driver(o)
	id := b.stranger("sluice-"+b.owner+"-bystander", nil, true)
	m := &member{id: id, name: name(b.owner, "api", 0), state: "running"}
	if err := d.stopAndRemove(t.Context(), o, m.id); !errors.Is(err, errNotOurs) {
		t.Errorf("stopping: %v", err)
	}
	if err := d.discard(t.Context(), o, m); !errors.Is(err, errNotOurs) {
		t.Errorf("removing: %v", err)
	}
	if got := b.state(id); got != "running" {
		t.Errorf("the bystander is %s", got)
	}
}

func TestImageMissing(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Container.Image = "127.0.0.1:1/sluice-test-drv-missing:latest" // a registry that is not there
	d := b.driver(o)
	err := d.Scale(t.Context(), 1, nil)
	if !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), "image 127.0.0.1:1/sluice-test-drv-missing:latest is not on the engine and cannot be pulled: ") {
		t.Errorf("error %v", err)
	}
	b.wantNames()
	if rs := b.list(d); len(rs) != 0 {
		t.Errorf("replicas %+v", rs)
	}
}

func TestCommandMissing(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Container.Mounts = []string{"/nowhere/on/this/machine:/data"}
	d := b.driver(o)
	err := d.Scale(t.Context(), 1, nil)
	if !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), "/nowhere/on/this/machine") {
		t.Errorf("a mount that is not there: %v", err)
	}
	o.Container = &scaler.ContainerConfig{Image: run, Networks: []string{"sluice-test-drv-no-such-network"}}
	d.Configure(o)
	err = d.Scale(t.Context(), 1, nil)
	if !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), "sluice-test-drv-no-such-network") {
		t.Errorf("a network that is not there: %v", err)
	}
	b.wantNames() // what was created for it is not left behind
}

func TestEndedReplica(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Container.Command = []string{"-exit", "7"}
	d := b.driver(o)
	b.scale(d, 1)
	first := b.waitEnded(d)
	if first.State != scaler.ReplicaFailed || first.Reason != "exit status 7; last output: model weights not found | giving up" &&
		first.Reason != "exit status 7; last output: giving up | model weights not found" {
		t.Errorf("replica %+v", first)
	}

	// Seen by the next life of the gateway it is a leftover, not a failed start.
	next := b.driver(o)
	if rs := b.list(next); len(rs) != 1 || rs[0].State != scaler.ReplicaStopping || !rs[0].Asked.IsZero() {
		t.Errorf("after a restart: %+v", rs)
	}
	o.Container = &scaler.ContainerConfig{Image: run}
	next.Configure(o)
	b.scale(next, 1)
	rs := b.list(next)
	if len(rs) != 1 || rs[0].ID == first.ID || rs[0].State != scaler.ReplicaRunning {
		t.Errorf("it was not replaced: %+v", rs)
	}
	b.wantNames("N-0 running")
}

func (b *bench) waitEnded(d *Driver) scaler.Replica {
	b.Helper()
	rs := b.list(d)
	if len(rs) != 1 {
		b.Fatalf("replicas %+v", rs)
	}
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	ended, errs := b.cli.ContainerWait(ctx, rs[0].ID, container.WaitConditionNotRunning)
	select {
	case <-ended:
	case err := <-errs:
		b.Fatal(err)
	}
	return b.list(d)[0]
}

func TestRollingReplacement(t *testing.T) {
	b := newBench(t)
	tag := run + "-rolling"
	t.Cleanup(func() { _, _ = b.cli.ImageRemove(context.Background(), tag, image.RemoveOptions{Force: true}) })
	if err := b.cli.ImageTag(t.Context(), run, tag); err != nil {
		t.Fatal(err)
	}
	o := b.options()
	o.Max = 2
	o.Container.Image = tag
	d := b.driver(o)
	b.scale(d, 2)
	outdated := func() (ids []string) {
		for _, r := range b.list(d) {
			if r.Outdated {
				ids = append(ids, r.ID)
			}
		}
		return ids
	}
	if ids := outdated(); len(ids) != 0 {
		t.Fatalf("outdated from the start: %v", ids)
	}
	b.scale(d, 3)
	b.wantNames("N-0 running", "N-1 running")

	changed := *o.Container
	changed.Env = map[string]string{"VERSION": "2"}
	o.Container = &changed
	d.Configure(o)
	for range 2 {
		old := outdated()
		b.scale(d, 3) // one more than max, while there is one to replace
		if rs := b.list(d); len(rs) != 3 {
			t.Fatalf("replicas %+v", rs)
		}
		b.scale(d, 2, old[0])
		b.settle(d)
	}
	if ids := outdated(); len(ids) != 0 {
		t.Errorf("still outdated: %v", ids)
	}
	b.scale(d, 3)
	if rs := b.list(d); len(rs) != 2 {
		t.Errorf("beyond max with nothing to replace: %+v", rs)
	}

	// The same words, another image behind the tag.
	if err := b.cli.ImageTag(t.Context(), b.secondImage(), tag); err != nil {
		t.Fatal(err)
	}
	if ids := outdated(); len(ids) != 2 {
		t.Errorf("outdated after the image changed: %v", ids)
	}
}

// secondImage is like the test image with another id.
func (b *bench) secondImage() string {
	b.Helper()
	c, err := b.cli.ContainerCreate(b.Context(), &container.Config{Image: run, Labels: map[string]string{testLabel: b.owner}}, nil, nil, nil, "")
	if err != nil {
		b.Fatal(err)
	}
	im, err := b.cli.ContainerCommit(b.Context(), c.ID, container.CommitOptions{Reference: run + "-second", Config: &container.Config{Labels: map[string]string{testLabel: b.owner}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		b.wipe(LabelOwner + "=" + b.owner)
		_, _ = b.cli.ImageRemove(context.Background(), run+"-second", image.RemoveOptions{Force: true})
	})
	return im.ID
}

func TestTwoDriversNeverAboveMax(t *testing.T) {
	b := newBench(t)
	o := b.options()
	o.Max, o.Shared = 3, true // both scale down right away what either has started
	drivers := []*Driver{b.driver(o), b.driver(o)}
	most := make(chan int)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		seen := 0
		for ctx.Err() == nil {
			seen = max(seen, len(b.names()))
		}
		most <- seen
	}()
	for _, n := range []int{2, 3, 1, 3} {
		var wg sync.WaitGroup
		for _, d := range drivers {
			wg.Go(func() {
				if err := d.Scale(t.Context(), n, nil); err != nil {
					t.Errorf("Scale(%d): %v", n, err)
				}
			})
		}
		wg.Wait()
		for _, d := range drivers {
			b.settle(d)
		}
	}
	b.scale(drivers[0], 3)
	cancel()
	if seen := <-most; seen != 3 {
		t.Errorf("at most %d containers at once, want 3", seen)
	}
	b.wantNames("N-0 running", "N-1 running", "N-2 running")
}
