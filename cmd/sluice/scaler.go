package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"reflect"
	"sync"
	"syscall"
	"time"

	"sluice/config"
	"sluice/privsep"
)

// cmdScaler holds the engine for gateways that have none, until a signal ends it. It opens no port.
func cmdScaler(_ context.Context, env Env, args []string) int {
	flags := newFlags(env, "scaler", "[-c FILE] [--socket PATH]")
	c := flags.String("c", "", "configuration `FILE` (default config.toml)")
	socket := flags.String("socket", "", "`PATH` of the Unix socket, over engine.scaler")
	if code, done := parseFlags(flags, args); done {
		return code
	}
	if flags.NArg() > 0 {
		return flags.misused("unexpected %q", flags.Arg(0))
	}
	file, _ := configFile(env, *c)
	k := newKeeper(file, env)
	defer k.logs.flush(context.Background())
	cfg, err := config.LoadForScaler(file)
	if err != nil {
		if isInvalid(err) {
			return env.invalid(err)
		}
		return env.fail(exitFailed, "%v", err)
	}
	path := *socket
	if path == "" {
		path = cfg.Engine.Scaler
	}
	if path == "" {
		return env.fail(exitFailed, "no socket to listen on: --socket or engine.scaler names it")
	}
	outliveReaders()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP)
	if k.listener, err = privsep.Listen(path, cfg.Engine.ScalerClients, k.log); err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	if err := k.take(cfg); err != nil {
		k.listener.Close()
		return env.fail(exitFailed, "%v", err)
	}
	served := make(chan error, 1)
	go func() { served <- k.server.Serve(k.listener) }()
	notifyReady()
	k.log.Info("the scaler is running", "file", file, "version", version, "socket", path, "upstreams", len(k.upstreams), "engine", k.engine.String())
	return k.serveSignals(signals, served)
}

// keeper is the scaler process: it turns a configuration into what is held.
type keeper struct {
	file     string
	logs     *logs
	log      *slog.Logger // of logs
	server   *privsep.Server
	listener *privsep.Listener

	// What follows belongs to one goroutine.
	cfg       *config.Config
	engine    *engine
	upstreams map[string]*kept
	ending    map[string]ending // of upstreams that were held
}

// ending is what will stop the replicas of an upstream, unless it comes back.
type ending struct {
	cfg   *config.Upstream
	timer *time.Timer
}

// kept is one upstream that is held.
type kept struct {
	cfg    *config.Upstream
	engine *engine
	source source
	held   *privsep.Held
	cancel context.CancelFunc
	ended  chan struct{}
}

func newKeeper(file string, env Env) *keeper {
	k := &keeper{file: file, logs: newLogs(env.Stderr), upstreams: map[string]*kept{}, ending: map[string]ending{}}
	k.log = k.logs.log
	k.server = privsep.NewServer(k.log)
	return k
}

// serveSignals rereads the file and looks for an engine that is missing, until a signal ends the process.
func (k *keeper) serveSignals(signals chan os.Signal, served chan error) int {
	again := time.NewTicker(enginePatience)
	defer again.Stop()
	for {
		select {
		case err := <-served:
			k.log.Error("the socket failed", "error", err)
			k.close()
			return exitFailed
		case <-again.C:
			if k.engine.missing() {
				k.hold(k.cfg, chooseEngine(k.cfg, k.file))
			}
		case sig := <-signals:
			if sig != syscall.SIGHUP {
				notifyStopping()
				k.close()
				k.log.Info("the scaler ended")
				return exitOK
			}
			notifyReloading()
			if err := k.reload(); err != nil {
				k.log.Error("reload refused, the running configuration stays", "file", k.file, "error", err)
			} else {
				k.log.Info("reloaded", "file", k.file, "upstreams", len(k.upstreams))
			}
			notifyReady()
		}
	}
}

func (k *keeper) reload() error {
	cfg, err := config.LoadForScaler(k.file)
	if err != nil {
		return err
	}
	return k.take(cfg)
}

// take makes cfg the configuration in force. On an error nothing has changed.
func (k *keeper) take(cfg *config.Config) error {
	if err := k.logs.level.UnmarshalText([]byte(cfg.Log.Level)); err != nil {
		return fmt.Errorf("log.level: %w", err)
	}
	if err := k.listener.Allow(cfg.Engine.ScalerClients); err != nil {
		return err
	}
	own := *cfg
	own.Engine.Scaler, own.Engine.ScalerClients = "", nil // this process has the engine itself
	e := k.engine
	if e == nil || e.missing() || e.kind == "none" && neededBy(&own) != "" || !reflect.DeepEqual(k.cfg.Engine, own.Engine) {
		e = chooseEngine(&own, k.file)
	}
	k.hold(&own, e)
	return nil
}

// hold makes cfg and e what is held. What is the same in both lives on.
func (k *keeper) hold(cfg *config.Config, e *engine) {
	switch {
	case k.engine != nil && k.engine.same(e):
		e = k.engine
	case e.missing():
		k.log.Warn("the engine does not answer", "why", e.why)
	case k.engine != nil:
		k.log.Info("the engine answers", "why", e.why)
	}
	held := map[string]*privsep.Held{}
	for name, u := range cfg.Upstreams {
		if !usesEngine(u) {
			continue
		}
		now := k.upstreams[name]
		if now != nil && now.engine == e && sameSource(now.cfg, u) {
			if now.source.configure != nil {
				now.source.configure(u)
			}
			now.cfg = u
			now.held.Configure(boundsOf(u))
		} else {
			if now != nil {
				k.retire(name, now, cfg.DrainTimeout)
			}
			k.upstreams[name] = k.start(name, u, e, cfg.Peers != nil)
		}
		held[name] = k.upstreams[name].held
	}
	for name, u := range k.upstreams {
		if held[name] == nil {
			delete(k.upstreams, name)
			k.retire(name, u, cfg.DrainTimeout)
		}
	}
	k.cfg, k.engine = cfg, e
	k.server.Hold(privsep.Engine{Kind: e.kind, Why: e.why, Missing: e.missing()}, held)
}

// boundsOf is what the file allows. Where it only observes, nothing is allowed.
func boundsOf(cfg *config.Upstream) privsep.Bounds {
	b := privsep.Bounds{Max: cfg.Scaling().Max}
	if cfg.Scaling().Mode == "observe" {
		b.Why = `scale.mode is "observe" in the scaler's configuration`
	}
	return b
}

func (k *keeper) start(name string, cfg *config.Upstream, e *engine, shared bool) *kept {
	if last, ok := k.ending[name]; ok && sameSource(last.cfg, cfg) {
		last.timer.Stop() // its replicas are taken over
		delete(k.ending, name)
	}
	ctx, cancel := context.WithCancel(context.Background())
	u := &kept{cfg: cfg, engine: e, source: e.newSource(name, cfg, shared, k.log), cancel: cancel, ended: make(chan struct{})}
	u.held = privsep.NewHeld(name, u.source.servers, u.source.driver, u.source.notes, boundsOf(cfg), k.log)
	go func() {
		defer close(u.ended)
		u.held.Run(ctx)
	}()
	return u
}

// retire ends an upstream that is held no longer, and, once the gateways had the time to finish what is in flight,
// its replicas.
func (k *keeper) retire(name string, u *kept, drain time.Duration) {
	u.cancel()
	<-u.ended
	if u.source.remove == nil {
		return
	}
	drain = max(drain, u.source.scale.DrainTimeout)
	k.log.Info("replicas of an upstream that is held no longer end", "upstream", name, "in", drain)
	k.ending[name] = ending{u.cfg, time.AfterFunc(drain, func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		u.source.remove(ctx)
	})}
}

// close ends the process in order: calls under way finish, replicas live on for the next one.
func (k *keeper) close() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, u := range k.upstreams { // which ends the event streams
		u.cancel()
	}
	k.server.Shutdown(ctx)
	_ = k.listener.Close()
	var all sync.WaitGroup
	for _, u := range k.upstreams {
		all.Go(func() {
			<-u.ended
			if u.source.close != nil {
				u.source.close(ctx)
			}
		})
	}
	all.Wait()
	k.engine.close()
}
