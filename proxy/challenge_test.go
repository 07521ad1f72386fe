package proxy

import (
	"net/http"
	"testing"
)

// An authority's challenge is answered before the redirect and the routes, without TLS alone; what is none is routed as ever.
func TestChallenge(t *testing.T) {
	g, _, dial := secured(t, RouteConfig{Path: "/"}, Secure{}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("served")) })
	store := func(s Secure) {
		t.Helper()
		table, err := NewTable(TableConfig{Routes: g.routes, Upstreams: g.ups, Secure: s}, g.proxy.Table())
		if err != nil {
			t.Fatal(err)
		}
		g.proxy.Store(table)
	}
	answers := func(host, path []byte) ([]byte, bool) {
		return []byte("key"), string(host) == "a.example" && string(path) == challengePath+"token"
	}
	store(Secure{Challenge: answers, Covers: covered, Port: 443, From: []string{g.addr}})
	for _, one := range []struct {
		request, body string
		status        int
	}{
		{"GET /.well-known/acme-challenge/token HTTP/1.1\nHost: a.example\n\n", "key", 200},
		{"GET /.well-known/acme-challenge/token HTTP/1.1\nHost: A.Example.:80\n\n", "key", 200},
		{"GET /.well-known/acme-challenge/other HTTP/1.1\nHost: a.example\n\n", "served", 200},
		{"POST /.well-known/acme-challenge/token HTTP/1.1\nHost: a.example\nContent-Length: 0\n\n", "served", 200},
		{"GET /.well-known/acme-challenge/token HTTP/1.1\nHost: b.example\n\n", "served", 200},
		{"GET /x/.well-known/acme-challenge/token HTTP/1.1\nHost: a.example\n\n", "", 308},
	} {
		if r := g.do(one.request); r.StatusCode != one.status || r.body != one.body {
			t.Errorf("%.60q: %d %q, want %d %q", one.request, r.StatusCode, r.body, one.status, one.body)
		}
	}
	if line := g.line(6, "path", "/.well-known/acme-challenge/token"); line["route"] != "" || line["reason"] != "" || line["status"] != 200.0 {
		t.Errorf("logged %v", line)
	}
	if r := dial().do("GET /.well-known/acme-challenge/token HTTP/1.1\nHost: a.example\n\n"); r.body != "served" {
		t.Errorf("over TLS: %q", r.body)
	}
	store(Secure{})
	if r := g.do("GET /.well-known/acme-challenge/token HTTP/1.1\nHost: a.example\n\n"); r.body != "served" {
		t.Errorf("without [acme]: %q", r.body)
	}
}
