package main

import (
	"context"
	"errors"
	"log/slog"

	"sluice/balancer"
	"sluice/config"
	"sluice/discovery"
	discoverydocker "sluice/discovery/docker"
	"sluice/scaler"
	scalerdocker "sluice/scaler/docker"
	"sluice/scaler/process"
)

// source is where one upstream's servers come from, and who starts more of them.
type source struct {
	servers   discovery.Source
	driver    scaler.Driver // nil: sluice starts none
	kind      string        // the driver's name in the metrics
	scale     scaler.Config
	configure func(*config.Upstream)  // a reload that keeps the source; may be nil
	close     func(context.Context)   // lets go of the replicas when sluice ends; may be nil
	remove    func(context.Context)   // stops them, as nobody wants them any more; may be nil
	notes     func() []discovery.Note // what the driver found that is not its own; may be nil
	processes *process.Driver         // for a binary upgrade; nil elsewhere
}

// newSource makes the one source that cfg names, and the driver that goes with it.
func (g *gateway) newSource(name string, cfg *config.Upstream) source {
	s := source{scale: cfg.Scaling()}
	d := cfg.Discovery
	switch {
	case cfg.Replicas.Process != nil:
		g.processSource(&s, name, cfg)
	case usesEngine(cfg):
		return g.engine.newSource(name, cfg, g.peers != nil, g.log)
	case d.DNS != "":
		s.servers = discovery.NewDNS(d.DNS, g.log)
	default:
		s.servers = discovery.NewStatic(d.Servers)
	}
	return s
}

// newSource makes the source of an upstream that usesEngine, and the driver that goes with it. shared says that
// several gateways use the driver.
func (e *engine) newSource(name string, cfg *config.Upstream, shared bool, log *slog.Logger) source {
	s := source{scale: cfg.Scaling()}
	container := cfg.Replicas.Container != nil
	switch {
	case e.scaler != nil:
		e.remoteSource(&s, name, log)
	case container && e.cli != nil:
		e.containerSource(&s, name, cfg, shared, log)
	case !container && e.kube != nil:
		e.endpointSource(&s, cfg, log)
	case !container && e.cli != nil && e.kind == "swarm":
		e.swarmSource(&s, name, cfg, log)
	case !container && e.cli != nil:
		e.serviceSource(&s, name, cfg, shared, log)
	default:
		s.servers = noEngine{e.String()}
	}
	return s
}

func (g *gateway) processSource(s *source, name string, cfg *config.Upstream) {
	driver := g.adopt(name, process.Options{Upstream: name, Config: *cfg.Replicas.Process, Binary: executable(), Log: g.log, Output: g.logs.output})
	s.servers, s.driver, s.kind, s.processes = driver, driver, "process", driver
	s.configure = func(cfg *config.Upstream) { driver.Configure(*cfg.Replicas.Process) }
	s.close = driver.Close
	s.remove = driver.Close
}

func (e *engine) containerSource(s *source, name string, cfg *config.Upstream, shared bool, log *slog.Logger) {
	options := func(cfg *config.Upstream) scalerdocker.Options {
		return scalerdocker.Options{Owner: e.owner, Upstream: name, Max: cfg.Scaling().Max, Shared: shared, Container: cfg.Replicas.Container, Log: log}
	}
	s.dockerDriver(scalerdocker.New(e.cli, options(cfg)), options, log)
	s.servers = discoverydocker.NewSource(e.cli, discoverydocker.Query{
		Labels: scalerdocker.Labels(e.owner, name), Port: cfg.Replicas.Container.Port,
		Stranger: func(container string, labels map[string]string) string {
			return scalerdocker.Stranger(e.owner, name, container, labels)
		},
	}, log)
}

func (e *engine) serviceSource(s *source, name string, cfg *config.Upstream, shared bool, log *slog.Logger) {
	service := cfg.Discovery.Service
	project, called := e.project, service.Name
	var labels map[string]string
	if by := cfg.Labeled; by != nil { // of another project, or containers of none
		project, called = by.Project, by.Service
		if by.Service == "" {
			labels = by.Labels
		}
	}
	s.servers = discoverydocker.NewSource(e.cli, discoverydocker.Query{
		Project: project, Service: called, Labels: labels, Port: service.Port, Network: service.Network,
	}, log)
	if labels != nil || s.scale.Off() {
		return
	}
	options := func(cfg *config.Upstream) scalerdocker.Options {
		return scalerdocker.Options{Owner: e.owner, Upstream: name, Max: cfg.Scaling().Max, Shared: shared, Log: log, Service: &scalerdocker.Service{
			Project: project, Name: called, Port: service.Port, Network: service.Network,
		}}
	}
	s.dockerDriver(scalerdocker.New(e.cli, options(cfg)), options, log)
}

// dockerDriver makes d the driver. Its containers outlive sluice and are adopted by the next one: closing
// only waits for stops that are under way.
func (s *source) dockerDriver(d *scalerdocker.Driver, options func(*config.Upstream) scalerdocker.Options, log *slog.Logger) {
	s.driver, s.kind = d, "docker"
	s.configure = func(cfg *config.Upstream) { d.Configure(options(cfg)) }
	s.close = func(ctx context.Context) { _ = d.Close(ctx) }
	s.remove = func(ctx context.Context) {
		if err := d.Scale(ctx, 0, nil); err != nil {
			log.Error("replicas of an upstream that was removed may be left", "error", err)
		}
		_ = d.Close(ctx)
	}
	s.notes = func() []discovery.Note {
		var notes []discovery.Note
		for _, why := range d.Notes() {
			notes = append(notes, discovery.Note{Why: why})
		}
		return notes
	}
}

// noEngine is the source of an upstream whose engine is switched off: it finds nothing and says so.
type noEngine struct{ why string }

// Run returns at once with the reason.
func (n noEngine) Run(context.Context, chan<- []balancer.ServerSpec) error {
	return errors.New("no engine: " + n.why)
}
