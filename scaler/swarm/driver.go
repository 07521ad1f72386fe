// Package swarm moves the number of replicas of a Docker Swarm service.
//
// What can be promised, and what cannot. Swarm decides which task goes when the number falls: first
// those that do not run, then one on the node with the most of them. Its API takes no wish, so nobody
// can be drained beforehand, and victims are ignored. A task that is told to stop shows that to
// discovery before its process knows of it: on an overlay network Swarm itself waits some two seconds
// in between, and sluice sends it no new request from then on. Then comes the stop signal, and
// stop_grace_period (10 s if the service does not say) until it is killed. A request shorter than the
// grace is therefore not lost if the server finishes what it has begun when it is told to stop; a
// longer one is cut, whatever drain_timeout says: set stop_grace_period to the longest stream.
//
// Only the number of a replicated service that an upstream names is ever written, by a service update
// that carries the version it was read with; nothing else of the specification changes, no image is
// resolved, and tasks that run are left alone. Like `docker service scale`, it makes the specification
// before it the one that `docker service rollback` goes back to. For that reason the number is left
// alone while an update is under way that would be rolled back on failure.
package swarm

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/swarm"

	"sluice/scaler"
)

// Engine is every call that the driver makes to a Swarm manager. *client.Client is one.
type Engine interface {
	ServiceList(ctx context.Context, options swarm.ServiceListOptions) ([]swarm.Service, error)
	ServiceUpdate(ctx context.Context, id string, version swarm.Version, spec swarm.ServiceSpec, options swarm.ServiceUpdateOptions) (swarm.ServiceUpdateResponse, error)
	TaskList(ctx context.Context, options swarm.TaskListOptions) ([]swarm.Task, error)
	NodeList(ctx context.Context, options swarm.NodeListOptions) ([]swarm.Node, error)
}

// Options say what a driver scales.
type Options struct {
	// Upstream is the name of the upstream, for the log; required.
	Upstream string
	// Service is its name; required. With a Stack, the service of that stack goes before one that is
	// called so in full.
	Service, Stack string
	// Log is where is said what was set; required.
	Log *slog.Logger
}

const (
	// respect is how long a number that somebody else has set stays while sluice's own decision does.
	respect = 30 * time.Second
	// attempts is how often a stale version is read anew within one call.
	attempts = 5
	// callTimeout bounds every call of the engine.
	callTimeout = 10 * time.Second
)

// Driver is a scaler.Driver, and a scaler.Chooser. Its methods may be called from several goroutines.
type Driver struct {
	engine Engine
	opts   Options
	born   time.Time

	calls sync.Mutex // held through one Scale or List

	mu      sync.Mutex           // guards all below
	service string               // ID of the service that the rest is about
	last    uint64               // the number it had when it was last seen or set
	foreign *foreign             // nil: the last number is ours, or was there before us
	held    string               // why the number was left alone, at the last Scale
	ended   map[string]time.Time // by task ID: when its end was first seen; zero: before us
	listed  bool                 // once
	running []string             // IDs of the replicas that ran when last listed
	asked   time.Time            // when Usage was called last
}

// foreign is a number that somebody else has set.
type foreign struct {
	from, to uint64
	at       time.Time
	asked    *int // what the first Scale after it asked for; nil before
}

// New returns a driver. It calls the engine only when it is asked for something.
func New(engine Engine, opts Options) *Driver {
	return &Driver{engine: engine, opts: opts, born: time.Now(), ended: make(map[string]time.Time)}
}

// Chooses is scaler.Chooser's: Swarm does.
func (d *Driver) Chooses() {}

// Notes says in words what an operator should know of the number; nil when there is nothing.
func (d *Driver) Notes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var notes []string
	if f := d.foreign; f != nil {
		notes = append(notes, fmt.Sprintf("somebody else set the service from %d to %d replicas at %s: sluice leaves it so until %s, or until its own decision changes",
			f.from, f.to, f.at.Format(time.TimeOnly), f.at.Add(respect).Format(time.TimeOnly)))
	}
	if d.held != "" {
		notes = append(notes, d.held)
	}
	if !d.asked.IsZero() && time.Since(d.asked) < scaler.GaugeIdle {
		notes = append(notes, "scale.cpu and scale.memory hold the number of replicas, and scale.vertical recommends nothing: "+noUsage)
	}
	return notes
}

// Scale is scaler.Driver's. It sets the number, and changes nothing if it is so already. Victims are
// ignored. A number that somebody else has set is left alone for a while.
func (d *Driver) Scale(ctx context.Context, n int, _ []string) error {
	d.calls.Lock()
	defer d.calls.Unlock()
	var err error
	for range attempts {
		var s *swarm.Service
		if s, err = d.find(ctx); err != nil {
			return err
		}
		var count *uint64
		if count, err = replicasOf(s); err != nil {
			return err
		}
		if !d.may(s, *count, n, time.Now()) {
			return nil
		}
		before, wanted := *count, uint64(n) //nolint:gosec // n is 0 and up
		spec := s.Spec
		spec.Mode.Replicated = &swarm.ReplicatedService{Replicas: &wanted}
		call, cancel := context.WithTimeout(ctx, callTimeout)
		_, err = d.engine.ServiceUpdate(call, s.ID, s.Version, spec, swarm.ServiceUpdateOptions{}) // QueryRegistry false: no image is resolved
		cancel()
		if err == nil {
			d.mu.Lock()
			d.last, d.foreign = wanted, nil
			d.mu.Unlock()
			d.opts.Log.Info("service scaled", "upstream", d.opts.Upstream, "service", s.Spec.Name, "from", before, "to", n)
			return nil
		}
		if !strings.Contains(err.Error(), "update out of sequence") {
			return fmt.Errorf("update of service %s: %w", s.Spec.Name, err)
		}
	}
	return fmt.Errorf("%d updates in a row came too late, somebody else is changing the service: %w", attempts, err)
}

// may reports whether the number of s may be changed from count to n now.
func (d *Driver) may(s *swarm.Service, count uint64, n int, now time.Time) bool {
	d.see(s.ID, count, now)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = ""
	if count == uint64(n) { //nolint:gosec // n is 0 and up
		d.foreign = nil
		return false
	}
	if f := d.foreign; f != nil {
		if f.asked == nil {
			f.asked = &n
		}
		if *f.asked == n && now.Sub(f.at) < respect {
			return false
		}
	}
	if why := updating(s); why != "" {
		d.held = why
		return false
	}
	return true
}

// see takes the number that the service has, and notes when somebody else has set it.
func (d *Driver) see(id string, count uint64, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.service != id:
		d.service, d.foreign = id, nil
	case count != d.last:
		d.foreign = &foreign{from: d.last, to: count, at: now}
		d.opts.Log.Warn("somebody else changed the number of replicas", "upstream", d.opts.Upstream, "from", d.last, "to", count)
	case d.foreign != nil && now.Sub(d.foreign.at) >= respect:
		d.foreign = nil
	}
	d.last = count
}

// updating says why an update of s that is under way forbids to touch it; "" if none does. Whatever is
// updated last is what Swarm goes back to when the update fails.
func updating(s *swarm.Service) string {
	u, c := s.UpdateStatus, s.Spec.UpdateConfig
	switch {
	case u == nil:
	case u.State == swarm.UpdateStateRollbackStarted:
		return "the service is being rolled back: its number of replicas is left alone until that is over"
	case u.State == swarm.UpdateStateUpdating && c != nil && c.FailureAction == swarm.UpdateFailureActionRollback:
		return "an update of the service is under way that is rolled back if it fails: its number of replicas is left alone until it is over, as the roll-back would go no further than that"
	}
	return ""
}

// find returns the service as it is.
func (d *Driver) find(ctx context.Context) (*swarm.Service, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	inStack := d.opts.Stack + "_" + d.opts.Service
	found, err := d.engine.ServiceList(ctx, swarm.ServiceListOptions{Filters: filters.NewArgs(filters.Arg("name", d.opts.Service), filters.Arg("name", inStack))})
	if err != nil {
		return nil, err
	}
	var plain *swarm.Service
	for i := range found { // the filter takes what begins so
		switch s := &found[i]; s.Spec.Name {
		case inStack:
			if d.opts.Stack != "" && s.Spec.Labels["com.docker.stack.namespace"] == d.opts.Stack {
				return s, nil
			}
		case d.opts.Service:
			plain = s
		}
	}
	if plain == nil {
		return nil, fmt.Errorf("there is no Swarm service %q", d.opts.Service)
	}
	return plain, nil
}

// replicasOf returns the number of replicas of s, or why it cannot be set.
func replicasOf(s *swarm.Service) (*uint64, error) {
	switch m := s.Spec.Mode; {
	case m.Global != nil:
		return nil, fmt.Errorf("%w: the service %s is global: Swarm runs one task on every node, and there is no number to set", scaler.ErrStart, s.Spec.Name)
	case m.Replicated == nil || m.Replicated.Replicas == nil:
		return nil, fmt.Errorf("%w: the service %s is a job, not a replicated service: there is no number to set", scaler.ErrStart, s.Spec.Name)
	}
	if c := s.Spec.TaskTemplate.ContainerSpec; c != nil {
		if full := tagged(c.Image); full != c.Image {
			return nil, fmt.Errorf("%w: the service %s names its image %q in short; an update writes it as %q, and Swarm would restart every task for that: do it once with `docker service update --image %s %s`",
				scaler.ErrStart, s.Spec.Name, c.Image, full, full, s.Spec.Name)
		}
	}
	return s.Spec.Mode.Replicated.Replicas, nil
}

// tagged is how the engine's client writes an image reference in every update.
func tagged(image string) string {
	named, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return image
	}
	return reference.FamiliarString(reference.TagNameOnly(named))
}

var _ interface {
	scaler.Driver
	scaler.Chooser
} = (*Driver)(nil)
