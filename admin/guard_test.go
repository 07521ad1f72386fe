package admin

import (
	"fmt"
	"path/filepath"
	"testing"
)

func TestToken(t *testing.T) {
	g, _ := newGateway(t)
	for _, listen := range []string{"127.0.0.1:0", "0.0.0.0:0", "unix:" + filepath.Join(t.TempDir(), "s")} {
		s := start(t, g, Config{Listen: listen, Token: "s3cret"}, MetricsConfig{})
		addr := s.Addr()
		for _, c := range []struct {
			field  string
			status int
		}{
			{"X: none", 401},
			{"Authorization: Bearer s3cret", 200},
			{"Authorization: bearer s3cret", 200},
			{"Authorization: Bearer s3cre", 401},
			{"Authorization: Bearer s3cret2", 401},
			{"Authorization: Bearer", 401},
			{"Authorization: Bearer ", 401},
			{"Authorization: Basic s3cret", 401},
			{"Authorization: s3cret", 401},
		} {
			for _, path := range []string{"/", "/metrics", "/api/v1/status", "/api/v1/config", "/api/v1/explain?url=/"} {
				a := send(t, addr, "GET", path, "", c.field)
				a.is(t, c.status)
				if c.status == 401 && a.header.Get("Www-Authenticate") == "" {
					t.Error("401 without WWW-Authenticate")
				}
			}
			send(t, addr, "POST", "/api/v1/reload", "", c.field).is(t, c.status)
			if c.status == 401 {
				send(t, addr, "GET", "/no/such/path", "", c.field).is(t, 401) // nor does it tell what exists
				send(t, addr, "DELETE", "/metrics", "", c.field).is(t, 401)
			}
			send(t, addr, "GET", "/healthz", "", c.field).is(t, 200)
			send(t, addr, "GET", "/readyz", "", c.field).is(t, 200)
		}
	}
}

// A page of evil.example whose name was made to resolve to 127.0.0.1 sends its own name as Host.
func TestRebinding(t *testing.T) {
	g, _ := newGateway(t)
	s := start(t, g, Config{Listen: "127.0.0.1:0"}, MetricsConfig{Listen: "127.0.0.1:0"})
	for host, status := range map[string]int{
		"localhost": 200, "LOCALHOST:9901": 200, "localhost.": 200, "127.0.0.1": 200, "127.9.9.9:1": 200, "[::1]:9901": 200, "[::1]": 200,
		"evil.example": 421, "evil.example:9901": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "10.0.0.1": 421, "[::2]": 421,
	} {
		for _, addr := range []string{s.Addr(), s.MetricsAddr()} {
			send(t, addr, "GET", "/metrics", "", "Host: "+host).is(t, status)
		}
		send(t, s.Addr(), "POST", "/api/v1/reload", "", "Host: "+host).is(t, status)
	}
	if g.reloads != 7 {
		t.Errorf("%d reloads, want one for each good name", g.reloads)
	}
}

func TestForeignHostsMayAskOpenListeners(t *testing.T) {
	g, _ := newGateway(t)
	s := start(t, g, Config{Listen: "0.0.0.0:0", Token: "x"}, MetricsConfig{Listen: "0.0.0.0:0"})
	send(t, s.Addr(), "GET", "/api/v1/status", "", "Host: gateway.internal", "Authorization: Bearer x").is(t, 200)
	send(t, s.MetricsAddr(), "GET", "/metrics", "", "Host: gateway.internal").is(t, 200)
}

func TestCrossOrigin(t *testing.T) {
	g, _ := newGateway(t)
	s := local(t, g)
	own := "Origin: http://" + s.Addr()
	for i, c := range []struct {
		fields []string
		status int
	}{
		{nil, 200},
		{[]string{"Content-Type: application/json"}, 200},
		{[]string{"Content-Type: application/x-www-form-urlencoded"}, 200}, // curl -d
		{[]string{own}, 200},
		{[]string{own, "Content-Type: application/json; charset=utf-8", "Sec-Fetch-Site: same-origin"}, 200},
		{[]string{own, "Content-Type: text/plain"}, 415},
		{[]string{"Origin: https://evil.example"}, 403},
		{[]string{"Origin: http://127.0.0.1:1"}, 403}, // another server of this machine
		{[]string{"Origin: null"}, 403},
		{[]string{"Sec-Fetch-Site: cross-site"}, 403},
		{[]string{"Sec-Fetch-Site: same-site"}, 403},
		{[]string{"User-Agent: Mozilla/5.0", "Content-Type: text/plain"}, 415},
		{[]string{"Referer: http://evil.example/", "Content-Type: multipart/form-data"}, 415},
	} {
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			g.reloads = 0
			send(t, s.Addr(), "POST", "/api/v1/reload", "", c.fields...).is(t, c.status)
			if done := g.reloads == 1; done != (c.status == 200) {
				t.Errorf("%v: %d reloads", c.fields, g.reloads)
			}
		})
	}
	if a := send(t, s.Addr(), "GET", "/api/v1/status", "", "Origin: https://evil.example"); a.header.Get("Access-Control-Allow-Origin") != "" {
		t.Error("a foreign page may read answers")
	}
}

func TestReadOnlyListener(t *testing.T) {
	g, _ := newGateway(t)
	s := start(t, g, Config{Listen: "127.0.0.1:0", Token: "x"}, MetricsConfig{Listen: "127.0.0.1:0"})
	for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
		send(t, s.MetricsAddr(), "GET", path, "").is(t, 200)
	}
	for _, path := range []string{"/", "/api/v1/status", "/api/v1/config", "/api/v1/events", "/api/v1/explain"} {
		send(t, s.MetricsAddr(), "GET", path, "", "Authorization: Bearer x").is(t, 404)
	}
	for _, path := range []string{"/api/v1/reload", "/api/v1/upstreams/demo/scale", "/api/v1/upstreams/demo/servers/demo-1/drain"} {
		send(t, s.MetricsAddr(), "POST", path, `{"replicas": 2}`, "Authorization: Bearer x").is(t, 404)
	}
	if g.reloads != 0 {
		t.Error("the read-only listener reloaded")
	}
}
