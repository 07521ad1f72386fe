package acme

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/certmagic"

	"sluice/proxy/certs"
)

// Protocol is what the authority asks for in the handshake of a TLS-ALPN-01 challenge (RFC 8737 §6.1).
const Protocol = "acme-tls/1"

func init() { certmagic.UserAgent = "sluice" } // RFC 8555 §6.1

// Manager has a certificate for each of its hosts, or is about to get it. All methods may be called concurrently.
type Manager struct {
	log   *slog.Logger
	every time.Duration // between two looks at what is to be renewed; 0 is certmagic's ten minutes

	mu      sync.Mutex // one Commit or Close at a time
	account atomic.Pointer[account]

	counting sync.Mutex // for whoever makes a new expiries
	expiries atomic.Pointer[expiries]
}

// Listening are the addresses of one listener of either kind as this machine can reach it; not valid for none, and then challenges of that
// kind are not asked for. The authority itself comes to port 80 or 443 of the host.
type Listening struct {
	HTTP, TLS netip.AddrPort
}

// New makes a Manager without hosts.
func New(log *slog.Logger) *Manager {
	return &Manager{log: log}
}

// Change is a configuration that was found good and is not in force yet.
type Change struct {
	manager *Manager
	on      bool
	cfg     Config // without Hosts
	roots   string // the PEM of cfg.CA
}

// Prepare reads what cfg names, nil for no certificates.
func (m *Manager) Prepare(cfg *Config) (*Change, error) {
	c := &Change{manager: m}
	if cfg == nil {
		return c, nil
	}
	c.on, c.cfg = true, *cfg
	c.cfg.Hosts = nil
	if cfg.CA == "" {
		return c, nil
	}
	var err error
	if _, c.roots, err = LoadRoots(cfg.CA); err != nil {
		return nil, fmt.Errorf("acme.ca: %s: %w", cfg.CA, err)
	}
	return c, nil
}

// Commit makes these the hosts in force, and returns at once: what is missing is got in the background, from the folder or from the
// authority.
func (c *Change) Commit(hosts []string, at Listening) {
	m := c.manager
	m.mu.Lock()
	defer m.mu.Unlock()
	before := m.account.Load()
	now := before
	switch what := (identity{c.cfg, c.roots, at}); {
	case !c.on:
		now = nil
	case before == nil || !before.is(what):
		now = m.open(what, before)
	}
	if now != nil {
		now.want(hosts)
	}
	if now != before {
		m.account.Store(now)
		before.end()
	}
	m.forget()
}

// Close ends all that runs in the background, within seconds.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.account.Swap(nil); a != nil {
		a.leave()
	}
}

// GetCertificate is that of tls.Config. A client that asks for Protocol gets the certificate of the challenge under way. Nil without an
// error: the host is none of these.
func (m *Manager) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	a, name := m.account.Load(), Name(hello.ServerName)
	if a == nil || a.host(name) == nil {
		return nil, nil
	}
	for ; a != nil; a = a.previous.Load() {
		c, err := a.magic.GetCertificate(hello)
		if err == nil {
			return c, nil
		}
		if slices.Contains(hello.SupportedProtos, Protocol) {
			return nil, err
		}
	}
	return nil, fmt.Errorf("%w yet: %s", certs.ErrNone, name)
}

// Host is how it stands with one host.
type Host struct {
	Name string
	// Expires is when its certificate ends; zero while there is none.
	Expires time.Time
	// Failure is why the last try to get or renew it failed, in the words of the authority where it has any; "" when it did not.
	Failure string
	// FailedAt is when that was, Failures how often in all.
	FailedAt time.Time
	Failures uint64
}

// Status tells of each host, by name.
func (m *Manager) Status() []Host {
	a := m.account.Load()
	if a == nil {
		return nil
	}
	var all []Host
	for _, name := range slices.Sorted(maps.Keys(*a.hosts.Load())) {
		if h := a.host(name); h != nil {
			st := h.status()
			st.Name, st.Expires = name, a.expires(name)
			all = append(all, st)
		}
	}
	return all
}

// expiries are the ends of the certificates, as they were at a time.
type expiries struct {
	at  time.Time
	all map[string]time.Time
}

// fresh is how long expiries are told before they are looked up again.
const fresh = time.Second

// Hosts are the hosts that there is a certificate for, and when that ends, about a second old at most. The map is not changed any more.
func (m *Manager) Hosts() map[string]time.Time {
	e, now := m.expiries.Load(), time.Now()
	if e != nil && (now.Sub(e.at) < fresh || !m.counting.TryLock()) { // else somebody is about it
		return e.all
	}
	if e == nil {
		m.counting.Lock()
	}
	defer m.counting.Unlock()
	all := map[string]time.Time{}
	for _, h := range m.Status() {
		if !h.Expires.IsZero() {
			all[h.Name] = h.Expires
		}
	}
	m.expiries.Store(&expiries{now, all})
	return all
}

// forget makes the next Hosts look again.
func (m *Manager) forget() {
	m.counting.Lock()
	m.expiries.Store(nil)
	m.counting.Unlock()
}
