package admin

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/valyala/fasthttp"
	"golang.org/x/sync/errgroup"
)

// Server answers on the listeners of [admin] and [metrics]. Make one with New and open the listeners
// with Configure.
type Server struct {
	gateway  Gateway
	version  string
	log      *slog.Logger
	registry *prometheus.Registry
	events   *hub

	mu        sync.Mutex // guards all below; held while listeners are opened and closed
	admin     *endpoint
	readOnly  *endpoint
	inherited map[string]net.Listener
}

// New makes a server that listens nowhere yet. version is what the status and sluice_build_info say.
func New(g Gateway, version string, log *slog.Logger) *Server {
	s := &Server{gateway: g, version: version, log: log}
	s.registry = newRegistry(g, version, log)
	s.events = newHub(s.Status, eventPeriod)
	return s
}

// Configure opens, keeps, changes and closes the listeners so that they are what the configuration says.
// When one cannot be opened it returns why, and nothing has changed.
func (s *Server) Configure(cfg Config, m MetricsConfig) error {
	if err := errors.Join(cfg.Check(), m.Check()); err != nil {
		return err
	}
	if cfg.off() {
		cfg.Listen = ""
	}
	if m.off() {
		m.Listen = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.replace(s.admin, cfg.Listen)
	if err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	r, err := s.replace(s.readOnly, m.Listen)
	if err != nil {
		if a != s.admin {
			_ = a.close(context.Background())
		}
		return fmt.Errorf("metrics.listen: %w", err)
	}
	a.protect(newGuard(cfg.Listen, cfg.Token, false))
	r.protect(newGuard(m.Listen, "", true))
	for _, e := range [][2]*endpoint{{s.admin, a}, {s.readOnly, r}} {
		if old, now := e[0], e[1]; old != now {
			now.start()
			go func() { // the request that asked for the reload is one of those it waits for
				ctx, cancel := context.WithTimeout(context.Background(), writeTimeout)
				defer cancel()
				_ = old.close(ctx)
			}()
		}
	}
	s.admin, s.readOnly = a, r
	for _, l := range s.inherited {
		_ = l.Close()
	}
	s.inherited = nil
	return nil
}

// replace returns the endpoint for an address: the present one if it is there already, nil for "".
func (s *Server) replace(e *endpoint, listen string) (*endpoint, error) {
	if listen == "" {
		return nil, nil
	}
	if e != nil && e.listen == listen {
		return e, nil
	}
	if from := s.inherited[listen]; from != nil {
		delete(s.inherited, listen)
		l, err := adopt(from, listen)
		if err != nil {
			return nil, err
		}
		return newEndpoint(s, listen, l), nil
	}
	l, err := open(listen)
	if err != nil {
		return nil, err
	}
	return newEndpoint(s, listen, l), nil
}

// Addr is where [admin] listens, with the port that was chosen for port 0; "" when it is off.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.admin.addr()
}

// MetricsAddr is where [metrics] listens; "" when it is off.
func (s *Server) MetricsAddr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.readOnly.addr()
}

// Shutdown ends the event streams and closes the listeners; requests in progress are finished until ctx
// ends, and then cut, which the error tells. Until it is called, /readyz goes on telling what Gateway.Ready says.
func (s *Server) Shutdown(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events.close()
	var group errgroup.Group
	group.Go(func() error { return s.admin.close(ctx) })
	group.Go(func() error { return s.readOnly.close(ctx) })
	err := group.Wait()
	s.admin, s.readOnly = nil, nil
	return err
}

// Files are copies of the listening sockets by configured address, for a successor that takes this
// process's place; the caller closes them. Once HandedOver was called, a Unix socket is left in its place
// when this server closes.
func (s *Server) Files() (map[string]*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	files := map[string]*os.File{}
	for _, e := range []*endpoint{s.admin, s.readOnly} {
		if e == nil {
			continue
		}
		f, err := e.l.copy()
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, err
		}
		files[e.listen] = f
	}
	return files, nil
}

// HandedOver says that a successor answers on the sockets that Files gave away.
func (s *Server) HandedOver() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range []*endpoint{s.admin, s.readOnly} {
		if e != nil {
			e.l.disown()
		}
	}
}

// Inherit gives listeners of a predecessor, by configured address, to the first Configure, which closes
// those that it does not need. To be called before it.
func (s *Server) Inherit(listeners map[string]net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited = listeners
}

// endpoint is one listener and who may use it. A nil endpoint is off.
type endpoint struct {
	listen string
	l      *listener
	http   fasthttp.Server
	guard  atomic.Pointer[guard]
}

func newEndpoint(s *Server, listen string, l *listener) *endpoint {
	e := &endpoint{listen: listen, l: l}
	e.http = fasthttp.Server{
		Name:               "sluice",
		Handler:            func(ctx *fasthttp.RequestCtx) { s.admit(ctx, e.guard.Load()) },
		ErrorHandler:       malformed,
		ConnState:          stateOf,
		Concurrency:        2 * maxConns, // what made room counts until fasthttp has noticed
		ReadBufferSize:     16 << 10,     // the largest head
		MaxRequestBodySize: 2 * maxBody,  // one a little over maxBody is read whole: the answer to an unread one may be lost to a reset
		ReadTimeout:        10 * time.Second,
		IdleTimeout:        time.Minute,
		TCPKeepalive:       true,
		CloseOnShutdown:    true,
		Logger:             quiet{s.log},
	}
	return e
}

func (e *endpoint) protect(g *guard) {
	if e != nil {
		e.guard.Store(g)
	}
}

func (e *endpoint) start() {
	if e != nil {
		go e.http.Serve(e.l) //nolint:errcheck // it only returns when the listener is closed
	}
}

func (e *endpoint) addr() string {
	if e == nil {
		return ""
	}
	if e.l.path != "" {
		return e.listen
	}
	return e.l.Addr().String()
}

func (e *endpoint) close(ctx context.Context) error {
	if e == nil {
		return nil
	}
	_ = e.l.Close() // it is closed once more by Shutdown, which would call that an error
	err := e.http.ShutdownWithContext(ctx)
	e.l.cut()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// resource is what one path names.
type resource struct {
	// get and post answer; nil is a method that is not allowed.
	get, post func(*Server, *fasthttp.RequestCtx, target) *failure
	// open ones are answered without the token.
	open bool
	// readOnly ones are on the metrics listener too.
	readOnly bool
	// changes is set by find for a method that changes something.
	changes bool
}

// target is what the variable segments of a path name.
type target struct{ upstream, server string }

var resources = map[string]resource{
	"/":                                    {get: (*Server).index},
	"/metrics":                             {get: (*Server).metrics, readOnly: true},
	"/healthz":                             {get: (*Server).healthz, open: true, readOnly: true},
	"/readyz":                              {get: (*Server).readyz, open: true, readOnly: true},
	"/api/v1/status":                       {get: (*Server).status},
	"/api/v1/config":                       {get: (*Server).config},
	"/api/v1/events":                       {get: (*Server).stream},
	"/api/v1/explain":                      {get: (*Server).explain},
	"/api/v1/reload":                       {post: (*Server).reload},
	"/api/v1/upstreams/*/scale":            {post: (*Server).scale},
	"/api/v1/upstreams/*/servers/*/drain":  {post: (*Server).drain},
	"/api/v1/upstreams/*/servers/*/enable": {post: (*Server).enable},
}

// find takes the path as it was sent: a server's name may hold an escaped slash.
func find(path string) (resource, target, bool) {
	if r, ok := resources[path]; ok {
		return r, target{}, true
	}
	parts := strings.Split(path, "/")
	var names []string
	for _, i := range []int{4, 6} { // /api/v1/upstreams/NAME/servers/ID/…
		if i < len(parts)-1 && strings.HasPrefix(path, "/api/v1/upstreams/") {
			name, err := url.PathUnescape(parts[i])
			if err != nil || name == "" {
				return resource{}, target{}, false
			}
			names, parts[i] = append(names, name), "*"
		}
	}
	r, ok := resources[strings.Join(parts, "/")]
	if !ok || len(names) == 0 {
		return resource{}, target{}, false
	}
	return r, target{upstream: names[0], server: append(names, "")[1]}, true
}

func (s *Server) serve(ctx *fasthttp.RequestCtx, g *guard) {
	defer func() {
		if p := recover(); p != nil {
			s.log.Error("the admin API failed", "path", string(ctx.Path()), "panic", p, "stack", string(debug.Stack()))
			fail(fasthttp.StatusInternalServerError, "internal", "this request failed inside sluice; its log says where").write(ctx)
		}
	}()
	ctx.Response.Header.Set("X-Content-Type-Options", "nosniff")
	ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "no-store")
	if f := s.dispatch(ctx, g); f != nil {
		f.write(ctx)
	}
}

func (s *Server) dispatch(ctx *fasthttp.RequestCtx, g *guard) *failure {
	r, t, ok := find(string(ctx.URI().PathOriginal()))
	ok = ok && (r.readOnly || !g.readOnly)
	r.changes = !ctx.IsGet() && !ctx.IsHead()
	if f := g.check(ctx, &r); f != nil { // before telling what exists
		return f
	}
	if len(ctx.PostBody()) > maxBody {
		return bodyTooLarge()
	}
	if !ok {
		return fail(fasthttp.StatusNotFound, "not_found", "there is nothing at this path")
	}
	switch {
	case r.get != nil && (ctx.IsGet() || ctx.IsHead()):
		return r.get(s, ctx, t)
	case r.post != nil && ctx.IsPost():
		return r.post(s, ctx, t)
	}
	allow := "POST"
	if r.get != nil {
		allow = "GET, HEAD"
	}
	ctx.Response.Header.Set(fasthttp.HeaderAllow, allow)
	return fail(fasthttp.StatusMethodNotAllowed, "method_not_allowed", "this path takes %s", allow)
}

// maxBody is the largest request body in bytes.
const maxBody = 64 << 10

func bodyTooLarge() *failure {
	return fail(fasthttp.StatusRequestEntityTooLarge, "body_too_large", "the body is larger than %d KiB", maxBody>>10)
}

// malformed answers requests that could not be read.
func malformed(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.As(err, &small):
		fail(fasthttp.StatusRequestHeaderFieldsTooLarge, "header_too_large", "the head is larger than 16 KiB").write(ctx)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		bodyTooLarge().write(ctx)
	default:
		fail(fasthttp.StatusBadRequest, "bad_request", "the request cannot be read").write(ctx)
	}
}

func (s *Server) index(ctx *fasthttp.RequestCtx, _ target) *failure {
	var b bytes.Buffer
	fmt.Fprintf(&b, "sluice %s\n\n", s.version)
	for _, line := range []string{
		"GET  /metrics", "GET  /healthz", "GET  /readyz", "GET  /api/v1/status", "GET  /api/v1/config", "GET  /api/v1/events",
		"GET  /api/v1/explain?url=…&method=…&header=…", "POST /api/v1/reload", `POST /api/v1/upstreams/NAME/scale {"replicas": N | "auto", "for": "1h"}`,
		"POST /api/v1/upstreams/NAME/servers/ID/drain", "POST /api/v1/upstreams/NAME/servers/ID/enable",
	} {
		b.WriteString(line + "\n")
	}
	writeText(ctx, fasthttp.StatusOK, b.String())
	return nil
}

func (s *Server) healthz(ctx *fasthttp.RequestCtx, _ target) *failure {
	writeText(ctx, fasthttp.StatusOK, "ok\n")
	return nil
}

func (s *Server) readyz(ctx *fasthttp.RequestCtx, _ target) *failure {
	if err := s.gateway.Ready(); err != nil {
		writeText(ctx, fasthttp.StatusServiceUnavailable, "not ready: "+err.Error()+"\n")
		return nil
	}
	writeText(ctx, fasthttp.StatusOK, "ready\n")
	return nil
}

func (s *Server) status(ctx *fasthttp.RequestCtx, _ target) *failure {
	writeJSON(ctx, fasthttp.StatusOK, s.Status())
	return nil
}

func (s *Server) config(ctx *fasthttp.RequestCtx, _ target) *failure {
	text, err := s.gateway.DumpConfig()
	if err != nil {
		return fail(fasthttp.StatusInternalServerError, "internal", "the configuration cannot be shown: %v", err)
	}
	ctx.SetContentType("application/toml")
	ctx.SetBody(text)
	return nil
}

// quiet keeps what fasthttp says of broken clients out of the way of the log's readers.
type quiet struct{ log *slog.Logger }

func (q quiet) Printf(format string, args ...any) {
	q.log.Debug(fmt.Sprintf("admin: "+format, args...))
}
