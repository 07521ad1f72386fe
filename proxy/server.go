package proxy

import (
	"context"
	"net"
	"sync"

	"sluice/proxy/http1"
	"sluice/proxy/http2"
)

// server is the connections to one server of an upstream. It is what a balancer.Server is attached to.
type server struct {
	*http1.Transport
	up      *Upstream
	addr    string
	dialing *dialing

	mu     sync.Mutex    // guards what follows
	h2     *http2.Client // nil: not used yet
	h2Like *Dialer       // that h2 was made with
	closed bool
}

func newServer(u *Upstream, addr string) *server {
	s := &server{up: u, addr: addr, dialing: newDialing()}
	s.Transport = http1.NewTransport(addr, s.transport(u.cfg.Load()))
	return s
}

// configure takes a new configuration; another tells that servers are reached in another way than before.
func (s *server) configure(cfg *UpstreamConfig, another bool) {
	s.SetConfig(s.transport(cfg))
	s.mu.Lock()
	if s.h2 != nil {
		s.h2.Configure(s.h2Like.streams(cfg))
	}
	s.mu.Unlock()
	if another {
		s.Renew()
	}
}

// dial asks for the dialer each time: a server that is added while the configuration changes must not keep the old one. The
// connections of HTTP/2 need no dialing: http2.Client dials apart from requests.
func (s *server) dial(ctx context.Context) (net.Conn, error) {
	d := s.up.dialer.Load()
	if !d.http2() {
		return s.dialing.dial(ctx, d, s.addr)
	}
	c, err := s.client(d)
	if err != nil {
		return nil, err
	}
	stream, err := c.Dial(ctx)
	return stream, asHandshake(err)
}

// client is the connections of HTTP/2 that are made as d says. Those of another dialer end with the requests that they are in.
func (s *server) client(d *Dialer) (*http2.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, http1.ErrClosed
	}
	if s.h2 == nil || s.h2Like != d {
		if s.h2 != nil {
			s.h2.Close()
		}
		dial := func(ctx context.Context) (net.Conn, error) { return d.dial(ctx, s.addr) }
		s.h2, s.h2Like = http2.NewClient(dial, d.streams(s.up.cfg.Load())), d
	}
	return s.h2, nil
}

// Close ends what is unused at once, and the rest with the requests that it is in.
func (s *server) Close() {
	s.Transport.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed = true; s.h2 != nil {
		s.h2.Close()
	}
}

// transport is the part of the configuration that a transport follows.
func (s *server) transport(c *UpstreamConfig) http1.TransportConfig {
	return http1.TransportConfig{
		Dial: s.dial, Connect: c.Timeouts.Connect, FirstByte: c.Timeouts.FirstByte, Idle: c.Timeouts.Idle, KeepAlive: c.Timeouts.KeepAlive,
		MaxIdle: 1024, Limits: http1.Limits{MaxHead: 64 << 10, MaxFields: 256},
	}
}
