package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
	"sluice/proxy/proxyproto"
)

// unixFront makes g listen on a Unix socket as well, and gives what dials it. Every connection begins with a header when asked for.
func (g *gateway) unixFront(header bool) (dial func() *client) {
	g.t.Helper()
	dir, err := os.MkdirTemp("", "s") // short enough for a socket
	if err != nil {
		g.t.Fatal(err)
	}
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		g.t.Fatal(err)
	}
	named := http1.NamedListener{Listener: l, Name: "unix:" + l.Addr().String()}
	if header {
		var a proxyproto.Acceptor
		a.Configure([]netip.Prefix{{}}, time.Second)
		named.Open = a.Opener(nil)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = g.server.Serve(named)
	}()
	g.t.Cleanup(func() {
		_ = l.Close()
		<-served
		os.RemoveAll(dir)
	})
	return func() *client {
		g.t.Helper()
		c, err := net.Dial("unix", l.Addr().String())
		if err != nil {
			g.t.Fatal(err)
		}
		g.t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		return &client{c, g, bufio.NewReader(c)}
	}
}

// introduced is a server that wants the header, and answers with what it says and the number of its connection.
func introduced(t testing.TB) string {
	return rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
		h, err := proxyproto.Read(r)
		if err != nil {
			t.Errorf("connection %d: %v", n, err)
			return
		}
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, _ := io.ReadAll(req.Body)
			text := fmt.Sprintf("%v %s %s %d %s", h.Local, h.Source, h.Destination, n, body)
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
		}
	})
}

func introducing(t testing.TB, version string) *gateway {
	up := DefaultUpstreamConfig()
	up.ProxyProtocol = version
	return newGateway(t, balancer.DefaultConfig(), up, one(RouteConfig{}), introduced(t))
}

// Each client is told of on connections of its own, which are kept for it.
func TestServersAreToldWhoTheClientIs(t *testing.T) {
	for _, version := range []string{"v1", "v2"} {
		g := introducing(t, version)
		a, b := g.dial(), g.dial()
		for i := range 3 {
			for n, c := range []*client{a, b} {
				want := fmt.Sprintf("false %s %s %d abc", c.LocalAddr(), c.RemoteAddr(), n)
				if r := c.do(fmt.Sprintf("POST /%d HTTP/1.1\nHost: x\nContent-Length: 3\n\nabc", i)); r.body != want {
					t.Errorf("%s, %d: %q, not %q", version, i, r.body, want)
				}
			}
		}
		// A new connection of the same machine is another client.
		if r := g.do(get + "\n"); !strings.Contains(r.body, " 2 ") {
			t.Errorf("%s: %q", version, r.body)
		}
	}
}

// Behind a trusted proxy the client is who that says it is, request by request.
func TestServersAreToldTheClientBehindAProxy(t *testing.T) {
	g := introducing(t, "v2")
	g.trust("127.0.0.0/8")
	c := g.dial()
	for _, row := range []struct{ xff, want string }{
		{"192.0.2.1", "192.0.2.1:0 %s 0"}, {"192.0.2.2", "192.0.2.2:0 %s 1"}, {"192.0.2.1", "192.0.2.1:0 %s 0"}, {"2001:db8::1", "[2001:db8::1]:0 %s 2"},
	} {
		want := "false " + fmt.Sprintf(row.want, c.RemoteAddr())
		r := c.do(get + "X-Forwarded-For: " + row.xff + "\n\n")
		if got := strings.ReplaceAll(strings.TrimSpace(r.body), "[::ffff:127.0.0.1]", "127.0.0.1"); got != want {
			t.Errorf("%s: %q, not %q", row.xff, got, want)
		}
	}
}

// Who came over a Unix socket has no address: version 1 knows no such client.
func TestServersAreToldOfUnixClients(t *testing.T) {
	for version, want := range map[string]string{"v1": "true invalid", "v2": "false invalid"} {
		if r := introducing(t, version).unixFront(false)().do(get + "\n"); !strings.HasPrefix(r.body, want) {
			t.Errorf("%s: %q", version, r.body)
		}
	}
}

// A reload that begins to tell does not leave connections in use that tell of nobody, nor the other way round.
func TestIntroductionFollowsAReload(t *testing.T) {
	plain := DefaultUpstreamConfig()
	told := plain
	told.ProxyProtocol = "v2"
	g := newGateway(t, balancer.DefaultConfig(), plain, one(RouteConfig{}), rawServer(t, func(c net.Conn, r *bufio.Reader, n int) {
		first, err := r.Peek(1)
		if err != nil {
			return
		}
		began := "plainly"
		if first[0] == '\r' {
			if _, err := proxyproto.Read(r); err != nil {
				t.Error(err)
			}
			began = "told"
		}
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(began), began)
		}
	}))
	c := g.dial()
	for i, want := range []string{"plainly", "told", "plainly", "told"} {
		if i%2 == 1 {
			g.ups["a"].Configure(told)
		} else {
			g.ups["a"].Configure(plain)
		}
		for range 2 {
			if r := c.do(get + "\n"); r.body != want {
				t.Errorf("%d: %q, not %q", i, r.body, want)
			}
		}
	}
}

func TestClientOnUnixSocket(t *testing.T) {
	g := simple(t, RouteConfig{}, echoHead)
	c := g.unixFront(false)()
	r := c.do(get + "X-Forwarded-For: 6.6.6.6\nX-Forwarded-Port: 1\nForwarded: for=6.6.6.6\n\n")
	has(t, r.body, "X-Forwarded-For: unix:\n", "X-Real-Ip: unix:\n", "!X-Forwarded-Port", "X-Forwarded-Proto: http\n", `Forwarded: for="unknown";host="x";proto=http`)
	if line := g.line(1, "client", "unix:"); line["status"] != 200.0 {
		t.Error(line)
	}
	// It is believed only where Unix sockets are trusted.
	g.trusted = []netip.Prefix{{}}
	g.store(g.proxy.Table())
	r = c.do(get + "X-Forwarded-For: 192.0.2.1, unix:\nX-Forwarded-Port: 443\nX-Forwarded-Proto: https\n\n")
	has(t, r.body, "X-Forwarded-For: 192.0.2.1, unix:, unix:\n", "X-Real-Ip: 192.0.2.1\n", "X-Forwarded-Port: 443\n", "X-Forwarded-Proto: https\n")
	// A TCP peer is not, and nor is one of them that a trusted proxy does not say to be trusted.
	r = g.do(get + "X-Forwarded-For: 6.6.6.6\n\n")
	has(t, r.body, "X-Forwarded-For: 127.0.0.1\n", "X-Real-Ip: 127.0.0.1\n")
	g.trusted = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
	g.store(g.proxy.Table())
	r = g.do(get + "X-Forwarded-For: 6.6.6.6, unix:\n\n")
	has(t, r.body, "X-Forwarded-For: 6.6.6.6, unix:, 127.0.0.1\n", "X-Real-Ip: unix:\n")
}

// What a header tells is the peer in all respects.
func TestToldClientIsThePeer(t *testing.T) {
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{Deny: []string{"192.0.2.66"}}), serve(t, echoHead))
	g.trust("10.0.0.0/8")
	dial := g.unixFront(true)
	open := func(src string) *client {
		c := dial()
		_, _ = c.Write(proxyproto.Append(nil, 2, proxyproto.Header{Source: netip.MustParseAddrPort(src), Destination: netip.MustParseAddrPort("198.51.100.1:8443")}))
		return c
	}
	r := open("192.0.2.1:7").do(get + "X-Forwarded-For: 6.6.6.6\n\n")
	has(t, r.body, "X-Forwarded-For: 192.0.2.1\n", "X-Real-Ip: 192.0.2.1\n", "X-Forwarded-Port: 8443\n")
	r = open("10.9.9.9:7").do(get + "X-Forwarded-For: 192.0.2.5\n\n") // a proxy in front of the balancer
	has(t, r.body, "X-Forwarded-For: 192.0.2.5, 10.9.9.9\n", "X-Real-Ip: 192.0.2.5\n")
	open("192.0.2.66:7").do(get+"\n").wants(t, 403, "denied")
	g.line(3, "client", "192.0.2.66")
}

func TestUnixClientsAndLimits(t *testing.T) {
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(),
		one(RouteConfig{RateLimit: &RateLimitConfig{Rate: 0.001, Burst: 2, Key: "client_ip", Status: 429}}), serve(t, echoHead))
	dial := g.unixFront(false)
	dial().do(get+"\n").wants(t, 200, "")
	dial().do(get+"\n").wants(t, 200, "")
	dial().do(get+"\n").wants(t, 429, "rate_limited")
	g.do(get+"\n").wants(t, 200, "") // nobody else has that key

	var scratch [16]byte
	unix := string(keySource{}.value(&scratch, netip.Addr{}, nil, nil))
	for _, other := range []string{"::", "::1", "0.0.0.0"} {
		if string(keySource{}.value(&scratch, netip.MustParseAddr(other), nil, nil)) == unix {
			t.Errorf("%s has the key of Unix clients", other)
		}
	}
	for list, want := range map[string]int{"unix": 200, "127.0.0.1": 403, "0.0.0.0/0": 403, "::/0": 403} {
		g.routes = one(RouteConfig{Allow: []string{list}})
		g.store(nil)
		if r := dial().do(get + "\n"); r.StatusCode != want {
			t.Errorf("allow %s: %d", list, r.StatusCode)
		}
	}
	g.routes = one(RouteConfig{Deny: []string{"unix"}})
	g.store(nil)
	dial().do(get+"\n").wants(t, 403, "denied")
	g.do(get+"\n").wants(t, 200, "")
}

// A client on a Unix socket that leaves gives its slot back at once.
func TestLeavingUnixClientFreesItsSlot(t *testing.T) {
	entered, left := make(chan struct{}), make(chan struct{})
	g := newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(RouteConfig{LimitConn: &LimitConnConfig{Max: 1, Key: "client_ip", Status: 503}}),
		serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/wait" {
				return
			}
			close(entered)
			<-r.Context().Done()
			close(left)
		}))
	dial := g.unixFront(false)
	c := dial()
	c.send("GET /wait HTTP/1.1\nHost: x\n\n")
	<-entered
	dial().do(get+"\n").wants(t, 503, "conn_limited")
	_ = c.Close()
	<-left
	g.eventually("the slot is free", func() bool { return g.places() == 0 && g.ups["a"].InFlight() == 0 })
	dial().do(get+"\n").wants(t, 200, "")
}

// No request allocates more for coming or going over a Unix socket, nor for being told of on a kept connection.
func TestIntroducedRequestsAllocateNothing(t *testing.T) {
	up := DefaultUpstreamConfig()
	up.ProxyProtocol = "v2"
	x := &Exchange{route: &Route{upstream: readyUpstream("a", balancer.DefaultConfig(), up)}, conn: new(http1.Conn)}
	x.client = netip.MustParseAddr("192.0.2.1")
	x.introduce()
	if n := testing.AllocsPerRun(1000, x.introduce); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
