package proxy

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
)

func testTable(t testing.TB, listen []string, routes ...RouteConfig) *Table {
	t.Helper()
	table, err := NewTable(TableConfig{Listen: listen, Routes: routes, Upstreams: testUpstreams()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func testUpstreams() map[string]*Upstream {
	all := map[string]*Upstream{}
	for _, name := range []string{"a", "b"} {
		all[name] = NewUpstream(balancer.NewUpstream(name, balancer.DefaultConfig()), DefaultUpstreamConfig(), nil)
	}
	return all
}

func named(name string, r RouteConfig) RouteConfig {
	r.Name = name
	if r.Redirect == nil && r.Respond == nil {
		r.Upstream = "a"
	}
	return r
}

func TestLookup(t *testing.T) {
	table := testTable(t, []string{":80", ":81"},
		named("any", RouteConfig{}),
		named("regex", RouteConfig{PathRegex: `^/v[0-9]+/`}),
		named("regex2", RouteConfig{PathRegex: `/v1/.*`}),
		named("php", RouteConfig{PathRegex: `\.php$`}),
		named("host", RouteConfig{Host: []string{"example.com"}}),
		named("api", RouteConfig{Host: []string{"example.com"}, Path: "/api"}),
		named("api v1", RouteConfig{Host: []string{"example.com"}, Path: "/api/v1/"}),
		named("exact", RouteConfig{Host: []string{"example.com"}, PathExact: "/api/v1/x"}),
		named("post", RouteConfig{Host: []string{"example.com"}, Path: "/api", Method: []string{"POST", "PUT"}}),
		named("beta", RouteConfig{Host: []string{"example.com"}, Path: "/api", Header: map[string]string{"X-Beta": "1"}}),
		named("debug", RouteConfig{Host: []string{"example.com"}, Path: "/api", Query: map[string]string{"debug": "*", "who": "a b"}}),
		named("wild", RouteConfig{Host: []string{"*.example.com"}}),
		named("wilder", RouteConfig{Host: []string{"*.deep.example.com"}, Path: "/only"}),
		named("inner", RouteConfig{Listen: ":11434"}),
		named("inner 81", RouteConfig{Listen: ":81", Host: []string{"example.com"}, Path: "/api"}),
		named("café", RouteConfig{Path: "/café"}),
		named("only get", RouteConfig{Host: []string{"get.test"}, Method: []string{"GET"}}),
	)
	for _, c := range []struct{ request, want string }{
		{"GET http://other/", "any"},
		{"GET http://example.com/", "host"},
		{"GET http://EXAMPLE.com.:8080/", "host"},
		{"GET http://example.com/apix", "host"},
		{"GET http://example.com/api", "api"},
		{"GET http://example.com/api/", "api"},
		{"GET http://example.com/api/v1", "api v1"},
		{"GET http://example.com/api/v1/", "api v1"},
		{"GET http://example.com/api/v1/x", "exact"},
		{"GET http://example.com/api/v1/x/", "api v1"},
		{"GET http://example.com/api/v12", "api"},
		{"POST http://example.com/api/v2", "post"},
		{"post http://example.com/api/v2", "api"},
		{"GET http://example.com/api x-beta:1", "beta"},
		{"GET http://example.com/api x-beta:2", "api"},
		{"GET http://example.com/api?debug&who=a+b", "debug"},
		{"GET http://example.com/api?who=a%20b;&debug=", "api"},
		{"GET http://example.com/%61pi//v1/x", "exact"},
		{"GET http://www.example.com/", "wild"},
		{"GET http://a.b.example.com/", "wild"},
		{"GET http://x.deep.example.com/only/this", "wilder"},
		{"GET http://x.deep.example.com/", "wild"},
		{"GET http://deep.example.com/only", "wild"},
		{"GET http://notexample.com/", "any"},
		{"GET http://other/v2/x", "regex"},
		{"GET http://other/v1/x", "regex"},
		{"GET http://other/x/v1/x", "regex2"},
		{"GET http://other/x/v2/x", "any"},
		{"GET http://other/a/b.php", "php"},
		{"GET http://other/b.php5", "any"},
		{"GET http://other/v2/%0A", "regex"},
		{"GET http://other/caf%C3%A9/x", "café"},
		{"GET http://get.test/", "only get"},
		{"PUT http://get.test/", "any"},
		{"GET http://example.com/ :11434", "inner"},
		{"GET http://example.com/api/v1/x :11434", "inner"},
		{"GET http://example.com/api :81", "inner 81"},
		{"GET http://example.com/api/v1 :81", "api v1"},
		{"GET http://example.com/api :80", "api"},
		{"GET http://example.com/api :99", "api"},
	} {
		e := table.Explain(parseQuestion(c.request))
		if e.Route != c.want {
			t.Errorf("%s: %s (%s %s), want %s", c.request, e.Route, e.Reason, e.Answer, c.want)
		}
		for _, p := range e.Passed {
			if strings.Contains(p.Why, "not on this listener") && !strings.Contains(c.request, " :11434") {
				t.Errorf("%s: passed %s without saying why", c.request, p.Route)
			}
		}
	}
}

// parseQuestion reads "METHOD URL [name:value] [:listener]".
func parseQuestion(s string) Question {
	words := strings.Fields(s)
	host, rest, _ := strings.Cut(strings.TrimPrefix(words[1], "http://"), "/")
	q := Question{Method: words[0], Host: host, Target: "/" + rest}
	for _, w := range words[2:] {
		if strings.HasPrefix(w, ":") {
			q.Listener = w
		} else {
			name, value, _ := strings.Cut(w, ":")
			q.Header = append(q.Header, name+": "+value)
		}
	}
	return q
}

// Paths that a server could read as another route's are refused; the same oddities that change nothing pass.
func TestLookupRefusesAmbiguousPaths(t *testing.T) {
	table := testTable(t, nil,
		named("public", RouteConfig{Path: "/public"}),
		named("admin", RouteConfig{Path: "/admin"}),
		named("secret", RouteConfig{Path: "/public/a/secret"}),
	)
	for _, c := range []struct{ path, want string }{
		{"/public/a//../secret", ReasonBadRequest}, // "/public/a/secret" where slashes are not merged first
		{"/public/a;x=1/secret", ReasonBadRequest}, // and where ";" ends a segment
		{"/admin;x=1", ReasonBadRequest},
		{"/public/b;x=1/c;y", "public"},
		{"/public/b//../c", "public"},
		{"/public/a%2Fb", "public"},
		{"/public/@scope%2fname", "public"},
		{"/public/a/../b", "public"},
		{"/public/./b", "public"},
		{"/public/x%5Cy", "public"},
		{"/public/..%2fadmin", ReasonBadRequest},
		{"/public%2f..%2fadmin", ReasonBadRequest},
		{"/public/../admin", ReasonBadRequest},
		{"/admin/..;/public", ReasonBadRequest},
		{"/admin/%2e%2e/public/x", ReasonBadRequest},
		{"/public/%2e%2e%2fadmin", ReasonBadRequest},
		{`/public\..\admin`, ReasonBadRequest},
		{"/public/..%5cadmin", ReasonBadRequest},
		{"/public%2Fx", ReasonBadRequest},
		{"/../admin", ReasonBadRequest},
		{"/public/%00", ReasonBadRequest},
		{"/public/%zz", ReasonBadRequest},
		{"//admin", "admin"},
		{"/%61dmin", "admin"},
		{"/nowhere", ReasonNoRoute},
	} {
		e := table.Explain(Question{Host: "x", Target: c.path})
		if got := e.Route + e.Reason; got != c.want {
			t.Errorf("%s: %s (%s), want %s", c.path, got, e.Answer, c.want)
		}
	}
}

// A Servlet's session in the path passes where two routes differ, by the route that asks for more; nowhere does it evade what a
// route asks for, or bring a request to where the other route would not.
func TestSessionInThePath(t *testing.T) {
	route := named
	open, path := route("open", RouteConfig{}), func(r RouteConfig) RouteConfig { r.Path = "/login"; return route("login", r) }
	other := path(RouteConfig{})
	other.Upstream = "b"
	for name, c := range map[string]struct {
		routes []RouteConfig
		target string
		want   string
	}{
		"the same, a prefix":    {[]RouteConfig{open, path(RouteConfig{})}, "/login;jsessionid=1?q", "login"},
		"the same, exactly":     {[]RouteConfig{open, route("exact", RouteConfig{PathExact: "/login"})}, "/login;jsessionid=1", "exact"},
		"the same, by regex":    {[]RouteConfig{open, route("regex", RouteConfig{PathRegex: `\.jsp$`})}, "/a.jsp;jsessionid=1", "regex"},
		"one route":             {[]RouteConfig{open}, "/login;jsessionid=1", "open"},
		"below":                 {[]RouteConfig{open, path(RouteConfig{})}, "/login/a;jsessionid=1", "login"},
		"it asks for more":      {[]RouteConfig{open, path(RouteConfig{Deny: []string{"10.0.0.0/8"}, RateLimit: &RateLimitConfig{Rate: 1, Status: 429}})}, "/login;jsessionid=1", "login"},
		"no route":              {[]RouteConfig{path(RouteConfig{})}, "/other;jsessionid=1", ReasonNoRoute},
		"none as it stands":     {[]RouteConfig{path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
		"none without it":       {[]RouteConfig{route("regex", RouteConfig{PathRegex: ";"})}, "/login;jsessionid=1", ReasonBadRequest},
		"another parameter":     {[]RouteConfig{open, path(RouteConfig{})}, "/login;x=1", ReasonBadRequest},
		"another upstream":      {[]RouteConfig{open, other}, "/login;jsessionid=1", ReasonBadRequest},
		"it answers itself":     {[]RouteConfig{open, path(RouteConfig{Respond: &RespondConfig{Status: 200}})}, "/login;jsessionid=1", ReasonBadRequest},
		"both answer":           {[]RouteConfig{route("open", RouteConfig{Respond: &RespondConfig{Status: 403}}), path(RouteConfig{Respond: &RespondConfig{Status: 200}})}, "/login;jsessionid=1", ReasonBadRequest},
		"it changes the path":   {[]RouteConfig{open, path(RouteConfig{StripPath: true})}, "/login;jsessionid=1", ReasonBadRequest},
		"it adds a field":       {[]RouteConfig{open, path(RouteConfig{Headers: HeadersConfig{Request: map[string]string{"X-Token": "a"}}})}, "/login;jsessionid=1", ReasonBadRequest},
		"it goes first":         {[]RouteConfig{open, path(RouteConfig{Priority: "high"})}, "/login;jsessionid=1", ReasonBadRequest},
		"clients are kept out":  {[]RouteConfig{route("open", RouteConfig{Deny: []string{"10.0.0.0/8"}}), path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
		"clients are let in":    {[]RouteConfig{route("open", RouteConfig{Allow: []string{"10.0.0.0/8"}}), path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
		"requests are counted":  {[]RouteConfig{route("open", RouteConfig{RateLimit: &RateLimitConfig{Rate: 1, Status: 429}}), path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
		"flights are counted":   {[]RouteConfig{route("open", RouteConfig{LimitConn: &LimitConnConfig{Max: 1, Status: 503}}), path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
		"bodies are bounded":    {[]RouteConfig{route("open", RouteConfig{MaxBody: 1}), path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
		"fields are removed":    {[]RouteConfig{route("open", RouteConfig{Headers: HeadersConfig{Request: map[string]string{"X-User": ""}}}), path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
		"answers are completed": {[]RouteConfig{route("open", RouteConfig{Headers: HeadersConfig{Response: map[string]string{"X-Frame-Options": "DENY"}}}), path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
		"turns are taken":       {[]RouteConfig{route("open", RouteConfig{FairBy: "client_ip"}), path(RouteConfig{})}, "/login;jsessionid=1", ReasonBadRequest},
	} {
		e := testTable(t, nil, c.routes...).Explain(Question{Host: "x", Target: c.target})
		if got := e.Route + e.Reason; got != c.want || e.Route != "" && e.Target != c.target {
			t.Errorf("%s: %s (%s) with %s, want %s", name, got, e.Answer, e.Target, c.want)
		}
	}
}

func TestTarget(t *testing.T) {
	for _, c := range []struct {
		route        RouteConfig
		target, want string
	}{
		{RouteConfig{Path: "/api"}, "/api//x/%41?q=%2f", "/api//x/%41?q=%2f"},
		{RouteConfig{Path: "/api", StripPath: true}, "/api/x?q", "/x?q"},
		{RouteConfig{Path: "/api/", StripPath: true}, "/api/x", "/x"},
		{RouteConfig{Path: "/api", StripPath: true}, "/api", "/"},
		{RouteConfig{Path: "/api", StripPath: true}, "/api?q", "/?q"},
		{RouteConfig{Path: "/api", StripPath: true}, "/%61pi/caf%c3%a9%2fb?x=%61", "/caf%C3%A9%2Fb?x=%61"},
		{RouteConfig{Path: "/api", StripPath: true}, "/api/y/../x%3Fy", "/x%3Fy"},
		{RouteConfig{Path: "/", StripPath: true}, "/x", "/x"},
		{RouteConfig{PathExact: "/a/b", StripPath: true}, "/a/b?q", "/?q"},
		{RouteConfig{PathExact: "/a", Rewrite: "/b"}, "/a?q", "/b?q"},
		{RouteConfig{Path: "/old", Rewrite: "/new"}, "/old/x", "/new/x"},
		{RouteConfig{Path: "/old", Rewrite: "/new/"}, "/old/x", "/new/x"},
		{RouteConfig{Path: "/old", Rewrite: "/"}, "/old", "/"},
		{RouteConfig{Rewrite: "/base"}, "/x?q", "/base/x?q"},
		{RouteConfig{PathRegex: `/u/(\w+)/(.*)`, Rewrite: "/users/$1?$2"}, "", ""},
		{RouteConfig{PathRegex: `/u/(\w+)/(.*)`, Rewrite: "/users/$2/$1"}, "/u/joe/a%20b?q", "/users/a%20b/joe?q"},
	} {
		table, err := NewTable(TableConfig{Routes: []RouteConfig{named("r", c.route)}, Upstreams: testUpstreams()}, nil)
		if c.target == "" {
			if err == nil {
				t.Errorf("%+v was taken", c.route)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if e := table.Explain(Question{Host: "x", Target: c.target}); e.Target != c.want {
			t.Errorf("%s by %+v: %s %s, want %s", c.target, c.route, e.Target, e.Answer, c.want)
		}
	}
}

func TestRedirect(t *testing.T) {
	for _, c := range []struct{ to, target, want string }{
		{"https://$host$request_uri", "/a?b=c", "https://x/a?b=c"},
		{"http://$host:8080$path", "/a", "http://x:8080/a"},
		{"http://$http_host/b", "/a", "http://x:80/b"},
		{"https://new.test$path?from=$query", "/a?b=c", "https://new.test/a?from=b=c"},
		{"$request_uri", "//evil.test/a", "/evil.test/a"},
		{"$path", `/\evil.test/a`, "/evil.test/a"},
		{"/fixed", "/a", "/fixed"},
	} {
		table := testTable(t, nil, named("r", RouteConfig{Redirect: &RedirectConfig{To: c.to, Status: 302}}))
		e := table.Explain(Question{Host: "x:80", Target: c.target})
		if want := "redirect 302 to " + c.want; e.Answer != want {
			t.Errorf("%s for %s: %q, want %q", c.to, c.target, e.Answer, want)
		}
	}
}

func TestTableErrors(t *testing.T) {
	up := RouteConfig{Upstream: "a"}
	with := func(change func(r *RouteConfig)) RouteConfig {
		r := up
		change(&r)
		return r
	}
	for _, c := range []struct {
		key    string
		routes []RouteConfig
	}{
		{"", []RouteConfig{{}}},
		{"", []RouteConfig{with(func(r *RouteConfig) { r.Redirect = &RedirectConfig{To: "/", Status: 302} })}},
		{"upstream", []RouteConfig{{Upstream: "nobody"}}},
		{"name", []RouteConfig{with(func(r *RouteConfig) { r.Name = "x" }), with(func(r *RouteConfig) { r.Name, r.Path = "x", "/y" })}},
		{"", []RouteConfig{with(func(r *RouteConfig) { r.Path = "/x" }), with(func(r *RouteConfig) { r.Path = "/x/" })}},
		{"", []RouteConfig{with(func(r *RouteConfig) { r.Host = []string{"A.test", "b.test"} }), with(func(r *RouteConfig) { r.Host = []string{"a.test"} })}},
		{"host", []RouteConfig{with(func(r *RouteConfig) { r.Host = []string{"a.test:80"} })}},
		{"host", []RouteConfig{with(func(r *RouteConfig) { r.Host = []string{"a.*.test"} })}},
		{"path", []RouteConfig{with(func(r *RouteConfig) { r.Path = "x" })}},
		{"path", []RouteConfig{with(func(r *RouteConfig) { r.Path = "/x/../y" })}},
		{"path", []RouteConfig{with(func(r *RouteConfig) { r.Path = "/x?y" })}},
		{"path_regex", []RouteConfig{with(func(r *RouteConfig) { r.PathRegex = "(" })}},
		{"", []RouteConfig{with(func(r *RouteConfig) { r.Path, r.PathExact = "/x", "/y" })}},
		{"method", []RouteConfig{with(func(r *RouteConfig) { r.Method = []string{"GE T"} })}},
		{"headers.request.X-A", []RouteConfig{with(func(r *RouteConfig) { r.Headers.Request = map[string]string{"X-A": "1\r\nX-B: 2"} })}},
		{"headers.response.X-A", []RouteConfig{with(func(r *RouteConfig) { r.Headers.Response = map[string]string{"X-A": "1\nX-B: 2"} })}},
		{"headers.request.X A", []RouteConfig{with(func(r *RouteConfig) { r.Headers.Request = map[string]string{"X A": "1"} })}},
		{"headers.request.Transfer-Encoding", []RouteConfig{with(func(r *RouteConfig) { r.Headers.Request = map[string]string{"Transfer-Encoding": ""} })}},
		{"redirect.to", []RouteConfig{{Redirect: &RedirectConfig{To: "/\r\nX: y", Status: 302}}}},
		{"redirect.to", []RouteConfig{{Redirect: &RedirectConfig{To: "$nothing", Status: 302}}}},
		{"redirect.status", []RouteConfig{{Redirect: &RedirectConfig{To: "/", Status: 200}}}},
		{"respond.status", []RouteConfig{{Respond: &RespondConfig{Status: 101}}}},
		{"strip_path", []RouteConfig{with(func(r *RouteConfig) { r.StripPath = true })}},
		{"allow", []RouteConfig{with(func(r *RouteConfig) { r.Allow = []string{"10.0.0.0/33"} })}},
		{"deny", []RouteConfig{with(func(r *RouteConfig) { r.Deny = []string{"localhost"} })}},
		{"max_body", []RouteConfig{with(func(r *RouteConfig) { r.MaxBody = -1 })}},
		{"limit_conn.max", []RouteConfig{with(func(r *RouteConfig) { r.LimitConn = &LimitConnConfig{Status: 503} })}},
	} {
		_, err := NewTable(TableConfig{Routes: c.routes, Upstreams: testUpstreams()}, nil)
		e, ok := errors.AsType[*RouteError](err)
		if !ok || e.Key != c.key || e.Index != len(c.routes)-1 {
			t.Errorf("%+v: %v, want an error of key %q in the last", c.routes, err, c.key)
		}
	}
}

func TestDefaultNamesAreUniqueAndStable(t *testing.T) {
	a := RouteConfig{Host: []string{"a.test"}, Path: "/x", Upstream: "a"}
	b := RouteConfig{Host: []string{"a.test"}, Path: "/x", Method: []string{"POST"}, Upstream: "a"}
	table := testTable(t, nil, a, b)
	if got := table.routes[0].Name() + "|" + table.routes[1].Name(); got != "a.test/x|POST a.test/x" {
		t.Errorf("names %s", got)
	}
	if again := testTable(t, nil, b, a); again.routes[1].Name() != "a.test/x" {
		t.Errorf("the name depends on the order: %s", again.routes[1].Name())
	}
}

// What lives longer than a configuration: counters by name, limiters while they are configured the same.
func TestReloadKeepsLimitersAndCounters(t *testing.T) {
	ups := testUpstreams()
	r := named("r", RouteConfig{RateLimit: &RateLimitConfig{Rate: 1, Burst: 1, Key: "route", Status: 429}})
	build := func(prev *Table) *Table {
		table, err := NewTable(TableConfig{Routes: []RouteConfig{r}, Upstreams: ups}, prev)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	now := time.Now()
	one := build(nil)
	one.routes[0].rate.allow(1, now)
	one.routes[0].stats.finished(200, time.Second)
	r.Path, r.MaxBody = "/else", 7
	two := build(one)
	if ok, _ := two.routes[0].rate.allow(1, now); ok {
		t.Error("the bucket was refilled by a reload")
	}
	if got := two.routes[0].stats.read(); got.Requests[200] != 1 || got.Duration.Count != 1 {
		t.Errorf("after the reload %+v", got)
	}
	r.Upstream = "b"
	if got := build(two).routes[0].stats.read(); got.Requests[200] != 0 || got.Duration.Count != 1 {
		t.Errorf("with another upstream %+v", got)
	}
	r.RateLimit = &RateLimitConfig{Rate: 2, Burst: 1, Key: "route", Status: 429}
	if ok, _ := build(two).routes[0].rate.allow(1, now); !ok {
		t.Error("a limit that was changed kept its bucket")
	}
}

// The index and the list that Explain goes through are two ways to the same route.
func TestExplainAgreesWithLookup(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	pick := func(of ...string) string { return of[rnd.IntN(len(of))] }
	paths := []string{"/", "/a", "/a/b", "/a/b/c", "/b", "/ab"}
	for range 300 {
		var routes []RouteConfig
		for range 12 {
			r := RouteConfig{Listen: pick("", "", ":1", ":2"), Upstream: "a"}
			if h := pick("", "x.test", "*.test", "*.x.test"); h != "" {
				r.Host = []string{h}
			}
			switch rnd.IntN(4) {
			case 0:
				r.Path = pick(paths...)
			case 1:
				r.PathExact = pick(paths...)
			case 2:
				r.PathRegex = pick(`/a.*`, `/[ab]`, `.*`)
			}
			if rnd.IntN(3) == 0 {
				r.Method = []string{pick("GET", "POST")}
			}
			if CheckRoutes(append(routes, r)) == nil {
				routes = append(routes, r)
			}
		}
		table := testTable(t, []string{":1"}, routes...)
		for range 20 {
			q := Question{Listener: pick(":1", ":2", ":3"), Method: pick("GET", "POST"), Host: pick("x.test", "y.x.test", "z"), Target: pick(paths...) + pick("", "/")}
			e := table.Explain(q)
			for _, p := range e.Passed {
				own := q.Listener != ":2" || strings.HasPrefix(p.Route, ":2")
				if own && strings.Contains(p.Why, "not on this listener") {
					t.Fatalf("%+v takes %s and passes %s, which matches as well", q, e.Route, p.Route)
				}
			}
		}
	}
}

func TestExplainSaysWhyAndWhat(t *testing.T) {
	table := testTable(t, nil,
		named("other host", RouteConfig{Host: []string{"b.test"}}),
		named("put", RouteConfig{Path: "/x", Method: []string{"PUT"}}),
		named("x", RouteConfig{Path: "/x", Deny: []string{"10.0.0.0/8"}, MaxBody: 5, RateLimit: &RateLimitConfig{Rate: 2, Key: "client_ip", Status: 429}}),
	)
	e := table.Explain(Question{Host: "a.test", Target: "/x/y", Client: netip.MustParseAddr("10.1.2.3")})
	if e.Route != "x" || e.Upstream != "a" || len(e.Passed) != 1 || e.Passed[0] != (Passed{"put", "the method is GET, not PUT"}) {
		t.Errorf("%+v", e)
	}
	if want := "allow/deny: 10.1.2.3 is denied (403)|rate_limit: 2/s, burst 2, by client_ip, else 429|max_body: 5 bytes, else 413"; strings.Join(e.Limits, "|") != want {
		t.Errorf("limits %q", e.Limits)
	}
	if e := table.Explain(Question{Host: "a.test\r\nX: y", Target: "/x"}); e.Reason == "" {
		t.Errorf("a broken question was answered: %+v", e)
	}
}

func bigTable(t testing.TB) *Table {
	var routes []RouteConfig
	for i := range 5000 {
		routes = append(routes,
			RouteConfig{Host: []string{fmt.Sprintf("h%d.example.com", i)}, Path: fmt.Sprintf("/api/v%d", i), Upstream: "a"},
			RouteConfig{Host: []string{"shared.example.com"}, Path: fmt.Sprintf("/tenant/%d/api", i), Upstream: "a"})
	}
	return testTable(t, nil, routes...)
}

func TestLookupDoesNotAllocate(t *testing.T) {
	table := bigTable(t)
	s := subject{host: []byte("shared.example.com"), path: []byte("/tenant/4711/api/x"), method: []byte("GET")}
	if n := testing.AllocsPerRun(1000, func() {
		if table.lookup(&s) == nil {
			t.Fatal("not found")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLookup10000Routes(b *testing.B) {
	table := bigTable(b)
	s := subject{host: []byte("shared.example.com"), path: []byte("/tenant/4711/api/x"), method: []byte("GET")}
	for b.Loop() {
		table.lookup(&s)
	}
}
