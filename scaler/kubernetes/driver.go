// Package kubernetes starts and stops replicas on Kubernetes: it sets the number of replicas of a Deployment or a
// StatefulSet through its scale subresource, and says which pods should go first.
//
// It keeps no record of the number: what is wanted stands in the workload's spec, what there is in the list of its
// pods. Which pods go is not for a client to choose. Of a Deployment the ReplicaSet controller removes pods that are
// not ready first, then those with the lowest annotation controller.kubernetes.io/pod-deletion-cost, which is put on
// the victims before the number is lowered; while a rollout is under way nothing is a victim, because then the
// Deployment controller divides the reduction among two ReplicaSets. A StatefulSet always loses its highest ordinal,
// so that no other pod is ever a victim there.
//
// A HorizontalPodAutoscaler for the same workload is a second writer: then everything is refused.
package kubernetes

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sluice/scaler"
)

// Options say what a driver's replicas are.
type Options struct {
	// Namespace and Service name them: the pods that the Service selects, or those of the Deployment or StatefulSet of
	// that name.
	Namespace, Service string
	// Observe says that nothing is ever changed, so that an autoscaler beside it is no second writer.
	Observe bool
	// Log is where is said what was changed; required.
	Log *slog.Logger
}

// Driver is a scaler.Driver. Its methods may be called from several goroutines.
type Driver struct {
	cli   Client
	gauge gauge

	scaling sync.Mutex // held through one Scale

	mu       sync.Mutex // guards all below
	opts     Options
	target   workload  // as last found; zero: to be found
	foundAt  time.Time // of target
	rival    string    // the HorizontalPodAutoscaler that targets it; "" for none
	rivalAt  time.Time // when it was last looked for
	spec     int32     // replicas asked for, as last listed or written; -1: not known
	asked    time.Time // when the number was last raised
	seen     map[string]time.Time
	everSeen bool
	notes    []string
}

// New returns a driver. It calls the API server only when it is asked for something.
func New(cli Client, opts Options) *Driver {
	return &Driver{cli: cli, gauge: gauge{cli: cli}, opts: opts, spec: -1, seen: make(map[string]time.Time)}
}

// Configure changes whether anything is done at all; the service stays the same.
func (d *Driver) Configure(opts Options) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.opts = opts
	d.rivalAt = time.Time{}
}

func (d *Driver) options() Options {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opts
}

// Notes say in words what stands in the way of pods that are not ready, and of scaling.
func (d *Driver) Notes() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	notes := slices.Clone(d.notes)
	if d.rival != "" {
		notes = append(notes, rivalWords(d.rival, d.target))
	}
	return notes
}

// List is scaler.Driver's. With a second writer it is an error, so that nothing is drained for a change that would be
// refused.
func (d *Driver) List(ctx context.Context) ([]scaler.Replica, error) {
	o := d.options()
	w, scale, err := d.look(ctx, o)
	if err != nil {
		return nil, err
	}
	if err := d.refuseRival(ctx, o, w, rivalMemory); err != nil {
		return nil, err
	}
	pods, err := d.pods(ctx, o, w, scale.Status.Selector)
	if err != nil {
		return nil, err
	}
	replicas, notes := w.replicas(pods, int(scale.Spec.Replicas), time.Now())
	d.gauge.follow(o.Namespace, scale.Status.Selector, pods)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spec, d.notes = scale.Spec.Replicas, notes
	d.remember(replicas)
	return replicas, nil
}

// remember notes when replicas were asked for, by this machine's clock: those that came since the number was raised,
// at that moment; others that came since the first listing, when they were first seen.
func (d *Driver) remember(replicas []scaler.Replica) {
	now := time.Now()
	listed := make(map[string]bool, len(replicas))
	for i := range replicas {
		r := &replicas[i]
		listed[r.ID] = true
		if _, ok := d.seen[r.ID]; !ok {
			switch {
			case !d.everSeen: // before this gateway
				d.seen[r.ID] = time.Time{}
			case now.Sub(d.asked) < askedMost:
				d.seen[r.ID] = d.asked
			default:
				d.seen[r.ID] = now
			}
		}
		r.Asked = d.seen[r.ID]
	}
	for id := range d.seen {
		if !listed[id] {
			delete(d.seen, id)
		}
	}
	d.everSeen = true
}

const (
	// askedMost is how long after the number was raised a new pod is thought to come of that.
	askedMost = 30 * time.Second
	// conflictsMost is how often a write is tried again because the object changed, which the status of a workload
	// does all the time while it scales.
	conflictsMost = 5
	// costLead lies between the annotations and the lower number: the controller reads both from caches of its own.
	costLead = 200 * time.Millisecond
)

// Scale is scaler.Driver's: it writes the number to the workload's scale subresource, with the version it was read
// with, so that a change by somebody else in between is noticed.
func (d *Driver) Scale(ctx context.Context, n int, victims []string) error {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	o, w, scale, err := d.lookToWrite(ctx)
	if err != nil {
		return err
	}
	if err := d.refuseRival(ctx, o, w, 0); err != nil {
		return err
	}
	if err := d.refuseOther(w, scale.Spec.Replicas); err != nil {
		return err
	}
	pods, err := d.pods(ctx, o, w, scale.Status.Selector)
	if err != nil {
		return err
	}
	was := scale.Spec.Replicas
	p := w.plan(pods, int(was), n, victims)
	if err := d.setCosts(ctx, o, p); err != nil {
		return err
	}
	for try := 0; int32(p.replicas) != scale.Spec.Replicas; try++ { //nolint:gosec // bounded by the configuration
		scale.Spec.Replicas = int32(p.replicas) //nolint:gosec // the same
		written, err := w.write(ctx, d.cli, o.Namespace, scale)
		if err == nil {
			d.wrote(was, written.Spec.Replicas)
			o.Log.Info("replicas set", "workload", w.String(), "from", was, "to", p.replicas, "victims", len(victims))
			return nil
		}
		if !isConflict(err) || try == conflictsMost {
			return d.words(o, w, "set the replicas of", err)
		}
		if w, scale, err = d.look(ctx, o); err != nil {
			return err
		}
		if scale.Spec.Replicas != was {
			return d.refuseOther(w, scale.Spec.Replicas)
		}
	}
	return nil
}

func (d *Driver) wrote(was, now int32) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.spec = now
	if now > was {
		d.asked = time.Now()
	}
}

// errChanged: what was listed is not what is there.
var errChanged = errors.New("somebody else set it")

// refuseOther returns an error when the number is not the one that the decision was made on: pods that nobody drained
// would go. The loop lists again after it, and decides on what it then sees.
func (d *Driver) refuseOther(w workload, spec int32) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	known := d.spec
	if known < 0 || known == spec {
		return nil
	}
	d.spec = spec
	return fmt.Errorf("%s: %w to %d replicas, it was at %d: looked at again before anything is changed", w, errChanged, spec, known)
}
