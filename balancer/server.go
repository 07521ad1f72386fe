package balancer

import (
	"strconv"
	"sync/atomic"
	"time"
)

// State is what a server is good for right now.
type State uint8

const (
	// StateReady servers get requests.
	StateReady State = iota
	// StateStarting servers have not yet passed a health check.
	StateStarting
	// StateUnhealthy servers failed their health check.
	StateUnhealthy
	// StateEjected servers failed several requests in a row and rest for a while.
	StateEjected
	// StateBreakerOpen servers failed too large a share of their requests.
	StateBreakerOpen
	// StateDraining servers finish what they have and get nothing new.
	StateDraining
)

// String is the state's name in the status, the metrics and the logs.
func (s State) String() string {
	return [...]string{"ready", "starting", "unhealthy", "ejected", "breaker_open", "draining"}[s]
}

// Server is one live server made from a ServerSpec. It outlives configurations and sets as long as
// discovery lists the same ID and address. All methods may be called concurrently.
type Server struct {
	id, addr string
	sticky   uint64
	upstream *Upstream
	attached any

	// The fields that picking reads: readiness is a predicate over atomics.
	inFlight     atomic.Int64
	slots        atomic.Int64 // 0 = no bound, -1 = none
	maxConns     atomic.Int64 // what slots is this gateway's part of; 0 = no bound
	learned      atomic.Int64 // what slots was learned to be, apart from what is being tried
	weight       atomic.Int64
	backup       atomic.Bool
	draining     atomic.Bool // asked by Drain
	held         atomic.Bool // draining as Hold has asked
	gone         atomic.Bool // no longer in the set
	up           atomic.Bool // the last word of the health checks
	ejectedUntil atomic.Int64
	slowSince    atomic.Int64 // when it last became ready, for the slow start
	breaker      atomic.Pointer[breaker]
	learner      atomic.Pointer[learner] // nil: slots is not learned

	failures atomic.Int64 // failed requests in a row
	suspect  chan struct{}
	idle     chan struct{}

	health health
	eject  ejection

	specSlots int // as listed; guarded by Upstream.setMu
}

func newServer(u *Upstream, spec ServerSpec) *Server {
	s := &Server{
		id: spec.ID, addr: spec.Addr, upstream: u, sticky: HashString(spec.ID),
		suspect: make(chan struct{}, 1), idle: make(chan struct{}, 1),
	}
	return s
}

// ID is the engine's name for the server.
func (s *Server) ID() string { return s.id }

// Addr is host:port.
func (s *Server) Addr() string { return s.addr }

// Weight is the server's share against the others, at least 1.
func (s *Server) Weight() int { return int(s.weight.Load()) }

// Slots is how many requests of this gateway it may have in flight; 0 is no bound, and -1 none: other
// gateways have all its slots.
func (s *Server) Slots() int { return int(s.slots.Load()) }

// MaxConns is how many requests it may have in flight from all gateways together; 0 is no bound. Where the
// slots are learned it is an estimate: as many for each gateway as this one has learned.
func (s *Server) MaxConns() int {
	if s.Learns() {
		return int(s.learned.Load() * max(s.upstream.gateways.Load(), 1))
	}
	return int(s.maxConns.Load())
}

// Learns reports whether its slots are learned (max_conns = "auto").
func (s *Server) Learns() bool { return s.learner.Load() != nil }

// Lasting is Slots without what is only tried for a moment where they are learned.
func (s *Server) Lasting() int {
	if s.Learns() {
		return int(s.learned.Load())
	}
	return s.Slots()
}

// Backup reports whether it is used only while no other server is ready.
func (s *Server) Backup() bool { return s.backup.Load() }

// InFlight is how many requests it has now.
func (s *Server) InFlight() int { return int(s.inFlight.Load()) }

// Attached is what the hook given to SetHooks returned for this server.
func (s *Server) Attached() any { return s.attached }

// StickyID is what a Ticket's Sticky field is compared with.
func (s *Server) StickyID() uint64 { return s.sticky }

// StickyName is StickyID as text, for a cookie: the same in every gateway and after a restart, and
// silent about the server's address.
func (s *Server) StickyName() string { return strconv.FormatUint(s.sticky, 36) }

// ready reports whether the server may get a request now. A pure predicate over atomics:
//
//	up and not draining and not ejected and its breaker lets requests through
func (s *Server) ready(now int64) bool {
	return s.up.Load() && !s.draining.Load() && !s.gone.Load() && s.ejectedUntil.Load() <= now &&
		s.breaker.Load().lets(now)
}

// free reports whether a slot seems to be free. Only take says for sure.
func (s *Server) free() bool {
	limit := s.slots.Load()
	return limit == 0 || s.inFlight.Load() < limit
}

// take counts a request in, or reports that the server has no slot for it.
//
// It counts first and looks at draining after, while Drain flags first and reads the count after: one
// of the two sees the other, so a drained server with nothing in flight gets nothing any more.
func (s *Server) take() bool {
	for {
		n, limit := s.inFlight.Load(), s.slots.Load()
		if limit != 0 && n >= limit {
			return false
		}
		if s.inFlight.CompareAndSwap(n, n+1) {
			break
		}
	}
	if s.draining.Load() || s.gone.Load() {
		s.give()
		return false
	}
	return true
}

// give counts a request out and tells whoever waits for a drained server to be idle.
func (s *Server) give() {
	if s.inFlight.Add(-1) == 0 && (s.draining.Load() || s.gone.Load()) {
		s.tellIdle()
	}
}

func (s *Server) tellIdle() {
	select {
	case s.idle <- struct{}{}:
	default:
	}
}

// Drain stops new requests to the server; those in flight go on. Idle tells when they are done.
// Enable takes it back.
func (s *Server) Drain() {
	s.draining.Store(true)
	if s.inFlight.Load() == 0 {
		s.tellIdle()
	}
	s.upstream.changed(time.Now())
}

// Enable ends a Drain, and a Hold.
func (s *Server) Enable() {
	s.held.Store(false)
	s.draining.Store(false)
	select { // a tell from before is no longer true
	case <-s.idle:
	default:
	}
	s.upstream.changed(time.Now())
}

// EndTunnels ends what of a drained server would go on for ever, as a WebSocket does, and returns how many
// those were. It asks Attached, and does not wait.
func (s *Server) EndTunnels() int {
	if a, ok := s.attached.(interface{ EndTunnels() int }); ok {
		return a.EndTunnels()
	}
	return 0
}

// Draining reports whether Drain was called and Enable was not.
func (s *Server) Draining() bool { return s.draining.Load() }

// Idle has capacity 1 and is told when a draining server has nothing in flight. Read InFlight
// after it: an Enable may have come in between.
func (s *Server) Idle() <-chan struct{} { return s.idle }

// Suspect has capacity 1 and is told when a request could not be answered by the server: a reason
// to probe it before its next turn.
func (s *Server) Suspect() <-chan struct{} { return s.suspect }

// State says what the server is good for at now, and why in words ("" when it is ready).
func (s *Server) State(now time.Time) (State, string) {
	state := s.state(nanos(now))
	switch state {
	case StateDraining:
		return state, "draining, " + strconv.Itoa(s.InFlight()) + " in flight"
	case StateStarting, StateUnhealthy:
		return s.health.state()
	case StateEjected:
		return state, s.eject.why(now, instant(s.ejectedUntil.Load()))
	case StateBreakerOpen:
		return state, s.breaker.Load().why(now)
	}
	return state, ""
}

// state is State without the words.
func (s *Server) state(now int64) State {
	switch {
	case s.draining.Load() || s.gone.Load():
		return StateDraining
	case !s.up.Load():
		state, _ := s.health.state()
		return state
	case s.ejectedUntil.Load() > now:
		return StateEjected
	case !s.breaker.Load().lets(now):
		return StateBreakerOpen
	}
	return StateReady
}

// Breaker is the state of the server's circuit breaker for the metrics: closed, half-open, open, or
// "" when it has none.
func (s *Server) Breaker() string { return s.breaker.Load().state() }

// Execute runs fn, which sends a request up to the head of its response, through the server's
// circuit breaker. fn tells when it ended, besides its error. Execute returns that error, or ErrBreakerOpen when fn was
// not run. An fn made once per request object keeps this free of allocations. Errors that wrap ErrCanceled count
// neither way.
func (s *Server) Execute(fn func() (ended time.Time, err error)) error {
	return s.breaker.Load().execute(fn)
}

// share is the part of its weight that a server in slow start has: a tenth at first, growing
// linearly to all of it over d.
func (s *Server) share(now int64, d time.Duration) float64 {
	if d <= 0 {
		return 1
	}
	return min(max(float64(now-s.slowSince.Load())/float64(d), 0.1), 1)
}
