package scaler

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/balancer"
)

// drain is one replica on its way out. It is cancelled by Server.Enable as long as the driver was not told.
type drain struct {
	since, deadline time.Time
	farewell        time.Time // when its tunnels were told to go; zero: not yet
	broken          bool      // to be replaced: not taken back for want of replicas
	told            bool      // the driver was asked to stop it
}

// farewellTime is between telling the clients of WebSockets to go and stopping the replica.
const farewellTime = time.Second

// member is a live replica with what the balancer knows of it.
type member struct {
	Replica
	server   *balancer.Server // nil while discovery does not list it
	inFlight int
	ready    bool // has ever been
	late     bool
	sick     bool // was ready and is unhealthy now
	held     bool // taken out of use by an operator: no capacity, and not to be stopped
	drain    *drain
}

func (r Replica) live() bool { return r.State == ReplicaStarting || r.State == ReplicaRunning }

// converge brings the replicas one step nearer to what is wanted. It works from a fresh listing and from
// what is there, never from what was asked before, so it may be called at any time and any number of times.
func (l *Loop) converge(ctx context.Context, cfg Config, frozen bool, now time.Time) {
	if frozen || l.engine.calling != "" || now.Before(l.engine.until) {
		return
	}
	age := now.Sub(l.listed)
	if l.listed.IsZero() || age < 0 || age >= listSettled || age >= listBusy && !l.settled(cfg) {
		l.launch(ctx, call{kind: "list", at: now})
		return
	}
	if !l.acts(cfg) || l.follows {
		l.enableAll()
		l.refit(ctx, cfg, now)
		return
	}
	c := l.plan(cfg, now)
	if c.kind == "" {
		if l.engine.failing == "scale" { // there is nothing left that could fail
			l.recovered(now)
		}
		l.refit(ctx, cfg, now)
		return
	}
	if l.engine.repeats(c) {
		return
	}
	if age >= listBusy { // decide on the number by old news, act only on fresh ones
		l.launch(ctx, call{kind: "list", at: now})
		return
	}
	for _, id := range c.victims {
		l.tellVictim(id, now)
	}
	l.purged = true
	l.launch(ctx, c)
}

// settled reports whether nothing is under way.
func (l *Loop) settled(cfg Config) bool {
	live, held := 0, 0
	for _, r := range l.replicas {
		if rec := l.known[r.ID]; r.State != ReplicaRunning || rec == nil || rec.readyAt.IsZero() {
			return false
		}
		live++
		if s := l.upstream.Server(r.ID); s != nil && s.Held() {
			held++
		}
	}
	return len(l.drains) == 0 && (!l.acts(cfg) || live-held == l.state.Wanted) && live == len(l.upstream.Servers())
}

// members joins the live replicas with the balancer and forgets the drains of those that are gone.
func (l *Loop) members() []member {
	all := make([]member, 0, len(l.replicas))
	for _, r := range l.replicas {
		if !r.live() {
			continue
		}
		m := member{Replica: r, server: l.upstream.Server(r.ID), drain: l.drains[r.ID]}
		if rec := l.known[r.ID]; rec != nil {
			m.ready, m.late = !rec.readyAt.IsZero(), rec.late
		}
		if m.server != nil {
			m.inFlight = l.inFlight(m.server)
			m.sick, m.held = m.ready && !m.server.UnhealthySince().IsZero(), m.server.Held()
		}
		all = append(all, m)
	}
	for id := range l.drains {
		if !slices.ContainsFunc(all, func(m member) bool { return m.ID == id }) {
			delete(l.drains, id)
		}
	}
	return all
}

// plan starts and cancels drains and says what to ask the driver for; a zero call is nothing.
func (l *Loop) plan(cfg Config, now time.Time) call {
	if _, ok := l.driver.(Chooser); ok {
		return l.resize(now)
	}
	all := l.members()
	holds := l.failures.holds(now)
	l.drainBroken(all, holds, cfg, now)

	active := make([]*member, 0, len(all))
	starting, outdated := 0, 0
	for i := range all {
		if m := &all[i]; m.drain == nil && !m.held {
			active = append(active, m)
			if !m.ready {
				starting++
			}
			if m.Outdated && !m.Fixed {
				outdated++
			}
		}
	}
	target := l.state.Wanted
	if outdated > 0 && !holds && target > 0 { // a rolling replacement: one more than wanted at a time
		switch {
		case starting > 0:
			target = max(target, min(len(active), target+1))
		case len(l.drains) == 0 && len(active) <= target:
			target++
		}
	}

	if n := l.stranded(active); n > 0 {
		target = max(target, min(n, l.most))
	}

	if excess := len(active) - target; excess > 0 {
		for _, m := range order(active) {
			if excess == 0 || m.Fixed {
				break
			}
			l.startDrain(m, false, cfg, now)
			excess--
		}
	}
	lack := max(target-len(active), 0)
	for i := range all { // what only just left is taken back before anything is started
		if m := &all[i]; lack > 0 && m.drain != nil && !m.drain.broken && !m.drain.told {
			l.cancelDrain(m.ID)
			m.drain = nil
			lack--
		}
	}

	c := call{kind: "scale", at: now}
	garbage := !l.purged
	for i := range all {
		if m := &all[i]; m.drained(now) {
			c.victims = append(c.victims, m.ID)
		}
	}
	for _, r := range l.replicas {
		if rec := l.known[r.ID]; r.State == ReplicaFailed && rec != nil && rec.counted {
			garbage = true
		}
	}
	rest := len(all) - len(c.victims)
	starts := 0
	if !holds {
		starts = max(min(lack, max(l.most, target)-rest), 0)
	}
	c.n = rest + starts
	if starts == 0 && len(c.victims) == 0 && !garbage {
		return call{}
	}
	return c
}

// stranded is one more than the unhealthy replicas while there are no others but what starts, and requests wait: the new one is
// likely ready before they are well again, or given up. It is 0 otherwise.
func (l *Loop) stranded(active []*member) int {
	sick := 0
	for _, m := range active {
		if m.sick {
			sick++
		} else if m.ready {
			return 0
		}
	}
	if sick == 0 || sick == len(active) && l.meter.signal.Waiting == 0 {
		return 0
	}
	return sick + 1
}

// drained reports whether a replica may be stopped: nothing is in flight, or drain_timeout is over and those that would never end
// by themselves have had a moment since they were told to.
func (m *member) drained(now time.Time) bool {
	d := m.drain
	switch {
	case d == nil:
		return false
	case m.inFlight == 0 || d.told:
		return true
	case now.Before(d.deadline):
		return false
	case d.farewell.IsZero():
		if m.server == nil || m.server.EndTunnels() == 0 {
			return true
		}
		d.farewell = now
	}
	return now.Sub(d.farewell) >= farewellTime
}

// order is the order in which replicas go: starting first, then unhealthy ones, then outdated ones, then least in
// flight, then youngest; fixed ones never, they are last.
func order(active []*member) []*member {
	rank := func(m *member) int {
		switch {
		case m.Fixed:
			return 4
		case !m.ready:
			return 0
		case m.sick:
			return 1
		case m.Outdated:
			return 2
		}
		return 3
	}
	sorted := slices.Clone(active)
	slices.SortStableFunc(sorted, func(a, b *member) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(a.inFlight, b.inFlight), b.Asked.Compare(a.Asked), cmp.Compare(b.Index, a.Index))
	})
	return sorted
}

// drainBroken starts to replace what does not work: every replica that was not ready in time, and of those
// unhealthy past their grace one at a time. When most are unhealthy at once the fault is likely elsewhere and
// killing them makes it worse; they are left alone and an alarm says so. While starts fail nothing that may
// still recover is given up for one that may not start.
func (l *Loop) drainBroken(all []member, holds bool, cfg Config, now time.Time) {
	var sick []*member
	unhealthy, replacing := 0, false
	for i := range all {
		m := &all[i]
		switch {
		case m.drain != nil:
			replacing = replacing || m.drain.broken
			l.takeBack(m, now)
			continue
		case m.late:
			l.startDrain(m, true, cfg, now)
			replacing = true
			continue
		case !m.ready:
			replacing = true
			continue
		}
		if m.server == nil {
			continue
		}
		if m.sick {
			unhealthy++
			if now.Sub(m.server.UnhealthySince()) >= unhealthyGrace && !m.Fixed {
				sick = append(sick, m)
			}
		}
	}
	if unhealthy >= 2 && 2*unhealthy > len(all) {
		if l.alarm == "" {
			l.alarm = fmt.Sprintf("%d of %s are unhealthy at once: none is replaced", unhealthy, replicas(len(all)))
			l.tell(Event{At: now, Kind: "alarm", Reason: l.alarm})
		}
		return
	}
	l.alarm = ""
	if len(sick) == 0 || replacing || holds {
		return
	}
	m := slices.MinFunc(sick, func(a, b *member) int { return a.server.UnhealthySince().Compare(b.server.UnhealthySince()) })
	_, why := m.server.State(now)
	l.tell(Event{At: now, Kind: "replace", Reason: fmt.Sprintf("replica %s is unhealthy for %s: %s", m.ID, words(now.Sub(m.server.UnhealthySince())), why)})
	l.startDrain(m, true, cfg, now)
}

// takeBack ends the drain of a broken replica that has recovered meanwhile.
func (l *Loop) takeBack(m *member, now time.Time) {
	if m.drain.broken && !m.drain.told && !m.late && m.server != nil && !m.sick {
		l.cancelDrain(m.ID)
		m.drain = nil
	}
}

func (l *Loop) startDrain(m *member, broken bool, cfg Config, now time.Time) {
	m.drain = &drain{since: now, deadline: now.Add(cfg.DrainTimeout), broken: broken}
	l.drains[m.ID] = m.drain
	m.inFlight = 0
	if m.server != nil {
		m.server.Drain()
		if l.peers != nil {
			l.peers.Leave(m.ID)
		}
		m.inFlight = l.inFlight(m.server) // after Drain: nothing new is counted in any more
	}
}

func (l *Loop) cancelDrain(id string) {
	delete(l.drains, id)
	if l.peers != nil {
		l.peers.Stay(id)
	}
	if s := l.upstream.Server(id); s != nil && !s.Held() {
		s.Enable()
	}
}

// enableAll cancels every drain that the driver was not told of.
func (l *Loop) enableAll() {
	for id, d := range l.drains {
		if !d.told {
			l.cancelDrain(id)
		}
	}
}

// tellVictim notes that the driver is about to be told to stop a replica, and says what is cut by it.
func (l *Loop) tellVictim(id string, now time.Time) {
	d := l.drains[id]
	if d == nil || d.told {
		return
	}
	d.told = true
	if s := l.upstream.Server(id); s != nil && l.inFlight(s) > 0 {
		l.tell(Event{At: now, Kind: "cut", Reason: fmt.Sprintf("replica %s: drain_timeout is over after %s with %d in flight", id, words(now.Sub(d.since)), l.inFlight(s))})
	}
}
