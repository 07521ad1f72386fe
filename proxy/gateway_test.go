package proxy

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// gateway is a Proxy on a real listener, before upstreams "a" and "b".
type gateway struct {
	t       testing.TB
	proxy   *Proxy
	server  *http1.Server
	addr    string
	ups     map[string]*Upstream
	routes  []RouteConfig
	trusted []netip.Prefix
	log     *lockedBuffer
	access  *AccessLog
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// lines waits until n lines were logged and gives them decoded.
func (g *gateway) lines(n int) []map[string]any {
	g.t.Helper()
	var all []map[string]any
	g.eventually("access log", func() bool {
		g.access.Flush()
		g.log.mu.Lock()
		text := g.log.b.String()
		g.log.mu.Unlock()
		if strings.Count(text, "\n") < n {
			return false
		}
		for line := range strings.Lines(text) {
			var m map[string]any
			if err := json.Unmarshal([]byte(line), &m); err != nil {
				g.t.Fatalf("%s: %v", line, err)
			}
			all = append(all, m)
		}
		return true
	})
	return all
}

// line waits until n lines were logged and gives the first whose field has that value: lines of several connections come in any order.
func (g *gateway) line(n int, field string, value any) map[string]any {
	g.t.Helper()
	lines := g.lines(n)
	for _, line := range lines {
		if line[field] == value {
			return line
		}
	}
	g.t.Fatalf("no line with %s %v in %v", field, value, lines)
	return nil
}

// eventually polls what happens on another goroutine without telling.
func (g *gateway) eventually(what string, is func() bool) {
	g.t.Helper()
	for end := time.Now().Add(5 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			g.t.Fatalf("%s: not within 5s", what)
		}
	}
}

// newGateway starts a gateway whose upstream "a" has the given servers, all ready.
func newGateway(t testing.TB, cfg balancer.Config, up UpstreamConfig, routes []RouteConfig, servers ...string) *gateway {
	t.Helper()
	g := &gateway{t: t, ups: map[string]*Upstream{}, routes: routes, log: &lockedBuffer{}}
	g.ups["a"] = readyUpstream("a", cfg, up, servers...)
	g.ups["b"] = readyUpstream("b", cfg, up)
	var err error
	if g.access, err = NewAccessLog("json", g.log); err != nil {
		t.Fatal(err)
	}
	g.proxy = New(Options{AccessLog: g.access, Log: slog.New(slog.NewTextHandler(t.Output(), nil))})
	g.store(nil)
	l, err := http1.Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g.addr = l.Addr().String()
	g.server = &http1.Server{Handler: g.proxy, Refuse: g.proxy.Refuse, HeaderTimeout: 10 * time.Second, BodyTimeout: 20 * time.Second, KeepAlive: 30 * time.Second, Grace: 10 * time.Millisecond, Log: g.proxy.log}
	served := make(chan error, 1)
	go func() { served <- g.server.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = g.server.Shutdown(ctx)
		if err := <-served; err != nil {
			t.Error(err)
		}
		for _, u := range g.ups {
			u.Close()
			u.Update(nil, time.Now())
		}
		_ = g.access.Close()
	})
	return g
}

func readyUpstream(name string, cfg balancer.Config, up UpstreamConfig, servers ...string) *Upstream {
	u := NewUpstream(balancer.NewUpstream(name, cfg), up, nil)
	setServers(u, servers...)
	return u
}

func setServers(u *Upstream, servers ...string) {
	var specs []balancer.ServerSpec
	for _, addr := range servers {
		specs = append(specs, balancer.ServerSpec{ID: addr, Addr: addr})
	}
	u.Update(specs, time.Now())
	for _, s := range u.Servers() {
		s.Probe(nil, 1, 2, time.Now())
	}
}

func (g *gateway) store(prev *Table) {
	g.t.Helper()
	table, err := NewTable(TableConfig{Routes: g.routes, Upstreams: g.ups, TrustedProxies: g.trusted}, prev)
	if err != nil {
		g.t.Fatal(err)
	}
	g.proxy.Store(table)
}

// trust makes the test's own address a trusted proxy.
func (g *gateway) trust(prefixes ...string) {
	for _, p := range prefixes {
		g.trusted = append(g.trusted, netip.MustParsePrefix(p))
	}
	g.store(g.proxy.Table())
}

func one(r RouteConfig) []RouteConfig {
	if r.Upstream == "" && r.Redirect == nil && r.Respond == nil {
		r.Upstream = "a"
	}
	if r.Name == "" {
		r.Name = "r"
	}
	return []RouteConfig{r}
}

// simple is a gateway before one handler.
func simple(t testing.TB, r RouteConfig, handler http.HandlerFunc) *gateway {
	t.Helper()
	return newGateway(t, balancer.DefaultConfig(), DefaultUpstreamConfig(), one(r), serve(t, handler))
}

// serve starts a server and gives its address.
func serve(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s.Listener.Addr().String()
}

// do sends one raw request on a new connection and reads the response.
func (g *gateway) do(request string) *response {
	g.t.Helper()
	c := g.dial()
	defer c.Close()
	return c.do(request)
}

type client struct {
	net.Conn
	g *gateway
	r *bufio.Reader
}

type response struct {
	*http.Response
	body string
	err  error // of reading the body
}

func (g *gateway) dial() *client {
	g.t.Helper()
	c, err := net.Dial("tcp", g.addr)
	if err != nil {
		g.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return &client{c, g, bufio.NewReader(c)}
}

func (c *client) send(request string) {
	c.g.t.Helper()
	if _, err := io.WriteString(c, strings.ReplaceAll(strings.ReplaceAll(request, "\r\n", "\n"), "\n", "\r\n")); err != nil {
		c.g.t.Fatal(err)
	}
}

func (c *client) head(method string) *http.Response {
	c.g.t.Helper()
	r, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.g.t.Fatalf("reading the response: %v", err)
	}
	return r
}

func (c *client) do(request string) *response {
	c.g.t.Helper()
	c.send(request)
	method, _, _ := strings.Cut(request, " ")
	r := &response{Response: c.head(method)}
	b, err := io.ReadAll(r.Body)
	r.body, r.err = string(b), err
	return r
}

// wants checks status and reason.
func (r *response) wants(t testing.TB, status int, reason string) {
	t.Helper()
	if r.StatusCode != status || r.Header.Get("X-Sluice-Reason") != reason {
		t.Fatalf("got %d %q %q, want %d %q", r.StatusCode, r.Header.Get("X-Sluice-Reason"), r.body, status, reason)
	}
	if wait := r.Header.Get("Retry-After"); (status == 429 || status == 503) && reason != "" != (wait != "") {
		t.Errorf("%d with Retry-After %q", status, wait)
	}
}

// rejected is a counter of the first route, or of none when route is "".
func (g *gateway) rejected(route, reason string) uint64 {
	for _, r := range g.proxy.Stats().Routes {
		if r.Route == route {
			return r.Rejected[reason]
		}
	}
	return 0
}

// places is how many requests the limit_conn of the first route counts.
func (g *gateway) places() (n int) {
	l := g.proxy.Table().routes[0].conns
	for i := range shardCount {
		s := l.shards.of(uint64(i))
		s.mu.Lock()
		n += s.n
		for _, inFlight := range s.others {
			n += inFlight
		}
		s.mu.Unlock()
	}
	return n
}
