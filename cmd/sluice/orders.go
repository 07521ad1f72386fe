package main

import "sluice/balancer"

// orders are what an operator has asked of one upstream through the admin API. They are in no file, so a successor
// is told of them.
type orders struct {
	Upstream string          `json:"upstream"`
	Drained  []balancer.Held `json:"drained,omitempty"`
}

// ordersInForce are those of all upstreams, and those of an older sluice that wait for theirs. The caller holds mu.
func (g *gateway) ordersInForce() []orders {
	var all []orders
	for name, u := range g.upstreams {
		if o := (orders{Upstream: name, Drained: u.ground.Held()}); len(o.Drained) > 0 {
			all = append(all, o)
		}
	}
	for _, o := range g.orders {
		all = append(all, o)
	}
	return all
}

// obey gives an upstream the orders from before the upgrade, before it finds servers. The caller holds mu.
func (g *gateway) obey(u *upstream) {
	o, ok := g.orders[u.name]
	if !ok {
		return
	}
	u.ground.Hold(o.Drained)
	delete(g.orders, u.name)
}
