package acme

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"
)

// identity is what makes an account: with any other, certificates are those of somebody else.
type identity struct {
	cfg   Config // without Hosts
	roots string // the PEM of cfg.CA
	at    Listening
}

// account is one authority, as one account of it, and one folder.
type account struct {
	identity
	log      *slog.Logger
	cache    *certmagic.Cache
	magic    *certmagic.Config
	issuer   *certmagic.ACMEIssuer
	previous atomic.Pointer[account] // has ended; serves the hosts that this one has nothing for yet

	hosts   atomic.Pointer[map[string]*host] // by name; never changed, only replaced
	keeping sync.WaitGroup                   // what runs for hosts without a certificate
}

// host is one that is wanted.
type host struct {
	cancel context.CancelFunc

	mu   sync.Mutex // guards last
	last Host
}

func (h *host) status() Host {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

// open makes an account. It asks nobody yet.
func (m *Manager) open(what identity, previous *account) *account {
	a := &account{identity: what, log: m.log}
	if previous != nil {
		a.previous.Store(previous)
		previous.previous.Store(nil)
	}
	a.hosts.Store(&map[string]*host{})
	zap := logger(m.log)
	a.cache = certmagic.NewCache(certmagic.CacheOptions{
		GetConfigForCert: a.configOf, RenewCheckInterval: m.every, Logger: zap,
	})
	a.magic = certmagic.New(a.cache, certmagic.Config{
		Storage: &certmagic.FileStorage{Path: what.cfg.Storage}, Logger: zap,
		OnEvent: a.event, ShouldEmitFunc: func(event string) bool { return event != "tls_get_certificate" },
	})
	template := certmagic.ACMEIssuer{
		CA: what.cfg.Directory, Email: what.cfg.Email, Agreed: true, Logger: zap.Named("acme_client"),
		DisableHTTPChallenge: !what.at.HTTP.IsValid(), DisableTLSALPNChallenge: !what.at.TLS.IsValid(),
	}
	if what.roots != "" {
		template.TrustedRoots = x509.NewCertPool()
		template.TrustedRoots.AppendCertsFromPEM([]byte(what.roots))
	}
	listenBeside(&template, what.at)
	a.issuer = certmagic.NewACMEIssuer(a.magic, template)
	a.magic.Issuers = []certmagic.Issuer{a.issuer}
	return a
}

// listenBeside tells certmagic where sluice listens: it would open listeners of its own for a challenge if nobody did. Both kinds share a
// host there. Where they differ "" does: a port that is taken on one address cannot be opened for all.
func listenBeside(issuer *certmagic.ACMEIssuer, at Listening) {
	if at.HTTP.IsValid() {
		issuer.ListenHost, issuer.AltHTTPPort = at.HTTP.Addr().String(), int(at.HTTP.Port())
	}
	if at.TLS.IsValid() {
		issuer.ListenHost, issuer.AltTLSALPNPort = at.TLS.Addr().String(), int(at.TLS.Port())
	}
	if at.HTTP.IsValid() && at.TLS.IsValid() && at.HTTP.Addr() != at.TLS.Addr() {
		issuer.ListenHost = ""
	}
}

// is tells whether it is the account of what; its hosts do not matter.
func (a *account) is(what identity) bool { return reflect.DeepEqual(a.identity, what) }

// host is the one of that name, nil when it is not wanted.
func (a *account) host(name string) *host { return (*a.hosts.Load())[name] }

// want makes these the hosts that are kept. Those that were wanted before go on undisturbed.
func (a *account) want(names []string) {
	before, now := *a.hosts.Load(), make(map[string]*host, len(names))
	var fresh []func()
	for _, name := range names {
		name = Name(name)
		if h := before[name]; h != nil {
			now[name] = h
		} else if now[name] == nil {
			ctx, cancel := context.WithCancel(context.Background())
			now[name] = &host{cancel: cancel}
			fresh = append(fresh, func() { a.keep(ctx, name) })
		}
	}
	a.hosts.Store(&now)
	for _, begin := range fresh {
		a.keeping.Go(begin)
	}
	for name, h := range before {
		if now[name] == nil {
			h.cancel()
			a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
		}
	}
}

// again is how long after a failure that certmagic does not try again after, as a folder that cannot be written, the next try comes.
const again = time.Minute

// keep gets the certificate of a host and gives it to certmagic to renew. Without one in the folder it tries until ctx ends.
func (a *account) keep(ctx context.Context, name string) {
	for {
		err := os.MkdirAll(a.cfg.Storage, 0o700) // where that fails, certmagic would take it that there is a certificate
		if err == nil {
			err = a.magic.ObtainCertAsync(ctx, name)
		}
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			break
		}
		a.failed(name, err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(again):
		}
	}
	_ = a.magic.ManageAsync(ctx, []string{name}) // in the background it gives no error, and logs
}

// end stops all that runs for it. It goes on to serve what it has.
func (a *account) end() {
	if a == nil {
		return
	}
	for _, h := range *a.hosts.Load() {
		h.cancel()
	}
	go a.cache.Stop() // which waits for what is being looked at
}

// leave ends it, and lets go of what other gateways with the same folder would wait for.
func (a *account) leave() {
	a.end()
	done := make(chan struct{})
	go func() {
		a.keeping.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(leaving):
	}
	certmagic.CleanUpOwnLocks(context.Background(), logger(a.log))
}

// leaving is how long what is under way has to give up.
const leaving = 3 * time.Second

// configOf is how a certificate is renewed.
func (a *account) configOf(c certmagic.Certificate) (*certmagic.Config, error) {
	if len(c.Names) == 1 && a.host(c.Names[0]) == nil { // it came when it was no longer wanted
		go a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: c.Names[0]}})
		return nil, fmt.Errorf("%s is no longer wanted", c.Names[0])
	}
	return a.magic, nil
}

// expires is when the certificate of a host ends; zero when there is none.
func (a *account) expires(name string) (at time.Time) {
	for ; a != nil && at.IsZero(); a = a.previous.Load() {
		for _, c := range a.cache.AllMatchingCertificates(name) {
			if c.Leaf != nil && c.Leaf.NotAfter.After(at) {
				at = c.Leaf.NotAfter
			}
		}
	}
	return at
}

// event is what certmagic calls when something has happened.
func (a *account) event(_ context.Context, event string, data map[string]any) error {
	name, _ := data["identifier"].(string)
	switch event {
	case "cert_failed":
		if err, ok := data["error"].(error); ok && !errors.Is(err, context.Canceled) {
			a.failed(name, err)
		}
	case "cert_obtained":
		renewal, _ := data["renewal"].(bool)
		a.log.Info("certificate obtained", "host", name, "renewal", renewal, "from", a.cfg.Directory)
		if h := a.host(name); h != nil {
			h.mu.Lock()
			h.last.Failure = ""
			h.mu.Unlock()
		}
	}
	return nil
}

// failed notes a failure and logs it.
func (a *account) failed(name string, err error) {
	h := a.host(name)
	if h == nil {
		return
	}
	h.mu.Lock()
	h.last.Failure, h.last.FailedAt = err.Error(), time.Now()
	h.last.Failures++
	h.mu.Unlock()
	a.log.Error("no certificate, it is tried again", "host", name, "error", err)
}
