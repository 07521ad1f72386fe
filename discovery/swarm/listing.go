package swarm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/network"
	"github.com/docker/docker/api/types/swarm"

	"sluice/discovery/docker"
)

// Client is what discovery calls of the engine's client; *client.Client has it. All users of one
// client share one hub, so the value must be comparable.
type Client interface {
	docker.Client
	ServiceList(ctx context.Context, options swarm.ServiceListOptions) ([]swarm.Service, error)
	TaskList(ctx context.Context, options swarm.TaskListOptions) ([]swarm.Task, error)
	NodeList(ctx context.Context, options swarm.NodeListOptions) ([]swarm.Node, error)
	NetworkInspect(ctx context.Context, id string, options network.InspectOptions) (network.Inspect, error)
}

// Labels that Swarm puts on the containers of its tasks, and `docker stack` on what it makes.
const (
	labelTaskID    = "com.docker.swarm.task.id"
	labelServiceID = "com.docker.swarm.service.id"
	labelStack     = "com.docker.stack.namespace"
)

// gwbridge is the local bridge that every container on an overlay network is on as well.
const gwbridge = "docker_gwbridge"

// listing is what one round of questions to the manager gave.
type listing struct {
	picture
	number uint64 // counts from 1
	begun  time.Time
	err    error // all else is void
}

// errHung is what a call that was given up ends with.
var errHung = fmt.Errorf("no answer within %s", callTimeout)

// call makes one call of the engine, which ends by callTimeout. After an error in l it does nothing.
func call[T any](ctx context.Context, l *listing, f func(context.Context) (T, error)) (got T) {
	if l.err != nil {
		return got
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errHung)
	defer cancel()
	got, l.err = f(ctx)
	if l.err != nil && errors.Is(context.Cause(ctx), errHung) {
		l.err = errHung
	}
	return got
}

// list is Feed.List: it asks the manager for the services that are followed, their tasks and the nodes,
// and the engine for the addresses that its own node has.
func (h *hub) list(ctx context.Context) func() (bool, time.Duration) {
	l := &listing{begun: time.Now(), number: h.begun.Add(1)}
	queries := h.queries()
	self := call(ctx, l, func(ctx context.Context) (*container.InspectResponse, error) { return docker.FindSelf(ctx, h.cli) })
	l.own = ownNetworks(self)
	nodes := call(ctx, l, func(ctx context.Context) ([]swarm.Node, error) {
		return h.cli.NodeList(ctx, swarm.NodeListOptions{})
	})
	called := filters.NewArgs()
	for _, q := range queries {
		called.Add("name", q.Service)
		called.Add("name", q.Stack+"_"+q.Service)
	}
	l.services = call(ctx, l, func(ctx context.Context) ([]swarm.Service, error) {
		return h.cli.ServiceList(ctx, swarm.ServiceListOptions{Filters: called})
	})
	l.services = meant(queries, l.services)
	if len(l.services) > 0 {
		of := filters.NewArgs()
		for i := range l.services {
			of.Add("service", l.services[i].ID)
		}
		l.tasks = call(ctx, l, func(ctx context.Context) ([]swarm.Task, error) {
			return h.cli.TaskList(ctx, swarm.TaskListOptions{Filters: of})
		})
		if errdefs.IsNotFound(l.err) { // a service was removed this moment
			h.Poke()
		}
	}
	local := call(ctx, l, func(ctx context.Context) ([]container.Summary, error) {
		return h.cli.ContainerList(ctx, container.ListOptions{Filters: filters.NewArgs(filters.Arg("label", labelServiceID))})
	})
	var bridge network.Inspect
	if l.own == nil && len(local) > 0 {
		bridge = call(ctx, l, func(ctx context.Context) (network.Inspect, error) {
			found, err := h.cli.NetworkInspect(ctx, gwbridge, network.InspectOptions{})
			if errdefs.IsNotFound(err) {
				err = nil
			}
			return found, err
		})
	}
	l.nodes = make(map[string]swarm.Node, len(nodes))
	for _, n := range nodes {
		l.nodes[n.ID] = n
	}
	l.local = make(map[string]replica, len(local))
	for i := range local {
		l.local[local[i].ID] = replicaOf(&local[i], bridge.Containers)
	}
	return func() (bool, time.Duration) { return h.tookListing(l) }
}

// meant are those of found that a query means: a filter by name takes all that begin so.
func meant(queries []*Query, found []swarm.Service) []swarm.Service {
	var services []swarm.Service
	for i := range found {
		s := &found[i]
		if slices.ContainsFunc(queries, func(q *Query) bool { return q.find(found) == s }) {
			services = append(services, *s)
		}
	}
	return services
}

// ownNetworks are the networks of sluice's own container, names by ID; nil when sluice is a process
// on the host, or uses the host's network.
func ownNetworks(self *container.InspectResponse) map[string]string {
	if self == nil || self.HostConfig != nil && self.HostConfig.NetworkMode.IsHost() {
		return nil
	}
	own := make(map[string]string)
	if self.NetworkSettings != nil {
		for name, end := range self.NetworkSettings.Networks {
			if end != nil {
				own[end.NetworkID] = name
			}
		}
	}
	return own
}

// replicaOf says what this node knows of a task's container: an address that its host reaches, on
// docker_gwbridge or, for a service without a network of its own, on the default bridge; and the
// ports that its image exposes.
func replicaOf(c *container.Summary, bridged map[string]network.EndpointResource) replica {
	var r replica
	if p, err := netip.ParsePrefix(bridged[c.ID].IPv4Address); err == nil {
		r.addr = p.Addr().String()
	} else if p, err := netip.ParsePrefix(bridged[c.ID].IPv6Address); err == nil {
		r.addr = p.Addr().String()
	}
	if c.NetworkSettings != nil && r.addr == "" {
		if end := c.NetworkSettings.Networks[network.NetworkBridge]; end != nil {
			r.addr = end.IPAddress
		}
	}
	for _, p := range c.Ports {
		if port := int(p.PrivatePort); p.Type == "tcp" && !slices.Contains(r.ports, port) {
			r.ports = append(r.ports, port)
		}
	}
	slices.Sort(r.ports)
	return r
}
