package config

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// matches finds routes that match the same requests with nothing to prefer one of them.
type matches struct {
	seen map[string][]match
}

type match struct {
	name    string
	methods []string
	at      *value
}

func newMatches() *matches { return &matches{seen: map[string][]match{}} }

// add notes what a route matches and gives the earlier route that matches the same, if there is one.
// Routes with method sets that overlap are such routes too; a method against any method is not: it is more precise.
func (m *matches) add(r *route, v *value) (match, bool) {
	hosts := r.Host
	if len(hosts) == 0 {
		hosts = []string{""}
	}
	var b strings.Builder
	path := strings.TrimSuffix(r.Path, "/")
	fmt.Fprintf(&b, "%q %q %q %q", r.Listen, path, r.PathExact, r.PathRegex)
	for _, name := range sortedFold(r.Header) {
		fmt.Fprintf(&b, " %q:%q", strings.ToLower(name), r.Header[name])
	}
	for _, name := range slices.Sorted(maps.Keys(r.Query)) {
		fmt.Fprintf(&b, " ?%q=%q", name, r.Query[name])
	}
	for i, h := range hosts {
		if slices.Contains(hosts[:i], h) {
			continue
		}
		key := h + " " + b.String()
		for _, other := range m.seen[key] {
			if len(other.methods) == 0 && len(r.Method) == 0 || slices.ContainsFunc(r.Method, func(s string) bool { return slices.Contains(other.methods, s) }) {
				return other, true
			}
		}
		m.seen[key] = append(m.seen[key], match{r.Name, r.Method, v})
	}
	return match{}, false
}

func sortedFold(m map[string]string) []string {
	return slices.SortedFunc(maps.Keys(m), func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
}
