package proxy

import (
	"strings"
	"testing"

	"sluice/balancer"
)

const (
	post = "POST / HTTP/1.1\nHost: x\n"
	get  = "GET / HTTP/1.1\nHost: x\n"
)

// refusedRequests are what a client may not send (RFC 9112): the head and the status it gets. The connection is closed and the
// server sees nothing.
var refusedRequests = []struct {
	row, head string
	status    int
}{
	// Two readings of where the body ends.
	{"CL and TE", post + "Content-Length: 5\nTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"TE and CL", post + "Transfer-Encoding: chunked\nContent-Length: 5\n\n0\n\n", 400},
	{"two CL", post + "Content-Length: 0\nContent-Length: 5\n\n", 400},
	{"two equal CL", post + "Content-Length: 0\nContent-Length: 0\n\n", 400},
	{"CL 3, 3", post + "Content-Length: 3, 3\n\nabc", 400},
	{"CL +3", post + "Content-Length: +3\n\nabc", 400},
	{"CL -1", post + "Content-Length: -1\n\n", 400},
	{"CL 0x3", post + "Content-Length: 0x3\n\nabc", 400},
	{"CL over 64 bits", post + "Content-Length: 18446744073709551619\n\nabc", 400},
	{"CL over 63 bits", post + "Content-Length: 9223372036854775808\n\nabc", 400},
	{"CL empty", post + "Content-Length: \n\n", 400},
	{"CL 1 2", post + "Content-Length: 1 2\n\nabc", 400},
	{"CL with vertical tab", post + "Content-Length: \v3\n\nabc", 400},
	{"TE gzip, chunked", post + "Transfer-Encoding: gzip, chunked\n\n0\n\n", 400},
	{"TE chunked, identity", post + "Transfer-Encoding: chunked, identity\n\n0\n\n", 400},
	{"TE identity", post + "Transfer-Encoding: identity\n\n", 400},
	{"TE xchunked", post + "Transfer-Encoding: xchunked\n\n0\n\n", 400},
	{"TE chunked with vertical tab", post + "Transfer-Encoding: \vchunked\n\n0\n\n", 400},
	{"TE empty", post + "Transfer-Encoding:\n\n0\n\n", 400},
	{"TE twice", post + "Transfer-Encoding: chunked\nTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"TE on HTTP/1.0", "POST / HTTP/1.0\nHost: x\nTransfer-Encoding: chunked\n\n0\n\n", 400},
	{"TE folded", post + "Transfer-Encoding:\n chunked\n\n0\n\n", 400},
	{"TE in a second line", post + "X: y\n\tTransfer-Encoding: chunked\n\n0\n\n", 400},

	// Lines and names that others read otherwise.
	{"space before the colon", get + "Content-Length : 5\n\n", 400},
	{"tab before the colon", get + "Transfer-Encoding\t: chunked\n\n", 400},
	{"space in a name", get + "X Foo: y\n\n", 400},
	{"control in a name", get + "X\x01: y\n\n", 400},
	{"obs-fold", get + "X: y\n z\n\n", 400},
	{"space before the first field", "GET / HTTP/1.1\n Host: x\n\n", 400},
	{"bare CR in a value", get + "X: y\rHost: z\n\n", 400},
	{"bare CR as line end", get + "X: y\rContent-Length: 5\r\n\n", 400},
	{"bare LF", get + "X: y\x00LF\n", 400}, // \x00LF stands for a LF alone
	{"bare LF at the end", get + "\x00LF", 400},
	{"NUL in a value", get + "X: y\x00z\n\n", 400},
	{"NUL in a name", get + "X\x00: y\n\n", 400},
	{"NUL in the target", "GET /\x00 HTTP/1.1\nHost: x\n\n", 400},

	// Who is asked.
	{"no Host", "GET / HTTP/1.1\n\n", 400},
	{"two Hosts", get + "Host: y\n\n", 400},
	{"two equal Hosts", get + "Host: x\n\n", 400},
	{"empty Host", "GET / HTTP/1.1\nHost:\n\n", 400},
	{"no IPv6 address in brackets", "GET / HTTP/1.1\nHost: [:::]\n\n", 400},
	{"userinfo in Host", "GET / HTTP/1.1\nHost: u:p@x\n\n", 400},
	{"slash in Host", "GET / HTTP/1.1\nHost: x/y\n\n", 400},
	{"space in Host", "GET / HTTP/1.1\nHost: x y\n\n", 400},
	{"list in Host", "GET / HTTP/1.1\nHost: x, y\n\n", 400},
	{"userinfo in the target", "GET http://u@x/ HTTP/1.1\nHost: x\n\n", 400},
	{"target without authority", "GET http:///y HTTP/1.1\nHost: x\n\n", 400},
	{"other scheme", "GET gopher://x/ HTTP/1.1\nHost: x\n\n", 400},
	{"bad Host beside an absolute target", "GET http://x/ HTTP/1.1\nHost: a b\n\n", 400},
	{"CONNECT", "CONNECT x:443 HTTP/1.1\nHost: x:443\n\n", 405},
	{"CONNECT of a path", "CONNECT / HTTP/1.1\nHost: x\n\n", 405},
	{"authority as target", "GET x:80 HTTP/1.1\nHost: x\n\n", 400},
	{"* for another method", "GET * HTTP/1.1\nHost: x\n\n", 400},
	{"fragment", "GET /a#b HTTP/1.1\nHost: x\n\n", 400},
	{"space in the target", "GET /a b HTTP/1.1\nHost: x\n\n", 400},

	// Versions.
	{"HTTP/1.2", "GET / HTTP/1.2\nHost: x\n\n", 505},
	{"HTTP/2.0 as text", "GET / HTTP/2.0\nHost: x\n\n", 505},
	{"HTTP/2 preface", "PRI * HTTP/2.0\n\nSM\n\n", 505},
	{"HTTP/0.9", "GET /\n\n", 400},
	{"lower case", "GET / http/1.1\nHost: x\n\n", 400},

	{"Expect other than 100-continue", post + "Content-Length: 1\nExpect: tea\n\na", 417},
	{"too many fields", get + strings.Repeat("X: y\n", 100) + "\n", 431},
	{"head too large", get + "X: " + strings.Repeat("y", 32<<10) + "\n\n", 431},
}

// What follows the refused bytes: nobody may take it for a request.
const smuggled = "GET /smuggled HTTP/1.1\nHost: x\n\n"

func onTheWire(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n"), "\x00LF", "\n")
}

func TestRefusedRequestsReachNoServer(t *testing.T) {
	rec := startRecorder(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rec.addr)
	for _, row := range refusedRequests {
		t.Run(row.row, func(t *testing.T) {
			g.t = t
			c := g.dial()
			defer c.Close()
			go c.raw(onTheWire(row.head + smuggled))
			method, _, _ := strings.Cut(row.head, " ")
			r := c.head(method)
			if r.StatusCode != row.status || r.Header.Get("X-Sluice-Reason") == "" || !r.Close {
				t.Errorf("%d, reason %q, close %v, want %d and the end", r.StatusCode, r.Header.Get("X-Sluice-Reason"), r.Close, row.status)
			}
			if rest, _ := c.ends(); strings.Contains(rest, "HTTP/1.1") {
				t.Errorf("a second answer: %q", rest)
			}
			if got := rec.bytes(); got != "" {
				t.Errorf("the server got %q", got)
			}
		})
	}
	// What was under way to the server would be there before this.
	g.t = t
	g.do("GET /last HTTP/1.1\nHost: x\nConnection: close\n\n").wants(t, 200, "")
	if got := rec.bytes(); !strings.HasPrefix(got, "GET /last HTTP/1.1\r\n") || strings.Count(got, "HTTP/1.1") != 1 {
		t.Errorf("the server got %q", got)
	}
}

// badBodies are chunks that others read otherwise (RFC 9112 §7.1), behind a good one.
var badBodies = []struct{ row, chunks string }{
	{"0x5", "0x5\r\nhello\r\n0\r\n\r\n"},
	{"+5", "+5\r\nhello\r\n0\r\n\r\n"},
	{"5 and a space", "5 \r\nhello\r\n0\r\n\r\n"},
	{"a space and 5", " 5\r\nhello\r\n0\r\n\r\n"},
	{"no size", "\r\nhello\r\n0\r\n\r\n"},
	{"LF as line end", "5\nhello\r\n0\r\n\r\n"},
	{"CR as line end", "5\rhello\r\n0\r\n\r\n"},
	{"LF in an extension", "5;a\n0\r\n\r\n"},
	{"CR in an extension", "5;a\rb\r\nhello\r\n0\r\n\r\n"},
	{"endless zeros", strings.Repeat("0", 4096) + "5\r\nhello\r\n0\r\n\r\n"},
	{"overflow to 5", "10000000000000005\r\nhello\r\n0\r\n\r\n"},
	{"overflow to a negative", "ffffffffffffffff\r\nhello\r\n0\r\n\r\n"},
	{"data not followed by CRLF", "5\r\nhelloXX0\r\n\r\n"},
	{"data followed by LF", "5\r\nhello\n0\r\n\r\n"},
	{"LF as last line", "5\r\nhello\r\n0\r\n\n"},
	{"a line of a trailer without colon", "5\r\nhello\r\n0\r\nGET / HTTP/1.1\r\n\r\n"},
	{"folded trailer", "5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"},
}

func TestBadBodiesAreNeverWhole(t *testing.T) {
	rec := startRecorder(t)
	up := DefaultUpstreamConfig()
	g := newGateway(t, balancer.DefaultConfig(), up, one(RouteConfig{}), rec.addr)
	const head = "POST /bad HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
	for _, at := range []string{"with the head", "later"} {
		for _, row := range badBodies {
			t.Run(row.row+" "+at, func(t *testing.T) {
				g.t = t
				c := g.dial()
				defer c.Close()
				if at == "later" {
					before := len(rec.bytes()) // what the request before has left may come after it
					c.raw(head + "3\r\nabc\r\n")
					g.eventually("the server has the head", func() bool { return strings.Contains(rec.bytes()[before:], "3\r\nabc\r\n") })
				} else {
					c.raw(head)
				}
				c.raw(row.chunks + onTheWire(smuggled))
				if r := c.head("POST"); r.StatusCode != 400 || !r.Close {
					t.Errorf("%d, close %v", r.StatusCode, r.Close)
				}
				if rest, _ := c.ends(); strings.Contains(rest, "HTTP/1.1") {
					t.Errorf("a second answer: %q", rest)
				}
				g.eventually("the slot is free", func() bool { return g.ups["a"].InFlight() == 0 })
				if n := idleConnections(g); n != 0 {
					t.Errorf("%d connections are kept", n)
				}
			})
		}
	}
	g.t = t
	g.do("GET /last HTTP/1.1\nHost: x\nConnection: close\n\n").wants(t, 200, "")
	if whole := rec.wholes(); len(whole) != 1 || whole[0] != "/last" {
		t.Errorf("taken for whole: %q", whole)
	}
}

// A body that is cut with the connection is cut at the server too.
func TestCutBodiesAreNeverWhole(t *testing.T) {
	rec := startRecorder(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rec.addr)
	for _, whole := range []string{
		"POST /cut HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"POST /cut HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n123456789",
	} {
		for cut := range len(whole) {
			c := g.dial()
			c.raw(whole[:cut])
			_ = c.Close()
		}
	}
	g.eventually("all slots are free", func() bool { return g.ups["a"].InFlight() == 0 })
	g.do("GET /last HTTP/1.1\nHost: x\nConnection: close\n\n").wants(t, 200, "")
	if whole := rec.wholes(); len(whole) != 1 || whole[0] != "/last" {
		t.Errorf("taken for whole: %q", whole)
	}
}

// What is good but not for the server: the request passes without it. want are lines the server must see.
func TestWhatIsNotPassedOn(t *testing.T) {
	for _, row := range []struct {
		row, request string
		want, absent []string
	}{
		{
			"listed by Connection", get + "Connection: X-Hop, close\nX-Hop: 1\n\n",
			nil, []string{"x-hop", "connection:"},
		},
		{
			"hop by hop", get + "Keep-Alive: timeout=5\nProxy-Connection: keep-alive\nProxy-Authorization: Basic eA==\nProxy: http://y\nTE: gzip\nUpgrade: h2c\nConnection: Upgrade, HTTP2-Settings\nHTTP2-Settings: AA\n\n",
			nil, []string{"keep-alive", "proxy", "te:", "upgrade", "http2-settings", "connection:"},
		},
		{
			"Connection cannot take identity away", get + "Connection: X-Forwarded-For, X-Real-IP, Host, X-Forwarded-Proto\n\n",
			[]string{"Host: x", "X-Forwarded-For: 127.0.0.1", "X-Real-IP: 127.0.0.1", "X-Forwarded-Proto: http"}, []string{"connection:"},
		},
		{
			"underscore aliases", get + "X_Forwarded_For: 6.6.6.6\nTransfer_Encoding: chunked\nContent_Length: 5\nX-Real_IP: 6.6.6.6\n\n",
			nil, []string{"_", "6.6.6.6"},
		},
		{
			"identity from an untrusted peer", get + "X-Forwarded-For: 6.6.6.6\nX-Forwarded-Proto: https\nX-Forwarded-Host: y\nX-Forwarded-Port: 1\nX-Forwarded-Prefix: /y\nX-Real-IP: 6.6.6.6\nForwarded: for=6.6.6.6\nX-Request-Id: y\n\n",
			[]string{"X-Forwarded-For: 127.0.0.1", "X-Forwarded-Proto: http", "X-Forwarded-Host: x", "X-Real-IP: 127.0.0.1"}, []string{"6.6.6.6", "https", "/y", ": y"},
		},
		{"Expect", post + "Content-Length: 1\nExpect: 100-continue\n\na", []string{"Content-Length: 1"}, []string{"expect"}},
		{"absolute target and another Host", "GET http://y:8/z?q HTTP/1.1\nHost: x\n\n", []string{"GET /z?q HTTP/1.1", "Host: y:8", "X-Forwarded-Host: y:8"}, []string{"host: x\r"}},
		{"HTTP/1.0", "GET / HTTP/1.0\nHost: x\n\n", []string{"GET / HTTP/1.1"}, []string{"1.0"}},
		{"an empty line first", "\n" + get + "\n", []string{"GET / HTTP/1.1"}, nil},
	} {
		t.Run(row.row, func(t *testing.T) {
			rec := startRecorder(t)
			g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rec.addr)
			c := g.dial()
			defer c.Close()
			c.raw(onTheWire(row.request))
			r := c.head("GET")
			if r.StatusCode == 100 {
				r = c.head("GET")
			}
			if r.StatusCode != 200 {
				t.Fatalf("got %d", r.StatusCode)
			}
			head := rec.head() + "\r\n"
			for _, line := range row.want {
				if !strings.Contains(head, line+"\r\n") {
					t.Errorf("%q is missing in\n%s", line, head)
				}
			}
			for _, part := range row.absent {
				if strings.Contains(strings.ToLower(head), part) {
					t.Errorf("%q stands in\n%s", part, head)
				}
			}
		})
	}
}

// Trailers that frame, route or say who asks are dropped, whether they were announced or not; harmless ones pass when announced.
func TestTrailersOfRequests(t *testing.T) {
	rec := startRecorder(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rec.addr)
	c := g.dial()
	defer c.Close()
	c.send(post + "Transfer-Encoding: chunked\nTrailer: X-Sum\n\n3\nabc\n0\nX-Sum: 7\nX-Sun: 8\nHost: y\nContent-Length: 9\nTransfer-Encoding: chunked\nX-Forwarded-For: 6.6.6.6\nX_Forwarded_For: 6.6.6.6\nAuthorization: y\nConnection: close\n\n")
	if r := c.head("POST"); r.StatusCode != 200 {
		t.Fatal(r.StatusCode)
	}
	if _, body, _ := strings.Cut(rec.bytes(), "\r\n\r\n"); body != "3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n" {
		t.Errorf("the server got %q", body)
	}
}

func TestOptionsOfTheGateway(t *testing.T) {
	rec := startRecorder(t)
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{}), rec.addr)
	c := g.dial()
	defer c.Close()
	for _, target := range []string{"*", "http://x"} {
		if r := c.do("OPTIONS " + target + " HTTP/1.1\nHost: x\n\n"); r.StatusCode != 204 || r.Header.Get("Allow") == "" {
			t.Errorf("%s: %d %v", target, r.StatusCode, r.Header)
		}
	}
	if got := rec.bytes(); got != "" {
		t.Errorf("the server got %q", got)
	}
	c.lives()
}

// idleConnections are those to the servers of upstream "a" that are kept.
func idleConnections(g *gateway) (n int) {
	for _, s := range g.ups["a"].Servers() {
		n += s.Attached().(interface{ Idle() int }).Idle()
	}
	return n
}
