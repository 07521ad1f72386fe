package proxy

import (
	"cmp"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"sluice/balancer"
)

// RouteError is what is wrong with one route.
type RouteError struct {
	Index int    // position among TableConfig.Routes
	Route string // its name
	Key   string // within the route, such as "rate_limit.rate"; "" is the route as a whole
	Text  string
}

func (e *RouteError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("route %s: %s", e.Route, e.Text)
	}
	return fmt.Sprintf("route %s: %s: %s", e.Route, e.Key, e.Text)
}

func invalid(key, format string, args ...any) error {
	return &RouteError{Key: key, Text: fmt.Sprintf(format, args...)}
}

// Route is one compiled route. It is never changed; nil features are off.
type Route struct {
	name   string
	order  int // position in the file
	cfg    RouteConfig
	hosts  []string // lower case, without port; none is any
	exact  string   // as a reading; "" is none
	prefix string   // as a reading, without the last slash; "" is any path
	regex  *regexp.Regexp

	methods []string
	headers []condition
	queries []condition

	upstream *Upstream // nil: the route answers by itself
	priority balancer.Priority
	fair     *fairKey
	redirect *redirect
	respond  *RespondConfig

	rate        *rateLimit
	conns       *connLimit
	maxBody     int64
	allow, deny []netip.Prefix

	rewrite           string
	request, response []edit
	// inRequest and inResponse tell the fields that those edits are of; nil for none.
	inRequest, inResponse func(name []byte) bool

	stats *routeStats
}

// condition is a field or parameter that must be there, with that value unless it is "*".
type condition struct{ name, value string }

// Name is unique among the routes of a table.
func (r *Route) Name() string { return r.name }

// compileRoute checks one route. It knows no other route and no upstream.
func compileRoute(cfg RouteConfig, order int) (*Route, error) {
	r := &Route{name: cfg.Name, order: order, cfg: cfg, methods: cfg.Method, maxBody: cfg.MaxBody, respond: cfg.Respond, rewrite: cfg.Rewrite}
	for _, step := range []func() error{r.compileMatch, r.compileAction, r.compileQueue, r.compileLimits, r.compileChanges} {
		if err := step(); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *Route) compileMatch() error {
	for _, host := range r.cfg.Host {
		pattern := strings.ToLower(strings.TrimSuffix(host, "."))
		if name := strings.TrimPrefix(pattern, "*."); name == "" || strings.ContainsAny(name, "*/@ :") && !strings.HasPrefix(name, "[") {
			return invalid("host", `%q is neither a host name nor "*.name"; the port is not part of it`, host)
		}
		if !slices.Contains(r.hosts, pattern) {
			r.hosts = append(r.hosts, pattern)
		}
	}
	given := 0
	for _, p := range []string{r.cfg.Path, r.cfg.PathExact, r.cfg.PathRegex} {
		if p != "" {
			given++
		}
	}
	if given > 1 {
		return invalid("", "only one of path, path_exact and path_regex may be given")
	}
	var err error
	if r.cfg.Path != "" {
		if r.prefix, err = readPath(r.cfg.Path); err != nil {
			return invalid("path", "%v", err)
		}
		r.prefix = strings.TrimSuffix(r.prefix, "/")
	}
	if r.cfg.PathExact != "" {
		if r.exact, err = readPath(r.cfg.PathExact); err != nil {
			return invalid("path_exact", "%v", err)
		}
	}
	if r.cfg.PathRegex != "" {
		if r.regex, err = regexp.Compile(`(?s:` + r.cfg.PathRegex + `)`); err != nil {
			return invalid("path_regex", "%v", err)
		}
	}
	for _, m := range r.methods {
		if !isToken(m) {
			return invalid("method", "%q is not a method", m)
		}
	}
	if r.headers, err = conditions("header", r.cfg.Header, true); err != nil {
		return err
	}
	r.queries, err = conditions("query", r.cfg.Query, false)
	return err
}

// readPath reads a path of the configuration as the path of a request is read. Text that may not stand
// in a request target, such as "é", means its escapes.
func readPath(path string) (string, error) {
	if path[0] != '/' {
		return "", fmt.Errorf("%q does not begin with a slash", path)
	}
	if strings.ContainsAny(path, "?#") {
		return "", fmt.Errorf("%q has a query or a fragment", path)
	}
	read, odd, err := appendReading(nil, []byte(path), routed)
	if err == nil && odd {
		err = fmt.Errorf(`%q has a dot segment, an encoded slash or a backslash`, path)
	}
	return string(read), err
}

func conditions(key string, from map[string]string, token bool) ([]condition, error) {
	var all []condition
	for name, value := range from {
		if token && !isToken(name) {
			return nil, invalid(key+"."+name, "%q is not a field name", name)
		}
		all = append(all, condition{name, value})
	}
	slices.SortFunc(all, func(a, b condition) int { return strings.Compare(a.name, b.name) })
	return all, nil
}

func (r *Route) compileAction() error {
	given := 0
	for _, is := range []bool{r.cfg.Upstream != "", r.cfg.Redirect != nil, r.cfg.Respond != nil} {
		if is {
			given++
		}
	}
	if given != 1 {
		return invalid("", "exactly one of upstream, redirect and respond must be given")
	}
	if c := r.cfg.Redirect; c != nil {
		var err error
		if r.redirect, err = compileRedirect(*c); err != nil {
			return err
		}
	}
	if c := r.cfg.Respond; c != nil {
		if c.Status < 200 || c.Status > 599 {
			return invalid("respond.status", "the status must be 200 to 599")
		}
		if !isFieldValue(c.ContentType) {
			return invalid("respond.content_type", "the value has a line break or another control character")
		}
		if (c.Status == 204 || c.Status == 304) && c.Body != "" {
			return invalid("respond.body", "a response with status %d has no body", c.Status)
		}
	}
	return nil
}

func (r *Route) compileQueue() (err error) {
	if r.priority, err = balancer.ParsePriority(r.cfg.Priority); err != nil {
		return invalid("priority", "%v", err)
	}
	if r.cfg.FairBy != "" {
		source, err := parseLimitKey(r.cfg.FairBy)
		if err != nil {
			return invalid("fair_by", "%v", err)
		}
		r.fair = newFairKey(source, cmp.Or(r.name, r.defaultName()))
	}
	if r.cfg.Upstream == "" && (r.cfg.Priority != "" || r.cfg.FairBy != "") {
		return invalid("", "priority and fair_by need an upstream")
	}
	return nil
}

func (r *Route) compileLimits() (err error) {
	if c := r.cfg.RateLimit; c != nil {
		if r.rate, err = newRateLimit(*c); err != nil {
			return err
		}
	}
	if c := r.cfg.LimitConn; c != nil {
		if r.conns, err = newConnLimit(*c); err != nil {
			return err
		}
	}
	if r.maxBody < 0 {
		return invalid("max_body", "the size must not be negative")
	}
	if r.allow, err = prefixes("allow", r.cfg.Allow); err != nil {
		return err
	}
	r.deny, err = prefixes("deny", r.cfg.Deny)
	return err
}

// prefixes reads addresses, CIDRs and "unix", as in http1.Within.
func prefixes(key string, from []string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, s := range from {
		if s == "unix" {
			all = append(all, netip.Prefix{})
			continue
		}
		if !strings.Contains(s, "/") {
			addr, err := netip.ParseAddr(s)
			if err != nil {
				return nil, invalid(key, "%q is neither an address nor a CIDR", s)
			}
			all = append(all, netip.PrefixFrom(addr.Unmap(), addr.Unmap().BitLen()))
			continue
		}
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return nil, invalid(key, "%q is neither an address nor a CIDR", s)
		}
		all = append(all, p.Masked())
	}
	return all, nil
}

// covers reports whether r may pass on what other would: to the same upstream, unchanged and no sooner, while other
// asks nothing of a request and changes nothing, so that nothing of it is evaded. What r asks for comes on top.
func (r *Route) covers(other *Route) bool {
	for _, o := range []*Route{r, other} {
		if len(o.request) > 0 || len(o.response) > 0 || o.cfg.StripPath || o.cfg.Rewrite != "" {
			return false
		}
	}
	free := other.fair == nil && other.rate == nil && other.conns == nil && other.maxBody == 0 &&
		len(other.allow) == 0 && len(other.deny) == 0
	return free && r.upstream != nil && r.upstream == other.upstream && r.priority == other.priority
}

func (r *Route) compileChanges() (err error) {
	switch {
	case r.cfg.Upstream == "" && (r.cfg.StripPath || r.cfg.Rewrite != ""):
		return invalid("", "strip_path and rewrite need an upstream")
	case r.cfg.StripPath && r.cfg.Rewrite != "":
		return invalid("", "only one of strip_path and rewrite may be given")
	case r.cfg.StripPath && r.cfg.Path == "" && r.cfg.PathExact == "":
		return invalid("strip_path", "there is no path or path_exact to strip")
	case r.cfg.Rewrite != "" && r.cfg.Rewrite[0] != '/':
		return invalid("rewrite", "%q does not begin with a slash", r.cfg.Rewrite)
	case strings.ContainsFunc(r.cfg.Rewrite, func(c rune) bool { return c <= ' ' || c == 0x7f || c == '#' || c == '?' }):
		return invalid("rewrite", "a path has no spaces, control characters, \"?\" or \"#\"")
	}
	if r.request, err = compileEdits("headers.request", r.cfg.Headers.Request); err != nil {
		return err
	}
	if r.response, err = compileEdits("headers.response", r.cfg.Headers.Response); err != nil {
		return err
	}
	r.inRequest, r.inResponse = editsOf(r.request), editsOf(r.response)
	return nil
}

// defaultName is made from the match: what stands in the file, without order or position.
func (r *Route) defaultName() string {
	var b strings.Builder
	if r.cfg.Listen != "" {
		b.WriteString(r.cfg.Listen + " ")
	}
	if len(r.cfg.Method) > 0 {
		b.WriteString(strings.Join(r.cfg.Method, ",") + " ")
	}
	if len(r.hosts) == 0 {
		b.WriteByte('*')
	}
	b.WriteString(strings.Join(r.hosts, ","))
	switch {
	case r.regex != nil:
		b.WriteString(" ~" + r.cfg.PathRegex)
	case r.cfg.PathExact != "":
		b.WriteString("=" + r.cfg.PathExact)
	default:
		b.WriteString(r.cfg.Path)
	}
	for _, c := range r.headers {
		b.WriteString(" " + c.name + ":" + c.value)
	}
	for _, c := range r.queries {
		b.WriteString(" ?" + c.name + "=" + c.value)
	}
	return b.String()
}

// sameMatch tells two routes of which the later can never be reached.
func (r *Route) sameMatch(o *Route) bool {
	return r.cfg.Listen == o.cfg.Listen && r.exact == o.exact && r.prefix == o.prefix && r.cfg.PathRegex == o.cfg.PathRegex &&
		slices.Equal(r.methods, o.methods) && slices.Equal(r.headers, o.headers) && slices.Equal(r.queries, o.queries)
}

// inherit takes over from the same route of the table before what lives longer than a configuration.
func (r *Route) inherit(old *Route) {
	r.stats.routeTotals = old.stats.routeTotals
	if r.stats.upstream == old.stats.upstream {
		r.stats = old.stats
	}
	if r.rate != nil && old.rate != nil && r.rate.cfg == old.rate.cfg {
		r.rate = old.rate
	}
	if r.conns != nil && old.conns != nil && r.conns.cfg == old.conns.cfg {
		r.conns = old.conns
	}
}
