package docker

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/scaler"
)

// A replica that another gateway has only just started is not stopped: without that, two that want different numbers
// would start and stop the same ones for ever.
func TestTheirsAreLeftForAWhile(t *testing.T) {
	b := newBench(t)
	d, other := b.driver(b.options()), b.driver(b.options())
	b.scale(d, 1)
	time.Sleep(time.Second) // the engine tells when a container was made in whole seconds
	b.scale(other, 3)
	for range 2 {
		err := d.Scale(t.Context(), 1, nil)
		if !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), "started 2 of the replicas") || !strings.Contains(err.Error(), "less than 30s ago") {
			t.Fatalf("Scale(1): %v", err)
		}
	}
	b.scale(d, 3) // there is nothing to refuse
	if rs := b.list(d); len(rs) != 3 {
		t.Fatalf("replicas %+v", rs)
	}
	later := time.Now().Add(respect)
	members, _, err := d.look(t.Context(), d.options())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.contested(d.options(), members, later); err != nil {
		t.Errorf("after %s: %v", respect, err)
	}
	// They come back after they were stopped: the next time takes longer.
	b.scale(other, 1)
	b.settle(other)
	b.scale(other, 3)
	members, _, err = d.look(t.Context(), d.options())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.contested(d.options(), members, time.Now().Add(respect)); !errors.Is(err, scaler.ErrRefused) || !strings.Contains(err.Error(), "less than 1m0s ago") {
		t.Errorf("the second time: %v", err)
	}
	o := d.options()
	o.Shared = true
	if err := d.contested(o, members, time.Now()); err != nil {
		t.Errorf("shared: %v", err)
	}
}

// A clone that somebody else stops in order is no failure, and its number stays free for a while; then it is made anew.
func TestCloneStoppedInOrder(t *testing.T) {
	p := newProject(t, "version: \"2.4\"\nservices:\n  api:\n    image: "+run+"\n")
	p.compose("up", "-d")
	d := p.driver(p.serviceOptions())
	p.scale(d, 2)
	p.list(d)
	if err := p.cli.ContainerStop(t.Context(), p.containers()["_api_2"], container.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if rs := p.list(d); len(rs) != 2 || rs[1].State != scaler.ReplicaStopping {
		t.Errorf("replicas %+v", rs)
	}
	p.scale(d, 2)
	if notes := strings.Join(d.Notes(), " "); !strings.Contains(notes, "from 2 to 1 at") {
		t.Errorf("notes %q", notes)
	}
	if !d.leaves(2, time.Now()) || d.leaves(2, time.Now().Add(respect)) {
		t.Error("not left for that long")
	}
	p.scale(d, 2)
	p.wantContainers("_api_1", "_api_2")
	if rs := p.list(d); len(rs) != 2 || rs[1].State != scaler.ReplicaRunning {
		t.Errorf("replicas %+v", rs)
	}
	p.compose("down", "-t", "2")
}
