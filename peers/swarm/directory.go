package swarm

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"
)

// Tasks is what the directory calls of the engine's client; *client.Client has it.
type Tasks interface {
	ServiceList(ctx context.Context, options swarm.ServiceListOptions) ([]swarm.Service, error)
	TaskList(ctx context.Context, options swarm.TaskListOptions) ([]swarm.Task, error)
	NodeList(ctx context.Context, options swarm.NodeListOptions) ([]swarm.Node, error)
}

// Directory is a peers.Directory: the tasks of sluice's own service whose containers may run, those that are told
// to stop included. A task on a node that Swarm has lost is no gateway any more once Swarm replaces it.
type Directory struct {
	engine  Tasks
	service string
	stack   func() string
	port    string
	name    atomic.Pointer[string]
}

// NewDirectory is that of a service: that of the stack, else one called so in full. stack, called concurrently, is ""
// while it is not known. All listen on port.
func NewDirectory(engine Tasks, service string, stack func() string, port string) *Directory {
	return &Directory{engine: engine, service: service, stack: stack, port: port}
}

// Name is what the service was called in full when it was last found; "" before.
func (d *Directory) Name() string {
	if name := d.name.Load(); name != nil {
		return *name
	}
	return ""
}

const labelStack = "com.docker.stack.namespace"

// Addresses is peers.Directory's. Managers that do not lead ask the one that does, so the answer is the newest.
func (d *Directory) Addresses(ctx context.Context) ([]string, error) {
	service, err := d.find(ctx)
	if err != nil {
		return nil, err
	}
	nodes, err := d.engine.NodeList(ctx, swarm.NodeListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list the nodes: %w", err)
	}
	down := map[string]bool{}
	for _, n := range nodes {
		down[n.ID] = n.Status.State == swarm.NodeStateDown
	}
	tasks, err := d.engine.TaskList(ctx, swarm.TaskListOptions{Filters: filters.NewArgs(filters.Arg("service", service))})
	if err != nil {
		return nil, fmt.Errorf("list the tasks of %s: %w", d.service, err)
	}
	var all []string
	for i := range tasks {
		if !mayRun(&tasks[i], down) {
			continue
		}
		ip, err := overlayAddress(&tasks[i])
		if err != nil {
			return nil, fmt.Errorf("the task %s: %w", tasks[i].ID, err)
		}
		all = append(all, net.JoinHostPort(ip, d.port))
	}
	return all, nil
}

func (d *Directory) find(ctx context.Context) (id string, err error) {
	stack := d.stack()
	inStack := stack + "_" + d.service
	list, err := d.engine.ServiceList(ctx, swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("name", d.service), filters.Arg("name", inStack))})
	if err != nil {
		return "", fmt.Errorf("look for the service %s: %w", d.service, err)
	}
	var found *swarm.Service
	for i := range list { // the filter takes what begins so
		switch s := &list[i]; {
		case stack != "" && s.Spec.Name == inStack && s.Spec.Labels[labelStack] == stack:
			found = s
		case s.Spec.Name == d.service && found == nil:
			found = s
		}
	}
	if found == nil {
		return "", fmt.Errorf("there is no service %q", d.service)
	}
	d.name.Store(&found.Spec.Name)
	return found.ID, nil
}

func mayRun(t *swarm.Task, down map[string]bool) bool {
	stops := t.DesiredState == swarm.TaskStateShutdown || t.DesiredState == swarm.TaskStateRemove
	if stops && down[t.NodeID] {
		return false
	}
	return t.Status.State == swarm.TaskStateStarting || t.Status.State == swarm.TaskStateRunning
}

// overlayAddress is the task's on the first of its networks by name, which all tasks of the service have; the
// ingress network leads to no task.
func overlayAddress(t *swarm.Task) (string, error) {
	attached := slices.DeleteFunc(slices.Clone(t.NetworksAttachments), func(a swarm.NetworkAttachment) bool {
		return a.Network.Spec.Ingress || len(a.Addresses) == 0
	})
	if len(attached) == 0 {
		return "", errors.New("it has no address on an overlay network: give the service one")
	}
	first := slices.MinFunc(attached, func(a, b swarm.NetworkAttachment) int {
		return cmp.Compare(a.Network.Spec.Name, b.Network.Spec.Name)
	})
	prefix, err := netip.ParsePrefix(first.Addresses[0])
	if err != nil {
		return "", err
	}
	return prefix.Addr().String(), nil
}
