package scaler

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"sync"
	"time"

	"sluice/balancer"
)

// Loop keeps one upstream at the size that its load asks for: measure → Decide → act, once a second and at
// once when a request waits at zero. Calls of the driver run beside it, one at a time, so an engine that
// hangs freezes scaling and nothing else. All methods may be called concurrently; Run once.
type Loop struct {
	upstream *balancer.Upstream
	driver   Driver // nil: nothing to act on, observe only
	budget   *Budget
	log      *slog.Logger
	peers    Peers         // nil: nobody else has the same servers
	outside  Outside       // nil: nothing is measured but the load
	gauge    Gauge         // nil: the driver does not tell what replicas use
	resizer  Resizer       // nil: the driver changes nothing of what replicas may use
	memory   *Memory       // nil: what is learned ends with the loop
	poke     chan struct{} // capacity 1: the configuration, the pin or the freeze changed
	journal  journal

	mu      sync.Mutex // guards all down to status
	cfg     Config
	rules   schedule // of cfg
	pin     pin
	frozen  bool
	passive bool // another gateway acts
	resume  bool // forget failed starts
	status  Status

	// What follows belongs to Run's goroutine.
	meter      Meter
	external   External // as last heard
	use        use      // the same of the replicas
	state      State
	kept       float64 // clock of what the memory was given last
	starts     StartTimes
	failures   failures
	known      map[string]*record
	drains     map[string]*drain
	most       int       // replicas that max and the budget allow
	replicas   []Replica // as last listed
	listed     time.Time // when; zero: list before acting
	everListed bool
	purged     bool // the call of Scale that clears what an earlier gateway left was made
	engine     engine
	elastic    bool
	follows    bool // another gateway acts, in this turn
	born       time.Time
	alarm      string
	decisions  map[[2]string]uint64
	fit        fit // vertical sizing
}

// pin holds the number of replicas.
type pin struct {
	on    bool
	n     int
	until time.Time // zero = until taken back
}

// NewLoop makes the loop of u. A nil driver can only observe; a nil budget is no bound.
func NewLoop(u *balancer.Upstream, d Driver, cfg Config, budget *Budget, log *slog.Logger) *Loop {
	l := &Loop{
		upstream: u, driver: d, gauge: gaugeOf(d), resizer: resizerOf(d), budget: budget, log: log.With("upstream", u.Name()), cfg: cfg, rules: newSchedule(cfg.Schedule),
		poke: make(chan struct{}, 1), known: map[string]*record{}, drains: map[string]*drain{}, decisions: map[[2]string]uint64{},
		engine: engine{results: make(chan call, 1)},
	}
	l.status = Status{Min: cfg.Min, Max: cfg.Max, Mode: cfg.Mode, Reason: "not decided yet", StartTime: cfg.StartTime}
	l.upstream.SetStartTime(cfg.StartTime) // requests may come before the first turn
	l.setElastic(l.acts(cfg) && cfg.Max > 0)
	return l
}

// Remember makes the loop begin with what the memory knows of its upstream, and keep there what it learns. To be
// called before Run.
func (l *Loop) Remember(m *Memory) { l.memory = m }

// Configure takes a new configuration and forgets failed starts: whoever reloads has changed something.
func (l *Loop) Configure(cfg Config) {
	l.mu.Lock()
	l.cfg, l.rules, l.resume = cfg, newSchedule(cfg.Schedule), true
	l.mu.Unlock()
	l.nudge()
}

// Pin holds the number of replicas at n (never above max; below min if asked) until the given time, or until
// Unpin when that is zero. It also ends the pause after failed starts.
func (l *Loop) Pin(n int, until time.Time) {
	l.mu.Lock()
	l.pin, l.resume = pin{true, max(n, 0), until}, true
	l.mu.Unlock()
	why := fmt.Sprintf("pinned to %s", replicas(n))
	if !until.IsZero() {
		why += " until " + until.Format(time.RFC3339)
	}
	l.tell(Event{At: time.Now(), Kind: "pin", To: n, Reason: why})
	l.nudge()
}

// Pinned is what Pin was last called with; on is false when it is over or taken back.
func (l *Loop) Pinned() (n int, until time.Time, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.pin.n, l.pin.until, l.pin.on
}

// Unpin lets the load decide again.
func (l *Loop) Unpin() {
	l.mu.Lock()
	was := l.pin.on
	l.pin, l.resume = pin{}, true
	l.mu.Unlock()
	if was {
		l.tell(Event{At: time.Now(), Kind: "unpin", Reason: "unpinned"})
		l.nudge()
	}
}

// Freeze stops (and allows again) every action; measuring and deciding go on. A call of the driver that is
// under way is not waited for.
func (l *Loop) Freeze(on bool) {
	l.mu.Lock()
	l.frozen = on
	l.mu.Unlock()
	l.nudge()
}

// Follow says that another gateway acts (or that it does no longer): measuring, listing and deciding go on,
// so that taking over needs no time, but nothing is told, and drains of this loop that the driver was not
// told of are taken back.
func (l *Loop) Follow(on bool) {
	l.mu.Lock()
	l.passive = on
	l.mu.Unlock()
	l.nudge()
}

// Status is the state of the loop after its last turn.
func (l *Loop) Status() Status {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.status
	s.Decisions = maps.Clone(s.Decisions)
	return s
}

func (l *Loop) nudge() {
	select {
	case l.poke <- struct{}{}:
	default:
	}
}

// occasion is why a turn is taken.
type occasion int

const (
	everySecond occasion = iota // a second has passed: measure and decide
	asked                       // configuration, pin or freeze changed: decide
	woken                       // a request waits and nothing is up: decide if at zero
	answered                    // the driver answered, or its list changed: act
)

// Run measures, decides and acts until ctx ends. Replicas stay as they are then.
func (l *Loop) Run(ctx context.Context) {
	l.born = time.Now()
	l.state.Learned = l.memory.recall(l.upstream.Name())
	l.kept = l.state.Learned.Clock
	var changed <-chan struct{}
	if c, ok := l.driver.(Changer); ok {
		changed = c.Changed()
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	wake := l.upstream.Wake()
	l.round(ctx, everySecond, l.born)
	for {
		select {
		case <-ctx.Done():
			l.stop()
			return
		case <-tick.C:
			wake = l.upstream.Wake()
			l.round(ctx, everySecond, time.Now())
		case <-l.poke:
			l.round(ctx, asked, time.Now())
		case <-wake:
			wake = nil // every further request would tell the same; once a second is enough
			l.round(ctx, woken, time.Now())
		case <-changed:
			l.listed = time.Time{}
			l.round(ctx, answered, time.Now())
		case c := <-l.engine.results:
			l.took(c, time.Now())
			l.round(ctx, answered, time.Now())
		}
	}
}

// round is a turn. What panics in one does not end the process: the next one begins anew.
func (l *Loop) round(ctx context.Context, why occasion, now time.Time) {
	_ = balancer.Guard(l.log, "scaling", func() error { l.turn(ctx, why, now); return nil })
}

// turn is one round: measure, decide, look at the replicas, act, show.
func (l *Loop) turn(ctx context.Context, why occasion, now time.Time) {
	l.mu.Lock()
	if l.pin.on && !l.pin.until.IsZero() && !now.Before(l.pin.until) {
		l.pin = pin{}
		defer l.tell(Event{At: now, Kind: "unpin", Reason: "the pin is over"})
	}
	cfg, pin, frozen, resume := l.cfg, l.pin, l.frozen, l.resume
	cfg.Min, l.status.Schedule = l.rules.raise(cfg.Min, cfg.Max, now)
	l.follows = l.passive
	l.resume = false
	l.mu.Unlock()
	if resume {
		l.failures = failures{total: l.failures.total}
	}

	signal := l.measure(cfg, why, now)
	l.upstream.SetStartTime(signal.Start)
	deciding := l.everListed || l.driver == nil
	if deciding && cfg.Mode != "off" && (why == everySecond || why == asked || !l.state.begun || l.state.Wanted == 0 && why == woken) {
		l.decide(cfg, pin, signal, now)
	}
	l.learn(cfg, now)
	l.watchUse(cfg, now)
	if l.state.Learned.Clock-l.kept >= memoryEvery.Seconds() {
		l.keep(now)
	}
	l.setElastic(l.acts(cfg) && !l.failures.stopped && cfg.Max > 0 && !(pin.on && pin.n == 0))
	if cfg.Mode == "off" {
		l.budget.Drop(l.upstream.Name())
	}
	if cfg.Mode == "off" || l.driver == nil {
		l.enableAll()
	} else {
		l.converge(ctx, cfg, frozen, now)
	}
	l.show(cfg, pin, signal, now)
}

// acts reports whether decisions are carried out.
func (l *Loop) acts(cfg Config) bool {
	return l.driver != nil && (cfg.Mode == "" || cfg.Mode == "apply")
}

func (l *Loop) measure(cfg Config, why occasion, now time.Time) Signal {
	reading, complete := l.read(now)
	var s Signal
	if why == everySecond {
		s = l.meter.Measure(reading)
	} else {
		s = l.meter.Glance(reading)
	}
	s.Partial = !complete
	s.Slots = l.slots()
	s.Start = l.startTime(cfg, now)
	s.Query, s.Servers = l.listen(now)
	s.CPU, s.Memory = l.weighUse(cfg, now)
	s.Replicas = 0
	for _, r := range l.replicas {
		if r.live() {
			s.Replicas++
		}
	}
	if l.driver == nil {
		s.Replicas = len(l.upstream.Servers())
	}
	return s
}

// startTime is what a start takes, as measured. While none has been, it is the first guess, or as long as the longest
// that is under way has taken already.
func (l *Loop) startTime(cfg Config, now time.Time) time.Duration {
	d := l.starts.P90(cfg.StartTime)
	if l.starts.n > 0 {
		return d
	}
	for _, r := range l.replicas {
		if rec := l.known[r.ID]; r.live() && rec != nil && !rec.old && !rec.late && rec.readyAt.IsZero() {
			d = max(d, min(now.Sub(rec.asked), l.startLimit(cfg)))
		}
	}
	return d
}

// slots is what one replica takes at once: the mean over the servers, or max_conns when there are none;
// 0 is no bound.
func (l *Loop) slots() int {
	n, sum := 0, 0
	for _, s := range l.upstream.Servers() {
		if s.MaxConns() == 0 {
			return 0
		}
		n++
		sum += s.MaxConns()
	}
	if n == 0 {
		return l.upstream.Config().MaxConns
	}
	return max(sum/n, 1)
}

// decide asks Decide within the budget and tells of a change.
func (l *Loop) decide(cfg Config, pin pin, signal Signal, now time.Time) {
	sizing := cfg.Sizing()
	sizing.Pinned, sizing.Pin = pin.on, pin.n
	before, begun := l.state.Wanted, l.state.begun
	var d Decision
	l.budget.share(l.upstream.Name(), cfg.Min, func(limited bool, limit int) claim {
		sizing.Limited, sizing.Limit = limited, limit
		if l.most = cfg.Max; limited {
			l.most = min(l.most, limit)
		}
		l.state, d = Decide(sizing, l.state, signal, now)
		demand := l.state.Demand
		if pin.on {
			demand = min(pin.n, cfg.Max)
		}
		if !l.acts(cfg) || l.follows { // it claims what is there, not what it would do
			return claim{least: signal.Replicas, demand: signal.Replicas, held: signal.Replicas}
		}
		return claim{least: cfg.Min, demand: clamp(demand, 0, cfg.Max), held: max(d.Wanted, signal.Replicas)}
	})
	if l.follows {
		d.Reason += ", but another gateway scales"
	}
	l.mu.Lock()
	l.status.Reason, l.status.Code, l.status.At = d.Reason, d.Code, now
	l.mu.Unlock()
	if l.follows || d.Wanted == before || !begun && d.Wanted == signal.Replicas {
		return
	}
	direction := "up"
	if d.Wanted < before {
		direction = "down"
	}
	l.decisions[[2]string{direction, d.Code}]++
	l.tell(Event{At: now, Kind: "scale", From: before, To: d.Wanted, Reason: d.Reason, Code: d.Code})
}

// tell logs an event and passes it on: one line per change.
func (l *Loop) tell(e Event) {
	e.Upstream = l.upstream.Name()
	l.journal.add(e)
	switch e.Kind {
	case "scale":
		l.log.Info("scale", "from", e.From, "to", e.To, "reason", e.Reason, "code", e.Code)
	case "failure", "alarm", "engine", "crash", "cut", "unfit":
		l.log.Warn(e.Kind, "reason", e.Reason)
	default:
		l.log.Info(e.Kind, "reason", e.Reason)
	}
}

func (l *Loop) setElastic(on bool) {
	if on != l.elastic {
		l.elastic = on
		l.upstream.SetElastic(on)
	}
}

// show publishes the status.
func (l *Loop) show(cfg Config, pin pin, signal Signal, now time.Time) {
	var coming []string
	for _, r := range l.replicas {
		if rec := l.known[r.ID]; r.live() && rec != nil && rec.readyAt.IsZero() && l.drains[r.ID] == nil {
			coming = append(coming, r.ID)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	s := &l.status
	s.Wanted, s.Ready, s.Starting, s.Draining = l.state.Wanted, signal.Ready, len(coming), signal.Draining
	s.Coming = coming
	if l.driver == nil {
		s.Starting = signal.Starting
	}
	if cfg.Mode == "off" {
		s.Wanted, s.Reason, s.Code = signal.Replicas, "scaling is off", "off"
	}
	s.Min, s.Max, s.Mode = cfg.Min, cfg.Max, cfg.Mode
	s.Pinned, s.Until = pin.on, pin.until
	s.Follows = l.follows
	s.Failure, s.Alarm = l.trouble(now), l.alarm
	s.Decisions = maps.Clone(l.decisions)
	s.Errors, s.FailedStarts = l.engine.errors, l.failures.total
	s.StartTime, s.StartSeconds = l.starts.P90(cfg.StartTime), l.starts.Histogram()
	s.Vertical = l.verticalStatus(cfg)
	s.Signal = signal
	s.External, s.Usage = l.external, l.use.last
	if s.Usage == nil {
		s.Usage = l.fit.heard
	}
}

// keep gives the memory what was learned.
func (l *Loop) keep(now time.Time) {
	l.kept = l.state.Learned.Clock
	if l.kept > 0 {
		l.memory.keep(l.upstream.Name(), l.state.Learned, now)
	}
	l.fit.keep(l.memory, l.upstream.Name(), now)
}

// stop gives back what is draining: whoever runs next decides anew.
func (l *Loop) stop() {
	l.keep(time.Now())
	l.enableAll()
	l.setElastic(false)
	l.budget.Drop(l.upstream.Name())
}
