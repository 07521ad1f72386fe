package main

import (
	"context"
	"log/slog"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"sluice/balancer"
	"sluice/config"
	"sluice/discovery"
	"sluice/peers"
	"sluice/proxy"
	"sluice/proxy/proxyproto"
	"sluice/scaler"
	"sluice/scaler/signals"
)

// upstream is all that lives for one [upstream.NAME]: the balancer's and the proxy's part, which
// outlive every reload that keeps the name, and the watcher, driver and loop, which live as long as
// the source of its servers stays the same.
type upstream struct {
	name   string
	cfg    *config.Upstream
	log    *slog.Logger
	ground *balancer.Upstream
	front  *proxy.Upstream
	shared atomic.Pointer[peers.Shared] // among several gateways; nil: this one is alone

	engine  *engine // the one that source was made with
	source  source
	watcher *discovery.Watcher
	loop    *scaler.Loop // nil where nobody scales
	signals *signals.Poller
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// newUpstream makes the parts that the routing table needs; start makes it find servers.
func newUpstream(name string, cfg *config.Upstream, log *slog.Logger) *upstream {
	ground := balancer.NewUpstream(name, cfg.Balancer)
	return &upstream{name: name, cfg: cfg, log: log, ground: ground, front: proxy.NewUpstream(ground, cfg.Proxy, log)}
}

// start finds servers as cfg says and scales them where it asks for that.
func (u *upstream) start(g *gateway, cfg *config.Upstream) {
	ctx, cancel := context.WithCancel(context.Background())
	u.cfg, u.cancel, u.engine = cfg, cancel, g.engine
	u.warn(cfg)
	u.source = g.newSource(u.name, cfg)
	g.peers.fence(&u.source)
	u.watcher = discovery.NewWatcher(u.ground, u.source.servers, healthCheckOf(cfg), u.log)
	u.watcher.Reach(u.layer())
	u.loop, u.signals = nil, nil
	if u.source.driver != nil {
		u.loop = scaler.NewLoop(u.ground, u.source.driver, u.source.scale, g.budget, u.log)
		u.loop.Remember(g.memory)
		u.signals = signals.New(u.ground, u.source.scale, u.log)
		u.loop.Listen(u.signals)
		u.loop.Freeze(g.frozen)
	}
	g.peers.share(u)
	g.obey(u)
	if u.loop == nil {
		u.ground.SetElastic(false)
	}
	u.running.Go(func() { u.watcher.Run(ctx) })
	if u.loop != nil {
		u.running.Go(func() { u.loop.Run(ctx) })
		u.running.Go(func() { u.signals.Run(ctx) })
		u.running.Go(func() { expect(ctx, u.ground, u.loop) })
	}
}

// serversPatience bounds how long a new configuration waits until it is known which servers its new upstreams have.
const serversPatience = time.Second

// awaitServers waits for that: before it, requests would be refused for want of a server that is there.
func awaitServers(added map[string]*upstream) {
	late := time.NewTimer(serversPatience)
	defer late.Stop()
	for _, u := range added {
		select {
		case <-u.watcher.Known():
		case <-late.C:
			return
		}
	}
}

// configure takes a new configuration, under load: what did not change lives on.
func (u *upstream) configure(g *gateway, cfg *config.Upstream) {
	u.ground.Configure(cfg.Balancer)
	u.front.Configure(cfg.Proxy)
	if !sameSource(u.cfg, cfg) || u.engine != g.engine && usesEngine(cfg) {
		u.log.Info("the source of the servers changed", "upstream", u.name)
		old, servers := u.source, u.ground.Servers()
		u.halt()
		u.start(g, cfg)
		if old.remove != nil {
			g.retire(u, old, servers)
		}
		return
	}
	u.watcher.Configure(healthCheckOf(cfg))
	u.watcher.Reach(u.layer())
	u.warn(cfg)
	if u.source.configure != nil {
		u.source.configure(cfg)
	}
	if u.loop != nil {
		scale := cfg.Scaling()
		u.source.scale = scale
		u.signals.Configure(scale)
		u.loop.Configure(scale)
	}
	u.cfg = cfg
}

// warn says what the configuration asks for and should not.
func (u *upstream) warn(cfg *config.Upstream) {
	if t := cfg.Proxy.TLS; !t.Off() && !t.Verify {
		u.log.Warn("the certificates of the servers are not checked: whoever is in between can read and change everything", "upstream", u.name)
	}
}

// layer is what health checks go through, as requests do.
func (u *upstream) layer() discovery.Layer {
	if d := u.front.Dialer(); !d.Plain() {
		return d
	}
	return nil
}

// healthCheckOf is the health check of an upstream, whose probes begin as its connections do.
func healthCheckOf(cfg *config.Upstream) discovery.HealthConfig {
	h := cfg.Discovery.HealthCheck
	if version := cfg.Proxy.ProxyProtocolVersion(); version != 0 {
		h.Prologue = string(proxyproto.Append(nil, version, proxyproto.Header{Local: true}))
	}
	return h
}

// halt ends the watcher and the loop; servers and replicas stay as they are.
func (u *upstream) halt() {
	u.cancel()
	u.running.Wait()
}

// stop ends the upstream with sluice: requests that wait are sent away, process replicas end, containers
// stay for the next sluice.
func (u *upstream) stop(ctx context.Context) {
	u.ground.Close()
	u.halt()
	if u.source.close != nil {
		u.source.close(ctx)
	}
}

// remove ends an upstream that is no longer configured: requests that wait are sent away, and the replicas
// stop when what they have in flight is done, at most wait later.
func (u *upstream) remove(wait time.Duration) {
	u.ground.Close()
	u.halt()
	if u.source.remove == nil {
		return
	}
	for end := time.Now().Add(wait); u.ground.InFlight() > 0 && time.Now().Before(end); {
		time.Sleep(50 * time.Millisecond)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	u.source.remove(ctx)
}

// sameSource reports whether the servers of both are found, and replicas started, in the same way, so
// that the running source only needs to be told of changes.
func sameSource(a, b *config.Upstream) bool {
	x, y := a.Discovery, b.Discovery
	x.HealthCheck, y.HealthCheck = discovery.HealthConfig{}, discovery.HealthConfig{}
	return reflect.DeepEqual(x, y) && reflect.DeepEqual(a.Labeled, b.Labeled) && (a.Replicas.Process != nil) == (b.Replicas.Process != nil) &&
		(a.Replicas.Container != nil) == (b.Replicas.Container != nil) && a.Scaling().Off() == b.Scaling().Off()
}

// usesEngine reports whether the servers are found, or the replicas started, on an engine.
func usesEngine(cfg *config.Upstream) bool {
	return cfg.Discovery.Service != nil || cfg.Replicas.Container != nil
}
