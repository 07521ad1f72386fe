package docker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	dockernet "github.com/docker/docker/api/types/network"
)

// listing is what one round of questions to the engine gave.
type listing struct {
	number     uint64 // counts from 1
	begun      time.Time
	containers []container.Summary
	networks   map[string]netInfo
	details    map[string]detail
	self       string
	restarted  map[string]bool // marked containers that were started after their mark
	err        error           // all else is void
}

// list asks the engine. What v knows and cannot change is not asked again. Whatever hangs ends by
// callTimeout.
func (h *hub) list(ctx context.Context, v *view) listing {
	l := listing{begun: time.Now(), networks: v.networks, self: v.self}
	if v.listed.IsZero() {
		own, err := bounded(ctx, func(ctx context.Context) (*container.InspectResponse, error) { return FindSelf(ctx, h.cli) })
		if err != nil {
			l.err = err
			return l
		}
		if own != nil {
			l.self = own.ID
		}
	}
	l.containers, l.err = bounded(ctx, func(ctx context.Context) ([]container.Summary, error) {
		return h.cli.ContainerList(ctx, container.ListOptions{All: true})
	})
	if l.err == nil {
		l.err = h.listNetworks(ctx, &l)
	}
	if l.err == nil {
		h.inspect(ctx, v, &l)
	}
	return l
}

// errHung is what a call that was given up ends with.
var errHung = fmt.Errorf("no answer within %s", callTimeout)

func bounded[T any](ctx context.Context, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errHung)
	defer cancel()
	got, err := call(ctx)
	if err != nil && errors.Is(context.Cause(ctx), errHung) {
		err = errHung
	}
	return got, err
}

// listNetworks asks for the networks when there is one that is not known.
func (h *hub) listNetworks(ctx context.Context, l *listing) error {
	known := true
	for i := range l.containers {
		if s := l.containers[i].NetworkSettings; s != nil {
			for _, end := range s.Networks {
				if end != nil && end.NetworkID != "" && l.networks[end.NetworkID].name == "" {
					known = false
				}
			}
		}
	}
	if known {
		return nil
	}
	all, err := bounded(ctx, func(ctx context.Context) ([]dockernet.Summary, error) {
		return h.cli.NetworkList(ctx, dockernet.ListOptions{})
	})
	if err != nil {
		return err
	}
	l.networks = make(map[string]netInfo, len(all))
	for _, n := range all {
		l.networks[n.ID] = netInfo{name: n.Name, driver: n.Driver, label: n.Labels["com.docker.compose.network"]}
	}
	return nil
}

// inspect looks at running containers that someone wants and nothing is known of, and at those that
// were asked to stop and still run. One that cannot be inspected is tried again with the next listing.
func (h *hub) inspect(ctx context.Context, v *view, l *listing) {
	l.details = make(map[string]detail, len(v.details))
	l.restarted = make(map[string]bool)
	for i := range l.containers {
		c := &l.containers[i]
		known, ok := v.details[c.ID]
		if ok {
			l.details[c.ID] = known
		}
		if c.State != container.StateRunning {
			continue
		}
		m, marked := v.marks[c.ID]
		doubt := marked && m.asked && l.begun.Sub(m.at) > markRace
		if !doubt && (ok || !h.wanted(c)) {
			continue
		}
		found, err := bounded(ctx, func(ctx context.Context) (container.InspectResponse, error) {
			return h.cli.ContainerInspect(ctx, c.ID)
		})
		if err != nil || found.ContainerJSONBase == nil || found.Config == nil {
			if err != nil && !errdefs.IsNotFound(err) {
				h.log.Debug("cannot inspect a container", "container", name(c), "error", err)
			}
			continue
		}
		l.details[c.ID] = detailOf(found.Config)
		if doubt && found.State != nil {
			started, err := time.Parse(time.RFC3339Nano, found.State.StartedAt)
			l.restarted[c.ID] = err == nil && started.After(m.engine)
		}
	}
}

func detailOf(c *container.Config) detail {
	d := detail{stopSignal: c.StopSignal, stopTimeout: 10 * time.Second}
	if c.StopTimeout != nil {
		d.stopTimeout = time.Duration(*c.StopTimeout) * time.Second
	}
	for port := range c.ExposedPorts {
		if port.Proto() == "tcp" {
			d.ports = append(d.ports, port.Int())
		}
	}
	slices.Sort(d.ports)
	return d
}
