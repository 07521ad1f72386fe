package config

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"sluice/discovery"
	"sluice/proxy"
)

type route = proxy.RouteConfig

// routes checks all routes, gives names to those without one and makes the upstreams of addresses.
func (k *checker) routes(root *value) {
	list := root.get("route")
	names := map[string]*value{}
	matches := newMatches()
	for i := range k.c.Routes {
		r, v := &k.c.Routes[i], list.element(i)
		if v.bad {
			continue
		}
		k.route(r, v)
		k.target(r, v, root)
		if at := v.get("name"); at != nil && at.sound() && r.Name != "" {
			if first := names[r.Name]; first != nil {
				k.fail(at, "the name %q is taken by the route in line %d", r.Name, first.src.pos(first.at).Line)
			} else {
				names[r.Name] = at
			}
		}
	}
	for i := range k.c.Routes {
		r, v := &k.c.Routes[i], list.element(i)
		if r.Name == "" {
			r.Name = unique(routeName(r), func(s string) bool { return names[s] != nil })
			names[r.Name] = v
		}
		if !v.sound("host") || !v.sound("path") || !v.sound("path_exact") || !v.sound("path_regex") || !v.sound("method") || !v.sound("header") || !v.sound("query") || !v.sound("listen") {
			continue
		}
		if first, ok := matches.add(r, v); ok {
			at := v.near("path")
			for _, key := range []string{"path_exact", "path_regex", "host"} {
				if at == v {
					at = v.near(key)
				}
			}
			k.fail(at, "this route matches the same requests as the route %q in line %d", first.name, first.at.src.pos(first.at.key).Line)
		}
	}
	if len(k.errs) == 0 {
		k.compile(k.c.Routes, list.element)
	}
}

// compile lets the proxy compile routes that seem right, so that nothing that it refuses passes a check. at
// gives the value of route i.
func (k *checker) compile(routes []route, at func(i int) *value) {
	joined, ok := proxy.CheckRoutes(routes).(interface{ Unwrap() []error })
	if !ok {
		return
	}
	for _, err := range joined.Unwrap() {
		if e, ok := errors.AsType[*proxy.RouteError](err); ok {
			v := at(e.Index)
			if place := v.near(strings.Split(e.Key, ".")...); place != v {
				k.fail(place, "%s", e.Text)
			} else {
				k.failKey(v, "", "%s", strings.TrimPrefix(e.Key+": "+e.Text, ": "))
			}
		}
	}
}

// routeName makes a name from what a route matches.
func routeName(r *route) string {
	var b strings.Builder
	if len(r.Method) > 0 {
		b.WriteString(strings.Join(r.Method, ",") + " ")
	}
	if len(r.Host) == 0 {
		b.WriteString("*")
	} else {
		b.WriteString(r.Host[0])
		if n := len(r.Host) - 1; n > 0 {
			fmt.Fprintf(&b, "+%d", n)
		}
	}
	b.WriteString(r.Listen)
	switch {
	case r.PathExact != "":
		b.WriteString("=" + r.PathExact)
	case r.PathRegex != "":
		b.WriteString("~" + r.PathRegex)
	case r.Path != "" && r.Path != "/":
		b.WriteString(r.Path)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) { // without the values: they may be secrets
		b.WriteString(" " + name + ":")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Query)) {
		b.WriteString(" ?" + name)
	}
	name := strings.TrimSpace(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) {
			return '·'
		}
		return c
	}, b.String()))
	if len(name) > maxName-8 {
		name = strings.ToValidUTF8(name[:maxName-8], "") + "…"
	}
	return name
}

// maxName bounds the names of routes; they are metric labels.
const maxName = 120

func unique(name string, taken func(string) bool) string {
	if !taken(name) {
		return name
	}
	for n := 2; ; n++ {
		if s := name + "#" + strconv.Itoa(n); !taken(s) {
			return s
		}
	}
}

// route checks everything about one route but what it shares with others. It writes hosts in lower case.
func (k *checker) route(r *route, v *value) {
	if at := v.get("name"); at != nil && (r.Name == "" || len(r.Name) > maxName || strings.TrimSpace(r.Name) != r.Name || strings.ContainsFunc(r.Name, func(c rune) bool { return !unicode.IsPrint(c) })) {
		k.fail(at, "a name is 1 to %d printable characters", maxName)
	}
	for i, h := range r.Host {
		r.Host[i] = strings.TrimSuffix(strings.ToLower(h), ".")
	}
	if at := v.get("host"); at != nil && len(r.Host) == 0 {
		k.fail(at, "the list is empty; leave host out for any host")
	}
	k.list(v.get("host"), r.Host, "host", checkHost)
	k.list(v.get("method"), r.Method, "method", checkMethod)
	k.paths(r, v)
	k.fieldMap(v.get("header"), r.Header, false)
	for name, want := range r.Query {
		if name == "" || strings.ContainsFunc(name+want, unicode.IsControl) {
			k.failKey(v.near("query", name), "", "%q is no query parameter", name)
		}
	}

	k.action(r, v)
	k.edits(v.get("headers", "request"), r.Headers.Request)
	k.edits(v.get("headers", "response"), r.Headers.Response)

	k.oneOf(v.get("priority"), r.Priority, "high", "normal", "low")
	k.keyOf(v.get("fair_by"), r.FairBy, "client_ip", "route")
	if at := v.get("rate_limit"); at != nil && r.RateLimit != nil {
		l := r.RateLimit
		k.required(at, "rate")
		k.between(at.get("burst"), l.Burst, 1, 1e9)
		if at.get("burst") == nil && at.sound("rate") {
			l.Burst = max(1, int(l.Rate+0.999999999))
		}
		k.keyOf(at.get("key"), l.Key, "client_ip", "route")
		k.statusOf(at.get("status"), l.Status, 429, 503)
	}
	if at := v.get("limit_conn"); at != nil && r.LimitConn != nil {
		k.required(at, "max")
		k.between(at.get("max"), r.LimitConn.Max, 1, 1e7)
		k.keyOf(at.get("key"), r.LimitConn.Key, "client_ip", "route")
		k.statusOf(at.get("status"), r.LimitConn.Status, 429, 503)
	}
	network := func(s string) error { _, err := parsePrefix(s); return err }
	k.list(v.get("allow"), r.Allow, "network", network)
	k.list(v.get("deny"), r.Deny, "network", network)
}

func (k *checker) required(table *value, key string) {
	if !table.bad && table.get(key) == nil {
		k.failKey(table, "", "%s is missing", key)
	}
}

func (k *checker) keyOf(at *value, s string, words ...string) {
	if at != nil && at.sound() {
		if err := checkKey(s, words...); err != nil {
			k.fail(at, "%s", err)
		}
	}
}

func (k *checker) statusOf(at *value, n int, allowed ...int) {
	if at != nil && !slices.Contains(allowed, n) {
		k.fail(at, "%d is none of %s", n, strings.Trim(strings.ReplaceAll(fmt.Sprint(allowed), " ", ", "), "[]"))
	}
}

var methods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"}

func checkMethod(s string) error {
	switch {
	case !isToken(s):
		return fmt.Errorf("%q is no method", s)
	case s == "CONNECT":
		return fmt.Errorf("%q: sluice tunnels nothing", s)
	case s != strings.ToUpper(s):
		return fmt.Errorf("%q: methods are written in capitals; did you mean %q?", s, strings.ToUpper(s))
	case !slices.Contains(methods, s) && nearest(s, methods) != "":
		return fmt.Errorf("unknown method %q; did you mean %q?", s, nearest(s, methods))
	}
	return nil
}

// withoutStar says how a path is written in which * was to stand for something. One with a * in it can still be had by
// path_exact.
func withoutStar(path string) string {
	front := strings.TrimRight(path, "*")
	if !strings.Contains(front, "*") && strings.HasSuffix(front, "/") {
		if front = strings.TrimRight(front, "/"); front == "" {
			return "leave path out for any path"
		}
		return "path is a prefix: write path = " + quote(front)
	}
	parts := strings.Split(front, "*")
	for i, p := range parts {
		parts[i] = regexp.QuoteMeta(p)
	}
	pattern := "^" + strings.Join(parts, "[^/]*")
	if front == path {
		pattern += "$"
	}
	return "write path_regex = " + quote(pattern)
}

// paths checks the three ways to match a path and the two to change it.
func (k *checker) paths(r *route, v *value) {
	var written []string
	for _, key := range []string{"path", "path_exact", "path_regex"} {
		if v.get(key) != nil {
			if written = append(written, key); len(written) == 2 {
				k.failKey(v.get(key), "", "a route has one of path, path_exact and path_regex; this one has %s already", written[0])
			}
		}
	}
	for key, s := range map[string]string{"path": r.Path, "path_exact": r.PathExact} {
		if at := v.get(key); at != nil && at.sound() {
			if err := checkPath(s); err != nil {
				k.fail(at, "%s", err)
			} else if key == "path" && strings.Contains(s, "*") {
				k.failHint(at, withoutStar(s), "%q: * stands for nothing in path", s)
			}
		}
	}
	groups := -1
	if at := v.get("path_regex"); at != nil && at.sound() {
		re, err := regexp.Compile(r.PathRegex)
		switch {
		case r.PathRegex == "":
			k.fail(at, "the expression is empty")
		case err != nil:
			k.fail(at, "%s", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		default:
			groups = re.NumSubexp()
		}
	}
	if at := v.get("strip_path"); at != nil && r.StripPath {
		switch {
		case len(written) > 0 && written[0] == "path_regex":
			k.failKey(at, "use rewrite", "strip_path cannot be told what to remove by path_regex")
		case len(written) == 0:
			k.failKey(at, "", "strip_path needs path or path_exact: there is nothing to remove")
		case v.get("rewrite") != nil:
			k.failKey(at, "", "strip_path and rewrite both change the path: one of them is wanted")
		}
	}
	at := v.get("rewrite")
	if at == nil || !at.sound() {
		return
	}
	if !strings.HasPrefix(r.Rewrite, "/") {
		k.fail(at, "%q: a path begins with /", r.Rewrite)
	} else if strings.ContainsFunc(r.Rewrite, func(c rune) bool { return c <= ' ' || c == 127 || c == '#' || c == '?' }) {
		k.fail(at, "%q: a path has no blank, control character, query or fragment", r.Rewrite)
	}
	if groups >= 0 {
		for _, n := range regexp.MustCompile(`\$\{?([0-9]+)`).FindAllStringSubmatch(r.Rewrite, -1) {
			if i, err := strconv.Atoi(n[1]); err != nil || i > groups {
				k.fail(at, "$%s: path_regex has %d groups", n[1], groups)
			}
		}
	}
}

// fieldMap checks names and values of header fields.
func (k *checker) fieldMap(at *value, m map[string]string, edit bool) {
	if at == nil {
		return
	}
	seen := map[string]string{}
	for _, name := range at.names {
		one := at.table[name]
		if one.bad {
			continue
		}
		if err := checkFieldName(name); err != nil {
			k.failKey(one, "", "%s", err)
			continue
		}
		if err := checkFieldValue(m[name]); err != nil {
			k.fail(one, "%s", err)
		}
		if first, ok := seen[strings.ToLower(name)]; ok {
			k.failKey(one, "", "%q and %q are the same field", name, first)
		}
		seen[strings.ToLower(name)] = name
		if edit && isFraming(name) {
			k.failKey(one, "", "%s belongs to the connection and cannot be changed", name)
		}
	}
}

func (k *checker) edits(at *value, m map[string]string) {
	k.fieldMap(at, m, true)
	for name, text := range m {
		if one := at.get(name); one != nil && strings.EqualFold(name, "host") && (text == "" || strings.ContainsAny(text, " /@")) {
			k.fail(one, "%q cannot be the Host of a request", text)
		}
	}
}

// action checks that a route does exactly one thing, and what it does.
func (k *checker) action(r *route, v *value) {
	var first string
	for _, key := range []string{"upstream", "redirect", "respond"} {
		switch at := v.get(key); {
		case at == nil:
		case first == "":
			first = key
		default:
			k.failKey(at, "", "a route does one thing: this one has %s already", first)
		}
	}
	if first == "" {
		k.failKey(v, "", "the route does nothing: it needs upstream, redirect or respond")
	}
	for _, key := range []string{"strip_path", "rewrite", "priority", "fair_by"} {
		if at := v.get(key); at != nil && (first == "redirect" || first == "respond") {
			k.failKey(at, "", "%s has no effect on a %s", key, first)
		}
	}
	if at := v.get("redirect"); at != nil && r.Redirect != nil && !at.bad {
		k.required(at, "to")
		if to := at.get("to"); to != nil && to.sound() {
			if r.Redirect.To == "" || strings.ContainsFunc(r.Redirect.To, func(c rune) bool { return c <= ' ' || c == 127 }) {
				k.fail(to, "%q is no location: it is empty or has blanks or control characters", r.Redirect.To)
			}
			for _, name := range regexp.MustCompile(`\$\w*`).FindAllString(r.Redirect.To, -1) {
				known := []string{"$host", "$http_host", "$path", "$query", "$request_uri"}
				if !slices.Contains(known, name) {
					k.failHint(to, didYouMean(name, known), "unknown variable %s", name)
				}
			}
		}
		k.statusOf(at.get("status"), r.Redirect.Status, 301, 302, 303, 307, 308)
	}
	if at := v.get("respond"); at != nil && r.Respond != nil && !at.bad {
		k.between(at.get("status"), r.Respond.Status, 200, 599)
		if r.Respond.Body != "" && (r.Respond.Status == 204 || r.Respond.Status == 304) {
			k.fail(at.near("body"), "a response with status %d has no body", r.Respond.Status)
		}
		if ct := at.get("content_type"); ct != nil && ct.sound() {
			if err := checkFieldValue(r.Respond.ContentType); err != nil {
				k.fail(ct, "%s", err)
			}
		}
	}
}

// target checks the upstream that a route names, and makes the one of an address.
func (k *checker) target(r *route, v, root *value) {
	at := v.get("upstream")
	if at == nil || !at.sound() {
		return
	}
	switch {
	case r.Upstream == "":
		k.fail(at, "the upstream's name is empty")
	case strings.Contains(r.Upstream, ":"):
		if err := checkServerAddr(r.Upstream); err != nil {
			k.fail(at, "%s", err)
			return
		}
		if k.c.Upstreams == nil {
			k.c.Upstreams = map[string]*Upstream{}
		}
		if k.c.Upstreams[r.Upstream] == nil {
			k.c.Upstreams[r.Upstream] = implicit(r.Upstream)
		}
	case root.get("upstream", r.Upstream) == nil:
		var names []string
		if all := root.get("upstream"); all != nil {
			if all.bad {
				return
			}
			names = all.names
		}
		hint := didYouMean(r.Upstream, names)
		if hint == "" {
			hint = fmt.Sprintf("add [upstream.%s], or a port to make it an address", quoteKey(r.Upstream))
		}
		k.failHint(at, hint, "there is no upstream %q", r.Upstream)
	}
}

// implicit is the upstream of a route that names an address.
func implicit(addr string) *Upstream {
	u := new(Upstream)
	u.SetDefaults()
	u.Discovery.Servers = []discovery.ServerConfig{{Addr: addr, Weight: 1}}
	return u
}
