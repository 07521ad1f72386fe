package balancer

// Set is the servers of an upstream at one time and the policy over them. It is never changed: a new
// one is built aside and swapped by one atomic pointer.
type Set struct {
	all     []*Server          // as listed
	byID    map[string]*Server // by ServerSpec.ID
	sticky  map[uint64]*Server // by Server.StickyID
	primary policy             // over the servers that are no backups
	backup  policy             // over the backups
}

// policy picks among the fixed servers it was built for.
//
// pick returns a server that c.usable accepts, or nil when it accepts none of them; it may be called
// by many goroutines at once, takes no slot and keeps no lock while it looks. When c.usable accepts
// only some, pick still returns one of those: a policy never gives up early.
type policy interface {
	pick(c *choice) *Server
}

// policies has one line per value of the key `balance`.
var policies = map[string]func(servers []*Server, cfg Config) policy{
	"least_request": newLeastRequest,
	"round_robin":   newRoundRobin,
	"random":        newRandom,
	"hash":          newHash,
}

// choice is what a policy knows of the request it picks for.
type choice struct {
	now   int64
	key   uint64
	avoid []*Server // tried before; nil once there is nothing else
	cfg   *Config
}

// usable reports whether s may be picked.
func (c *choice) usable(s *Server) bool {
	for _, a := range c.avoid {
		if a == s {
			return false
		}
	}
	return s.ready(c.now) && s.free()
}

func newSet(all []*Server, cfg Config) *Set {
	set := &Set{all: all, byID: make(map[string]*Server, len(all)), sticky: make(map[uint64]*Server, len(all))}
	var primary, backup []*Server
	for _, s := range all {
		set.byID[s.id], set.sticky[s.sticky] = s, s
		if s.backup.Load() {
			backup = append(backup, s)
		} else {
			primary = append(primary, s)
		}
	}
	build := policies[cfg.Balance]
	if build == nil {
		build = newLeastRequest
	}
	set.primary, set.backup = build(primary, cfg), build(backup, cfg)
	return set
}

// pick finds a server for the request and takes a slot on it; nil when there is none to take.
func (set *Set) pick(t *Ticket, cfg *Config, now int64) *Server {
	if t.Sticky != 0 {
		if s := set.sticky[t.Sticky]; s != nil && s.ready(now) && !t.avoids(s) {
			if s.take() {
				return s
			}
			return nil // the client's own server is busy, not lost: wait for it
		}
	}
	c := &t.choice // in the ticket, as it would not stay on the stack
	*c = choice{now: now, key: t.Key, avoid: t.avoid[:t.avoided], cfg: cfg}
	for {
		s := set.primary.pick(c)
		if s == nil && !set.anyReady(now) {
			s = set.backup.pick(c)
		}
		if s == nil && len(c.avoid) > 0 && !set.othersReady(t, now) {
			c.avoid = nil // better a server that failed this request before than none
			continue
		}
		if s == nil || s.take() {
			return s
		}
	}
}

// othersReady reports whether a server that the request has not tried is ready, busy or not.
func (set *Set) othersReady(t *Ticket, now int64) bool {
	for _, s := range set.all {
		if !t.avoids(s) && s.ready(now) {
			return true
		}
	}
	return false
}

// anyReady reports whether a server that is no backup is ready, busy or not.
func (set *Set) anyReady(now int64) bool {
	for _, s := range set.all {
		if !s.backup.Load() && s.ready(now) {
			return true
		}
	}
	return false
}

// serves reports whether any server is ready, busy or not.
func (set *Set) serves(now int64) bool {
	for _, s := range set.all {
		if s.ready(now) {
			return true
		}
	}
	return false
}

// hopeless says why no request can be served without a change from outside; nil while there is a
// ready server, however busy, or one that may soon be.
func (set *Set) hopeless(now int64) error {
	err := ErrNoHealthyServer
	for _, s := range set.all {
		switch s.state(now) {
		case StateReady, StateStarting:
			return nil
		case StateBreakerOpen:
			err = ErrBreakerOpen
		}
	}
	return err
}

// comeback is the next time at which a server that is ejected or whose breaker is open may be ready
// again by the clock alone; 0 when there is none.
func (set *Set) comeback(now int64) int64 {
	next := int64(0)
	for _, s := range set.all {
		for _, at := range [2]int64{s.ejectedUntil.Load(), s.breaker.Load().opensAt()} {
			if at > now && (next == 0 || at < next) {
				next = at
			}
		}
	}
	return next
}
