package proxy

import (
	"strings"
	"testing"

	"sluice/balancer"
)

// Line breaks in escapes stay escapes: neither rewriting nor a redirect makes a line of them.
func TestEscapedLineBreaksMakeNoLines(t *testing.T) {
	const evil = "%0d%0aX-Evil:%201%0D%0A%0d%0aGET%20/evil%20HTTP/1.1"
	for _, row := range []struct {
		route    RouteConfig
		target   string
		want     string // the target that the server sees
		location string
	}{
		{RouteConfig{}, "/" + evil, "/" + evil, ""},
		{RouteConfig{}, "/?" + evil, "/?" + evil, ""},
		{RouteConfig{Path: "/p", StripPath: true}, "/p/" + evil, "/%0D%0AX-E", ""},
		{RouteConfig{Path: "/p", Rewrite: "/q"}, "/p/" + evil, "/q/%0D%0AX-E", ""},
		{RouteConfig{PathRegex: "^/p/(.*)$", Rewrite: "/$1"}, "/p/" + evil + "?" + evil, "/%0D%0AX-E", ""},
		{RouteConfig{Path: "/p", StripPath: true}, "/p/a;\x85/" + evil, "/a;%85/%0D%0AX-E", ""},
		{RouteConfig{Redirect: &RedirectConfig{To: "https://$host$request_uri", Status: 302}}, "/" + evil + "?" + evil, "", "https://x/" + evil + "?" + evil},
		{RouteConfig{Redirect: &RedirectConfig{To: "$path?$query", Status: 302}}, "/" + evil + "?" + evil, "", "/" + evil + "?" + evil},
	} {
		rec := startRecorder(t)
		g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(row.route), rec.addr)
		r := g.do("GET " + row.target + " HTTP/1.1\nHost: x\nX: " + evil + "\n\n")
		if r.Header.Get("X-Evil") != "" || r.Header.Get("Location") != row.location {
			t.Errorf("%s: the client got %v", row.target, r.Header)
		}
		if row.location != "" {
			continue
		}
		got := rec.bytes()
		target, _, _ := strings.Cut(strings.TrimPrefix(got, "GET "), " HTTP/1.1\r\n")
		if !strings.HasPrefix(strings.ToUpper(target), strings.ToUpper(row.want)) || strings.ContainsAny(target, "\r\n ") {
			t.Errorf("%s: the server was asked for %q", row.target, target)
		}
		if strings.Contains(got, "\r\nX-Evil") || strings.Count(got, "\r\n\r\n") != 1 || !strings.Contains(got, "\r\nX: "+evil+"\r\n") {
			t.Errorf("%s: the server got %q", row.target, got)
		}
	}
}

// A line break in the configuration is refused wherever its text goes into a head.
func TestLineBreaksInTheConfiguration(t *testing.T) {
	for _, evil := range []string{"\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\x00", "\r\n\r\n"} {
		for key, route := range map[string]RouteConfig{
			"rewrite":                  {Upstream: "a", Path: "/p", Rewrite: "/q" + evil},
			"rewrite by expression":    {Upstream: "a", PathRegex: "^/(.*)$", Rewrite: "/$1" + evil},
			"redirect":                 {Redirect: &RedirectConfig{To: "https://x/" + evil, Status: 302}},
			"value of a request field": {Upstream: "a", Headers: HeadersConfig{Request: map[string]string{"X": "y" + evil}}},
			"name of a request field":  {Upstream: "a", Headers: HeadersConfig{Request: map[string]string{"X" + evil: "y"}}},
			"Host":                     {Upstream: "a", Headers: HeadersConfig{Request: map[string]string{"Host": "y" + evil}}},
			"value of an answer field": {Upstream: "a", Headers: HeadersConfig{Response: map[string]string{"X": "y" + evil}}},
			"name of an answer field":  {Upstream: "a", Headers: HeadersConfig{Response: map[string]string{"X" + evil: "y"}}},
			"content type":             {Respond: &RespondConfig{Status: 200, Body: "x", ContentType: "text/x" + evil}},
		} {
			if err := CheckRoutes([]RouteConfig{route}); err == nil {
				t.Errorf("%s with %q is taken", key, evil)
			}
		}
	}
}

// What a trusted proxy passes on of its client may stand in a head, or is replaced.
func TestTrustedValuesMakeNoLines(t *testing.T) {
	rec := startRecorder(t)
	g := newGateway(t, balancer.DefaultConfig(), noRetries(), one(RouteConfig{}), rec.addr)
	g.trust("127.0.0.0/8")
	r := g.do(get + "X-Request-Id: a\tb\nX-Forwarded-Host: a\tb\nX-Forwarded-Proto: https\ta\nForwarded: for=a\tb\nCookie: sluice_server=%0d%0a\n\n")
	r.wants(t, 200, "")
	head := rec.head()
	for _, line := range strings.Split(head, "\r\n") {
		if strings.Contains(line, "\t") && !strings.HasPrefix(line, "Forwarded: ") {
			t.Errorf("%q came through", line)
		}
	}
	if n := strings.Count(rec.bytes(), "\r\n\r\n"); n != 1 {
		t.Errorf("the server got %q", rec.bytes())
	}
}
