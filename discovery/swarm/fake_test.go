package swarm

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"
)

// fake is a manager without an engine, on whose host sluice runs.
type fake struct {
	mu       sync.Mutex
	services []swarm.Service
	tasks    []swarm.Task
	nodes    []swarm.Node
	local    []container.Summary
	bridge   network.Inspect
	hung     bool  // no call returns before its context ends
	err      error // of every call
	lists    int   // of tasks
	streams  []chan events.Message
}

func (f *fake) answer(ctx context.Context) error {
	f.mu.Lock()
	hung, err := f.hung, f.err
	f.mu.Unlock()
	if hung {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (f *fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

// listed is how often tasks were listed.
func (f *fake) listed() (n int) {
	f.change(func() { n = f.lists })
	return n
}

// open is how many event streams were opened.
func (f *fake) open() (n int) {
	f.change(func() { n = len(f.streams) })
	return n
}

// give returns a copy of *list.
func give[T any](ctx context.Context, f *fake, list *[]T) ([]T, error) {
	if err := f.answer(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]T(nil), *list...), nil
}

func (f *fake) ServiceList(ctx context.Context, _ swarm.ServiceListOptions) ([]swarm.Service, error) {
	return give(ctx, f, &f.services)
}

func (f *fake) TaskList(ctx context.Context, o swarm.TaskListOptions) ([]swarm.Task, error) {
	f.change(func() { f.lists++ })
	all, err := give(ctx, f, &f.tasks)
	return slices.DeleteFunc(all, func(t swarm.Task) bool { return !slices.Contains(o.Filters.Get("service"), t.ServiceID) }), err
}

func (f *fake) NodeList(ctx context.Context, _ swarm.NodeListOptions) ([]swarm.Node, error) {
	return give(ctx, f, &f.nodes)
}

func (f *fake) ContainerList(ctx context.Context, _ container.ListOptions) ([]container.Summary, error) {
	return give(ctx, f, &f.local)
}

func (f *fake) ContainerInspect(context.Context, string) (container.InspectResponse, error) {
	return container.InspectResponse{}, errdefs.ErrNotFound
}

func (f *fake) NetworkList(context.Context, network.ListOptions) ([]network.Summary, error) {
	return nil, errors.New("not asked for")
}

func (f *fake) NetworkInspect(ctx context.Context, id string, _ network.InspectOptions) (network.Inspect, error) {
	if id != gwbridge {
		return network.Inspect{}, errdefs.ErrNotFound
	}
	return f.bridge, f.answer(ctx)
}

func (f *fake) Events(ctx context.Context, _ events.ListOptions) (<-chan events.Message, <-chan error) {
	out, errs := make(chan events.Message), make(chan error, 1)
	in := make(chan events.Message, 16)
	f.change(func() { f.streams = append(f.streams, in) })
	go func() {
		for {
			select {
			case m := <-in:
				select {
				case out <- m:
				case <-ctx.Done():
				}
			case <-ctx.Done():
				errs <- ctx.Err()
				return
			}
		}
	}()
	return out, errs
}

func (f *fake) send(kind events.Type, action events.Action, attributes map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.streams {
		s <- events.Message{Type: kind, Action: action, Actor: events.Actor{Attributes: attributes}, TimeNano: time.Now().UnixNano()}
	}
}

// service of that name, replicated, with a port.
func service(name string, change ...func(*swarm.Service)) swarm.Service {
	n := uint64(2)
	s := swarm.Service{ID: "id-of-" + name, Spec: swarm.ServiceSpec{
		Annotations: swarm.Annotations{Name: name, Labels: map[string]string{labelPort: "8000"}},
		Mode:        swarm.ServiceMode{Replicated: &swarm.ReplicatedService{Replicas: &n}},
	}}
	for _, do := range change {
		do(&s)
	}
	return s
}

// task of the service "api" that runs on the node "here", in the container "c-ID".
func task(id string, change ...func(*swarm.Task)) swarm.Task {
	t := swarm.Task{
		ID: id, ServiceID: "id-of-api", NodeID: "here", Slot: 1, DesiredState: swarm.TaskStateRunning,
		Status: swarm.TaskStatus{State: swarm.TaskStateRunning, ContainerStatus: &swarm.ContainerStatus{ContainerID: "c-" + id}},
		NetworksAttachments: []swarm.NetworkAttachment{{
			Network: swarm.Network{ID: "APP", Spec: swarm.NetworkSpec{Annotations: swarm.Annotations{Name: "app"}}}, Addresses: []string{"10.0.1.2/24"},
		}},
	}
	for _, do := range change {
		do(&t)
	}
	return t
}

// onBridge is the container of that task on this node, with its address on docker_gwbridge.
func (f *fake) onBridge(id, addr string, ports ...uint16) {
	c := container.Summary{ID: "c-" + id, State: container.StateRunning}
	for _, p := range ports {
		c.Ports = append(c.Ports, container.Port{PrivatePort: p, Type: "tcp"})
	}
	f.local = append(f.local, c)
	if f.bridge.Containers == nil {
		f.bridge.Containers = make(map[string]network.EndpointResource)
	}
	f.bridge.Containers["c-"+id] = network.EndpointResource{IPv4Address: addr + "/16"}
}

func node(id string, state swarm.NodeState) swarm.Node {
	return swarm.Node{ID: id, Description: swarm.NodeDescription{Hostname: "host-" + id}, Status: swarm.NodeStatus{State: state, Addr: "10.99.0.2"}}
}

// viewOf is what a host's listing of f gives; own are the networks of sluice's own container.
func viewOf(t *testing.T, f *fake, own map[string]string) *view {
	t.Helper()
	v := &view{listed: time.Now(), picture: picture{
		services: f.services, tasks: f.tasks, own: own, nodes: map[string]swarm.Node{}, local: map[string]replica{},
	}}
	for _, n := range f.nodes {
		v.nodes[n.ID] = n
	}
	for i := range f.local {
		v.local[f.local[i].ID] = replicaOf(&f.local[i], f.bridge.Containers)
	}
	return v
}
