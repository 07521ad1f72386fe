package main

import (
	"slices"

	"sluice/admin"
	"sluice/discovery"
	"sluice/proxy"
)

// What admin asks of the gateway, besides Reload and Ready.

// Running says which configuration is in use and how the last reload went.
func (g *gateway) Running() admin.Running {
	now := *g.running.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	now.Notes, now.LabelsRefused = adminNotes(g.labels.notes()), g.labels.refused()
	if why := g.metricsAPI.Trouble(); why != "" {
		now.Notes = append(now.Notes, admin.Note{Name: "metrics API", Why: why})
	}
	now.Notes = append(now.Notes, g.certificateNotes()...)
	now.Peers = g.peers.status()
	return now
}

// DumpConfig is the configuration in use, labels included, without secrets.
func (g *gateway) DumpConfig() ([]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.cfg.Dump(), nil
}

// Upstreams lists the upstreams in use, by name.
func (g *gateway) Upstreams() []admin.Upstream {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := make([]admin.Upstream, 0, len(g.upstreams))
	for _, u := range g.upstreams {
		a := admin.Upstream{Upstream: u.ground, Driver: u.source.kind}
		if u.loop != nil {
			a.Scaler = u.loop
		}
		notes := u.watcher.Notes()
		if u.source.notes != nil {
			notes = slices.Concat(notes, u.source.notes())
		}
		a.Notes = adminNotes(notes)
		list = append(list, a)
	}
	return list
}

func adminNotes(notes []discovery.Note) []admin.Note {
	var list []admin.Note
	for _, n := range notes {
		name := n.Name
		if name == "" {
			name = n.ID
		}
		list = append(list, admin.Note{Name: name, Why: n.Why})
	}
	return list
}

// Traffic is what the proxy has counted, and the handshakes before it.
func (g *gateway) Traffic() proxy.Stats {
	s := g.proxy.Stats()
	s.TLS = g.tls.Stats()
	s.TLS.Failures = g.certificateFailures()
	return s
}

// Explain tells which route a request would take now.
func (g *gateway) Explain(q proxy.Question) proxy.Explanation {
	g.mu.Lock()
	cfg := g.cfg
	g.mu.Unlock()
	q.Listener = listenerOf(cfg, q)
	e := g.proxy.Table().Explain(q)
	e.TLS = explainTLS(cfg, g.tls, q)
	return e
}
