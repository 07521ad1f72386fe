package main

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"

	"sluice/privsep"
)

// takeScaler makes what the scaler has the engine. One that does not answer, or whose engine does not, is no error:
// it is asked again.
func (e *engine) takeScaler() {
	client := privsep.NewClient(e.cfg.Scaler)
	ctx, cancel := context.WithTimeout(context.Background(), enginePatience)
	defer cancel()
	found, err := client.Engine(ctx)
	e.kind = "unknown"
	switch {
	case err != nil:
		e.why = err.Error()
	case found.Missing || found.Kind == "none":
		e.why = fmt.Sprintf("the scaler at %s has no engine: %s", e.cfg.Scaler, cmp.Or(found.Why, found.Kind))
	default:
		e.kind, e.scaler = found.Kind, client
		e.why = fmt.Sprintf("the scaler at %s has it (%s); labels are not followed", e.cfg.Scaler, found.Why)
		return
	}
	client.Close()
}

// remoteSource asks the scaler for the servers, and to scale.
func (e *engine) remoteSource(s *source, name string, log *slog.Logger) {
	r := e.scaler.Remote(name, e.kind, log)
	s.servers = r
	if s.scale.Off() {
		return
	}
	s.driver, s.kind = r.Driver(), e.kind
	if e.kind != "docker" {
		return // replicas are the engine's, and outlive the upstream
	}
	s.remove = func(ctx context.Context) {
		if err := r.Scale(ctx, 0, nil); err != nil {
			log.Error("replicas of an upstream that was removed may be left", "upstream", name, "error", err)
		}
	}
}
