package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"

	"github.com/docker/docker/api/types/swarm"
	"github.com/docker/docker/api/types/system"
	"github.com/docker/docker/client"

	"sluice/config"
	"sluice/discovery"
	discoverydocker "sluice/discovery/docker"
	discoveryswarm "sluice/discovery/swarm"
	"sluice/peers"
	peersswarm "sluice/peers/swarm"
	scalerswarm "sluice/scaler/swarm"
)

// labelStack is what `docker stack` puts on the containers of a stack.
const labelStack = "com.docker.stack.namespace"

// takeSwarm makes the manager behind cli the engine, and learns the stack that sluice itself runs in.
func (e *engine) takeSwarm(ctx context.Context, cli *client.Client, file string) {
	e.kind, e.cli = "swarm", cli
	e.why = fmt.Sprintf("the engine at %s is a Swarm manager", cli.DaemonHost())
	if e.cfg.Kind == "auto" {
		e.why += ", which goes before the plain engine (engine.kind = \"docker\" takes that)"
	}
	own, err := discoverydocker.FindSelf(ctx, cli)
	if err != nil || own == nil || e.cfg.Project != "" {
		return
	}
	if stack := own.Config.Labels[labelStack]; stack != "" {
		e.project, e.owner = stack, ownerName(stack, file)
		e.why += fmt.Sprintf("; sluice runs in the stack %s", stack)
	}
}

// noManager says what the engine is instead.
func noManager(info system.Info) string {
	if info.Swarm.LocalNodeState == swarm.LocalNodeStateActive {
		return "is a Swarm worker, and only managers know of services"
	}
	return "is in no swarm"
}

// swarmSource finds the tasks of a service, and moves its number of replicas. They are Swarm's: nothing
// is stopped when sluice ends or the upstream is removed.
func (e *engine) swarmSource(s *source, name string, cfg *config.Upstream, log *slog.Logger) {
	service := cfg.Discovery.Service
	s.servers = discoveryswarm.NewSource(e.cli, discoveryswarm.Query{
		Service: service.Name, Stack: e.project, Port: service.Port, Network: service.Network,
	}, log)
	if s.scale.Off() {
		return
	}
	d := scalerswarm.New(e.cli, scalerswarm.Options{Upstream: name, Service: service.Name, Stack: e.project, Log: log})
	s.driver, s.kind = d, "swarm"
	s.notes = func() []discovery.Note {
		var notes []discovery.Note
		for _, why := range d.Notes() {
			notes = append(notes, discovery.Note{Why: why})
		}
		return notes
	}
}

// swarmPeers is where the gateways are, and where their lease is kept: in a config object called as their service. The
// client is the group's own: it outlives a choice of the engine, and needs no answer yet.
func (e *engine) swarmPeers(cfg *peers.Config, p *peering) (peers.Store, peers.Directory, error) {
	cli, err := discoverydocker.NewClient(e.cfg.Socket)
	if err != nil {
		return nil, nil, err
	}
	_, port, err := net.SplitHostPort(cfg.Listen)
	if err != nil {
		return nil, nil, err
	}
	directory := peersswarm.NewDirectory(cli, cfg.Service, func() string { return *p.stack.Load() }, port)
	return peersswarm.NewStore(cli, directory), directory, nil
}
