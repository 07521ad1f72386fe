package balancer

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Upstream is a named group of interchangeable servers, the queue of requests before them and the
// meter that the scaler reads. All methods may be called concurrently.
type Upstream struct {
	name     string
	cfg      atomic.Pointer[Config]
	set      atomic.Pointer[Set]
	elastic  atomic.Bool
	gateways atomic.Int64            // that send to the same servers; 0 is this one alone
	outlook  atomic.Pointer[outlook] // nil: nothing is known
	start    atomic.Int64            // nanoseconds that a server takes to be ready; 0 is not known
	queue    queue
	meter    meter
	wake     chan struct{}

	setMu   sync.Mutex                     // serialises Update, Configure and Divide, and guards what is below
	divide  func(id string, slots int) int // nil: all slots are ours
	added   func(*Server) any
	removed func(*Server)
	holds   []Held // for the first Update

	ejectMu sync.Mutex // one ejection at a time, so that their share is counted right
}

// NewUpstream makes an upstream without servers.
func NewUpstream(name string, cfg Config) *Upstream {
	u := &Upstream{name: name, wake: make(chan struct{}, 1)}
	u.queue.start()
	u.meter.start(nanos(time.Now()))
	u.cfg.Store(&cfg)
	u.set.Store(newSet(nil, cfg))
	return u
}

// Name is the NAME of [upstream.NAME].
func (u *Upstream) Name() string { return u.name }

// Config is what it was last configured with. Not to be modified.
func (u *Upstream) Config() *Config { return u.cfg.Load() }

// SetHooks sets what is called when a server joins the set, before any request can see it, and after
// it has left. What added returns is the server's Attached. To be called before the first Update.
func (u *Upstream) SetHooks(added func(*Server) any, removed func(*Server)) {
	u.setMu.Lock()
	defer u.setMu.Unlock()
	u.added, u.removed = added, removed
}

// SetElastic says that somebody starts servers on demand: requests then wait in the queue while no
// server is ready, instead of being refused at once.
func (u *Upstream) SetElastic(on bool) {
	u.elastic.Store(on)
	u.changed(time.Now())
}

// SetStartTime says how long a server takes from asked to ready, as far as is known; 0 is not at all. A request that
// comes later while none is ready waits accordingly, unless queue.timeout says how long.
func (u *Upstream) SetStartTime(d time.Duration) { u.start.Store(int64(max(d, 0))) }

// Wake has capacity 1 and is told when a request waits and no server is ready or starting.
func (u *Upstream) Wake() <-chan struct{} { return u.wake }

// Configure takes a new configuration. Servers keep their health, slots in use and connections;
// their breakers start anew only when the breaker's own configuration changed.
func (u *Upstream) Configure(cfg Config) {
	u.setMu.Lock()
	defer u.setMu.Unlock()
	u.cfg.Store(&cfg)
	all := u.set.Load().all
	for _, s := range all {
		u.fit(s, cfg)
	}
	u.set.Store(newSet(all, cfg))
	u.changed(time.Now())
}

// Divide makes part say how many of a server's slots, where a number bounds them, this gateway may use, as
// other gateways send requests to the same servers; -1 is none. It is asked of every server now, and of
// each that comes or whose bound changes. Called again it asks anew.
func (u *Upstream) Divide(part func(id string, slots int) int) {
	u.setMu.Lock()
	defer u.setMu.Unlock()
	u.divide = part
	cfg, changed := *u.cfg.Load(), false
	for _, s := range u.set.Load().all {
		before := s.slots.Load()
		u.fit(s, cfg)
		changed = changed || s.slots.Load() != before
	}
	if changed {
		u.changed(time.Now())
	}
}

// SetGateways says how many gateways send to the same servers, this one included.
func (u *Upstream) SetGateways(n int) { u.gateways.Store(int64(n)) }

// fit brings a server in line with cfg. The caller holds setMu.
func (u *Upstream) fit(s *Server, cfg Config) {
	slots := s.specSlots
	if slots == 0 {
		slots = cfg.MaxConns
	}
	if slots == AutoSlots {
		u.learn(s)
	} else {
		s.unlearn()
		s.maxConns.Store(int64(slots))
		if slots > 0 && u.divide != nil {
			slots = u.divide(s.id, slots)
		}
		s.slots.Store(int64(slots))
	}
	old := s.breaker.Load()
	if (old == nil) != (cfg.Breaker == nil) || old != nil && old.cfg != *cfg.Breaker {
		s.breaker.Store(newBreaker(cfg.Breaker, func() { u.changed(time.Now()) }))
	}
}

// Update swaps the set of servers for the listed ones. A server whose ID and address were listed
// before lives on with all it knows. Only discovery calls it.
func (u *Upstream) Update(specs []ServerSpec, now time.Time) {
	u.setMu.Lock()
	defer u.setMu.Unlock()
	cfg, old := *u.cfg.Load(), u.set.Load()
	all := make([]*Server, 0, len(specs))
	listed := make(map[string]bool, len(specs))
	for _, spec := range specs {
		if listed[spec.ID] {
			continue
		}
		listed[spec.ID] = true
		s := old.byID[spec.ID]
		known := s != nil && s.addr == spec.Addr
		if !known {
			s = newServer(u, spec)
			if slices.Contains(u.holds, Held{spec.ID, spec.Addr}) {
				s.held.Store(true)
				s.draining.Store(true)
			}
		}
		s.weight.Store(int64(max(spec.Weight, 1)))
		s.backup.Store(spec.Backup)
		s.specSlots = spec.Slots
		u.fit(s, cfg)
		if !known && u.added != nil {
			s.attached = u.added(s)
		}
		all = append(all, s)
	}
	u.holds = nil
	set := newSet(all, cfg)
	u.set.Store(set)
	for _, s := range old.all {
		if set.byID[s.id] == s {
			continue
		}
		s.gone.Store(true)
		if s.inFlight.Load() == 0 {
			s.tellIdle()
		}
		if u.removed != nil {
			u.removed(s)
		}
	}
	u.changed(now)
}

// Servers are those of the present set, in the order they were listed. Not to be modified.
func (u *Upstream) Servers() []*Server { return u.set.Load().all }

// Server is the one with that ID in the present set, or nil.
func (u *Upstream) Server(id string) *Server { return u.set.Load().byID[id] }

// InFlight is how many requests have a slot now.
func (u *Upstream) InFlight() int { return u.meter.gauge() }

// Queued is how many requests wait now.
func (u *Upstream) Queued() int { return int(u.queue.waiting.Load()) }

// Close ends the upstream: requests that wait, and those that still come, get ErrDraining. Those in
// flight go on.
func (u *Upstream) Close() {
	u.queue.mu.Lock()
	defer u.queue.mu.Unlock()
	u.queue.closed = true
	for t := u.queue.any(); t != nil; t = u.queue.any() {
		u.settle(t, nil, ErrDraining, nanos(time.Now()))
	}
	if u.queue.comeback != nil {
		u.queue.comeback.Stop()
	}
}
