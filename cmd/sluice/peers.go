package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"sync/atomic"

	"sluice/admin"
	"sluice/config"
	"sluice/peers"
	"sluice/proxy"
)

// peering is this gateway's part in a group of several. A nil one is alone: it acts, and all slots and
// rates are its own.
type peering struct {
	*peers.Group
	serves bool                   // the others ask it by TCP
	stack  atomic.Pointer[string] // that sluice runs in, on Swarm; "" while it is not known
	cancel context.CancelFunc
	ended  chan struct{}
}

// membership is one that can be left.
type membership interface {
	peers.Membership
	Leave()
}

// joinPeers makes this gateway a member as [peers] says, before the first upstream starts. An engine that does not
// answer yet keeps it from using servers that have max_conns and from scaling, and from nothing else. The caller
// holds mu.
func (g *gateway) joinPeers(cfg *peers.Config) error {
	if g.cfg != nil {
		if !reflect.DeepEqual(g.cfg.Peers, cfg) {
			return admin.InvalidConfig{Err: errors.New("[peers] cannot change while sluice runs: start it anew")}
		}
		if g.peers != nil {
			g.peers.stack.Store(&g.engine.project)
		}
		return nil
	}
	if cfg == nil {
		return nil
	}
	p := &peering{ended: make(chan struct{}), serves: cfg.Service != ""}
	p.stack.Store(&g.engine.project)
	joined := make(chan struct{})
	report := func() []byte {
		<-joined
		return p.Report()
	}
	join := g.joinHost
	if p.serves {
		join = g.joinHosts
	}
	id, members, lease, err := join(p, cfg, report)
	if err != nil {
		return fmt.Errorf("[peers]: %w", err)
	}
	p.Group = peers.NewGroup(peers.Options{
		ID: id, Membership: members, Lease: lease,
		Changed: func(bool, int) { go g.peersChanged() }, // it may come while the caller of Run holds mu
		Log:     g.log,
	})
	close(joined)
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	known := make(chan struct{})
	go func() {
		defer close(p.ended)
		defer members.Leave()
		p.Run(ctx, func() { close(known) })
	}()
	<-known
	g.peers = p
	return nil
}

// joinHost joins the gateways on this host.
func (g *gateway) joinHost(_ *peering, cfg *peers.Config, report func() []byte) (id string, m membership, l peers.Lease, err error) {
	id = fmt.Sprintf("%d-%08x", os.Getpid(), rand.Uint32())
	m, err = peers.JoinDir(cfg.Dir, id, report)
	return id, m, peers.NewFileLease(filepath.Join(cfg.Dir, "scaler.lease"), g.log), err
}

// joinHosts joins the gateways on several hosts, which their engine tells.
func (g *gateway) joinHosts(p *peering, cfg *peers.Config, report func() []byte) (id string, m membership, l peers.Lease, err error) {
	host, _ := os.Hostname() // a pod's or container's: it says which one to people
	id = fmt.Sprintf("%s_%08x", cmp.Or(host, "sluice"), rand.Uint32())
	var store peers.Store
	var directory peers.Directory
	kind := g.engine.kind
	if g.engine.scaler != nil { // who holds the engine tells of no gateways
		kind = "none"
	}
	switch kind {
	case "kubernetes":
		store, directory, err = g.engine.kubernetesPeers(cfg)
	case "swarm":
		store, directory, err = g.engine.swarmPeers(cfg, p)
	default:
		err = fmt.Errorf("gateways on several hosts need Kubernetes or a Swarm manager; the engine is %s (engine.kind = \"swarm\" waits for one that does not answer yet; for gateways on one host there is peers.dir)", g.engine)
	}
	if err != nil {
		return "", nil, nil, err
	}
	m, err = peers.JoinNet(cfg.Listen, cfg.Token, id, directory, report)
	return id, m, peers.NewStoreLease(store, id, g.log), err
}

// status is the group for the status; nil for a gateway that is alone.
func (p *peering) status() *admin.PeersStatus {
	if p == nil {
		return nil
	}
	st := p.Status()
	out := &admin.PeersStatus{Gateway: st.ID, Gateways: len(st.Members), Members: st.Members, Scales: st.Acts, Scaler: st.Leader}
	if st.Trouble != nil {
		out.Trouble = st.Trouble.Error()
	}
	return out
}

// peersChanged lets the loops act or follow, and divides the rate limits anew.
func (g *gateway) peersChanged() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.peers == nil || g.cfg == nil || g.closed {
		return
	}
	for _, u := range g.upstreams {
		if u.loop != nil {
			u.loop.Follow(!g.peers.Acts())
		}
	}
	if g.peers.Members() == g.divided {
		return
	}
	fronts := make(map[string]*proxy.Upstream, len(g.upstreams))
	for name, u := range g.upstreams {
		fronts[name] = u.front
	}
	table, err := proxy.NewTable(g.dividedTable(g.cfg, fronts), g.proxy.Table())
	if err != nil {
		g.log.Error("the rate limits could not be divided anew", "error", err)
		return
	}
	g.proxy.Store(table)
}

// dividedTable is tableConfig with this gateway's part of the rate limits.
func (g *gateway) dividedTable(cfg *config.Config, fronts map[string]*proxy.Upstream) proxy.TableConfig {
	table := tableConfig(cfg, fronts, g.tls)
	if cfg.ACME != nil {
		table.Secure.Challenge = g.answerChallenge
	}
	g.divided = 1
	if g.peers != nil {
		g.divided = g.peers.Members()
	}
	if g.divided == 1 {
		return table
	}
	routes := make([]proxy.RouteConfig, len(table.Routes))
	for i, r := range table.Routes {
		if r.RateLimit != nil {
			part := *r.RateLimit
			part.Rate, part.Burst = peers.Rate(part.Rate, part.Burst, g.divided)
			r.RateLimit = &part
		}
		routes[i] = r
	}
	table.Routes = routes
	return table
}

// share makes the upstream one of the group's, before it finds servers and before its loop runs: only the
// gateway with the lease starts and stops replicas.
func (p *peering) share(u *upstream) {
	if p == nil {
		return
	}
	shared := p.Share(u.ground)
	u.shared.Store(shared)
	if u.loop != nil {
		u.loop.Join(shared)
		u.loop.Follow(!p.Acts())
	}
}

// fence lets the source's replicas be started and stopped only while this gateway has the lease.
func (p *peering) fence(s *source) {
	if p == nil || s.driver == nil {
		return
	}
	s.driver = p.Fence(s.driver)
	remove, release := s.remove, s.close
	s.remove = func(ctx context.Context) {
		act, done, err := p.Act(ctx)
		if err != nil { // the one that acts does it
			if release != nil {
				release(ctx)
			}
			return
		}
		defer done()
		remove(act)
	}
}

// leave ends the membership, after all that this gateway did.
func (p *peering) leave() {
	if p != nil {
		p.cancel()
		<-p.ended
	}
}

// resign lets another gateway act.
func (p *peering) resign() {
	if p != nil {
		p.Resign()
	}
}
