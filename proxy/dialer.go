package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"

	"sluice/proxy/http1"
	"sluice/proxy/http2"
)

// The protocols that servers can be reached with.
const (
	ProtocolHTTP1 = "http1" // HTTP/1.1
	ProtocolH2    = "h2"    // HTTP/2 over TLS
	ProtocolH2C   = "h2c"   // HTTP/2 without TLS, by prior knowledge
)

// Dialer makes connections to the servers of an upstream as its `tls` and `protocol` say. All methods may be called concurrently.
type Dialer struct {
	protocol string
	cfg      TLSConfig
	files    *material
	tls      *tls.Config // nil: without
	sessions tls.ClientSessionCache
	err      error // why no connection can be made
	log      *slog.Logger
}

// NewDialer reads the files that cfg names. What is wrong with them every connection fails with; the configuration's check told it
// before. log gets panics of connections; nil is slog.Default().
func NewDialer(cfg UpstreamConfig, log *slog.Logger) *Dialer {
	d := &Dialer{protocol: cfg.Protocol, log: log}
	if cfg.TLS.Off() {
		return d
	}
	d.cfg = *cfg.TLS
	m, key, err := d.cfg.load()
	if err != nil {
		d.err = fmt.Errorf("%w: %s: %w", http1.ErrHandshake, key, err)
		return d
	}
	d.files, d.tls = m, d.cfg.client(m)
	d.sessions = tls.NewLRUClientSessionCache(maxSessions)
	return d
}

// Plain tells that servers are reached by HTTP/1.1 over TCP alone: Over returns what it is given.
func (d *Dialer) Plain() bool { return d.tls == nil && d.err == nil && !d.http2() }

func (d *Dialer) http2() bool { return d.protocol == ProtocolH2 || d.protocol == ProtocolH2C }

// speaks says in words how servers are reached; "" by HTTP/1.1 without TLS.
func (d *Dialer) speaks() string {
	if d.Plain() {
		return ""
	}
	text := "HTTP/1.1"
	if d.http2() {
		text = "HTTP/2"
	}
	switch {
	case d.cfg.Off():
		return text + " without TLS"
	case !d.cfg.Verify:
		return text + " over TLS, certificates not verified"
	}
	return text + " over TLS"
}

// same tells that both reach servers in the same way.
func (d *Dialer) same(o *Dialer) bool {
	if d.protocol != o.protocol || d.cfg != o.cfg || d.err != nil || o.err != nil {
		return false
	}
	return d.files == nil && o.files == nil || d.files != nil && o.files != nil && d.files.same(o.files)
}

// dial connects to the server at addr, "host:port", and shakes hands.
func (d *Dialer) dial(ctx context.Context, addr string) (net.Conn, error) {
	nc, err := http1.Connect(ctx, addr, 0)
	if err != nil {
		return nil, err
	}
	return d.secure(ctx, nc, addr)
}

// secure shakes hands on a TCP connection to addr, if that is to be done. It closes nc on an error.
func (d *Dialer) secure(ctx context.Context, nc net.Conn, addr string) (net.Conn, error) {
	if d.err != nil {
		_ = nc.Close()
		return nil, d.err
	}
	if d.tls == nil {
		return nc, nil
	}
	cfg := d.tls.Clone()
	cfg.ClientSessionCache = sessionsOf{d.sessions, addr}
	if host, _, err := net.SplitHostPort(addr); err == nil && cfg.ServerName == "" { // a Unix socket has none
		cfg.ServerName = host
	}
	cfg.NextProtos = []string{"http/1.1"}
	if d.http2() {
		cfg.NextProtos = []string{"h2"}
	}
	nc, err := http1.Secure(ctx, nc, cfg)
	if err == nil && d.http2() && agreed(nc) != "h2" { // a server without ALPN agrees to nothing and fails nothing
		_ = nc.Close()
		return nil, fmt.Errorf("%w: the server does not offer HTTP/2 (ALPN h2)", http1.ErrHandshake)
	}
	return nc, err
}

// agreed is the protocol that the handshake has agreed upon.
func agreed(nc net.Conn) string {
	return nc.(interface{ ConnectionState() tls.ConnectionState }).ConnectionState().NegotiatedProtocol
}

// streams is how connections of HTTP/2 are used.
func (d *Dialer) streams(c *UpstreamConfig) http2.ClientSettings {
	return http2.ClientSettings{
		Log: d.log, Secure: d.tls != nil, MaxHeaderList: 64 << 10, IdleTimeout: c.Timeouts.KeepAlive, WriteTimeout: c.Timeouts.Idle,
	}
}

// Over makes of a TCP connection to the server at addr one that carries a single request in the form of HTTP/1.1, whatever the
// protocol below: what a health check needs. It closes nc on an error, and with what it returns.
func (d *Dialer) Over(ctx context.Context, nc net.Conn, addr string) (net.Conn, error) {
	nc, err := d.secure(ctx, nc, addr)
	if err != nil || !d.http2() {
		return nc, err
	}
	nc, err = http2.Single(ctx, nc, http2.ClientSettings{Log: d.log, Secure: d.tls != nil})
	return nc, asHandshake(err)
}

// asHandshake tells a server that was reached and could not be agreed with, of what http2 fails with.
func asHandshake(err error) error {
	if err != nil && (errors.Is(err, http2.ErrNotSpoken) || http1.RefusedHandshake(err)) {
		return fmt.Errorf("%w: %w", http1.ErrHandshake, err)
	}
	return err
}
