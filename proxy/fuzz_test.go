package proxy

import (
	"bufio"
	"bytes"
	"net/http"
	"net/netip"
	"net/textproto"
	"net/url"
	"path"
	"slices"
	"strings"
	"testing"

	"sluice/proxy/http1"
)

// servers read a path as servers of this world do, each written without regard to the others or to appendReading. They give the
// path decoded, with single slashes.
var servers = map[string]func(raw string) string{
	"nothing but escapes": func(raw string) string { return single(unescape(raw)) },
	"escapes, then dots":  func(raw string) string { return clean(unescape(raw)) },
	"dots, then escapes":  func(raw string) string { return single(unescape(removeDots(raw))) },
	"RFC 3986":            func(raw string) string { return single(removeDots(unescape(raw))) },
	"backslashes":         func(raw string) string { return clean(strings.ReplaceAll(unescape(raw), `\`, "/")) },
	"Servlet":             func(raw string) string { return clean(unescape(withoutParams(raw))) },
	"Servlet, RFC 3986":   func(raw string) string { return single(removeDots(unescape(withoutParams(raw)))) },
	"Servlet, decoded":    func(raw string) string { return clean(withoutParams(unescape(raw))) },
}

func unescape(s string) string {
	s, _ = url.PathUnescape(s)
	return s
}

func single(s string) string {
	for strings.Contains(s, "//") {
		s = strings.ReplaceAll(s, "//", "/")
	}
	return s
}

// clean is path.Clean with the last slash kept.
func clean(s string) string {
	c := path.Clean("/" + s)
	if c != "/" && (strings.HasSuffix(s, "/") || strings.HasSuffix(s, "/.") || strings.HasSuffix(s, "/..")) {
		c += "/"
	}
	return c
}

// removeDots is RFC 3986 §5.2.4.
func removeDots(in string) string {
	var out string
	for in != "" {
		switch {
		case strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"), in == "/..":
			in = "/" + strings.TrimPrefix(in[3:], "/")
			out = out[:max(strings.LastIndexByte(out, '/'), 0)]
		default:
			end := strings.IndexByte(in[1:], '/') + 1
			if end == 0 {
				end = len(in)
			}
			out, in = out+in[:end], in[end:]
		}
	}
	return out
}

func withoutParams(s string) string {
	segments := strings.Split(s, "/")
	for i := range segments {
		segments[i], _, _ = strings.Cut(segments[i], ";")
	}
	return strings.Join(segments, "/")
}

// The route that a request takes is the one of the path that a server will read, whatever kind of server it is, or one that asks
// for no less; what is forwarded is what was asked, or for a route that changes it what was matched.
func FuzzRoutes(f *testing.F) {
	for _, s := range []string{
		"/", "/p/x?q=/../admin", "/p//../admin", "/p/a//../secret", "/p/a;x/secret", "/.a/..;/admin", "/p/%2e%2e/admin", `/p\..\admin`, "/s/a%2fb;c//d?e", "//h/p",
		"/%73/%0d%0aSet-Cookie:%20a", "/r/12%33", "/p/a/./secret", "/p/%2e./%5cadmin", "/to//evil?x", `/to/\evil`, "/s", "/s/../s/x", "/p/;a/..//%3b/secret", "/p/..%3b/admin",
		"/p;jsessionid=1", "/p/a/secret;jsessionid=A.b?c", "/g/open;jsessionid=1", "/s;jsessionid=1", "/admin/a;jsessionid=1", "/p/a;jsessionid=../secret",
	} {
		f.Add(s)
	}
	table := testTable(f, nil,
		named("all", RouteConfig{}),
		named("p", RouteConfig{Path: "/p"}),
		named("secret", RouteConfig{PathExact: "/p/a/secret"}),
		named("admin", RouteConfig{Path: "/admin"}),
		named("guarded", RouteConfig{Path: "/g", Deny: []string{"::/0"}}),
		named("open", RouteConfig{PathExact: "/g/open"}),
		named("strip", RouteConfig{Path: "/s", StripPath: true}),
		named("regex", RouteConfig{PathRegex: "^/r/([0-9]+)$", Rewrite: "/rewritten/$1"}),
		named("redirect", RouteConfig{Path: "/to", Redirect: &RedirectConfig{To: "$request_uri", Status: 302}}),
	)
	f.Fuzz(func(t *testing.T, target string) {
		head := new(http1.Head)
		raw := "GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n"
		if n, err := head.ParseRequest([]byte(raw), http1.Limits{}); err != nil || n != len(raw) || target[0] != '/' {
			return
		}
		asked := string(head.Path())
		if plainPath([]byte(asked)) {
			for _, how := range others {
				if read, odd, err := appendReading(nil, []byte(asked), how); err != nil || odd || string(read) != asked {
					t.Fatalf("%q is called plain and reads %q, %v", asked, read, err)
				}
			}
		}
		x := Exchange{table: table, head: head}
		if x.lookup("") != nil {
			return
		}
		for name, read := range servers {
			s := x.subject
			s.path = []byte(read(asked))
			// With a Servlet's session a server may read another route's path, if that asks nothing and leads to the same.
			free := func(r *Route) bool { return slices.Contains([]string{"all", "p", "secret", "admin", "open"}, r.name) }
			if r := table.lookup(&s); r != x.route && !(strings.Contains(asked, ";jsessionid=") && !strings.Contains(name, "Servlet") && free(r) && (free(x.route) || x.route.name == "guarded")) {
				t.Fatalf("%q takes route %s; by %s it is %q of route %s", asked, x.route.name, name, s.path, r.name)
			}
		}
		if x.route.redirect != nil {
			to := x.route.redirect.append(nil, head.Host(), head.Target(), head.Path())
			if u, err := url.Parse(string(to)); err == nil && u.Host != "" || strings.HasPrefix(string(to), `/\`) || bytes.ContainsAny(to, "\r\n\x00 ") {
				t.Fatalf("%q is redirected to %q", target, to)
			}
			return
		}
		passed := string(x.route.target(nil, head.Target(), head.Path(), x.subject.path))
		seen := new(http1.Head)
		if _, err := seen.ParseRequest([]byte("GET "+passed+" HTTP/1.1\r\nHost: h\r\n\r\n"), http1.Limits{MaxHead: 1 << 20}); err != nil || passed[0] != '/' {
			t.Fatalf("%q is passed on as %q: %v", target, passed, err)
		}
		if string(seen.Query()) != string(head.Query()) {
			t.Fatalf("%q is passed on as %q", target, passed)
		}
		want := x.subject.path
		switch got, _, err := appendReading(nil, seen.Path(), routed); {
		case err != nil:
			t.Fatalf("%q is passed on as %q: %v", target, passed, err)
		case x.route.name == "strip":
			if got := "/s" + string(got); got != string(want) && got != string(want)+"/" {
				t.Fatalf("%q is passed on as %q", target, passed)
			}
		case x.route.name == "regex":
			if string(got) != strings.Replace(string(want), "/r/", "/rewritten/", 1) {
				t.Fatalf("%q is passed on as %q", target, passed)
			}
		case passed != target:
			t.Fatalf("%q is passed on as %q", target, passed)
		}
	})
}

// endToEnd are the names that Connection cannot take away, with those that sluice writes itself.
var endToEnd = []string{
	"host", "cookie", "cache-control", "x-real-ip", "x-request-id", "forwarded", "from", "authorization", "accept-encoding", "via", "vary", "origin", "date",
	"location", "set-cookie", "www-authenticate", "traceparent", "tracestate",
}

// passes tells by the book (RFC 9110 §7.6.1 and data that says who asks) what of a message goes on; trusted is whom it comes from.
func passes(h *http1.Head, i int, response, trusted bool) bool {
	name := strings.ToLower(string(h.Name(i)))
	switch {
	case slices.Contains([]string{"connection", "keep-alive", "te", "transfer-encoding", "upgrade", "proxy", "trailer"}, name), strings.HasPrefix(name, "proxy-"):
		return false
	case !response && (strings.Contains(name, "_") || slices.Contains([]string{"host", "expect", "forwarded", "x-real-ip", "x-request-id"}, name)):
		return false
	case !response && slices.Contains([]string{"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port"}, name):
		return false
	case !response && strings.HasPrefix(name, "x-forwarded-"):
		return trusted
	case response && name == "x-sluice-reason":
		return false
	}
	if slices.Contains(endToEnd, name) || strings.HasPrefix(name, "content-") || strings.HasPrefix(name, "sec-") || strings.HasPrefix(name, "x-forwarded-") {
		return true
	}
	for c := h.Index("Connection", 0); c >= 0; c = h.Index("Connection", c+1) {
		for option := range strings.SplitSeq(string(h.Value(c)), ",") {
			if strings.EqualFold(strings.Trim(option, " \t"), name) {
				return false
			}
		}
	}
	return true
}

// fieldsOf are the fields of a head as "Name: value", sorted.
func fieldsOf(h *http1.Head, keep func(i int) bool) (all []string) {
	for i := range h.Len() {
		if keep(i) {
			all = append(all, textproto.CanonicalMIMEHeaderKey(string(h.Name(i)))+": "+string(h.Value(i)))
		}
	}
	slices.Sort(all)
	return all
}

// What goes out is exactly what came in, less what stays here, plus what sluice says; an untrusted client has no influence on that.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		"", "X-Forwarded-For: 6.6.6.6\nx-forwarded-for: 7.7.7.7\nX_Forwarded_For: 8.8.8.8\n", "Connection: X-Forwarded-For, x-a, close\nX-A: 1\nX-Real-IP: 6.6.6.6\n",
		"X-Forwarded-Proto: https, a\nX-Forwarded-Host: a b\nX-Forwarded-Port: 1\nX-Forwarded-Port: 2\nX-Forwarded-Prefix: /a\n", "Forwarded: for=6.6.6.6\nForwarded: for=\"\nX-Request-Id: a\"b\n",
		"Proxy: a\nProxy-Connection: a\nTE: trailers\nTransfer-Encoding: chunked\nTrailer: a\nExpect: 100-continue\n", "Upgrade: websocket\nConnection: upgrade\nSec-WebSocket-Protocol:\n",
		"Content-Length: 03\nCookie: a\nCookie: b\nX-Set: \xff\n", "X-Sluice-Reason: a\nSet-Cookie: a\nSet-Cookie: b\nConnection: Set-Cookie\nServer: a\n",
	} {
		f.Add(strings.ReplaceAll(s, "\n", "\r\n"))
	}
	table := testTable(f, nil,
		named("plain", RouteConfig{Path: "/plain"}),
		named("edited", RouteConfig{Path: "/edited", Headers: HeadersConfig{
			Request: map[string]string{"X-Set": "new", "Cookie": "", "X-Forwarded-Proto": "https"}, Response: map[string]string{"Server": "", "X-Set": "new"},
		}}),
	)
	peer := netip.MustParseAddr("192.0.2.1")
	f.Fuzz(func(t *testing.T, lines string) {
		for _, route := range table.routes {
			for _, trusted := range []bool{false, true} {
				checkForwarded(t, route, peer, trusted, lines)
			}
			checkAnswer(t, route, lines)
		}
	})
}

func checkForwarded(t *testing.T, route *Route, peer netip.Addr, trusted bool, lines string) {
	t.Helper()
	raw := "GET /plain HTTP/1.1\r\nHost: h\r\n" + lines + "\r\n"
	head := new(http1.Head)
	if n, err := head.ParseRequest([]byte(raw), http1.Limits{}); err != nil || n != len(raw) {
		return
	}
	x := Exchange{table: new(Table), head: head, route: route, conn: new(http1.Conn), peer: peer, client: peer, trusted: trusted}
	x.subject.path = head.Path()
	x.name()
	want := fieldsOf(head, func(i int) bool { return passes(head, i, false, trusted) && edited(route.request, head.Name(i)) == nil })
	for _, e := range route.request {
		if e.line != nil {
			want = append(want, strings.TrimSuffix(string(e.line), "\r\n"))
		}
	}
	want = append(want, "Host: h", "X-Real-Ip: 192.0.2.1", "X-Request-Id: "+string(x.id))
	hadForwarded := head.Index("Forwarded", 0) >= 0
	if !trusted {
		want = append(want, "X-Forwarded-For: 192.0.2.1", "X-Forwarded-Host: h", "X-Forwarded-Port: 0")
		if route.name == "plain" {
			want = append(want, "X-Forwarded-Proto: http")
		}
		if hadForwarded {
			want = append(want, `Forwarded: for="192.0.2.1";host="h";proto=http`)
		}
	}
	switch {
	case head.Websocket():
		want = append(want, "Connection: Upgrade", "Upgrade: websocket")
	case head.TrailersAccepted():
		want = append(want, "Connection: TE", "Te: trailers")
	}
	if head.Chunked() {
		want = append(want, "Transfer-Encoding: chunked")
	}
	slices.Sort(want)

	x.prepare()
	out := new(http1.Head)
	if n, err := out.ParseRequest(bytes.Clone(x.out), http1.Limits{MaxHead: 1 << 20, MaxFields: 1000}); err != nil || n != len(x.out) {
		t.Fatalf("%q goes out as %q: %v", raw, x.out, err)
	}
	got := fieldsOf(out, func(i int) bool {
		name := string(out.Name(i))
		return !isName(name, "trailer") && (!trusted || !isName(name, "forwarded") && (!isName(name[:min(12, len(name))], "x-forwarded-") || passes(out, i, false, true) || edited(route.request, name) != nil))
	})
	if !slices.Equal(got, want) {
		t.Fatalf("%q of %s goes out with %q, want %q", raw, route.name, got, want)
	}
	if trusted { // its own values are passed on, but once each and with the peer behind them
		for _, name := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "X-Forwarded-Port"} {
			if i := out.Index(name, 0); i < 0 || out.Index(name, i+1) >= 0 {
				t.Fatalf("%q goes out with none or several %s: %q", raw, name, x.out)
			}
		}
		if v := out.Get("X-Forwarded-For"); !bytes.HasSuffix(v, []byte("192.0.2.1")) {
			t.Fatalf("%q goes out with %q", raw, v)
		}
		if out.Index("Forwarded", 0) >= 0 != hadForwarded {
			t.Fatalf("%q goes out as %q", raw, x.out)
		}
	}
	if _, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(x.out))); err != nil {
		t.Fatalf("%q goes out as %q: net/http: %v", raw, x.out, err)
	}
}

func checkAnswer(t *testing.T, route *Route, lines string) {
	t.Helper()
	raw := "HTTP/1.1 200 OK\r\n" + lines + "\r\n"
	head := new(http1.Head)
	if n, err := head.ParseResponse([]byte(raw), []byte("GET"), http1.Limits{}); err != nil || n != len(raw) {
		return
	}
	x := Exchange{table: new(Table), route: route, response: head, status: 200}
	want := fieldsOf(head, func(i int) bool { return passes(head, i, true, false) && edited(route.response, head.Name(i)) == nil })
	if route.name == "edited" {
		want = append(want, "X-Set: new")
	}
	slices.Sort(want)
	x.buildResponse()
	x.in = append(x.in, "\r\n"...)
	out := new(http1.Head)
	if n, err := out.ParseResponse(bytes.Clone(x.in), []byte("GET"), http1.Limits{MaxHead: 1 << 20, MaxFields: 1000}); err != nil || n != len(x.in) {
		t.Fatalf("%q goes out as %q: %v", raw, x.in, err)
	}
	if got := fieldsOf(out, func(i int) bool { return !isName(out.Name(i), "trailer") }); !slices.Equal(got, want) {
		t.Fatalf("%q of %s goes out with %q, want %q", raw, route.name, got, want)
	}
}
