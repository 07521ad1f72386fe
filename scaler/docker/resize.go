package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

// ranOutKept is how long it is told that a container ran out of memory, which may be gone since.
const ranOutKept = 10 * time.Minute

// Allowances is scaler.Resizer's.
func (d *Driver) Allowances(ctx context.Context) (scaler.Allowances, error) {
	o := d.options()
	members, _, err := d.look(ctx, o)
	if err != nil {
		return scaler.Allowances{}, err
	}
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	info, err := d.engine.Info(call)
	if err != nil {
		return scaler.Allowances{}, fmt.Errorf("asking the engine about itself: %w", err)
	}
	ranOut, err := d.ranOut(call, o, time.Now())
	if err != nil {
		return scaler.Allowances{}, fmt.Errorf("asking which containers ran out of memory: %w", err)
	}
	all := scaler.Allowances{Most: vertical.Resources{CPUs: float64(info.NCPU), Memory: info.MemTotal}}
	sizes := make(map[string]vertical.Resources)
	for _, m := range members {
		if m.state != "running" || m.stopping {
			continue
		}
		c, err := d.engine.ContainerInspect(call, m.id)
		if cerrdefs.IsNotFound(err) {
			continue
		}
		if err != nil {
			return all, fmt.Errorf("inspecting %s: %w", m.name, err)
		}
		sizes[m.id] = has(c.HostConfig)
		all.Replicas = append(all.Replicas, scaler.Allowance{Replica: short(m.id), Has: sizes[m.id], Limit: sizes[m.id], RanOut: ranOut[m.id]})
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for id, at := range ranOut { // what is gone had what it was last seen with, or made with
		if _, there := sizes[id]; !there {
			sizes[id] = d.sizes[id]
			all.Replicas = append(all.Replicas, scaler.Allowance{Replica: short(id), Has: sizes[id], Limit: sizes[id], RanOut: at})
		}
	}
	for id := range d.asked {
		if _, known := sizes[id]; !known {
			if size, made := d.sizes[id]; made {
				sizes[id] = size
			}
		}
	}
	d.sizes = sizes
	return all, nil
}

func has(host *container.HostConfig) vertical.Resources {
	l := limitsOf(host)
	return vertical.Resources{CPUs: l.cpus, Memory: l.memory}
}

// ranOut asks the engine which containers of the upstream had a process killed for want of memory, and when last.
func (d *Driver) ranOut(ctx context.Context, o Options, now time.Time) (map[string]time.Time, error) {
	filter := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("event", string(events.ActionOOM)))
	if s := o.Service; s != nil {
		filter.Add("label", composeProject+"="+s.Project)
		filter.Add("label", composeService+"="+s.Name)
	} else {
		filter.Add("label", LabelUpstream+"="+o.Upstream)
		filter.Add("label", LabelOwner+"="+o.Owner)
	}
	messages, errs := d.engine.Events(ctx, events.ListOptions{Since: stamp(now.Add(-ranOutKept)), Until: stamp(now), Filters: filter})
	all := make(map[string]time.Time)
	for {
		select {
		case m := <-messages:
			if at := time.Unix(0, m.TimeNano); m.Actor.ID != "" && at.After(all[m.Actor.ID]) {
				all[m.Actor.ID] = at
			}
		case err := <-errs:
			if errors.Is(err, io.EOF) { // that is all
				err = nil
			}
			return all, err
		}
	}
}

// Resize is scaler.Resizer's. The container that the others are clones of may be changed as well: it goes on running,
// and Compose compares it by its label.
func (d *Driver) Resize(ctx context.Context, replica string, to vertical.Resources) error {
	d.scaling.Lock()
	defer d.scaling.Unlock()
	o := d.options()
	call, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := d.engine.ContainerInspect(call, replica)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("inspecting: %w", err)
	}
	if why := foreign(o, c.Config.Labels, c.Name); why != "" && !exemplary(o, c.Config.Labels) {
		return fmt.Errorf("container %s: %w: %s", short(c.ID), errNotOurs, why)
	}
	if to.Memory > 0 && to.Memory < c.HostConfig.Memory {
		if uses := d.gauge.memory(replica, time.Now()); uses < 0 || uses >= to.Memory { // once more: it may have grown since that was decided
			return fmt.Errorf("it uses %d MiB of memory now (-1: not known), which is not below the %d MiB that it would have", uses>>20, to.Memory>>20)
		}
	}
	update := container.UpdateConfig{Resources: resized(c.HostConfig.Resources, to)}
	answer, err := d.engine.ContainerUpdate(call, c.ID, update)
	if cerrdefs.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("the engine does not change it: %w", err)
	}
	for _, w := range answer.Warnings {
		o.Log.Warn("engine's warning about a changed replica", "upstream", o.Upstream, "container", nameOf([]string{c.Name}), "warning", w)
	}
	return nil
}

// exemplary reports whether it is a container that Compose itself made of the service.
func exemplary(o Options, labels map[string]string) bool {
	s := o.Service
	return s != nil && labels[composeProject] == s.Project && labels[composeService] == s.Name && labels[composeOneOff] != "True" && !anyReserved(labels)
}

// resized is what of a container's resources is to be written so that it has to; all else is left out, which leaves it
// as it is. CPUs are written as they were: as NanoCPUs or as quota, of which the engine takes only one. The amount of
// swap stays: memory and swap together are one limit, and the engine refuses memory above it.
func resized(now container.Resources, to vertical.Resources) (r container.Resources) {
	switch {
	case to.CPUs <= 0:
	case now.CPUQuota > 0 && now.NanoCPUs == 0:
		if r.CPUPeriod = now.CPUPeriod; r.CPUPeriod <= 0 {
			r.CPUPeriod = defaultPeriod
		}
		r.CPUQuota = max(int64(math.Round(to.CPUs*float64(r.CPUPeriod))), quotaLeast)
	default:
		r.NanoCPUs = int64(math.Round(to.CPUs*1e3)) * 1e6
	}
	if to.Memory > 0 {
		r.Memory, r.MemorySwap = to.Memory, now.MemorySwap
		if now.MemorySwap > 0 {
			r.MemorySwap = to.Memory + max(now.MemorySwap-now.Memory, 0)
		}
	}
	return r
}

// quotaLeast is the kernel's, in microseconds.
const quotaLeast = 1000

// StartWith is scaler.Resizer's.
func (d *Driver) StartWith(r vertical.Recommendation) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.startWith = r
}

// fit makes the replica that s describes start with what is recommended, where what it is declared with is not within that.
func (s *spec) fit(r vertical.Recommendation) {
	declared := has(s.host)
	to := r.Fit(declared)
	if to == declared {
		return
	}
	is := &s.host.Resources
	changed := resized(*is, to)
	if to.CPUs > 0 {
		is.NanoCPUs, is.CPUPeriod, is.CPUQuota = changed.NanoCPUs, changed.CPUPeriod, changed.CPUQuota
	}
	if changed.Memory > 0 {
		is.Memory, is.MemorySwap = changed.Memory, changed.MemorySwap
	}
}
