package main

import (
	"time"

	adminkubernetes "sluice/admin/kubernetes"
	"sluice/balancer"
	"sluice/config"
)

// prepareMetricsAPI opens what [metrics_api] asks for where the engine is Kubernetes. The caller holds mu.
func (g *gateway) prepareMetricsAPI(cfg *config.Config) (*adminkubernetes.Change, error) {
	asked := adminkubernetes.Config{MetricsAPIConfig: cfg.MetricsAPI}
	switch cluster := g.engine.kube; {
	case cluster != nil:
		asked.API, asked.Namespace = cluster.Config, cluster.Namespace
	case !cfg.MetricsAPI.Off() && (g.cfg == nil || g.cfg.MetricsAPI != cfg.MetricsAPI):
		g.log.Info("the metrics API is off", "why", "the engine is "+g.engine.String())
	}
	return g.metricsAPI.Prepare(asked)
}

// shownUpstreams are the upstreams as the metrics API shows them. The caller holds mu.
func (g *gateway) shownUpstreams() []adminkubernetes.Upstream {
	shown := make([]adminkubernetes.Upstream, 0, len(g.upstreams))
	for name, u := range g.upstreams {
		s := adminkubernetes.Upstream{Name: name, Read: u.read}
		if service := u.cfg.Discovery.Service; service != nil {
			s.Service = service.Name
		}
		shown = append(shown, s)
	}
	return shown
}

// read is the meter over all gateways, and whether all were heard.
func (u *upstream) read(now time.Time) (r balancer.Reading, complete bool) {
	if shared := u.shared.Load(); shared != nil {
		return shared.Read(now)
	}
	return u.ground.Read(now), true
}
