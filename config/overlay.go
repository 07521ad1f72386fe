package config

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/proxy"
)

// Labeled is a container whose labels ask for a route.
type Labeled struct {
	// Container is its name.
	Container string
	// Project and Service of Compose; "" when it belongs to none.
	Project, Service string
	// Created decides who was first. Where it is zero, the order of the list does.
	Created time.Time
	Labels  map[string]string
}

// LabelError says why labels of a container have no effect.
type LabelError struct {
	Container string
	// Reason is in words and names the label.
	Reason string
}

func (e LabelError) Error() string { return "container " + e.Container + ": " + e.Reason }

// WithLabels gives c with the routes and upstreams that labels ask for, and the reasons for those
// that it refuses. c is not changed; it must be one without labels. Everything that is wrong stays out,
// everything else counts: a mistake in one service's labels takes nothing from another.
//
// All containers of a service make one upstream, called as sluice.upstream says, else as the service;
// without a service, all containers with the same labels do. The upstream's Labeled says whose it is,
// for the source that finds its servers. When the containers of a service differ in their labels, the
// newest count.
//
// A label never takes what another owns. Owner of the file's hosts and upstreams is the file; of
// all else it is the project that asked first (the project [engine] names goes before all others), or
// the container without a project. Refused are: a route for a host that another owner routes, exactly or by a
// wildcard, whatever the path; a route for any host on a listener where another owner has one; a
// route for the same requests as another of the same project; an upstream name that the file or
// another service has; a listener that clashes with an open one. A route without a host in the file owns no host. The
// upstream that the file already makes from this very service may get routes by labels, but no keys.
//
// c.Engine.Project must be the project in effect; while it is "", no service is the file's.
func (c *Config) WithLabels(found []Labeled) (*Config, []LabelError) {
	o := newOverlay(c)
	for _, g := range o.groups(found) {
		o.group(g)
	}
	return o.out, o.errs
}

type overlay struct {
	file, out *Config
	errs      []LabelError
	names     map[string]bool
	upstreams map[string]string // owner by name of the upstream
	hosts     map[string]string // owner by host; wildcards with their "*."
	anyHost   map[string]string // owner by listener; "" is the shared ones
	matches   *matches
	routes    map[string][]route // made by labels, by owner
}

const theFile = "the configuration file"

func newOverlay(c *Config) *overlay {
	out := *c
	out.Routes = slices.Clone(c.Routes)
	out.Upstreams = map[string]*Upstream{}
	maps.Copy(out.Upstreams, c.Upstreams)
	o := &overlay{file: c, out: &out, names: map[string]bool{}, upstreams: map[string]string{}, hosts: map[string]string{}, anyHost: map[string]string{}, matches: newMatches(), routes: map[string][]route{}}
	for name := range c.Upstreams {
		o.upstreams[name] = theFile
	}
	for i := range c.Routes {
		o.own(&c.Routes[i], theFile)
		o.matches.add(&c.Routes[i], nil)
	}
	return o
}

// group is the containers whose labels count together, the newest first.
type group []Labeled

func (g group) owner() string {
	if g[0].Project != "" {
		return fmt.Sprintf("project %q", g[0].Project)
	}
	return fmt.Sprintf("container %q", g.oldest().Container)
}

func (g group) oldest() Labeled { return g[len(g)-1] }

// groups sorts containers into groups and the groups by who was first.
func (o *overlay) groups(found []Labeled) []group {
	found = slices.Clone(found)
	slices.SortStableFunc(found, func(a, b Labeled) int { return a.Created.Compare(b.Created) })
	var order []string
	byKey := map[string]group{}
	for _, l := range found {
		key := l.Project + "\x00" + l.Service
		if l.Service == "" {
			key = "\x00" + fmt.Sprint(ours(l.Labels)) // maps print sorted
		}
		if byKey[key] == nil {
			order = append(order, key)
		}
		byKey[key] = append(group{l}, byKey[key]...)
	}
	groups := make([]group, len(order))
	for i, key := range order {
		groups[i] = byKey[key]
	}
	slices.SortStableFunc(groups, func(a, b group) int {
		own := func(g group) int {
			if p := g[0].Project; p != "" && p == o.file.Engine.Project {
				return 0
			}
			return 1
		}
		return cmp.Compare(own(a), own(b))
	})
	return groups
}

// ours gives the labels that Labels reads.
func ours(all map[string]string) map[string]string {
	set := map[string]string{}
	for label, text := range all {
		if strings.HasPrefix(label, labelPrefix) && label != labelOwner && !strings.HasPrefix(label, labelReplica) {
			set[label] = text
		}
	}
	return set
}

func (o *overlay) refuse(g group, format string, args ...any) {
	for _, l := range g {
		o.errs = append(o.errs, LabelError{l.Container, fmt.Sprintf(format, args...)})
	}
}

// group adds what the labels of one group ask for.
func (o *overlay) group(g group) {
	newest := g[0]
	for _, l := range g[1:] {
		if !maps.Equal(ours(l.Labels), ours(newest.Labels)) {
			o.refuse(group{l}, "its labels differ from those of %s, which is newer and counts for the service", newest.Container)
		}
	}
	service := cmp.Or(newest.Service, g.oldest().Container)
	set, errs := Labels(newest.Labels, service, "container "+newest.Container)
	for _, e := range errs {
		o.refuse(g, "%s", strings.TrimPrefix(e.Error(), "container "+newest.Container+": "))
	}
	if set == nil {
		return
	}
	name, ok := o.upstream(g, set, service)
	if !ok {
		return
	}
	for i := range set.Routes {
		o.route(g, set, i, name)
	}
}

// upstream finds or makes the group's upstream.
func (o *overlay) upstream(g group, set *LabelSet, service string) (name string, ok bool) {
	name = set.Name
	if name == "" {
		name = service
		for _, n := range slices.Sorted(maps.Keys(o.file.Upstreams)) { // the service may have another name there
			if o.isFiles(g, n) {
				name = n
				break
			}
		}
	}
	if err := checkUpstreamName(name); err != nil {
		o.refuse(g, "%s; name it by the label sluice.upstream", err)
		return "", false
	}
	switch owner := o.upstreams[name]; {
	case o.isFiles(g, name):
		if set.Tuned {
			o.refuse(g, "[upstream.%s] of the configuration file is this service, so its keys count and labels set none", quoteKey(name))
		}
		return name, true
	case owner != "":
		o.refuse(g, "the upstream name %q belongs to %s; choose another by the label sluice.upstream", name, owner)
		return "", false
	}
	o.upstreams[name] = g.owner()
	u := set.Upstream
	u.Labeled = &Owner{Project: g[0].Project, Service: g[0].Service}
	if g[0].Service == "" {
		u.Labeled.Labels = ours(g[0].Labels)
		if u.Scale != nil {
			o.refuse(g, "label sluice.scale: only a service can be scaled, and this container belongs to none")
			u.Scale = nil
		}
	}
	o.out.Upstreams[name] = u
	return name, true
}

// isFiles tells whether the file's upstream of that name is the group's own service.
func (o *overlay) isFiles(g group, name string) bool {
	u := o.file.Upstreams[name]
	return u != nil && u.Discovery.Service != nil && g[0].Service != "" && u.Discovery.Service.Name == g[0].Service &&
		g[0].Project != "" && g[0].Project == o.file.Engine.Project
}

// route adds one route of the group, unless it takes what another owns.
func (o *overlay) route(g group, set *LabelSet, i int, name string) {
	r, v := &set.Routes[i], set.values[i]
	label := func(key string) string { return "label " + v.near(key).label + ": " }
	by := g.owner()
	for _, h := range r.Host {
		if owner, pattern := o.routed(h); owner != "" && owner != by {
			if pattern == h {
				o.refuse(g, "%sthe host %q belongs to %s", label("host"), h, owner)
			} else {
				o.refuse(g, "%sthe host %q belongs to %s, which routes %q", label("host"), h, owner, pattern)
			}
			return
		}
	}
	if len(r.Host) == 0 {
		if owner := o.anyHost[o.shared(r.Listen)]; owner != "" && owner != by {
			o.refuse(g, "%s routes any host on this listener already; add the label %s.host", owner, v.label)
			return
		}
	}
	if other := o.clashes(r.Listen); other != "" {
		o.refuse(g, "%s%q and %q, which is open, are the same port", label("listen"), r.Listen, other)
		return
	}
	if r.Upstream != "" {
		r.Upstream = name
	}
	switch {
	case v.get("name") != nil && o.names[r.Name]:
		o.refuse(g, "%sthe route name %q is taken", label("name"), r.Name)
		return
	case v.get("name") == nil && r.Name != "":
		r.Name = unique(name+"/"+r.Name, func(s string) bool { return o.names[s] })
	case r.Name == "":
		r.Name = unique(routeName(r), func(s string) bool { return o.names[s] })
	}
	if first, same := o.matches.add(r, v); same {
		o.refuse(g, "the route %q matches the same requests as the route %q", r.Name, first.name)
		return
	}
	o.routes[by] = append(o.routes[by], *r) // only routes of one owner can match the same
	if err := proxy.CheckRoutes(o.routes[by]); err != nil {
		o.routes[by] = o.routes[by][:len(o.routes[by])-1]
		o.refuse(g, "%s", strings.ReplaceAll(err.Error(), "\n", "; "))
		return
	}
	o.own(r, by)
	o.out.Routes = append(o.out.Routes, *r)
}

// own notes what a route owns.
func (o *overlay) own(r *route, by string) {
	o.names[r.Name] = true
	for _, h := range r.Host {
		o.hosts[h] = by
	}
	if key := o.shared(r.Listen); len(r.Host) == 0 && o.anyHost[key] == "" {
		o.anyHost[key] = by
	}
}

// shared gives the listener that a route without a host owns; all listeners of the top level are one.
func (o *overlay) shared(listen string) string {
	if slices.Contains(o.file.Listen, listen) {
		return ""
	}
	return listen
}

// routed gives who routes a host, and by which pattern.
func (o *overlay) routed(host string) (owner, pattern string) {
	if by := o.hosts[host]; by != "" {
		return by, host
	}
	for rest := strings.TrimPrefix(host, "*."); ; {
		_, parent, ok := strings.Cut(rest, ".")
		if !ok {
			return "", ""
		}
		if by := o.hosts["*."+parent]; by != "" {
			return by, "*." + parent
		}
		rest = parent
	}
}

// clashes gives the open listener that keeps this one from being opened; "" when it is open itself or can be.
func (o *overlay) clashes(listen string) string {
	if listen == "" {
		return ""
	}
	for _, other := range []string{o.file.Admin.Listen, o.file.Metrics.Listen} {
		if clash(other, listen) {
			return other
		}
	}
	open := slices.Clone(o.file.Listen)
	for _, r := range o.out.Routes {
		open = append(open, r.Listen)
	}
	if slices.Contains(open, listen) {
		return ""
	}
	for _, other := range open {
		if clash(other, listen) {
			return other
		}
	}
	return ""
}
