package proxy

import (
	"errors"
	"testing"
)

func TestAppendReading(t *testing.T) {
	for _, c := range []struct {
		path, want string
		odd        bool
		err        error
	}{
		{"/", "/", false, nil},
		{"/a/b", "/a/b", false, nil},
		{"/a//b///c", "/a/b/c", false, nil},
		{"//a/", "/a/", false, nil},
		{"/%61%2D%7e", "/a-~", false, nil},
		{"/caf%c3%a9/x%20y", "/café/x y", false, nil},
		{"/%40scope", "/@scope", false, nil},
		{"/100%25", "/100%25", false, nil},
		{"/%252F", "/%252F", false, nil},
		{"/a/./b", "/a/b", true, nil},
		{"/a/../b", "/b", true, nil},
		{"/a/b/..", "/a/", true, nil},
		{"/a/.", "/a/", true, nil},
		{"/a/%2e%2E/b", "/b", true, nil},
		{"/a/..;x=1/b", "/b", true, nil},
		{"/a//../b", "/b", true, nil},
		{"/.well-known/x", "/.well-known/x", false, nil},
		{"/...", "/...", false, nil},
		{"/a%2fb", "/a%2Fb", true, nil},
		{`/a\b`, "/a%5Cb", true, nil},
		{"/a%5cb", "/a%5Cb", true, nil},
		{"/a;b", "/a;b", true, nil},
		{"/..", "", false, errPathClimbs},
		{"/a/../..", "", false, errPathClimbs},
		{"/a%00", "", false, errPathNUL},
		{"/a%0", "", false, errPathEscape},
		{"/a%", "", false, errPathEscape},
		{"/a%zz", "", false, errPathEscape},
	} {
		got, odd, err := appendReading(nil, []byte(c.path), routed)
		if !errors.Is(err, c.err) || err == nil && (string(got) != c.want || odd != c.odd) {
			t.Errorf("%s: got %s, odd %v, %v", c.path, got, odd, err)
		}
	}
}

func TestOtherReadings(t *testing.T) {
	for _, c := range []struct {
		path string
		how  reading
		want string
	}{
		{"/a/../b", reading{}, "/a/../b"},
		{"/a//../b", reading{dots: true}, "/b"},
		{"/a//../b", reading{dots: true, empties: true}, "/a/b"},
		{"/a///b//", reading{empties: true}, "/a/b/"},
		{"//../a", reading{dots: true, empties: true}, "/a"},
		{"/a;x=1/;y/b;", reading{params: true}, "/a/b"},
		{"/a/;x/../b", reading{dots: true, empties: true, params: true}, "/a/b"},
		{"/a/..;x/b;y", reading{dots: true, params: true}, "/b"},
		{"/a;/b", reading{dots: true}, "/a;/b"},
		{"/a%2f..%2fb", reading{slashes: true}, "/a/../b"},
		{"/a%2f..%2fb", reading{dots: true, slashes: true}, "/b"},
		{`/a\..\b`, reading{dots: true, slashes: true}, "/b"},
	} {
		if got, _, err := appendReading(nil, []byte(c.path), c.how); err != nil || string(got) != c.want {
			t.Errorf("%s as %+v: got %s, %v", c.path, c.how, got, err)
		}
	}
}

func TestBeforeSession(t *testing.T) {
	for path, want := range map[string]string{
		"/login;jsessionid=1": "/login", "/a/b.jsp;jsessionid=0A-z!1.node:2": "/a/b.jsp", "/a;jsessionid=": "/a", "/a;jsessionid=..": "/a",
		"/;jsessionid=1": "", "/a/;jsessionid=1": "", ";jsessionid=1": "", "/a;JSESSIONID=1": "", "/a;sid=1": "", "/a;jsessionid": "", "/a": "",
		"/a;jsessionid=1/b": "", "/a;jsessionid=1;b": "", "/a;b;jsessionid=1": "", "/a;b/c;jsessionid=1": "", "/a;jsessionid=1;jsessionid=2": "",
		"/a%3Bjsessionid=1": "", "/a;jsessionid=%31": "", "/%61;jsessionid=1": "", "/..;jsessionid=1": "", "/a/../b;jsessionid=1": "", "/a//b;jsessionid=1": "",
		`/a\b;jsessionid=1`: "", `/a;jsessionid=1\b`: "",
	} {
		if got := string(beforeSession([]byte(path))); got != want {
			t.Errorf("%s: %s", path, got)
		}
	}
}

func TestTangledSemicolons(t *testing.T) {
	for path, want := range map[string]bool{
		"/a;x/b": false, "/a%3Bx/b": false, "/a;.b/c": false, "/a.b;c/...": false, "/a/../b": false, "/;": false,
		"/a;x/../b": true, "/a/..;/b": true, "/a/%2e;x": true, "/a;x%2f..": true, `/a;x\.`: true, "/p/;r/%3b/x": true, "/a%3b/.": true,
	} {
		if got := tangled([]byte(path)); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}
