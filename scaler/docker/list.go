package docker

import (
	"context"
	"net"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/container"

	"sluice/scaler"
)

// List is scaler.Driver's.
func (d *Driver) List(ctx context.Context) ([]scaler.Replica, error) {
	o := d.options()
	members, _, err := d.look(ctx, o)
	if err != nil {
		return nil, err
	}
	replicas := make([]scaler.Replica, 0, len(members))
	for _, m := range members {
		if m.fixed && !m.counts() {
			continue // Compose's own affair
		}
		r := scaler.Replica{ID: short(m.id), Addr: m.addr, Asked: d.askedAt(m), Index: m.number, Outdated: m.outdated, Fixed: m.fixed}
		if o.Service == nil {
			r.Index++ // ordinals are from 0
		}
		switch {
		case m.stopping || m.state == "removing" || m.ended() && d.endedByOthers(m.id):
			r.State = scaler.ReplicaStopping
		case m.ended():
			end := d.ending(ctx, o, m)
			r.State, r.Reason = scaler.ReplicaFailed, end.why
			if !end.at.IsZero() && end.at.Before(d.born) {
				r.State = scaler.ReplicaStopping // a leftover; the next Scale removes it
			}
		case m.state == "created", m.state == "restarting":
			r.State = scaler.ReplicaStarting
		default:
			r.State = scaler.ReplicaRunning
		}
		replicas = append(replicas, r)
	}
	return replicas, nil
}

// askedAt is when the start of m was asked for in the life of this driver, else zero.
func (d *Driver) askedAt(m *member) time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	if t, ok := d.asked[m.id]; ok {
		return t
	}
	if !m.fixed && m.created.After(d.born) {
		return m.created // by another decider
	}
	return time.Time{}
}

// addrOf is where a container answers: on network if it is attached to it, else on the first by name.
func addrOf(c *container.Summary, network string, port int) string {
	if port == 0 {
		for _, p := range c.Ports {
			if p.Type != "tcp" || int(p.PrivatePort) == port {
				continue
			}
			if port != 0 {
				return "" // more than one
			}
			port = int(p.PrivatePort)
		}
	}
	if c.NetworkSettings == nil || port == 0 {
		return ""
	}
	ip, first := "", ""
	for name, n := range c.NetworkSettings.Networks {
		if n == nil || n.IPAddress == "" {
			continue
		}
		if name == network {
			ip = n.IPAddress
			break
		}
		if first == "" || name < first {
			first, ip = name, n.IPAddress
		}
	}
	if ip == "" {
		return ""
	}
	return net.JoinHostPort(ip, strconv.Itoa(port))
}
