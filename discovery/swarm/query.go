package swarm

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/swarm"

	"sluice/balancer"
	"sluice/discovery"
)

// Query says which tasks are the servers of an upstream and how they are reached.
type Query struct {
	// Service is its name. With a Stack, the service of that stack goes before one that is called so
	// in full.
	Service, Stack string
	// Port inside the container; 0 is the one of the service's label sluice.port, else the only one it
	// publishes, else the only one that its image exposes, which only a task on this node tells.
	Port int
	// Network on which it is reached, by its name with or without the stack's; "" is the one of the
	// service's label sluice.network, else any that sluice is on too.
	Network string
}

// Labels of a service that say how its tasks are reached.
const (
	labelPort    = "sluice.port"
	labelNetwork = "sluice.network"
)

// String says in words what is looked for.
func (q *Query) String() string {
	if q.Stack != "" {
		return fmt.Sprintf("Swarm service %q (or %q)", q.Stack+"_"+q.Service, q.Service)
	}
	return fmt.Sprintf("Swarm service %q", q.Service)
}

// find returns the service that is meant; nil when there is none.
func (q *Query) find(services []swarm.Service) *swarm.Service {
	var plain *swarm.Service
	for i := range services {
		switch s := &services[i]; s.Spec.Name {
		case q.Stack + "_" + q.Service:
			if q.Stack != "" && s.Spec.Labels[labelStack] == q.Stack {
				return s
			}
		case q.Service:
			plain = s
		}
	}
	return plain
}

// servers returns the servers that q finds in v, sorted by name, and of every task that Swarm has not
// yet done with and that is none, why.
func (q *Query) servers(v *view) ([]balancer.ServerSpec, []discovery.Note) {
	s := q.find(v.services)
	if s == nil {
		return nil, []discovery.Note{{Why: "there is no " + q.String()}}
	}
	port, why := q.port(v, s)
	if why != "" {
		return nil, []discovery.Note{{Name: s.Spec.Name, Why: why}}
	}
	var specs []balancer.ServerSpec
	var notes []discovery.Note
	var found []*swarm.Task
	for i := range v.tasks {
		if t := &v.tasks[i]; t.ServiceID == s.ID && (wanted(t) || !ended(t)) {
			found = append(found, t)
		}
	}
	slices.SortFunc(found, func(a, b *swarm.Task) int {
		return cmp.Or(cmp.Compare(a.Slot, b.Slot), cmp.Compare(a.NodeID, b.NodeID), cmp.Compare(a.ID, b.ID))
	})
	for _, t := range found {
		host, why := q.host(v, s, t, port)
		if why != "" {
			notes = append(notes, discovery.Note{ID: short(t.ID), Name: v.taskName(s, t), Why: why})
			continue
		}
		specs = append(specs, balancer.ServerSpec{ID: short(t.ID), Addr: host})
	}
	if len(found) == 0 {
		notes = append(notes, discovery.Note{Name: s.Spec.Name, Why: "the service has no tasks"})
	}
	return specs, notes
}

// host returns where t answers, or why it is not routed.
func (q *Query) host(v *view, s *swarm.Service, t *swarm.Task, port int) (addr, why string) {
	if m, out := v.marks[t.ID]; out {
		return "", m.why
	}
	status := t.Status
	said := cmp.Or(status.Err, status.Message)
	switch {
	case !wanted(t) && (t.DesiredState == swarm.TaskStateReady || t.DesiredState == swarm.TaskStateAccepted):
		return "", "held back by Swarm until its turn (" + string(status.State) + ")"
	case !wanted(t):
		return "", fmt.Sprintf("told to stop (%s, wanted: %s)", status.State, t.DesiredState)
	case status.State == swarm.TaskStatePending:
		return "", "no node has taken it: " + said
	case status.State != swarm.TaskStateRunning:
		return "", fmt.Sprintf("%s: %s", status.State, said)
	}
	node := v.nodes[t.NodeID]
	if node.Status.State == swarm.NodeStateDown {
		return "", fmt.Sprintf("its node %s is down", node.Description.Hostname)
	}
	host, why := q.reach(v, s, t)
	if why != "" {
		if published := v.published(t, port); published != "" {
			return published, ""
		}
		return "", why
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), ""
}

// reach returns the address at which sluice reaches t: in a container, over a network that both are
// on; on the host, over the bridges of its own node.
func (q *Query) reach(v *view, s *swarm.Service, t *swarm.Task) (host, why string) {
	network := cmp.Or(q.Network, s.Spec.Labels[labelNetwork])
	on := make(map[string]string, len(t.NetworksAttachments)) // its addresses by network name
	for _, a := range t.NetworksAttachments {
		name := a.Network.Spec.Name
		if network != "" && name != network && (q.Stack == "" || name != q.Stack+"_"+network) || a.Network.Spec.Ingress {
			continue
		}
		on[name] = ""
		for _, text := range a.Addresses {
			if p, err := netip.ParsePrefix(text); err == nil {
				on[name] = p.Addr().String()
				break
			}
		}
		if _, both := v.own[a.Network.ID]; both && on[name] != "" {
			return on[name], ""
		}
	}
	if network != "" && len(on) == 0 {
		return "", fmt.Sprintf("not on the network %q", network)
	}
	if v.own != nil {
		return "", fmt.Sprintf("no network shared with sluice (it is on %s; sluice is on %s): put sluice on an overlay network of the service", names(on), names(invert(v.own)))
	}
	local, here := replica{}, false
	if status := t.Status.ContainerStatus; status != nil {
		local, here = v.local[status.ContainerID]
	}
	switch {
	case !here:
		return "", fmt.Sprintf("it runs on the node %s, and sluice outside of a container reaches only tasks of its own node: run sluice as a service on an overlay network, or publish the port in host mode", cmp.Or(v.nodes[t.NodeID].Description.Hostname, t.NodeID))
	case local.addr == "":
		return "", fmt.Sprintf("it has no address on %s that the host reaches (it is on %s)", gwbridge, names(on))
	}
	return local.addr, ""
}

// published returns the address of the port that t publishes on its node in host mode for port; ""
// for none that sluice reaches.
func (v *view) published(t *swarm.Task, port int) string {
	for _, p := range t.Status.PortStatus.Ports {
		if p.PublishMode != swarm.PortConfigPublishModeHost || int(p.TargetPort) != port || p.PublishedPort == 0 || p.Protocol != swarm.PortConfigProtocolTCP {
			continue
		}
		addr, err := netip.ParseAddr(v.nodes[t.NodeID].Status.Addr)
		if v.own == nil && t.Status.ContainerStatus != nil {
			if _, here := v.local[t.Status.ContainerStatus.ContainerID]; here {
				addr, err = netip.AddrFrom4([4]byte{127, 0, 0, 1}), nil
			}
		}
		if err != nil || addr.IsUnspecified() || addr.IsLoopback() && v.own != nil {
			continue
		}
		return netip.AddrPortFrom(addr, uint16(p.PublishedPort)).String()
	}
	return ""
}

// port returns where the tasks of s answer inside their containers.
func (q *Query) port(v *view, s *swarm.Service) (int, string) {
	if q.Port != 0 {
		return q.Port, ""
	}
	if text, ok := s.Spec.Labels[labelPort]; ok {
		port, err := strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return 0, fmt.Sprintf("label %s: %q is not a port", labelPort, text)
		}
		return port, ""
	}
	var ports []int
	source := "publishes"
	if e := s.Spec.EndpointSpec; e != nil {
		for _, p := range e.Ports {
			if port := int(p.TargetPort); p.Protocol == swarm.PortConfigProtocolTCP && !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	for i := range v.tasks {
		if t := &v.tasks[i]; len(ports) == 0 && t.ServiceID == s.ID && t.Status.ContainerStatus != nil {
			ports, source = v.local[t.Status.ContainerStatus.ContainerID].ports, "exposes"
		}
	}
	switch len(ports) {
	case 0:
		return 0, "it publishes no port, and no running task on this node tells what its image exposes: say which one with port"
	case 1:
		return ports[0], ""
	}
	return 0, fmt.Sprintf("it %s several ports (%s): say which one with port", source, strings.Trim(fmt.Sprint(ports), "[]"))
}

// taskName is what `docker service ps` calls t: by slot, or by node in a global service.
func (v *view) taskName(s *swarm.Service, t *swarm.Task) string {
	if t.Slot > 0 {
		return s.Spec.Name + "." + strconv.Itoa(t.Slot)
	}
	return s.Spec.Name + "." + cmp.Or(v.nodes[t.NodeID].Description.Hostname, t.NodeID)
}

// short is the ID as people see it.
func short(id string) string { return id[:min(len(id), 12)] }

// names for people: "a, b".
func names(m map[string]string) string {
	return cmp.Or(strings.Join(slices.Sorted(maps.Keys(m)), ", "), "none")
}

func invert(m map[string]string) map[string]string {
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[v] = k
	}
	return out
}
