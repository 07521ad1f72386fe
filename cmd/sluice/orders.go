package main

import (
	"time"

	"sluice/balancer"
)

// orders are what an operator has asked of one upstream through the admin API. They are in no file, so a successor
// is told of them.
type orders struct {
	Upstream string          `json:"upstream"`
	Drained  []balancer.Held `json:"drained,omitempty"`
	Pin      *pinned         `json:"pin,omitempty"`
}

// pinned is a number of replicas.
type pinned struct {
	Replicas int       `json:"replicas"`
	Until    time.Time `json:"until,omitzero"` // zero: until "auto"
}

// none reports that there is nothing to obey.
func (o orders) none() bool { return len(o.Drained) == 0 && o.Pin == nil }

// ordersInForce are those of all upstreams, and those of an older sluice that wait for theirs. The caller holds mu.
func (g *gateway) ordersInForce() []orders {
	var all []orders
	for name, u := range g.upstreams {
		o := orders{Upstream: name, Drained: u.ground.Held(), Pin: g.orders[name].Pin}
		if u.loop != nil {
			if n, until, on := u.loop.Pinned(); on {
				o.Pin = &pinned{n, until}
			}
		}
		if !o.none() {
			all = append(all, o)
		}
	}
	for name, o := range g.orders {
		if g.upstreams[name] == nil {
			all = append(all, o)
		}
	}
	return all
}

// obey gives an upstream the orders from before the upgrade, before it finds servers and is scaled. A pin waits until
// something is there to scale, as an engine may answer later. The caller holds mu.
func (g *gateway) obey(u *upstream) {
	o, ok := g.orders[u.name]
	if !ok {
		return
	}
	if o.Drained != nil {
		u.ground.Hold(o.Drained)
	}
	if o.Pin != nil && u.loop != nil {
		u.loop.Pin(o.Pin.Replicas, o.Pin.Until)
		o.Pin = nil
	}
	o.Drained = nil
	g.orders[u.name] = o
	if o.none() {
		delete(g.orders, u.name)
	}
}
