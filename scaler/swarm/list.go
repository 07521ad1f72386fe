package swarm

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"sluice/scaler"
)

// failureShown is how long a task that has failed is listed: Swarm itself keeps the last ones of every
// slot for ever.
const failureShown = 20 * time.Second

// List is scaler.Driver's: the tasks that run, are to run or have just failed. The service's absence is an
// error, so that scaling rests until there is one.
func (d *Driver) List(ctx context.Context) ([]scaler.Replica, error) {
	d.calls.Lock()
	defer d.calls.Unlock()
	s, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	nodes, err := d.engine.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return nil, err
	}
	down := make(map[string]bool)
	for _, n := range nodes {
		down[n.ID] = n.Status.State == swarm.NodeStateDown
	}
	tasks, err := d.engine.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", s.ID))})
	if err != nil {
		return nil, err
	}
	if m := s.Spec.Mode.Replicated; m != nil && m.Replicas != nil {
		d.see(s.ID, *m.Replicas, time.Now())
	}
	return d.replicas(tasks, down, time.Now()), nil
}

// replicas are what tasks means for the loop. down are the nodes that Swarm has lost: what it told their
// tasks last will not come true.
func (d *Driver) replicas(tasks []swarm.Task, down map[string]bool, now time.Time) []scaler.Replica {
	d.mu.Lock()
	defer d.mu.Unlock()
	var replicas []scaler.Replica
	known := make(map[string]bool, len(tasks))
	for i := range tasks {
		t := &tasks[i]
		state, reason := stateOf(t)
		if state == scaler.ReplicaFailed {
			known[t.ID] = true
			first, ok := d.ended[t.ID]
			if !ok {
				if d.listed {
					first = now
				}
				d.ended[t.ID] = first
			}
			if now.Sub(first) > failureShown {
				continue
			}
		}
		if state == "" || state == scaler.ReplicaStopping && down[t.NodeID] {
			continue
		}
		r := scaler.Replica{ID: t.ID[:min(len(t.ID), 12)], State: state, Reason: reason, Index: t.Slot}
		if t.CreatedAt.After(d.born) {
			r.Asked = t.CreatedAt
		}
		replicas = append(replicas, r)
	}
	d.running = nil
	for _, r := range replicas {
		if r.State == scaler.ReplicaRunning {
			d.running = append(d.running, r.ID)
		}
	}
	maps.DeleteFunc(d.ended, func(id string, _ time.Time) bool { return !known[id] })
	d.listed = true
	return replicas
}

// stateOf maps a task's wanted and actual state; "" is a task that is over and did what it was told.
func stateOf(t *swarm.Task) (state, reason string) {
	stop := t.DesiredState == swarm.TaskStateShutdown || t.DesiredState == swarm.TaskStateRemove || t.DesiredState == swarm.TaskStateComplete
	switch t.Status.State {
	case swarm.TaskStateShutdown, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return "", ""
	case swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateComplete:
		if t.DesiredState == swarm.TaskStateRemove {
			return "", ""
		}
		return scaler.ReplicaFailed, ending(t)
	case swarm.TaskStateRunning:
		if !stop {
			return scaler.ReplicaRunning, ""
		}
	}
	if stop {
		return scaler.ReplicaStopping, ""
	}
	return scaler.ReplicaStarting, ""
}

// ending says how a task came to its end.
func ending(t *swarm.Task) string {
	why := cmp.Or(t.Status.Err, t.Status.Message, "no reason given")
	switch c := t.Status.ContainerStatus; {
	case t.Status.State == swarm.TaskStateComplete:
		return "ended without being told to (exit code 0)"
	case t.Status.State == swarm.TaskStateRejected:
		return "rejected by its node: " + why
	case c != nil && c.ExitCode != 0:
		return fmt.Sprintf("exit code %d: %s", c.ExitCode, why)
	}
	return why
}
