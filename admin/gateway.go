package admin

import (
	"context"
	"time"

	"sluice/balancer"
	"sluice/proxy"
	"sluice/scaler"
)

// Gateway is the running sluice as this package asks it. All methods may be called concurrently.
type Gateway interface {
	// Ready is nil while new requests are taken: the configuration is loaded, the listeners are open and
	// sluice is not shutting down. The error says in a few words what is missing.
	Ready() error
	// Running says which configuration is in use and how the last reload went.
	Running() Running
	// DumpConfig is the configuration in use as TOML, without secrets.
	DumpConfig() ([]byte, error)
	// Upstreams lists the upstreams in use, in any order.
	Upstreams() []Upstream
	// Traffic calls with what the proxy has counted.
	Traffic() proxy.Stats
	// Reload reads the configuration again and puts it in use; an error means that nothing has changed.
	// One that wraps an [InvalidConfig] blames the file.
	Reload(ctx context.Context) error
	// Explain tells what would become of a request.
	Explain(q proxy.Question) proxy.Explanation
}

// Upstream is one upstream and what acts on it.
type Upstream struct {
	*balancer.Upstream
	// Scaler chooses the number of replicas; nil for a fixed set of servers.
	Scaler Scaler
	// Driver names what starts and stops the replicas: "process", "docker"; "" without Scaler.
	Driver string
	// Notes are what discovery found and does not route to, and why.
	Notes []Note
}

// Scaler is a *scaler.Loop.
type Scaler interface {
	Status() scaler.Status
	Pin(n int, until time.Time)
	Unpin()
	// Recent are the last events, oldest first.
	Recent() []scaler.Event
}

// InvalidConfig is an error of Reload that only a change of the configuration file can mend. Its text may
// have several lines, one or more for each mistake.
type InvalidConfig struct{ Err error }

func (e InvalidConfig) Error() string { return e.Err.Error() }
func (e InvalidConfig) Unwrap() error { return e.Err }
