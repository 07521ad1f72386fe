package http1

import "testing"

func TestDropHopByHop(t *testing.T) {
	rows := []struct{ name, fields, kept string }{
		{"nothing to drop", "Host: a\nA: b\nC: d\n", "Host: a\nA: b\nC: d\n"},
		{"connection fields", "Host: a\nConnection: close\nKeep-Alive: 5\nTE: trailers\nUpgrade: h2c\nA: b\n", "Host: a\nA: b\n"},
		{"proxy fields", "Proxy-Connection: x\nHost: a\nProxy-Authorization: x\nProxy: http://evil\nA: b\n", "Host: a\nA: b\n"},
		{"listed", "Host: a\nConnection: X-Secret, close ,, x-other\nx-secret: 1\nX-Other: 2\nX-Secret: 3\nA: b\n", "Host: a\nA: b\n"},
		{"listed in two", "Host: a\nConnection: B\nConnection: C\nB: 1\nC: 2\nD: 3\n", "Host: a\nD: 3\n"},
		{
			"protected", "Host: a\nConnection: Host, X-Forwarded-For, x-forwarded-anything, Forwarded, X-Real-IP, Content-Length, Content-Type, Authorization, Cookie, Via\n" +
				"X-Forwarded-For: 1\nForwarded: for=1\nX-Real-IP: 1\nContent-Length: 0\nContent-Type: t\nAuthorization: b\nCookie: c\nVia: v\n",
			"Host: a\nX-Forwarded-For: 1\nForwarded: for=1\nX-Real-IP: 1\nContent-Length: 0\nContent-Type: t\nAuthorization: b\nCookie: c\nVia: v\n",
		},
		{"underscores", "Host: a\nX_Forwarded_For: 1\nTransfer_Encoding: chunked\nContent_Length: 5\nX-Forwarded_For: 1\n_: x\nA: b\n", "Host: a\nA: b\n"},
		{"expect", "Host: a\nContent-Length: 1\nExpect: 100-continue\n", "Host: a\nContent-Length: 1\n"},
		{"chunked", "Host: a\nTransfer-Encoding: chunked\nTrailer: X-Sum\nA: b\n", "Host: a\nTrailer: X-Sum\nA: b\n"},
		{"trailer without chunks", "Host: a\nTrailer: X-Sum\n", "Host: a\n"},
		{"harmful trailer", "Host: a\nTransfer-Encoding: chunked\nTrailer: X-Sum, Content-Length\n", "Host: a\n"},
		{"white space kept as it is", "Host:a\nA:   b \t\nConnection: x\n", "Host:a\nA:   b \t\n"},
		{"nothing left", "Connection: close\n", ""},
	}
	for _, row := range rows {
		var h Head
		start := "POST / HTTP/1.1\n"
		if row.name == "nothing left" {
			start = "POST / HTTP/1.0\n"
		}
		if _, err := h.ParseRequest([]byte(crlfs(start+row.fields+"\n")), Limits{}); err != nil {
			t.Errorf("%s: %v", row.name, err)
			continue
		}
		h.DropHopByHop()
		if got := string(h.AppendKept(nil)); got != crlfs(row.kept) {
			t.Errorf("%s: kept %q", row.name, got)
		}
	}
}

func TestAbsoluteFormReplacesHost(t *testing.T) {
	for _, target := range []string{"http://good:8080/x", "http://good:8080", "http://good:8080?q"} {
		var h Head
		if _, err := h.ParseRequest([]byte(crlfs("GET "+target+" HTTP/1.1\nA: b\nHost: evil\nC: d\n\n")), Limits{}); err != nil {
			t.Fatal(err)
		}
		h.DropHopByHop()
		if got := string(h.AppendKept(nil)); got != crlfs("A: b\nHost: good:8080\nC: d\n") {
			t.Errorf("%s: kept %q", target, got)
		}
		if string(h.Get("host")) != "good:8080" {
			t.Errorf("%s: Host %q", target, h.Get("host"))
		}
	}
}

func TestDrop(t *testing.T) {
	var h Head
	if _, err := h.ParseRequest([]byte(crlfs("GET / HTTP/1.1\nHost: a\nB: 1\nC: 2\nD: 3\n\n")), Limits{}); err != nil {
		t.Fatal(err)
	}
	h.Drop(0)
	h.Drop(2)
	if got := string(h.AppendKept([]byte("x"))); got != crlfs("xB: 1\nD: 3\n") {
		t.Errorf("kept %q", got)
	}
	h.Drop(3)
	if got := string(h.AppendKept(nil)); got != crlfs("B: 1\n") {
		t.Errorf("kept %q", got)
	}
}

func TestResponseKeepsUnderscores(t *testing.T) {
	var h Head
	if _, err := h.ParseResponse([]byte(crlfs("HTTP/1.1 200 OK\nX_Y: 1\nConnection: X-Z\nX-Z: 2\nSet-Cookie: a=b\nContent-Length: 0\n\n")), []byte("GET"), Limits{}); err != nil {
		t.Fatal(err)
	}
	h.DropHopByHop()
	if got := string(h.AppendKept(nil)); got != crlfs("X_Y: 1\nSet-Cookie: a=b\nContent-Length: 0\n") {
		t.Errorf("kept %q", got)
	}
}

func TestHarmlessTrailers(t *testing.T) {
	for _, name := range []string{"Content-Length", "transfer-encoding", "Host", "X-Forwarded-For", "x-real-ip", "Authorization", "Cookie", "Set-Cookie",
		"Trailer", "TE", "Connection", "Proxy-Authorization", "X_Y", "If-Match", "Range", "Content-Type", "Cache-Control", "Expect", "Access-Control-Allow-Origin",
		"X-HTTP-Method", "X-Http-Method-Override", "x-method-override", "X-Rewrite-URL", "X-Original-URL", "Remote-User", "X-Remote-User", "X-WEBAUTH-USER", "X-Auth-Request-User",
		"X-User", "True-Client-IP", "CF-Connecting-IP", "SSL-Client-Cert", "X-SSL-Client-Verify", "x-ssl-client-s-dn", "Client-Cert", "client-cert-chain"} {
		if harmlessTrailer([]byte(name)) {
			t.Errorf("%s passes", name)
		}
	}
	for _, name := range []string{"grpc-status", "Grpc-Message", "X-Checksum", "Server-Timing", "ETag", "Digest"} {
		if !harmlessTrailer([]byte(name)) {
			t.Errorf("%s does not pass", name)
		}
	}
}
