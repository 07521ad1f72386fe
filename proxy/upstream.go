package proxy

import (
	"log/slog"
	"net/netip"
	"sync/atomic"
	"time"

	"sluice/balancer"
	"sluice/proxy/proxyproto"
)

// Upstream joins a group of servers with how they are reached: a transport for each, timeouts and a
// budget of retries. All methods may be called concurrently.
type Upstream struct {
	*balancer.Upstream
	log     *slog.Logger
	cfg     atomic.Pointer[UpstreamConfig]
	dialer  atomic.Pointer[Dialer]
	budget  retryBudget
	retries atomic.Uint64
}

// NewUpstream takes over the hooks of b, so it is called before b's first Update. log gets panics; nil is slog.Default().
func NewUpstream(b *balancer.Upstream, cfg UpstreamConfig, log *slog.Logger) *Upstream {
	u := &Upstream{Upstream: b, log: log}
	u.cfg.Store(&cfg)
	u.dialer.Store(NewDialer(cfg, log))
	b.SetHooks(u.added, u.removed)
	return u
}

// Configure takes a new configuration. Connections that are open live on, unless servers are to be reached in another way: then they
// end with the requests that they are in. The balancer's own part is configured by u.Upstream.Configure.
func (u *Upstream) Configure(cfg UpstreamConfig) {
	u.cfg.Store(&cfg)
	d := NewDialer(cfg, u.log)
	another := !d.same(u.dialer.Load())
	if another {
		u.dialer.Store(d)
	}
	for _, s := range u.Servers() {
		s.Attached().(*server).configure(&cfg, another)
	}
}

// Dialer is how its servers are reached; it stays the same as long as that does.
func (u *Upstream) Dialer() *Dialer { return u.dialer.Load() }

// ProxyProtocol is the version of the header that connections to servers begin with; 0 = none.
func (u *Upstream) ProxyProtocol() int { return u.cfg.Load().ProxyProtocolVersion() }

// Timeouts and Retry are what it was last configured with.
func (u *Upstream) Timeouts() TimeoutsConfig { return u.cfg.Load().Timeouts }

// Retry is what it was last configured with.
func (u *Upstream) Retry() RetryConfig { return u.cfg.Load().Retry }

func (u *Upstream) added(s *balancer.Server) any { return newServer(u, s.Addr()) }

func (u *Upstream) removed(s *balancer.Server) { s.Attached().(*server).Close() }

// ProxyProtocolVersion is ProxyProtocol as a number; 0 = none.
func (c *UpstreamConfig) ProxyProtocolVersion() int {
	switch c.ProxyProtocol {
	case "v1":
		return 1
	case "v2":
		return 2
	}
	return 0
}

// introduce makes the header that tells a server who the client is, where the upstream wants one. Behind trusted proxies that is who
// they say, of whom no port is known.
func (x *Exchange) introduce() {
	version := x.route.upstream.ProxyProtocol()
	if version == 0 {
		return
	}
	h := proxyproto.Header{Source: x.conn.RemoteAddr(), Destination: x.conn.LocalAddr()}
	if x.client != x.peer {
		h.Source = netip.AddrPort{}
		if x.client.IsValid() {
			h.Source = netip.AddrPortFrom(x.client, 0)
		}
	}
	x.prologue = proxyproto.Append(x.prologue[:0], version, h)
	x.cancel.Prologue = x.prologue
}

// mayRetry takes one retry out of the budget.
func (u *Upstream) mayRetry(now time.Time) bool {
	if !u.budget.retry(u.cfg.Load().Retry.Budget, now) {
		return false
	}
	u.retries.Add(1)
	return true
}

// aim tells the balancer what binds the request to a server, the hash key and the sticky cookie, and what its
// place in the queue depends on.
func (x *Exchange) aim() {
	x.ticket.Priority = x.route.priority
	if x.isGRPC() {
		if x.ticket.Deadline = grpcDeadline(x.head, x.begun); !x.ticket.Deadline.IsZero() {
			x.overdue.arm(&x.cancel, x.ticket.Deadline)
		}
	}
	if x.route.fair != nil {
		x.ticket.FairKey = x.route.fair.of(x.client, x.head)
	}
	cfg := x.route.upstream.Upstream.Config()
	if cfg.Balance == "hash" {
		var scratch [16]byte
		x.ticket.Key = balancer.HashBytes(parseHashKey(cfg.HashKey).value(&scratch, x.client, x.head, x.head.Target()))
	}
	x.sticky = cfg.Sticky
	if x.sticky != nil {
		x.ticket.Sticky = parseStickyID(cookie(x.head, x.sticky.Cookie))
	}
}

// parseStickyID reads Server.StickyName; 0 is not one.
func parseStickyID(name []byte) (id uint64) {
	if len(name) > 13 {
		return 0
	}
	for _, c := range name {
		switch {
		case '0' <= c && c <= '9':
			id = id*36 + uint64(c-'0')
		case 'a' <= c && c <= 'z':
			id = id*36 + uint64(c-'a') + 10
		default:
			return 0
		}
	}
	return id
}
