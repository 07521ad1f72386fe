package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/admin"
	adminkubernetes "sluice/admin/kubernetes"
	"sluice/balancer"
	"sluice/config"
	"sluice/proxy"
	"sluice/proxy/certs/acme"
	"sluice/proxy/http1"
	"sluice/proxy/http2"
	"sluice/proxy/https"
	"sluice/proxy/proxyproto"
	"sluice/scaler"
)

// gateway joins the rooms: it turns a configuration into what runs, and changes what runs when the
// configuration changes. It is what admin asks.
type gateway struct {
	file       string // the configuration file
	errorLog   string // -e of the command line
	logs       *logs
	log        *slog.Logger
	proxy      *proxy.Proxy
	http       *http1.Server
	http2      *http2.Server
	acceptor   proxyproto.Acceptor // for all front listeners
	tls        *https.Front
	acme       *acme.Manager
	admin      *admin.Server
	metricsAPI adminkubernetes.Server
	engine     *engine
	budget     *scaler.Budget
	memory     *scaler.Memory // of what the loops learn
	serving    sync.WaitGroup // the listeners' accept loops

	mu        sync.Mutex     // one change at a time; guards all below
	base      *config.Config // as the file says
	cfg       *config.Config // with what labels add
	labels    *labelWatch
	upstreams map[string]*upstream
	listeners listeners
	inherited listeners // from an older sluice, until the first apply
	adopted   map[string]adoption
	orders    map[string]orders // from an older sluice, by upstream; one may come later, from labels
	frozen    bool
	peers     *peering // nil: this gateway is alone
	divided   int      // among how many the rate limits of the table are divided
	pid       *pidFile
	closed    bool

	predecessor      *os.File // to tell that this sluice takes requests; nil without one
	predecessorPID   int
	predecessorHears bool        // why this sluice fails
	successor        *os.Process // that has taken over; nil: none
	stopTLS          func()      // ends followCertificates; nil before
	uncertified      []string    // hosts without a certificate, as they were logged

	reloads atomic.Uint64 // that were asked for
	bequest atomic.Uint64 // of them, those before the successor was started
	running atomic.Pointer[admin.Running]
	notYet  atomic.Pointer[string] // why it takes no requests; nil when it does
}

func newGateway(file, errorLog string, l *logs) *gateway {
	g := &gateway{
		file: file, errorLog: errorLog, logs: l, log: l.log, upstreams: map[string]*upstream{}, listeners: listeners{},
		budget: scaler.NewBudget(0), memory: scaler.NewMemory(l.log),
	}
	g.proxy = proxy.New(proxy.Options{Log: g.log})
	g.http = &http1.Server{Handler: g.proxy, Log: g.log, Refuse: g.proxy.Refuse, HTTP2: g.serveHTTP2}
	g.http2 = &http2.Server{Log: g.log}
	g.acceptor.Log = g.log
	g.tls = https.New(g.log)
	g.acme = acme.New(g.log)
	g.admin = admin.New(g, version, g.log)
	g.metricsAPI.Log = g.log
	g.running.Store(&admin.Running{Config: admin.ConfigStatus{File: file}})
	g.refuse("starting")
	return g
}

// refuse makes /readyz fail with that word; "" makes it succeed.
func (g *gateway) refuse(why string) {
	if why == "" {
		g.notYet.Store(nil)
		return
	}
	g.notYet.Store(&why)
}

// load reads the file and applies it. On an error nothing has changed.
func (g *gateway) load() error {
	cfg, err := config.Load(g.file)
	if err != nil {
		return invalid(err)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.cfg != nil {
		g.orders = nil // whoever reloads does not mean upstreams of long ago
	}
	chosen := g.engine
	if chosen != nil && chosen.cfg.Scaler != cfg.Engine.Scaler {
		return admin.InvalidConfig{Err: errors.New("engine.scaler cannot change while sluice runs: start it anew")}
	}
	if chosen == nil || !reflect.DeepEqual(chosen.cfg, cfg.Engine) || chosen.missing() || chosen.scaler != nil {
		if next := chooseEngine(cfg, g.file); chosen == nil || chosen.scaler == nil || !next.missing() {
			chosen = next // else the scaler is away for now: what was learned from it stays
		}
	}
	return g.take(*cfg, chosen)
}

// take makes base, with what labels add to it, the configuration in force, and e the engine. On an error
// nothing has changed. The caller holds mu.
func (g *gateway) take(base config.Config, e *engine) error {
	was := g.engine
	if was.same(e) {
		e = was // what was made with it lives on
	}
	g.engine = e
	base.Engine.Project = e.project
	with, problems := g.labels.overlay(&base)
	if err := g.apply(with); err != nil {
		g.engine = was
		if e != was {
			e.close()
		}
		return err
	}
	g.base = &base
	if g.labels != nil {
		g.labels.problems = problems
	}
	g.tellEngine(was)
	g.watchLabels()
	return nil
}

// tellEngine logs the choice of an engine that is missing, or has come, and puts it into the status.
func (g *gateway) tellEngine(was *engine) {
	switch {
	case g.engine.missing() && !was.missing():
		g.log.Warn("the engine does not answer; what does not need it serves", "why", g.engine.why)
		go g.awaitEngine()
	case was.missing() && !g.engine.missing():
		g.log.Info("the engine answers", "why", g.engine.why)
	}
	g.remember(func(now *admin.Running) { now.Engine = g.engine.status() })
}

// remember changes what Running tells. Several may at once: a reload, an engine that has come.
func (g *gateway) remember(change func(*admin.Running)) {
	for {
		before := g.running.Load()
		now := *before
		change(&now)
		if g.running.CompareAndSwap(before, &now) {
			return
		}
	}
}

// inForce is the present configuration and engine.
func (g *gateway) inForce() (*config.Config, *engine) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cfg, g.engine
}

// invalid marks an error that only a change of the file can mend.
func invalid(err error) error {
	var mistakes config.Errors
	if errors.As(err, &mistakes) {
		return admin.InvalidConfig{Err: err}
	}
	return fmt.Errorf("cannot read the configuration: %w", err)
}

// apply makes cfg the configuration in force: whatever can fail comes first and is undone when it
// does, then the table is swapped, then what is no longer wanted ends. The caller holds mu.
func (g *gateway) apply(cfg *config.Config) error {
	if err := g.joinPeers(cfg.Peers); err != nil {
		return err
	}
	wanted := wantedListeners(cfg)
	fresh, err := g.listeners.open(wanted, g.inherited)
	if err != nil {
		return err
	}
	var pid *pidFile
	logging := false // as cfg says already
	undo := func(err error) error {
		if logging && g.cfg != nil {
			if access, err := g.logs.configure(g.cfg.Log, g.errorLog); err == nil {
				g.proxy.SetAccessLog(access)
			}
		}
		pid.giveWay(g.pid)
		for addr, ln := range fresh {
			closeListener(addr, ln)
		}
		return err
	}
	if err := g.listeners.turn(g.cfg, cfg, wanted, fresh); err != nil {
		return undo(err)
	}
	added := map[string]*upstream{}
	fronts := make(map[string]*proxy.Upstream, len(cfg.Upstreams))
	for name, u := range cfg.Upstreams {
		if old := g.upstreams[name]; old != nil {
			fronts[name] = old.front
			continue
		}
		added[name] = newUpstream(name, u, g.log)
		fronts[name] = added[name].front
	}
	table, err := proxy.NewTable(g.dividedTable(cfg, fronts), g.proxy.Table())
	if err != nil {
		return undo(err)
	}
	tls, err := g.tls.Prepare(cfg.TLS, g.http.HTTP2 != nil)
	if err != nil {
		return undo(err)
	}
	acme, err := g.acme.Prepare(cfg.ACME)
	if err != nil {
		return undo(err)
	}
	if pid, err = g.preparePID(cfg.PID); err != nil {
		return undo(err)
	}
	access, err := g.logs.configure(cfg.Log, g.errorLog)
	if err != nil {
		return undo(err)
	}
	logging = true
	metricsAPI, err := g.prepareMetricsAPI(cfg)
	if err != nil {
		return undo(err)
	}
	if err := g.admin.Configure(cfg.Admin, cfg.Metrics); err != nil {
		metricsAPI.Discard()
		return undo(err)
	}

	g.budget.Configure(cfg.Scale.MaxReplicas)
	g.memory.Configure(cfg.Scale.StateFile)
	g.http.Configure(clientSettings(cfg.Client))
	g.http2.Configure(http2Settings(cfg.Client))
	g.acceptor.Configure(cfg.ProxyProtocolPrefixes(), cfg.Client.HeaderTimeout)
	g.proxy.SetAccessLog(access)
	for name, u := range cfg.Upstreams {
		if old := g.upstreams[name]; old != nil {
			old.configure(g, u)
		} else {
			g.upstreams[name] = added[name]
			added[name].start(g, u)
		}
	}
	if g.cfg != nil || g.predecessor != nil { // clients are served meanwhile, as before
		awaitServers(added)
	}
	tls.Commit()
	g.proxy.Store(table)
	g.serve(cfg, fresh)
	g.certify(cfg, acme)
	g.closeUnwanted(wanted)
	g.followCertificates(cfg)
	for name, u := range g.upstreams {
		if cfg.Upstreams[name] == nil {
			delete(g.upstreams, name)
			if g.peers != nil {
				g.peers.Unshare(name)
			}
			go u.remove(cfg.DrainTimeout)
			g.log.Info("upstream removed", "upstream", name)
		}
	}
	metricsAPI.Commit(g.shownUpstreams())
	g.pid.giveWay(pid)
	g.cfg, g.pid = cfg, pid
	for addr, ln := range g.inherited {
		if g.listeners[addr] == nil {
			closeListener(addr, ln)
		}
	}
	g.inherited, g.adopted = nil, nil
	return nil
}

// Reload reads the configuration again. On an error the running one is untouched, and the error says
// why.
func (g *gateway) Reload(context.Context) error {
	g.reloads.Add(1)
	notifyReloading()
	defer notifyReady()
	err := g.load()
	at := time.Now()
	g.remember(func(now *admin.Running) {
		now.Config.Error, now.Config.TriedAt = "", at
		if err != nil {
			now.Config.Error = err.Error()
		} else {
			now.Config.Generation++
			now.Config.LoadedAt = at
		}
	})
	if err != nil {
		g.log.Error("reload refused, the running configuration stays", "file", g.file, "error", err)
	} else {
		g.log.Info("reloaded", "file", g.file, "generation", g.running.Load().Config.Generation)
	}
	return err
}

// drain takes no new connections any more and waits for the requests in flight until ctx ends.
func (g *gateway) drain(ctx context.Context) error {
	if g.successor != nil {
		g.leaveListeners()
	}
	err := g.http.Shutdown(ctx)
	g.serving.Wait()
	return err
}

// close ends all upstreams, their own replicas included.
func (g *gateway) close(ctx context.Context) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for addr, ln := range g.listeners {
		closeListener(addr, ln)
	}
	g.stopLabels()
	if g.stopTLS != nil {
		g.stopTLS()
	}
	var all sync.WaitGroup
	for _, u := range g.upstreams {
		all.Go(func() { u.stop(ctx) })
	}
	all.Wait()
	g.acme.Close()
	g.memory.Save()
	g.peers.leave()
	g.metricsAPI.Close(ctx)
	if err := g.admin.Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		g.log.Warn("admin did not end in time", "error", err)
	}
}

// tableConfig is the part of cfg that the routing table is made of.
func tableConfig(cfg *config.Config, fronts map[string]*proxy.Upstream, front *https.Front) proxy.TableConfig {
	return proxy.TableConfig{
		Routes: cfg.Routes, Upstreams: fronts, TrustedProxies: cfg.TrustedPrefixes(), Listen: slices.Concat(cfg.Listen, cfg.TLSListen()), Secure: secure(cfg, front),
	}
}

// clientSettings are the bounds of front connections.
func clientSettings(c proxy.ClientConfig) http1.Settings {
	return http1.Settings{
		HeaderTimeout: c.HeaderTimeout, BodyTimeout: c.BodyTimeout, KeepAlive: c.KeepAlive,
		Limits:   http1.Limits{MaxHead: c.MaxHeader, MaxFields: c.MaxFields},
		MaxConns: c.MaxConnections,
	}
}

// Ready is nil while the gateway takes requests.
func (g *gateway) Ready() error {
	if why := g.notYet.Load(); why != nil {
		return errors.New(*why)
	}
	return nil
}

// retire ends a source that a reload replaced: once its servers have left the set and what they had in
// flight is done, or the drain time is over, its replicas stop.
func (g *gateway) retire(u *upstream, old source, servers []*balancer.Server) {
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), old.scale.DrainTimeout)
		defer cancel()
		for _, s := range servers {
			for ctx.Err() == nil && (u.ground.Server(s.ID()) == s || s.InFlight() > 0) {
				select {
				case <-s.Idle(): // also told when it leaves
				case <-time.After(time.Second):
				case <-ctx.Done():
				}
			}
		}
		end, cancelEnd := context.WithTimeout(context.Background(), time.Minute)
		defer cancelEnd()
		old.remove(end)
		g.log.Info("replicas of the old source ended", "upstream", u.name)
	}()
}
