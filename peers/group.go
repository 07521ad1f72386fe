package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/balancer"
)

// Membership says who the gateways are and how they are heard.
type Membership interface {
	// Members are the ids of the gateways alive, this one among them. On an error the last answer holds; before
	// the first answer this gateway has no slots that are bounded and does not act.
	Members(ctx context.Context) ([]string, error)
	// Fetch returns the report of another.
	Fetch(ctx context.Context, id string) ([]byte, error)
}

// Options say what a Group is made of. All are required.
type Options struct {
	// ID names this gateway; no other process, earlier ones included, has the same.
	ID         string
	Membership Membership
	Lease      Lease
	// Changed is called, by one goroutine at a time and to return at once, when this gateway begins or ceases to act, and when
	// there are more or fewer members.
	Changed func(acts bool, members int)
	Log     *slog.Logger
}

const (
	roundEvery = time.Second
	// fetchTimeout bounds one round: a member that takes longer was not heard.
	fetchTimeout = 700 * time.Millisecond
	// settleAfter is how long the members must have been the same before anybody takes more than before:
	// all have listed them meanwhile.
	settleAfter = 3 * time.Second
)

// roster is the members as last listed.
type roster struct {
	ids     []string // sorted; nil before the first listing
	settled bool     // the same for settleAfter
}

// size is how many there may be: before the first listing this gateway does not count as alone.
func (r roster) size() int {
	if r.ids == nil {
		return 2
	}
	return len(r.ids)
}

// Group is this gateway among the others. Every gateway hears every other one each second, not only the
// one that acts: whoever takes over has measured the whole all along, and all know in time which servers
// are to go. All methods may be called concurrently; Run once.
type Group struct {
	id         string
	membership Membership
	lease      Lease
	changed    func(acts bool, members int)
	log        *slog.Logger
	term       atomic.Pointer[Term]
	resigned   chan struct{} // closed by Resign
	resign     sync.Once
	drains     atomic.Uint64

	telling sync.Mutex // one call of changed at a time; guards told
	told    struct {
		acts    bool
		members int
	}

	mu     sync.Mutex // guards all below
	shared map[string]*Shared
	alive  roster
	since  time.Time          // alive.ids are the same since
	heard  map[string]*Report // the last of every other member; nil: never
	silent map[string]bool    // was told in the log
	unread error              // why the members cannot be listed; nil: they can
}

// NewGroup makes the group's part on this gateway. Until Run is called no upstream has slots that are
// bounded: nobody knows yet who else uses them.
func NewGroup(o Options) *Group {
	g := &Group{
		id: o.ID, membership: o.Membership, lease: o.Lease, changed: o.Changed, log: o.Log.With("gateway", o.ID),
		resigned: make(chan struct{}), shared: map[string]*Shared{}, heard: map[string]*Report{}, silent: map[string]bool{},
	}
	g.drains.Store(balancer.HashString(o.ID) &^ 0xffffff) // numbers of two gateways differ
	return g
}

// Acts reports whether this gateway is the one that acts, now.
func (g *Group) Acts() bool { return g.term.Load().Valid() }

// Status is what a person wants to know of the group.
type Status struct {
	// ID is this gateway's, Members the ids of all, sorted; none: they were never listed.
	ID      string
	Members []string
	// Acts: this gateway scales. Leader is the one that does, as far as is known; "" for nobody.
	Acts   bool
	Leader string
	// Trouble is why the members cannot be listed or the lease cannot be had; nil: they can, and it can unless another
	// has it.
	Trouble error
}

// Status is the group as this gateway sees it.
func (g *Group) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	st := Status{ID: g.id, Members: slices.Clone(g.alive.ids), Acts: g.Acts(), Trouble: g.unread}
	if l, ok := g.lease.(interface{ Trouble() error }); ok && st.Trouble == nil {
		st.Trouble = l.Trouble()
	}
	if st.Leader = g.leader(); st.Leader != g.id && g.silent[st.Leader] { // what it said last is over by now
		st.Leader = ""
	}
	return st
}

// Members is how many gateways there are, at least 1.
func (g *Group) Members() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return max(len(g.alive.ids), 1)
}

// Act is Term.Act of the term of this gateway.
func (g *Group) Act(ctx context.Context) (context.Context, func(), error) {
	return g.term.Load().Act(ctx)
}

// Share makes u an upstream that other gateways use under the same name, and divides its slots. Asked again
// for the same it returns the same.
func (g *Group) Share(u *balancer.Upstream) *Shared {
	g.mu.Lock()
	if s := g.shared[u.Name()]; s != nil && s.upstream == u {
		g.mu.Unlock()
		return s
	}
	s := &Shared{upstream: u, group: g, parts: map[string]int{}, leaving: map[string]uint64{}}
	g.shared[u.Name()] = s
	alive := g.alive
	s.alive, s.elders, s.heard = alive, alive.ids, g.loads(u.Name(), nil)
	g.mu.Unlock()
	u.SetGateways(alive.size())
	u.Divide(s.part)
	return s
}

// Unshare ends Share for a name.
func (g *Group) Unshare(name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.shared, name)
}

// Report is what the others are to be sent: a Report as JSON.
func (g *Group) Report() []byte {
	now := time.Now()
	r := Report{Gateway: g.id, Upstreams: map[string]Load{}}
	if t := g.term.Load(); t.Valid() {
		r.Term = t.Number()
	}
	g.mu.Lock()
	shared := maps.Clone(g.shared)
	g.mu.Unlock()
	for name, s := range shared {
		r.Upstreams[name] = s.load(now, r.Term != 0)
	}
	b, err := json.Marshal(r)
	if err != nil {
		g.log.Error("the report cannot be made", "error", err) // a number that is none
	}
	return b
}

// Run hears the others and stands for election until ctx ends, and gives up the lease then. The first
// round is over when first is called, which may be nil. It is no candidate before the members were listed once: it
// would act on what it measures alone.
func (g *Group) Run(ctx context.Context, first func()) {
	var election sync.WaitGroup
	defer election.Wait()
	tick := time.NewTicker(roundEvery)
	defer tick.Stop()
	g.round(ctx)
	if first != nil {
		first()
	}
	for stands := false; ; {
		if !stands && g.listedOnce() {
			stands = true
			election.Go(func() { g.stand(ctx) })
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			g.round(ctx)
		}
	}
}

// Resign lets another gateway act, for good: this one ends its term and stands for election no more. It
// stays a member, as it may still have requests.
func (g *Group) Resign() { g.resign.Do(func() { close(g.resigned) }) }

// stand holds the lease whenever it can be had.
func (g *Group) stand(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-g.resigned:
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		term, err := g.lease.Hold(ctx)
		if err != nil {
			return
		}
		g.log.Info("this gateway scales now", "term", term.Number())
		g.term.Store(term)
		g.tell()
		select {
		case <-term.Done():
			g.log.Warn("this gateway no longer scales: its lease ended", "term", term.Number())
		case <-ctx.Done():
		}
		g.term.Store(nil)
		g.tell()
		term.Release()
	}
}

// tell calls changed when there is something new.
func (g *Group) tell() {
	g.telling.Lock()
	defer g.telling.Unlock()
	now := g.told
	now.acts, now.members = g.Acts(), g.Members()
	if now != g.told {
		g.told = now
		g.changed(now.acts, now.members)
	}
}

// round lists the members, hears them and lets every upstream know.
func (g *Group) round(ctx context.Context) {
	ids, err := g.membership.Members(ctx)
	if ctx.Err() != nil {
		return
	}
	g.mu.Lock()
	g.trouble(err)
	if err == nil {
		g.listed(ids, time.Now())
	}
	others := slices.DeleteFunc(slices.Clone(g.alive.ids), func(id string) bool { return id == g.id })
	g.mu.Unlock()

	reports := g.fetch(ctx, others)
	now := time.Now()
	g.mu.Lock()
	heard := make(map[string]*Report, len(others))
	for _, id := range others {
		heard[id] = g.heard[id]
		if reports[id] != nil {
			heard[id] = reports[id]
		}
		if silent := reports[id] == nil; silent != g.silent[id] {
			g.silent[id] = silent
			g.log.Info("another gateway", "id", id, "heard", !silent)
		}
	}
	g.heard = heard
	maps.DeleteFunc(g.silent, func(id string, _ bool) bool { return !slices.Contains(others, id) })
	shared, alive, leader := maps.Clone(g.shared), g.alive, g.leader()
	loads := make(map[string]map[string]*Load, len(shared))
	for name := range shared {
		loads[name] = g.loads(name, reports)
	}
	g.mu.Unlock()
	for name, s := range shared {
		s.round(now, alive, loads[name], leader)
	}
	g.tell()
}

func (g *Group) listedOnce() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.alive.ids != nil
}

// trouble notes whether the members can be listed, and logs when that changes. The caller holds mu.
func (g *Group) trouble(err error) {
	before := g.unread
	g.unread = err
	switch {
	case err != nil && before == nil && g.alive.ids == nil:
		g.log.Warn("the gateways cannot be listed: until they are, this one scales nothing and uses no server that has max_conns", "error", err)
	case err != nil && before == nil:
		g.log.Warn("the gateways cannot be listed, the last list holds", "error", err)
	case err == nil && before != nil:
		g.log.Info("the gateways can be listed again")
	}
}

// listed takes a list of members. The caller holds mu.
func (g *Group) listed(ids []string, now time.Time) {
	ids = slices.Clone(ids)
	if !slices.Contains(ids, g.id) {
		ids = append(ids, g.id) // whatever the list says, this one uses slots
	}
	slices.Sort(ids)
	if first := g.alive.ids == nil; first || !slices.Equal(ids, g.alive.ids) {
		g.log.Info("gateways", "alive", len(ids), "ids", fmt.Sprint(ids))
		g.since = now
		if first && len(ids) == 1 { // who comes later sees this one
			g.since = now.Add(-settleAfter)
		}
	}
	g.alive = roster{ids: ids, settled: now.Sub(g.since) >= settleAfter}
}

// fetch asks all others at once for their reports; who does not answer in time is missing.
func (g *Group) fetch(ctx context.Context, others []string) map[string]*Report {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	var mu sync.Mutex
	got := make(map[string]*Report, len(others))
	var all sync.WaitGroup
	for _, id := range others {
		all.Go(func() {
			b, err := g.membership.Fetch(ctx, id)
			if err != nil {
				return
			}
			var r Report
			if json.Unmarshal(b, &r) != nil || r.Gateway != id {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			got[id] = &r
		})
	}
	all.Wait()
	return got
}

// loads picks the upstream of that name out of what every other member reported; one that was not heard
// has nil, and one that does not have the upstream an empty Load. The caller holds mu.
func (g *Group) loads(name string, reports map[string]*Report) map[string]*Load {
	loads := map[string]*Load{}
	for _, id := range g.alive.ids {
		if id == g.id {
			continue
		}
		loads[id] = nil
		if r := reports[id]; r != nil {
			l := r.Upstreams[name]
			loads[id] = &l
		}
	}
	return loads
}

// leader is the member that acts as far as is known: the highest term; "" for nobody. The caller holds mu.
func (g *Group) leader() string {
	leader, most := "", uint64(0)
	if t := g.term.Load(); t.Valid() {
		leader, most = g.id, t.Number()
	}
	for id, r := range g.heard {
		if r != nil && r.Term > most {
			leader, most = id, r.Term
		}
	}
	return leader
}
