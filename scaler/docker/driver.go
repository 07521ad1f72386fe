// Package docker starts and stops replicas on a plain Docker Engine: containers that the configuration
// declares, or clones of a container that Docker Compose runs.
//
// It keeps no record of its own. What exists is what the engine lists under the labels of this gateway, and
// every name is determined by owner, upstream and number: a second gateway, or the next life of this one,
// comes to the same conclusions, and the engine refuses what would be made twice. A container is inspected
// again by its id before it is stopped or removed; one that does not bear our labels is never touched.
package docker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

// Options say what a driver's replicas are. Exactly one of Container and Service is set.
type Options struct {
	// Owner tells this gateway (and those that share its work) from others on the same engine; required.
	Owner string
	// Upstream is the name of the upstream whose replicas these are; required.
	Upstream string
	// Max is how many replicas there may be; it bounds the numbers that their names bear.
	Max int
	// Shared says that other gateways start and stop the same replicas by agreement, one at a time.
	Shared bool
	// Container declares the replicas.
	Container *scaler.ContainerConfig
	// Service names a Compose service; replicas are clones of its running container.
	Service *Service
	// Log is where is said what was removed and what is left alone; required.
	Log *slog.Logger
}

// Service is one service of a Compose project.
type Service struct {
	Project, Name string
	// Port is where its containers answer; 0 is the only exposed one.
	Port int
	// Network on which they are reached; "" is the first by name.
	Network string
}

// Driver is a scaler.Driver. Its methods may be called from several goroutines.
type Driver struct {
	engine Engine
	born   time.Time

	scaling sync.Mutex     // held through one Scale
	stops   sync.WaitGroup // stops under way
	pull    pull
	gauge   gauge
	changed chan struct{}

	mu       sync.Mutex // guards all below
	opts     Options
	stopping map[string]time.Time // by id: when it was told to
	asked    map[string]time.Time // by id: when its start was asked for, of those that are not gone
	making   map[string]time.Time // by name: when the engine was asked to make it, while it has not answered
	endings  map[string]ending    // by id: how it ended, of those that are not gone
	labelled map[string]string    // by id: why a container with our labels is left alone
	named    map[string]string    // by id: why a container with a name of ours is left alone, at the last try to make one
	namedWas map[string]string    // the same at the try before
	others   others

	startWith vertical.Recommendation       // what new replicas should have
	sizes     map[string]vertical.Resources // by id: what it may use, of those that run, were made or ran out of it lately
}

// New returns a driver. It calls the engine only when it is asked for something.
func New(engine Engine, opts Options) *Driver {
	return &Driver{
		engine:   engine,
		gauge:    gauge{engine: engine},
		born:     time.Now(),
		changed:  make(chan struct{}, 1),
		opts:     opts,
		stopping: make(map[string]time.Time),
		asked:    make(map[string]time.Time),
		making:   make(map[string]time.Time),
		endings:  make(map[string]ending),
		labelled: make(map[string]string),
		named:    make(map[string]string),
		sizes:    make(map[string]vertical.Resources),
		others:   others{ended: make(map[string]bool), mine: make(map[string]time.Time), theirs: make(map[string]time.Time)},
	}
}

// Configure changes what replicas are. Those that run are outdated if it is not what they were made from.
func (d *Driver) Configure(opts Options) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opts = opts
}

// Changed is scaler.Changer's: a stop is over, and what it held is free.
func (d *Driver) Changed() <-chan struct{} { return d.changed }

// Close waits for the stops under way, until ctx ends, and listens to no replica any more. Replicas live on.
func (d *Driver) Close(ctx context.Context) error {
	d.gauge.close()
	done := make(chan struct{})
	go func() { d.stops.Wait(); close(done) }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("containers are still being stopped: %w", ctx.Err())
	}
}

func (d *Driver) options() Options {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opts
}

// Scale is scaler.Driver's. What has ended is removed first, then victims and what is too much are told to
// stop (which goes on after Scale has returned), then what is missing is created and started. What somebody else did
// to the number a moment ago is left alone.
func (d *Driver) Scale(ctx context.Context, n int, victims []string) error {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	o := d.options()
	members, now, err := d.look(ctx, o)
	if err != nil {
		return err
	}
	if d.leaves(n, time.Now()) {
		return nil
	}
	first := 0
	if o.Service != nil {
		first = 1
	}
	p := makePlan(members, n, victims, bounds{first: first, max: o.Max, clones: o.Service != nil})
	if err := d.contested(o, p.stop, time.Now()); err != nil {
		return err
	}

	var errs []error
	for _, m := range p.remove {
		if err := d.discard(ctx, o, m); err != nil {
			errs = append(errs, err)
		}
	}
	for _, m := range p.stop {
		d.stop(ctx, o, m)
	}
	for _, id := range p.kept {
		errs = append(errs, fmt.Errorf("%w: container %s cannot be replaced, it is the one that the others are clones of", scaler.ErrStart, id))
	}
	if len(p.start)+p.create > 0 {
		if err := d.bring(ctx, o, now, p); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
