package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"syscall"
	"time"

	"sluice/admin"
	"sluice/proxy/http1"
)

// cmdRun runs the gateway in the foreground until a signal ends it.
func cmdRun(_ context.Context, env Env, args []string) int {
	flags := newFlags(env, "run", "[-c FILE] [-p PREFIX] [-e ERRORLOG] [-g DIRECTIVES]")
	c := flags.String("c", "", "configuration `FILE` (default config.toml)")
	errorLog := flags.String("e", "", "error log `FILE`, over log.file")
	if code, done := parseFlags(flags, args); done {
		return code
	}
	if flags.NArg() > 0 {
		return flags.misused("unexpected %q", flags.Arg(0))
	}
	file, _ := configFile(env, *c)
	g := newGateway(file, *errorLog, newLogs(env.Stderr))
	settleMemory(g.log)
	outliveReaders()
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGQUIT, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2)
	if err := g.inherit(); err != nil {
		g.abandon(signals, err)
		return env.fail(exitFailed, "%v", err)
	}
	if err := g.load(); err != nil {
		g.abandon(signals, err)
		var mistakes admin.InvalidConfig
		if errors.As(err, &mistakes) {
			return env.invalid(err)
		}
		return env.fail(exitFailed, "%v", err)
	}
	if err := g.takePID(); err != nil {
		g.abandon(signals, err)
		return env.fail(exitFailed, "%v", err)
	}
	defer g.releasePID()
	cfg, engine := g.inForce()
	g.remember(func(now *admin.Running) { now.Config.Generation, now.Config.LoadedAt = 1, time.Now() })
	g.refuse("")
	notifyReady()
	g.tellPredecessor()
	g.log.Info("running", "file", file, "version", version, "routes", len(cfg.Routes), "upstreams", len(cfg.Upstreams), "engine", engine.String())
	return g.serveSignals(signals)
}

// outliveReaders lets a write to standard output or standard error fail when nobody reads there any more: by itself the
// runtime would end the process with SIGPIPE. It is caught and dropped, not ignored: that the replicas would inherit.
func outliveReaders() { signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) }

// abandon undoes a start that has failed. Only the last word about it is to come then, on standard error: a signal ends the
// process although that is not taken.
func (g *gateway) abandon(signals chan os.Signal, why error) {
	g.tellFailure(why)
	g.close(context.Background())
	g.logs.flush(context.Background())
	signal.Stop(signals)
}

// serveSignals does what signals ask for until one ends the gateway, or a successor has taken over, and returns the exit
// code.
func (g *gateway) serveSignals(signals chan os.Signal) int {
	var upgrade *succession // nil: none is under way
	for {
		select {
		case end := <-upgrade.ended():
			upgrade = nil
			if end.err != nil {
				g.log.Error("upgrade refused, this process goes on", "error", end.err)
				continue
			}
			g.succeed(end.successor)
			return g.shutdown(signals, 0)
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				_ = g.Reload(context.Background()) // it logs and tells in the status
			case syscall.SIGUSR1:
				if err := g.logs.reopen(); err != nil {
					g.log.Error("the log could not be opened again, the old file stays", "error", err)
				}
			case syscall.SIGUSR2:
				if upgrade != nil {
					g.log.Warn("an upgrade is under way, the signal is ignored")
					continue
				}
				upgrade = g.beginUpgrade()
			default:
				return g.end(signals, sig, upgrade)
			}
		}
	}
}

// end shuts down as TERM, INT or QUIT ask, when an upgrade that is under way has ended.
func (g *gateway) end(signals chan os.Signal, sig os.Signal, upgrade *succession) int {
	if upgrade != nil {
		upgrade.giveUp()
		end := <-upgrade.outcome
		if end.err == nil { // it was ready before that
			g.succeed(end.successor)
			return g.shutdown(signals, 0)
		}
		g.log.Warn("upgrade given up, this process ends", "error", end.err)
	}
	if sig == syscall.SIGQUIT {
		return g.shutdown(signals, 0)
	}
	cfg, _ := g.inForce()
	return g.shutdown(signals, cfg.ShutdownDelay)
}

// shutdown ends the gateway in order: not ready any more, new work still taken for delay, then the
// requests in flight finish, then the replicas of its own end. A second TERM or INT stops at once.
func (g *gateway) shutdown(signals chan os.Signal, delay time.Duration) int {
	g.refuse("shutting down")
	g.peers.resign()
	if g.successor != nil { // the successor answers on the same sockets, and reports to the service manager
		_ = g.admin.Shutdown(context.Background())
		g.metricsAPI.Close(context.Background())
	} else {
		notifyStopping()
	}
	cfg, _ := g.inForce()
	g.log.Info("shutting down", "delay", delay, "drain_timeout", cfg.DrainTimeout)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	done := make(chan struct{})
	defer close(done)
	go func() { // a second one
		for {
			select {
			case sig := <-signals:
				if sig == syscall.SIGTERM || sig == syscall.SIGINT {
					g.log.Warn("stopping at once")
					cancel()
				}
			case <-done:
				return
			}
		}
	}()
	select {
	case <-time.After(delay):
	case <-ctx.Done():
	}
	deadline, cancelDrain := context.WithTimeout(ctx, cfg.DrainTimeout)
	defer cancelDrain()
	code := exitOK
	if err := g.drain(deadline); err != nil {
		var cut *http1.CutError
		if errors.As(err, &cut) {
			g.log.Warn("drain deadline passed", "cut", cut.Conns)
			code = exitCut
		} else {
			g.log.Error("drain", "error", err)
			code = exitFailed
		}
	}
	g.close(ctx)
	g.log.Info("ended", "exit", code)
	g.logs.flush(ctx)
	return code
}
