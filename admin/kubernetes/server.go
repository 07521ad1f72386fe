package kubernetes

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/client-go/rest"

	"sluice/admin"
)

// Server is the aggregated API server. It listens nowhere before the first Change; all methods may be called concurrently.
type Server struct {
	Log *slog.Logger // required, before the first call

	mu        sync.Mutex // guards all below
	endpoint  *endpoint  // nil: off
	asked     Config     // what endpoint was made of
	inherited map[string]net.Listener
}

// Config says where the server listens, and whose API server it belongs to.
type Config struct {
	admin.MetricsAPIConfig
	// API is how the API server is called; one that is another pointer counts as another API server.
	API *rest.Config
	// Namespace is that of the Services.
	Namespace string
}

// Change is a configuration that is ready to be put in force by Commit, or given up by Discard: one of both has to be
// called, once.
type Change struct {
	server *Server
	cfg    Config
	next   *endpoint // nil: off; the present one when the address stays
	view   *view     // but for the upstreams
}

// Prepare does all of a change that can fail: it opens the listener if it is a new one, and reads the certificate.
func (s *Server) Prepare(cfg Config) (*Change, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Change{server: s, cfg: cfg}
	if cfg.Off() || cfg.API == nil {
		return c, nil
	}
	cert, err := newCertificate(cfg.Cert, cfg.Key, s.Log)
	if err != nil {
		return nil, err
	}
	c.view = &view{namespace: cfg.Namespace, window: cfg.Window, windows: &windows{}, cert: cert, log: s.Log}
	if e := s.endpoint; e != nil {
		now := e.view.Load()
		c.view.windows = now.windows
		if s.asked.API == cfg.API {
			c.view.proxy, c.view.reviewer = now.proxy, now.reviewer
		}
		if s.asked.Cert == "" && cfg.Cert == "" {
			c.view.cert = now.cert
		}
	}
	if c.view.proxy == nil {
		cli, err := NewClient(cfg.API)
		if err != nil {
			return nil, fmt.Errorf("metrics_api: %w", err)
		}
		c.view.proxy, c.view.reviewer = &frontProxy{cli: cli, log: s.Log}, &reviewer{cli: cli}
	}
	if s.endpoint != nil && s.endpoint.listen == cfg.Listen {
		c.next = s.endpoint
		return c, nil
	}
	l := s.inherited[cfg.Listen]
	if l == nil {
		if l, err = net.Listen("tcp", cfg.Listen); err != nil {
			return nil, fmt.Errorf("metrics_api.listen: %w", err)
		}
	}
	c.next = newEndpoint(cfg.Listen, l, s.Log)
	return c, nil
}

// Discard gives the change up.
func (c *Change) Discard() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	if c.next != nil && c.next != c.server.endpoint && c.server.inherited[c.next.listen] == nil {
		_ = c.next.l.Close()
	}
}

// Commit puts the change in force, for these upstreams.
func (c *Change) Commit(upstreams []Upstream) {
	s := c.server
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.endpoint
	s.endpoint, s.asked = c.next, c.cfg
	if c.next != nil {
		c.view.upstreams = upstreams
		c.next.view.Store(c.view)
		if c.next != before {
			c.next.start()
			s.Log.Info("the metrics API listens", "addr", c.next.l.Addr().String(), "namespace", c.cfg.Namespace)
		}
	}
	if before != nil && before != c.next {
		go before.close(context.Background())
		s.Log.Info("the metrics API listens no longer", "addr", before.listen)
	}
	for addr, l := range s.inherited {
		if c.next == nil || addr != c.next.listen {
			_ = l.Close()
		}
	}
	s.inherited = nil
}

// Addr is where the server listens, with the port that was chosen for port 0; "" when it is off.
func (s *Server) Addr() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoint == nil {
		return ""
	}
	return s.endpoint.l.Addr().String()
}

// Trouble says why nobody can be answered; "" when there is no such reason, or nobody has asked yet.
func (s *Server) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoint == nil {
		return ""
	}
	if why := s.endpoint.view.Load().proxy.failed.Load(); why != nil {
		return *why
	}
	return ""
}

// Files are copies of the listening sockets by configured address, for a successor that takes this process's place;
// the caller closes them.
func (s *Server) Files() (map[string]*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.endpoint == nil {
		return nil, nil
	}
	tcp, ok := s.endpoint.l.(*net.TCPListener)
	if !ok {
		return nil, nil
	}
	f, err := tcp.File()
	if err != nil {
		return nil, err
	}
	return map[string]*os.File{s.endpoint.listen: f}, nil
}

// Inherit gives listeners of a predecessor, by configured address, to the first Commit, which closes those that it
// does not need. To be called before Prepare.
func (s *Server) Inherit(listeners map[string]net.Listener) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inherited = listeners
}

// Close takes no more requests and ends those in progress.
func (s *Server) Close(ctx context.Context) {
	s.mu.Lock()
	e := s.endpoint
	s.endpoint = nil
	s.mu.Unlock()
	if e != nil {
		e.close(ctx)
	}
}

// endpoint is one address and what answers on it.
type endpoint struct {
	listen   string
	l        net.Listener
	http     http.Server
	view     atomic.Pointer[view] // set before start
	sampling sync.WaitGroup
	cancel   context.CancelFunc // ends the sampling; set by start
	log      *slog.Logger
}

const (
	// samplePeriod is how often the meters are read between requests.
	samplePeriod = time.Second
	// closePatience is how long requests in progress have when the listener closes.
	closePatience = 2 * time.Second
)

func newEndpoint(listen string, l net.Listener, log *slog.Logger) *endpoint {
	e := &endpoint{listen: listen, l: l, log: log}
	e.http = http.Server{
		Handler:           http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.view.Load().serve(w, r) }),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second, // an answer may wait for two calls of the API server
		IdleTimeout:       90 * time.Second,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug), // broken handshakes of whoever scans ports
		TLSConfig: &tls.Config{
			MinVersion: tls.VersionTLS12,
			NextProtos: []string{"h2", "http/1.1"},
			// Whose it is is looked at with the request: what is trusted changes while connections live, and a refusal
			// should be an answer.
			ClientAuth:     tls.RequestClientCert,
			GetCertificate: func(hello *tls.ClientHelloInfo) (*tls.Certificate, error) { return e.view.Load().cert.get(hello) },
		},
	}
	return e
}

// start answers and samples until close.
func (e *endpoint) start() {
	ctx, cancel := context.WithCancel(context.Background())
	e.cancel = cancel
	e.sampling.Go(func() { e.sample(ctx) })
	go func() {
		if err := e.http.ServeTLS(e.l, "", ""); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			e.log.Error("the metrics API ended", "listen", e.listen, "error", err)
		}
	}()
}

// sample reads the meters of the upstreams in use.
func (e *endpoint) sample(ctx context.Context) {
	tick := time.NewTicker(samplePeriod)
	defer tick.Stop()
	for {
		v := e.view.Load()
		v.windows.sample(v.upstreams, time.Now(), v.window)
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
}

func (e *endpoint) close(ctx context.Context) {
	e.cancel()
	e.sampling.Wait()
	ctx, cancel := context.WithTimeout(ctx, closePatience)
	defer cancel()
	if err := e.http.Shutdown(ctx); err != nil {
		_ = e.http.Close()
	}
}
