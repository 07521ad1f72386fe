package swarm

import (
	"fmt"
	"maps"
	"time"

	"github.com/docker/docker/api/types/swarm"
)

// picture is what one listing gave.
type picture struct {
	services []swarm.Service       // those that are followed
	tasks    []swarm.Task          // of these
	nodes    map[string]swarm.Node // by ID
	local    map[string]replica    // by container ID, the running ones of this node
	own      map[string]string     // the networks of sluice's own container, names by ID; nil on the host
}

// replica is what this node knows of the container of a task of its own.
type replica struct {
	addr  string // that a process on the host reaches; "" for none
	ports []int  // exposed TCP ports, sorted
}

// view is what is known of the swarm at one moment. Immutable; the hub publishes a new one.
type view struct {
	picture
	marks     map[string]mark // by task ID: taken out by an event
	listed    time.Time       // when the listing began; zero: never yet
	number    uint64          // of that listing
	err       error           // of the last attempt to list; nil when it succeeded
	streamErr error           // why there are no events now; nil while there are
}

// mark says that an event took a task out, which counts even while the listing still says that it
// runs: the manager hears of a container's end a moment later. The container of a task is never
// started again.
type mark struct {
	why   string
	asked bool // its container was sent a signal, and may not heed it
	at    time.Time
}

// askedGrace is how long a container that was sent a signal stays out while its task goes on.
const askedGrace = 2 * time.Minute

// settle returns the marks that still count: not those of tasks that are no longer listed, nor of
// one that survived a signal that was not Swarm's.
func settle(marks map[string]mark, v *view) map[string]mark {
	listed := make(map[string]*swarm.Task, len(v.tasks))
	for i := range v.tasks {
		listed[v.tasks[i].ID] = &v.tasks[i]
	}
	kept := maps.Clone(marks)
	maps.DeleteFunc(kept, func(id string, m mark) bool {
		t := listed[id]
		if t == nil {
			return v.listed.After(m.at)
		}
		return m.asked && wanted(t) && v.listed.Sub(m.at) > askedGrace
	})
	return kept
}

// wanted reports whether Swarm wants t to run.
func wanted(t *swarm.Task) bool { return t.DesiredState == swarm.TaskStateRunning }

// ended reports whether t is over: no state follows it.
func ended(t *swarm.Task) bool {
	switch t.Status.State {
	case swarm.TaskStateComplete, swarm.TaskStateShutdown, swarm.TaskStateFailed, swarm.TaskStateRejected, swarm.TaskStateRemove, swarm.TaskStateOrphaned:
		return true
	}
	return false
}

// stopSignal is that of the container of the task with this ID; "" is the engine's default.
func (v *view) stopSignal(task string) string {
	for i := range v.tasks {
		if t := &v.tasks[i]; t.ID == task && t.Spec.ContainerSpec != nil {
			return t.Spec.ContainerSpec.StopSignal
		}
	}
	return ""
}

// unsettled reports whether anything is on its way: a task that is not what Swarm wants it to be, or
// an update. A task whose node is down stays as it was last heard of, and one that no node can take
// waits for long; both are not waited for.
func (v *view) unsettled() bool {
	for i := range v.services {
		if u := v.services[i].UpdateStatus; u != nil && (u.State == swarm.UpdateStateUpdating || u.State == swarm.UpdateStateRollbackStarted) {
			return true
		}
	}
	for i := range v.tasks {
		t := &v.tasks[i]
		switch {
		case ended(t) || t.Status.State == swarm.TaskStatePending || v.nodes[t.NodeID].Status.State == swarm.NodeStateDown:
		case wanted(t) != (t.Status.State == swarm.TaskStateRunning):
			return true
		}
	}
	return false
}

// trouble says in words what ails the engine; "" when nothing does.
func (v *view) trouble(now time.Time) string {
	switch {
	case v.err != nil && v.listed.IsZero():
		return "the Swarm manager cannot be asked: " + v.err.Error()
	case v.err != nil:
		return fmt.Sprintf("the Swarm manager cannot be asked: %s; the tasks as of %s ago are kept", v.err, now.Sub(v.listed).Round(time.Second))
	case v.streamErr != nil:
		return fmt.Sprintf("the engine sends no events: %s; its tasks are listed every %s", v.streamErr, listQuiet)
	}
	return ""
}
