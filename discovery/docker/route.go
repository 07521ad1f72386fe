package docker

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/docker/api/types/container"
	dockernet "github.com/docker/docker/api/types/network"

	"sluice/balancer"
	"sluice/discovery"
)

// Query says which containers are the servers of an upstream and how they are reached.
type Query struct {
	// Project and Service of Compose. A container of another project never counts; a service is
	// looked for in the project named only.
	Project, Service string
	// Labels that a container must carry with these values, for containers that are not a service.
	Labels map[string]string
	// Stranger says, of a container with these labels, why it is none of those that are looked for; "" when it is one.
	// nil: all are.
	Stranger func(name string, labels map[string]string) (why string)
	// Port inside the container; 0 is the one of the label sluice.port, else the only exposed one.
	Port int
	// Network on which it is reached, by its name or its name in the Compose file; "" is the one of
	// the label sluice.network, else any that sluice can reach.
	Network string
}

// Labels that say how a container is reached.
const (
	labelPort    = "sluice.port"
	labelNetwork = "sluice.network"
)

// problem says what is wrong with the query itself; "" when nothing is.
func (q *Query) problem() string {
	switch {
	case q.Service == "" && len(q.Labels) == 0:
		return "neither a service nor labels to look for"
	case q.Service != "" && q.Project == "":
		return fmt.Sprintf("service %q: sluice runs in no Compose project itself, so engine.project must name one", q.Service)
	}
	return ""
}

func (q *Query) matches(c *container.Summary) bool {
	if q.problem() != "" || c.Labels[labelOneOff] == "True" {
		return false
	}
	if q.Project != "" && c.Labels[labelProject] != q.Project || q.Service != "" && c.Labels[labelService] != q.Service {
		return false
	}
	if q.Service == "" && c.Labels[labelService] != "" { // labels alone never reach into somebody's service
		return false
	}
	for k, want := range q.Labels {
		if got, ok := c.Labels[k]; !ok || got != want {
			return false
		}
	}
	return true
}

// String says in words what is looked for.
func (q *Query) String() string {
	if q.Service != "" {
		return fmt.Sprintf("service %q of project %q", q.Service, q.Project)
	}
	labels := make(map[string]bool, len(q.Labels))
	for k, v := range q.Labels {
		labels[k+"="+v] = true
	}
	return "containers labelled " + list(labels)
}

// servers returns the servers that q finds in v, sorted by name, and of every container that it
// found and did not take, why.
func (q *Query) servers(v *view) ([]balancer.ServerSpec, []discovery.Note) {
	var specs []balancer.ServerSpec
	var notes []discovery.Note
	if why := q.problem(); why != "" {
		return nil, []discovery.Note{{Why: why}}
	}
	var found []*container.Summary
	for i := range v.containers {
		if c := &v.containers[i]; q.matches(c) && c.ID != v.self {
			found = append(found, c)
		}
	}
	slices.SortFunc(found, func(a, b *container.Summary) int {
		return cmp.Or(cmp.Compare(len(name(a)), len(name(b))), cmp.Compare(name(a), name(b)), cmp.Compare(a.ID, b.ID))
	})
	for _, c := range found {
		addr, why := "", ""
		if q.Stranger != nil {
			why = q.Stranger(name(c), c.Labels)
		}
		if why == "" {
			addr, why = q.address(v, c)
		}
		if why != "" {
			notes = append(notes, discovery.Note{ID: short(c.ID), Name: name(c), Why: why})
			continue
		}
		specs = append(specs, balancer.ServerSpec{ID: short(c.ID), Addr: addr})
	}
	if len(found) == 0 {
		notes = append(notes, discovery.Note{Why: "no container found: " + q.String()})
	}
	return specs, notes
}

// address returns where c answers, or why it is not routed.
func (q *Query) address(v *view, c *container.Summary) (addr, why string) {
	if m, out := v.marks[c.ID]; out {
		return "", m.why
	}
	switch c.State {
	case container.StateRunning:
	case container.StatePaused:
		return "", "paused"
	default:
		return "", "not running: " + cmp.Or(strings.ToLower(c.Status), c.State)
	}
	if strings.Contains(c.Status, "(unhealthy)") {
		return "", "its HEALTHCHECK says unhealthy"
	}
	port, why := q.port(v, c)
	if why != "" {
		return "", why
	}
	host, why := q.host(v, c)
	if why != "" {
		return "", why
	}
	return net.JoinHostPort(host, strconv.Itoa(port)), ""
}

func (q *Query) port(v *view, c *container.Summary) (int, string) {
	if q.Port != 0 {
		return q.Port, ""
	}
	if text, ok := c.Labels[labelPort]; ok {
		port, err := strconv.Atoi(text)
		if err != nil || port < 1 || port > 65535 {
			return 0, fmt.Sprintf("label %s: %q is not a port", labelPort, text)
		}
		return port, ""
	}
	detail, known := v.details[c.ID]
	switch {
	case !known:
		return 0, "not inspected yet, so its port is not known"
	case len(detail.ports) == 0:
		return 0, "it exposes no port: say which one with port"
	case len(detail.ports) > 1:
		return 0, fmt.Sprintf("it exposes several ports (%s): say which one with port", ints(detail.ports))
	}
	return detail.ports[0], ""
}

func ints(ns []int) string {
	var b []byte
	for i, n := range ns {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = strconv.AppendInt(b, int64(n), 10)
	}
	return string(b)
}

// host returns the address at which sluice reaches c: in a container only over a network that both
// are on; on the host over any bridge.
func (q *Query) host(v *view, c *container.Summary) (host, why string) {
	wanted := cmp.Or(q.Network, c.Labels[labelNetwork])
	own, onHost := v.own()
	apart := v.apart()
	ends, hostNet := v.attachments(c)
	if hostNet {
		switch {
		case wanted != "" && wanted != dockernet.NetworkHost:
			return "", fmt.Sprintf("not on the network %q: it uses the host's", wanted)
		case !onHost:
			return "", "it uses the host's network, which sluice in its container is not on"
		}
		return "127.0.0.1", ""
	}
	if len(ends) == 0 {
		return "", "it is on no network"
	}
	named, reachable := 0, 0
	for _, key := range slices.Sorted(maps.Keys(ends)) {
		end := ends[key]
		if end == nil {
			continue
		}
		if wanted != "" && !v.isNamed(key, end.NetworkID, wanted) {
			continue
		}
		named++
		if apart {
			if wanted == "" && len(ends) > 1 {
				return "", fmt.Sprintf("it is on several networks (%s), and sluice itself on none: say which one with network", list(ends))
			}
		} else if onHost {
			// The driver is unknown only when the network was made this moment: better a probe too many.
			if driver := v.networks[end.NetworkID].driver; driver != "bridge" && driver != "" {
				continue
			}
		} else if !own[end.NetworkID] {
			continue
		}
		reachable++
		if addr := ip(end); addr != "" {
			return addr, ""
		}
	}
	switch {
	case named == 0:
		return "", fmt.Sprintf("not on the network %q (it is on %s)", wanted, list(ends))
	case reachable > 0:
		return "", "it has no address yet"
	case onHost:
		return "", fmt.Sprintf("it is on no bridge network, and sluice on the host reaches no other (it is on %s)", list(ends))
	}
	return "", fmt.Sprintf("no network shared with sluice (it is on %s; sluice is on %s)", list(ends), v.ownNames())
}

// isNamed reports whether people mean the network with this key and ID by wanted.
func (v *view) isNamed(key, id, wanted string) bool {
	return key == wanted || v.networks[id].label == wanted || v.networks[id].name == wanted
}

// apart reports whether sluice runs in a container without a network: whoever it finds the servers for reaches them.
func (v *view) apart() bool {
	c := v.find(v.self)
	return c != nil && c.HostConfig.NetworkMode == dockernet.NetworkNone
}

// own returns the IDs of the networks that sluice's own container is on, or that sluice uses the
// host's network.
func (v *view) own() (ids map[string]bool, onHost bool) {
	if v.self == "" {
		return nil, true
	}
	c := v.find(v.self)
	if c == nil {
		return nil, false
	}
	ends, hostNet := v.attachments(c)
	ids = make(map[string]bool, len(ends))
	for _, end := range ends {
		if end != nil {
			ids[end.NetworkID] = true
		}
	}
	return ids, hostNet
}

func (v *view) ownNames() string {
	c := v.find(v.self)
	if c == nil {
		return "none"
	}
	ends, _ := v.attachments(c)
	return cmp.Or(list(ends), "none")
}
