package swarm

import (
	"context"
	"slices"
	"testing"

	"github.com/docker/docker/api/types/swarm"
)

// fakeManager has one service, and a node that Swarm has lost.
type fakeManager struct {
	name  string
	stack string
	tasks []swarm.Task
}

func (m fakeManager) ServiceList(context.Context, swarm.ServiceListOptions) ([]swarm.Service, error) {
	s := func(id, name, stack string) swarm.Service {
		return swarm.Service{ID: id, Spec: swarm.ServiceSpec{Annotations: swarm.Annotations{Name: name, Labels: map[string]string{labelStack: stack}}}}
	}
	return []swarm.Service{s("x", m.name+"-too", m.stack), s("s", m.name, m.stack)}, nil
}

func (m fakeManager) NodeList(context.Context, swarm.NodeListOptions) ([]swarm.Node, error) {
	return []swarm.Node{{ID: "up", Status: swarm.NodeStatus{State: swarm.NodeStateReady}}, {ID: "down", Status: swarm.NodeStatus{State: swarm.NodeStateDown}}}, nil
}

func (m fakeManager) TaskList(_ context.Context, options swarm.TaskListOptions) ([]swarm.Task, error) {
	if !options.Filters.ExactMatch("service", "s") {
		return nil, nil
	}
	return m.tasks, nil
}

func task(node string, state, desired swarm.TaskState, addresses ...string) swarm.Task {
	t := swarm.Task{NodeID: node, DesiredState: desired, Status: swarm.TaskStatus{State: state}}
	for _, a := range addresses {
		n := swarm.NetworkAttachment{Addresses: []string{a}}
		switch a[:2] {
		case "9.": // the ingress network
			n.Network.Spec.Ingress, n.Network.Spec.Name = true, "a"
		case "8.":
			n.Network.Spec.Name = "z"
		default:
			n.Network.Spec.Name = "b"
		}
		t.NetworksAttachments = append(t.NetworksAttachments, n)
	}
	return t
}

func TestWhoMayRun(t *testing.T) {
	const run, stop, remove = swarm.TaskStateRunning, swarm.TaskStateShutdown, swarm.TaskStateRemove
	m := fakeManager{"front_sluice", "front", []swarm.Task{
		task("up", run, run, "9.0.0.1/24", "8.0.0.1/24", "10.0.0.1/24"),
		task("up", swarm.TaskStateStarting, run, "10.0.0.2/24"),
		task("up", run, stop, "10.0.0.3/24"),   // it has the grace to finish
		task("up", run, remove, "10.0.0.4/24"), // and so it has when the service is smaller
		task("down", run, run, "10.0.0.5/24"),  // not replaced yet
		task("down", run, stop, "10.0.0.6/24"), // replaced
		task("up", swarm.TaskStateFailed, run, "10.0.0.7/24"),
		task("up", swarm.TaskStateShutdown, stop, "10.0.0.8/24"),
		task("up", swarm.TaskStatePending, run),
	}}
	stack := ""
	d := NewDirectory(m, "sluice", func() string { return stack }, "9903")
	if got, err := d.Addresses(t.Context()); err == nil || d.Name() != "" {
		t.Errorf("while the stack is not known: %v, %q", got, d.Name())
	}
	stack = "front"
	got, err := d.Addresses(t.Context())
	slices.Sort(got)
	want := []string{"10.0.0.1:9903", "10.0.0.2:9903", "10.0.0.3:9903", "10.0.0.4:9903", "10.0.0.5:9903"}
	if err != nil || !slices.Equal(got, want) || d.Name() != "front_sluice" {
		t.Errorf("%v, %v, %q; want %v", got, err, d.Name(), want)
	}
	m.tasks = []swarm.Task{task("up", run, run)}
	if got, err := NewDirectory(m, "front_sluice", func() string { return "" }, "9903").Addresses(t.Context()); err == nil {
		t.Errorf("without an overlay network: %v", got)
	}
}
