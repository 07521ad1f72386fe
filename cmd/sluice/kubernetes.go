package main

import (
	"context"
	"fmt"
	"log/slog"

	"sluice/config"
	"sluice/discovery"
	discoverykubernetes "sluice/discovery/kubernetes"
	"sluice/peers"
	peerskubernetes "sluice/peers/kubernetes"
	scalerkubernetes "sluice/scaler/kubernetes"
)

// takeKubernetes makes the cluster the engine where [engine] names it, or where this process is a pod with a service
// account; it reports whether it did. An API server that does not answer is no error: the sources ask again.
func (e *engine) takeKubernetes() bool {
	switch e.cfg.Kind {
	case "kubernetes":
		e.why = "engine.kind is kubernetes"
	case "auto":
		if !discoverykubernetes.InCluster() {
			return false
		}
		e.why = "sluice runs in a pod with a service account"
	default:
		return false
	}
	e.kind = "kubernetes"
	cluster, err := discoverykubernetes.Connect(e.cfg.Namespace)
	if err != nil {
		e.why += fmt.Sprintf("; no client for it: %v", err)
		return true
	}
	e.kube = cluster
	e.why += fmt.Sprintf("; the API server at %s, %s, namespace %s", cluster.Server, cluster.Account, cluster.Namespace)
	ctx, cancel := context.WithTimeout(context.Background(), enginePatience)
	defer cancel()
	if version, err := cluster.Version(ctx); err != nil {
		e.why += fmt.Sprintf(", does not answer yet: %v", err)
	} else {
		e.why += ", answers (" + version + ")"
	}
	return true
}

// endpointSource finds the servers of a Service, and scales what its pods belong to.
func (e *engine) endpointSource(s *source, cfg *config.Upstream, log *slog.Logger) {
	cluster, service := e.kube, cfg.Discovery.Service
	endpoints, err := discoverykubernetes.NewClient(cluster.Config)
	if err != nil {
		s.servers = noEngine{err.Error()}
		return
	}
	s.servers = discoverykubernetes.NewSource(endpoints, discoverykubernetes.Query{
		Namespace: cluster.Namespace, Service: service.Name, Port: service.Port, PortName: service.PortName,
	}, log)
	if s.scale.Off() {
		return
	}
	options := func(cfg *config.Upstream) scalerkubernetes.Options {
		return scalerkubernetes.Options{Namespace: cluster.Namespace, Service: service.Name, Observe: cfg.Scaling().Mode == "observe", Log: log}
	}
	scaling, err := scalerkubernetes.NewClient(cluster.Config)
	if err != nil {
		s.servers = noEngine{err.Error()}
		return
	}
	d := scalerkubernetes.New(scaling, options(cfg))
	s.driver, s.kind = d, "kubernetes"
	s.configure = func(cfg *config.Upstream) { d.Configure(options(cfg)) }
	// The pods are the user's: they outlive sluice, and the upstream.
	s.notes = func() []discovery.Note {
		var notes []discovery.Note
		for _, why := range d.Notes() {
			notes = append(notes, discovery.Note{Why: why})
		}
		return notes
	}
}

// kubernetesPeers is where the gateways are, and where their lease is kept: in a Lease called as their Service.
func (e *engine) kubernetesPeers(cfg *peers.Config) (peers.Store, peers.Directory, error) {
	if e.kube == nil {
		return nil, nil, fmt.Errorf("the engine is %s", e)
	}
	store, err := peerskubernetes.NewStore(e.kube.Config, e.kube.Namespace, cfg.Service)
	if err != nil {
		return nil, nil, err
	}
	directory, err := peerskubernetes.NewDirectory(e.kube.Config, e.kube.Namespace, cfg.Service)
	return store, directory, err
}
