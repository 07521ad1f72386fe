package https

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/proxy/certs"
	"sluice/proxy/http1"
)

const (
	// handshakeTimeout bounds a handshake as a whole.
	handshakeTimeout = 5 * time.Second
	// refreshEvery is how often files are looked at.
	refreshEvery = 5 * time.Second
)

// Front shakes hands with the clients of all TLS listeners. All methods may be called concurrently.
type Front struct {
	// Certs has the certificates.
	Certs *certs.Store

	log     *slog.Logger
	trust   atomic.Pointer[trust] // nil before the first Commit
	counts  counts
	mu      sync.Mutex // guards the change of trust, and what follows
	config  *Config
	protos  []string
	ca      authority
	refused string // why a changed client_ca was not taken
}

// authority is client_ca as it was read.
type authority struct {
	path, text string
	pool       *x509.CertPool
	stamp      certs.Stamp
}

func loadAuthority(path string) (authority, error) {
	a := authority{path: path, stamp: certs.StampOf(path)}
	var err error
	a.pool, a.text, err = LoadCA(path)
	return a, err
}

// trust is what sessions belong to: a client that resumes one is not asked for its certificate again. So the keys of session tickets,
// which crypto/tls makes, keeps in the outer configuration and replaces each day, live as long as nothing changes in who is let in,
// over reloads and for all listeners, and not longer.
type trust struct {
	auth  string // client_auth and what client_ca says
	outer *tls.Config
	inner atomic.Pointer[tls.Config] // what a handshake goes by
}

// New makes a Front that has no certificates. log gets what becomes of files, and of handshakes at debug.
func New(log *slog.Logger) *Front {
	return &Front{Certs: certs.NewStore(log), log: log}
}

// Change is a configuration that was found good and is not in force yet.
type Change struct {
	front  *Front
	config *Config
	protos []string
	certs  []*certs.Certificate
	ca     authority
}

// Prepare reads the files of cfg, nil for no TLS, that are not in force yet. http2 tells whether the server speaks HTTP/2.
func (f *Front) Prepare(cfg *Config, http2 bool) (*Change, error) {
	c := &Change{front: f, config: cfg, protos: []string{"http/1.1"}}
	if http2 {
		c.protos = []string{"h2", "http/1.1"}
	}
	if cfg == nil {
		return c, nil
	}
	for _, files := range cfg.Certificates {
		one, err := f.Certs.Loaded(files), error(nil)
		if one == nil {
			one, err = certs.Load(files)
		}
		if err != nil {
			return nil, fmt.Errorf("tls.certificates: %w", err)
		}
		c.certs = append(c.certs, one)
	}
	if cfg.Auth() == "off" {
		return c, nil
	}
	f.mu.Lock()
	c.ca = f.ca
	f.mu.Unlock()
	if c.ca.path != cfg.ClientCA {
		var err error
		if c.ca, err = loadAuthority(cfg.ClientCA); err != nil {
			return nil, fmt.Errorf("tls.client_ca: %s: %w", cfg.ClientCA, err)
		}
	}
	return c, nil
}

// Commit puts the change in force for handshakes that begin from now on, and reads what has changed of the other files, as Refresh does.
func (c *Change) Commit() {
	f := c.front
	f.mu.Lock()
	f.Certs.Use(c.certs)
	f.config, f.protos, f.ca = c.config, c.protos, c.ca
	if c.config != nil { // else what was accepted before still goes by what there was
		f.use()
	}
	f.mu.Unlock()
	f.Refresh(time.Now())
}

// use makes the configuration of handshakes. The caller holds mu.
func (f *Front) use() {
	auth := f.config.Auth() + "\n" + f.ca.text
	inner := &tls.Config{
		GetCertificate: f.Certs.GetCertificate, NextProtos: f.protos, MinVersion: f.config.minVersion(), CipherSuites: f.config.ciphers(),
		ClientCAs: f.ca.pool,
		// Large records cost less than small ones, which would save a slow client's first bytes some milliseconds.
		DynamicRecordSizingDisabled: true,
	}
	switch f.config.Auth() {
	case "request":
		inner.ClientAuth = tls.VerifyClientCertIfGiven
	case "require":
		inner.ClientAuth = tls.RequireAndVerifyClientCert
	}
	t := f.trust.Load()
	if t == nil || t.auth != auth {
		t = &trust{auth: auth}
		t.outer = &tls.Config{GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
			if own := f.ownProtos(hello); own != nil {
				return own, nil
			}
			return t.inner.Load(), nil
		}}
	}
	t.inner.Store(inner)
	f.trust.Store(t)
}

// ownProtos is the configuration for a client that asks for a protocol of the certificates' fallback, such as an authority that checks
// who has a host: it shows no certificate, and is served nothing.
func (f *Front) ownProtos(hello *tls.ClientHelloInfo) *tls.Config {
	own := f.Certs.Protos()
	if !slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(own, p) }) {
		return nil
	}
	return &tls.Config{GetCertificate: f.Certs.GetCertificate, NextProtos: own, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: true}
}

var (
	errNotYet   = errors.New("https: no configuration")
	errOwnProto = errors.New("https: the handshake was all that was wanted")
)

// Open is the http1.Opener of TLS listeners. It composes: nc may be what another Opener has made.
func (f *Front) Open(nc net.Conn, o *http1.Origin) (net.Conn, error) {
	t := f.trust.Load()
	if t == nil {
		return nil, errNotYet
	}
	_ = nc.SetDeadline(time.Now().Add(handshakeTimeout))
	c := tls.Server(nc, t.outer)
	if err := c.Handshake(); err != nil {
		f.failed(nc, o, err)
		return nil, err
	}
	state := c.ConnectionState()
	f.counts.add(state.Version, resultOK)
	if slices.Contains(f.Certs.Protos(), state.NegotiatedProtocol) {
		_ = c.Close()
		return nil, errOwnProto
	}
	_ = nc.SetDeadline(time.Time{})
	o.TLS = &state
	return c, nil
}

// Run looks for changed files every 5 s until ctx ends.
func (f *Front) Run(ctx context.Context) {
	tick := time.NewTicker(refreshEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			f.Refresh(now)
		}
	}
}

// Refresh reads the files that have changed. What cannot be used is logged once and changes nothing.
func (f *Front) Refresh(now time.Time) {
	f.Certs.Refresh(now)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ca.path == "" || certs.StampOf(f.ca.path) == f.ca.stamp {
		f.refused = ""
		return
	}
	fresh, err := loadAuthority(f.ca.path)
	if err != nil {
		if said := err.Error(); f.refused != said {
			f.refused = said
			f.log.Error("client_ca has changed and cannot be used, the old one stays", "file", f.ca.path, "error", said)
		}
		return
	}
	f.ca, f.refused = fresh, ""
	f.use()
	f.log.Info("client_ca read again", "file", f.config.ClientCA)
}

// Protos are the protocols that clients are offered (ALPN), best first.
func (f *Front) Protos() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.protos
}
