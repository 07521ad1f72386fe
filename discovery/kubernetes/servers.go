package kubernetes

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"sluice/balancer"
	"sluice/discovery"
)

// Query says which endpoints are servers.
type Query struct {
	Namespace, Service string
	// Port is the number of the port in the pods, PortName its name in the Service; without both the Service has
	// one port only.
	Port     int
	PortName string
}

func (q Query) String() string { return "service " + q.Namespace + "/" + q.Service }

// candidate is what all slices together say of one endpoint. While the control plane moves an endpoint from one
// slice to another, both list it for a moment.
type candidate struct {
	balancer.ServerSpec
	name string // of the pod, else the address
	why  string // it is not routed; "" when it is
	rank int    // of why: the higher one counts
}

const (
	routed = iota
	noPort
	notReady
	terminating
)

// servers returns the servers that slices, all those of one Service, list, and why the others are none. Of a Service
// with both address families IPv4 is used, so that no pod is two servers.
//
// A server's ID is made of the UID of its pod, not of the address: a new pod that is given the address of one that
// has just gone is another server. An endpoint without a pod has its address for ID.
//
// https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions
func (q Query) servers(all []*discoveryv1.EndpointSlice) ([]balancer.ServerSpec, []discovery.Note) {
	var notes []discovery.Note
	if len(all) == 0 {
		return nil, []discovery.Note{{Name: q.Service, Why: fmt.Sprintf("there is no EndpointSlice of a Service %s in the namespace %s: there is no such Service, or it selects no pods", q.Service, q.Namespace)}}
	}
	family := familyOf(all)
	found := make(map[string]*candidate)
	for _, slice := range all {
		if slice.AddressType != family {
			continue
		}
		port, why := q.portOf(slice)
		if why != "" && len(slice.Endpoints) == 0 {
			continue // the placeholder of a Service without pods has no ports
		}
		for i := range slice.Endpoints {
			e := &slice.Endpoints[i]
			if len(e.Addresses) == 0 {
				continue
			}
			c := candidate{ServerSpec: balancer.ServerSpec{Addr: net.JoinHostPort(e.Addresses[0], strconv.Itoa(port))}, name: e.Addresses[0]}
			c.ID = c.Addr
			if ref := e.TargetRef; ref != nil && ref.Kind == "Pod" && ref.UID != "" {
				c.ID, c.name = ServerID(string(ref.UID)), ref.Name
			}
			switch is := e.Conditions; {
			case is.Terminating != nil && *is.Terminating:
				c.rank, c.why = terminating, "it is being stopped"
			case is.Ready != nil && !*is.Ready, is.Serving != nil && !*is.Serving: // nil is unknown, and counts as ready
				c.rank, c.why = notReady, "its pod is not ready"
			case why != "":
				c.rank, c.why = noPort, why
			}
			if before := found[c.ID]; before == nil || c.rank > before.rank {
				found[c.ID] = &c
			}
		}
	}
	specs := make([]balancer.ServerSpec, 0, len(found))
	for id, c := range found {
		if c.why != "" {
			notes = append(notes, discovery.Note{ID: id, Name: c.name, Why: c.why})
			continue
		}
		specs = append(specs, c.ServerSpec)
	}
	slices.SortFunc(specs, func(a, b balancer.ServerSpec) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(notes, func(a, b discovery.Note) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return specs, notes
}

// ServerID is the ID of the server in the pod of that UID: its first 48 bits, in hexadecimal. The UIDs of pods are
// random (RFC 9562, version 4).
func ServerID(uid string) string {
	id := strings.ReplaceAll(uid, "-", "")
	return id[:min(12, len(id))]
}

// familyOf is the one address family that is used. A Service with both has slices of both, without endpoints too, so
// that the choice does not change while pods come and go.
func familyOf(all []*discoveryv1.EndpointSlice) discoveryv1.AddressType {
	for _, slice := range all {
		if slice.AddressType == discoveryv1.AddressTypeIPv4 {
			return discoveryv1.AddressTypeIPv4
		}
	}
	return discoveryv1.AddressTypeIPv6
}

// portOf is the port of the endpoints of one slice; one name may be another number in another slice.
func (q Query) portOf(slice *discoveryv1.EndpointSlice) (port int, why string) {
	var known []string
	var fits []int
	for _, p := range slice.Ports {
		if p.Port == nil || p.Protocol != nil && *p.Protocol != corev1.ProtocolTCP {
			continue
		}
		name := ""
		if p.Name != nil {
			name = *p.Name
		}
		known = append(known, strings.TrimSpace(fmt.Sprintf("%d %s", *p.Port, name)))
		if (q.Port == 0 || q.Port == int(*p.Port)) && (q.PortName == "" || q.PortName == name) {
			fits = append(fits, int(*p.Port))
		}
	}
	slices.Sort(fits)
	fits = slices.Compact(fits)
	switch {
	case len(fits) == 1:
		return fits[0], ""
	case len(fits) > 1:
		return 0, fmt.Sprintf("the Service %s has several ports (%s): say which, with port or port_name", q.Service, strings.Join(known, ", "))
	case len(known) == 0 && q.Port != 0 && q.PortName == "": // a headless Service needs none
		return q.Port, ""
	case len(known) == 0:
		return 0, fmt.Sprintf("the Service %s says no TCP port of its pods: say which, with port", q.Service)
	}
	return 0, fmt.Sprintf("the Service %s has no port %s in its pods, only %s", q.Service, strings.TrimSpace(strings.TrimPrefix(strconv.Itoa(q.Port), "0")+" "+q.PortName), strings.Join(known, ", "))
}
