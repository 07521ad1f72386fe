package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// TableConfig is what a routing table is made from.
type TableConfig struct {
	// Listen are the listeners that routes without their own listen share.
	Listen []string
	Routes []RouteConfig
	// Upstreams by the name that routes call them; a route to an address finds it under the address.
	Upstreams map[string]*Upstream
	// TrustedProxies are the peers whose X-Forwarded-* fields are believed.
	TrustedProxies []netip.Prefix
	// Secure is about listeners with TLS.
	Secure Secure
}

// Table holds the compiled routes. It is never changed: a reload builds another one aside. All methods
// may be called concurrently.
type Table struct {
	routes    []*Route // in file order
	shared    *index   // for listeners that no route names
	listeners map[string]*index
	upstreams []*Upstream // those the routes lead to, by name
	trusted   []netip.Prefix
	secure    Secure
	unmatched *routeStats // requests without a route
}

// NewTable compiles the routes. Limiters, counters and connections of what prev had and this table still
// has live on; prev is nil at the start. The error joins one *RouteError for each thing that is wrong.
func NewTable(cfg TableConfig, prev *Table) (*Table, error) {
	routes, err := compileRoutes(cfg.Routes)
	wrong := []error{err}
	t := &Table{routes: routes, trusted: cfg.TrustedProxies, secure: cfg.Secure, unmatched: newRouteStats("", "")}
	old, seen := map[string]*Route{}, map[*Upstream]bool{}
	if prev != nil {
		t.unmatched = prev.unmatched
		for _, r := range prev.routes {
			old[r.name] = r
		}
	}
	for _, r := range routes {
		if name := r.cfg.Upstream; name != "" {
			if r.upstream = cfg.Upstreams[name]; r.upstream == nil {
				wrong = append(wrong, &RouteError{Index: r.order, Route: r.name, Key: "upstream", Text: fmt.Sprintf("there is no upstream %q", name)})
			} else if !seen[r.upstream] {
				seen[r.upstream] = true
				t.upstreams = append(t.upstreams, r.upstream)
			}
		}
		r.stats = newRouteStats(r.name, r.cfg.Upstream)
		if o := old[r.name]; o != nil {
			r.inherit(o)
		}
	}
	if err := errors.Join(wrong...); err != nil {
		return nil, err
	}
	slices.SortFunc(t.upstreams, func(a, b *Upstream) int { return cmp.Compare(a.Name(), b.Name()) })
	t.index(cfg.Listen)
	return t, nil
}

// CheckRoutes tells everything that is wrong with routes but whether their upstreams exist. The error
// joins one *RouteError for each.
func CheckRoutes(routes []RouteConfig) error {
	_, err := compileRoutes(routes)
	return err
}

// compileRoutes compiles and names the routes and looks for those that can never be reached.
func compileRoutes(configs []RouteConfig) ([]*Route, error) {
	var wrong []error
	named := map[string]int{}
	for i, c := range configs {
		if c.Name == "" {
			continue
		}
		if first, twice := named[c.Name]; twice {
			wrong = append(wrong, &RouteError{i, c.Name, "name", fmt.Sprintf("route %d has the same name", first+1)})
		}
		named[c.Name] = i
	}
	routes := make([]*Route, 0, len(configs))
	type place struct{ listen, host, exact, prefix, regex string }
	before := map[place][]*Route{}
	for i, c := range configs {
		r, err := compileRoute(c, i)
		if r.name == "" {
			r.name = r.defaultName()
			for n := 2; ; n++ {
				if _, taken := named[r.name]; !taken {
					break
				}
				r.name = fmt.Sprintf("%s #%d", r.defaultName(), n)
			}
			named[r.name] = i
		}
		if err != nil {
			if e, ok := errors.AsType[*RouteError](err); ok {
				e.Index, e.Route = i, r.name
			}
			wrong = append(wrong, err)
			continue
		}
		routes = append(routes, r)
		hosts := r.hosts
		if len(hosts) == 0 {
			hosts = []string{"*"}
		}
		for _, host := range hosts {
			at := place{c.Listen, host, r.exact, r.prefix, c.PathRegex}
			for _, o := range before[at] {
				if r.sameMatch(o) {
					wrong = append(wrong, &RouteError{i, r.name, "", fmt.Sprintf("can never be reached for host %s: route %s matches the same", host, o.name)})
				}
			}
			before[at] = append(before[at], r)
		}
	}
	return routes, errors.Join(wrong...)
}

// index is what one listener routes by: host first, then path.
type index struct {
	hosts       map[string]*paths
	wildcards   map[string]*paths // "*.example.com" under "example.com"
	longestWild int               // length of the longest key of wildcards
	any         *paths
}

// paths are the routes of one host pattern.
type paths struct {
	exact  map[string][]*Route
	prefix node
	regex  []*Route // in file order
	rest   []*Route // those for any path
}

// node is one segment of the prefixes.
type node struct {
	parent   *node
	children map[string]*node
	routes   []*Route
}

// index builds one index for each listener that routes name and one for all others.
func (t *Table) index(listen []string) {
	t.shared, t.listeners = newIndex(), map[string]*index{}
	for _, r := range t.routes {
		if r.cfg.Listen != "" && t.listeners[r.cfg.Listen] == nil {
			t.listeners[r.cfg.Listen] = newIndex()
		}
	}
	ordered := slices.Clone(t.routes)
	slices.SortStableFunc(ordered, specific)
	for _, r := range ordered {
		if r.cfg.Listen != "" {
			t.listeners[r.cfg.Listen].add(r)
			continue
		}
		t.shared.add(r)
		for l, ix := range t.listeners {
			if slices.Contains(listen, l) {
				ix.add(r)
			}
		}
	}
}

// specific puts of two routes with the same host and path the one first that asks for more: first a
// route of this listener alone, then by the number of conditions, then by file order (the sort is stable).
func specific(a, b *Route) int {
	return cmp.Or(
		cmp.Compare(min(len(b.cfg.Listen), 1), min(len(a.cfg.Listen), 1)),
		cmp.Compare(b.conditions(), a.conditions()),
	)
}

func (r *Route) conditions() int {
	return min(len(r.methods), 1) + len(r.headers) + len(r.queries)
}

func newIndex() *index {
	return &index{hosts: map[string]*paths{}, wildcards: map[string]*paths{}, any: &paths{}}
}

func (ix *index) add(r *Route) {
	if len(r.hosts) == 0 {
		ix.any.add(r)
	}
	for _, host := range r.hosts {
		of := ix.hosts
		if name, wild := strings.CutPrefix(host, "*."); wild {
			host, of = name, ix.wildcards
			ix.longestWild = max(ix.longestWild, len(name))
		}
		if of[host] == nil {
			of[host] = &paths{}
		}
		of[host].add(r)
	}
}

func (p *paths) add(r *Route) {
	switch {
	case r.exact != "":
		if p.exact == nil {
			p.exact = map[string][]*Route{}
		}
		p.exact[r.exact] = append(p.exact[r.exact], r)
	case r.regex != nil:
		at, _ := slices.BinarySearchFunc(p.regex, r, func(a, b *Route) int { return cmp.Compare(a.order, b.order) })
		p.regex = slices.Insert(p.regex, at, r)
	case r.prefix == "":
		p.rest = append(p.rest, r)
	default:
		n := &p.prefix
		for segment := range strings.SplitSeq(r.prefix[1:], "/") {
			next := n.children[segment]
			if next == nil {
				next = &node{parent: n}
				if n.children == nil {
					n.children = map[string]*node{}
				}
				n.children[segment] = next
			}
			n = next
		}
		n.routes = append(n.routes, r)
	}
}
