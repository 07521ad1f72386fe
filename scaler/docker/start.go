package docker

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"golang.org/x/sync/errgroup"

	"sluice/scaler"
)

// startsAtOnce bounds the starts under way: the engine does them one after the other anyway, and answers
// nobody else meanwhile.
const startsAtOnce = 3

// bring creates and starts what the plan says. Creating takes milliseconds and is done in order; starting
// takes long.
func (d *Driver) bring(ctx context.Context, o Options, now blueprint, p plan) error {
	build, err := d.maker(ctx, o, now)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.namedWas, d.named = d.named, make(map[string]string)
	d.mu.Unlock()
	type made struct {
		id   string
		spec *spec
	}
	var starts []made
	var errs, taken []error
	for _, m := range p.start {
		starts = append(starts, made{m.id, build(m.number)})
	}
	missing := p.create
	for _, number := range p.free {
		if missing == 0 || ctx.Err() != nil {
			break
		}
		s := build(number)
		id, err := d.create(ctx, o, s)
		if errors.Is(err, errTaken) {
			taken = append(taken, err)
			continue // the next number will do
		}
		missing--
		switch {
		case err != nil:
			errs = append(errs, err)
		case id != "":
			starts = append(starts, made{id, s})
		}
	}
	if missing > 0 {
		errs = append(errs, taken...)
	}
	var mu sync.Mutex
	var group errgroup.Group
	group.SetLimit(startsAtOnce)
	for _, s := range starts {
		group.Go(func() error {
			if err := d.start(ctx, o, s.id, s.spec); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait() // the functions return nil
	return errors.Join(errs...)
}

// errTaken: the name of a replica is borne by a container that is not ours.
var errTaken = errors.New("not ours, left alone")

// create makes one container, not yet started. The id is "" when another decider made it and started it.
func (d *Driver) create(ctx context.Context, o Options, s *spec) (id string, err error) {
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	d.mu.Lock()
	d.making[s.name] = time.Now() // a listing may see it before the engine answers
	d.mu.Unlock()
	created, err := d.engine.ContainerCreate(call, s.config, s.host, s.firstNetwork(), nil, s.name)
	d.mu.Lock()
	if err == nil {
		d.asked[created.ID] = time.Now()
		d.sizes[created.ID] = has(s.host)
	}
	if err == nil || answered(ctx, err) {
		delete(d.making, s.name) // else it may have been made, or still be
	}
	d.mu.Unlock()
	switch {
	case err == nil:
		for _, w := range created.Warnings {
			o.Log.Warn("engine's warning about a new replica", "upstream", o.Upstream, "container", s.name, "warning", w)
		}
		return created.ID, nil
	case !cerrdefs.IsConflict(err):
		return "", startError(ctx, "creating "+s.name, err)
	}
	// The name is in use: by a replica that someone made meanwhile, or by a stranger.
	other, inspectErr := d.holder(call, s.name)
	if inspectErr != nil {
		return "", fmt.Errorf("creating %s: %w", s.name, err)
	}
	if why := foreign(o, other.Config.Labels, other.Name); why != "" {
		d.squats(o, other.ID, fmt.Sprintf("container %s (%s) has the name of a replica of ours, but %s: left alone", s.name, short(other.ID), why))
		return "", fmt.Errorf("%w: the name %s is taken by container %s: %w (%s)", scaler.ErrStart, s.name, short(other.ID), errTaken, why)
	}
	if other.State.Status == container.StateCreated {
		return other.ID, nil
	}
	return "", nil
}

// holder inspects the container that holds a name. The engine reserves a name some milliseconds before it
// knows a container by it.
func (d *Driver) holder(ctx context.Context, name string) (container.InspectResponse, error) {
	for tries := 1; ; tries++ {
		c, err := d.engine.ContainerInspect(ctx, name)
		if !cerrdefs.IsNotFound(err) || tries == 20 {
			return c, err
		}
		select {
		case <-ctx.Done():
			return c, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// start attaches the networks that create could not and starts the container. What the engine refuses to
// start is removed again; what was only not answered stays, for the next Scale to go on with.
func (d *Driver) start(ctx context.Context, o Options, id string, s *spec) error {
	err := d.attach(ctx, id, s)
	if err == nil {
		call, cancel := context.WithTimeout(ctx, startTimeout)
		err = d.engine.ContainerStart(call, id, container.StartOptions{})
		cancel()
	}
	if err == nil {
		return nil
	}
	if err = startError(ctx, "starting "+s.name, err); !errors.Is(err, scaler.ErrStart) {
		return err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if _, ownErr := d.own(call, o, id); ownErr != nil {
		return err
	}
	// Not forced: if another decider did start it, the engine keeps it.
	_ = d.engine.ContainerRemove(call, id, container.RemoveOptions{RemoveVolumes: true})
	return err
}

// attach connects the networks of s beyond the first, as far as they are not: an engine that speaks 1.41
// takes one in create.
func (d *Driver) attach(ctx context.Context, id string, s *spec) error {
	if len(s.networks) < 2 {
		return nil
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	is, err := d.engine.ContainerInspect(call, id)
	if err != nil {
		return err
	}
	for _, n := range s.networks[1:] {
		if _, on := is.NetworkSettings.Networks[n.name]; on {
			continue
		}
		if err := d.engine.NetworkConnect(call, n.name, id, n.settings); err != nil {
			is, again := d.engine.ContainerInspect(call, id)
			if again != nil || is.NetworkSettings.Networks[n.name] == nil {
				return fmt.Errorf("attaching network %s: %w", n.name, err)
			}
		}
	}
	return nil
}

// startError tells an engine that refuses, which is scaler.ErrStart, from one that does not answer.
func startError(ctx context.Context, doing string, err error) error {
	if answered(ctx, err) {
		return fmt.Errorf("%w: %s: %w", scaler.ErrStart, doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// answered tells that err is what the engine said, and not that it said nothing.
func answered(ctx context.Context, err error) bool {
	return ctx.Err() == nil && (cerrdefs.IsInvalidArgument(err) || cerrdefs.IsNotFound(err) || cerrdefs.IsConflict(err) ||
		cerrdefs.IsPermissionDenied(err) || cerrdefs.IsInternal(err) || cerrdefs.IsNotImplemented(err))
}
