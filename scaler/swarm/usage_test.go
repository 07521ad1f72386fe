package swarm

import (
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/docker/docker/api/types/swarm"

	"sluice/scaler"
)

var _ scaler.Gauge = (*Driver)(nil)

// Sized by what replicas use alone, a service on Swarm stays as it is, and every place says why.
func TestUsageIsNotKnown(t *testing.T) {
	f := &fake{}
	d := New(f, Options{Upstream: "api", Service: "api", Log: slog.New(slog.DiscardHandler)})
	tell := func(notes []string) bool {
		return slices.ContainsFunc(notes, func(n string) bool { return strings.Contains(n, noUsage) })
	}
	if tell(d.Notes()) {
		t.Error("nobody asked for it")
	}
	task := func(id string, state swarm.TaskState) swarm.Task {
		return swarm.Task{ID: id, DesiredState: swarm.TaskStateRunning, Status: swarm.TaskStatus{State: state}}
	}
	d.replicas([]swarm.Task{task("one-of-them-all", swarm.TaskStateRunning), task("other", swarm.TaskStatePending)}, nil, d.born)
	if us := d.Usage(); len(us) != 1 || us[0].Replica != "one-of-them-" || !us[0].At.IsZero() || us[0].Why != noUsage {
		t.Errorf("usage %+v", us)
	}
	if !tell(d.Notes()) {
		t.Errorf("notes %q", d.Notes())
	}
}
