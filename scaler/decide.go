package scaler

import (
	"fmt"
	"time"
)

// Sizing is what Decide has to keep to. The zero value asks for nothing and allows nothing.
type Sizing struct {
	// Min and Max bound the replicas.
	Min, Max int
	// QueuedPerReplica, InFlightPerReplica and the rest are the keys of Config.
	QueuedPerReplica, InFlightPerReplica int
	// QueryPerReplica is N of ceil(value/N) for Signal.Query, 0 is off; a value older than QueryFresh counts for nothing.
	QueryPerReplica float64
	QueryFresh      time.Duration
	// CPU and Memory are target shares; 0 is off.
	CPU, Memory              float64
	Headroom                 float64
	CooldownUp, CooldownDown time.Duration
	StepUp, StepDown         int
	ToZeroAfter              time.Duration
	// Pinned holds the count at Pin (0 to Max, whatever Min says) until it is taken back.
	Pinned bool
	Pin    int
	// Limited bounds the replicas by Limit, this upstream's part of the global budget.
	Limited bool
	Limit   int
}

// Sizing is the part of the configuration that Decide reads.
func (c Config) Sizing() Sizing {
	s := Sizing{
		Min: c.Min, Max: c.Max, QueuedPerReplica: c.QueuedPerReplica, InFlightPerReplica: c.InFlightPerReplica,
		CooldownUp: c.CooldownUp, CooldownDown: c.CooldownDown, StepUp: c.StepUp, StepDown: c.StepDown, ToZeroAfter: c.ToZeroAfter,
		Headroom: c.Headroom, CPU: c.CPU, Memory: c.Memory,
	}
	if p := c.Prometheus; p != nil {
		s.QueryPerReplica, s.QueryFresh = p.PerReplica, p.Fresh()
	}
	return s
}

// State is what Decide remembers from one call to the next; the zero value is the beginning. A value:
// Decide never changes the one it was given.
type State struct {
	// Wanted is the number of replicas last decided.
	Wanted int
	// Demand is what the objectives asked for over the stabilisation window, before step limits and budget.
	Demand int
	// Learned is what the law knows, for sizing without an objective.
	Learned Learned
	// Law is what the law alone would have decided. Wanted is another number where one that stays is better (Levels).
	Law int

	begun    bool
	at       time.Time        // of the last call
	upAt     time.Time        // of the last step up
	downFrom time.Time        // no step down before: set when step_down cut one short
	window   []recommendation // of the last hold; ever later, ever smaller
}

// recommendation is the demand at one time. One that is not larger than a later one can never be the
// maximum again and is dropped.
type recommendation struct {
	at time.Time
	n  int
}

// Decision is the number of replicas wanted now, and why.
type Decision struct {
	Wanted int
	// Reason is in words: "queue 84, 3 s old: 5 replicas".
	Reason string
	// Code is the reason as a metrics label: load, burst, queue, kept, in_flight, saturated, query, cpu, memory, wake, idle, pin, start,
	// bounds, budget when the number changes; also hold, stale, clock, starting, cooldown_up, cooldown_down
	// when it does not.
	Code string
}

// Decide says how many replicas there should be. It is pure: what it knows is in its arguments, and now is
// the only clock. It is called about once a second; when now goes back or leaps ahead since the last call,
// or the signal is stale, the number is held (within its bounds) and every window keeps what was left of it:
// only time that was measured counts towards a step down.
//
// In this order: the objectives (demand) or, without any, the law (leadTime), the largest recommendation of
// the last CooldownDown, or of the law's longer hold, when it is about to go down, to zero and back, CooldownUp, the step limits, Min and Max, the budget. While no
// replica is ready yet nothing is added to those that start: whether they ever will be ready is not known,
// and one wake-up is enough for any number of requests that wait.
func Decide(s Sizing, st State, sig Signal, now time.Time) (State, Decision) {
	st, regular := st.advance(now, sig.Stale)
	low, high := s.bounds()
	waits := sig.Waiting > 0 || !sig.Stale && sig.Queue > 0
	if !st.begun {
		st.begun = true
		st.Wanted = clamp(sig.Replicas, low, high)
		st.Demand, st.Law = st.Wanted, st.Wanted
		st.window = st.remember(recommendation{now, st.Wanted}, s.CooldownDown) // what is found stays as long as what was decided
		if st.Wanted > 0 || !waits || s.Pinned {
			return st, s.result(st.Wanted, fmt.Sprintf("found %d", sig.Replicas), "start")
		}
	}
	current := st.Wanted
	measured := regular && !sig.Stale

	want := current
	var why, code string
	switch {
	case s.Pinned:
		want, why, code = s.Pin, "pinned", "pin"
		st.window = nil // after the pin the window starts anew, from the pinned number
		st.window = st.remember(recommendation{now, clamp(s.Pin, 0, s.Max)}, s.CooldownDown)
		st.Demand = s.Pin
	case current == 0 && waits:
		want, why, code = 1, fmt.Sprintf("%d waiting at zero", max(sig.Waiting, 1)), "wake"
		st.window = st.remember(recommendation{now, 1}, s.CooldownDown)
		st.Demand = 1
	case !measured && !regular:
		why, code = "the clock jumped: held", "clock"
	case !measured:
		why, code = "no fresh measurement: held", "stale"
	case s.predictive():
		want, why, code = st.follow(s, sig, now, low, high)
	default:
		want, why, code = st.weigh(s, sig, now)
	}

	bounded := clamp(want, low, high)
	switch {
	case bounded == want || s.Pinned && !s.Limited:
	case s.Limited && want > s.Limit && bounded == s.Limit:
		why, code = join(why, "the budget allows no more"), "budget"
	case bounded == current:
	case code == "hold" || code == "clock" || code == "stale":
		why, code = join(why, fmt.Sprintf("min %d, max %d", s.Min, s.Max)), "bounds"
	}
	if bounded > current {
		st.upAt = now
	}
	if !s.predictive() || code == "pin" || code == "wake" {
		st.Law = bounded
	}
	st.Wanted = bounded
	return st, s.result(bounded, why, code)
}

// follow is the law, or where keeping a number of replicas has been better that number, and what the law needed within cooldown_down: its
// longer holds have nothing more to give then.
func (st *State) follow(s Sizing, sig Signal, now time.Time, low, high int) (want int, why, code string) {
	current, law := st.Wanted, st.Law
	st.Wanted = law
	want, why, code = st.weigh(s, sig, now)
	st.Wanted, st.Law = current, clamp(want, low, high)
	if sig.Length > 0 && !sig.Partial {
		st.Learned.Levels.learn(sig.Length.Seconds(), sig.Arrived, st.Learned.Service.Mean, s.slots(sig), sig.Start.Seconds(), st.Law)
	}
	kept := st.Learned.Levels.kept()
	switch {
	case code == "stale":
		want = max(want, current)
	case kept > 0 && want > 0 && code != "starting":
		if n := max(kept, min(st.Law, st.most(now, s.CooldownDown))); n != want {
			want, st.Demand = n, n
			why, code = join(why, "keeping "+replicas(kept)+" has been better"), "kept"
		}
	}
	if law == current && st.Law == want {
		return want, why, code // weigh has kept to the limits of a step
	}
	return st.limit(s, want, now), why, code
}

// limit is want as far as cooldown_up and the limits of a step allow it.
func (st *State) limit(s Sizing, want int, now time.Time) int {
	current := st.Wanted
	switch {
	case want > current && !st.upAt.IsZero() && now.Sub(st.upAt) < s.CooldownUp, want < current && now.Before(st.downFrom):
		return current
	case s.StepUp > 0 && want > current+s.StepUp:
		return current + s.StepUp
	case s.StepDown > 0 && want < current-s.StepDown:
		st.downFrom = now.Add(s.CooldownDown)
		return current - s.StepDown
	}
	return want
}

// weigh decides on a fresh signal, before the bounds, and remembers the demand of now.
func (st *State) weigh(s Sizing, sig Signal, now time.Time) (want int, why, code string) {
	current := st.Wanted
	hold, small := s.CooldownDown, s.CooldownDown
	var need int
	if s.predictive() {
		if sig.Length > 0 && !sig.Partial {
			st.Learned = st.Learned.learn(s, sig)
		}
		need, why, code = s.leadTime(&st.Learned, sig)
		hold, small = s.holds(&st.Learned, sig)
		if s.Min == 0 && sig.Idle >= s.ToZeroAfter {
			need = 0
		}
	} else {
		need, why, code = s.demand(sig, current)
	}
	unknown := s.unknown(sig, current)
	why = join(why, unknown)
	empty := !sig.Partial && unknown == "" && need == 0 && sig.Idle >= s.ToZeroAfter && sig.Waiting == 0 && s.Min == 0
	if need == 0 && current > 0 {
		need = 1 // the last one goes for being idle, not for want of demand
	}
	if need < s.Min {
		need = s.Min
	}
	if (sig.Partial || unknown != "") && need < current {
		if sig.Partial {
			why = join(why, "not every gateway was heard")
		}
		st.window = st.remember(recommendation{now, current}, small)
		st.Demand = current
		return current, why, "stale"
	}
	st.window = st.remember(recommendation{now, need}, small)
	stable := st.most(now, hold)
	if small > hold && stable < current && float64(stable) > (1-smallStep)*float64(current) {
		hold = small
		stable = st.most(now, hold)
	}
	st.Demand = stable
	switch {
	case need > current:
		if sig.Ready == 0 && sig.Unhealthy == 0 && current > 0 && current >= s.Min {
			return current, why + ", none ready yet", "starting"
		}
		if !st.upAt.IsZero() && now.Sub(st.upAt) < s.CooldownUp {
			return current, join(why, "within cooldown_up"), "cooldown_up"
		}
		if s.StepUp > 0 {
			need = min(need, current+s.StepUp)
		}
		return need, why, code
	case empty && stable <= 1 && (s.StepDown == 0 || current <= s.StepDown):
		st.Demand = 0
		if current == 0 {
			return 0, "idle", "hold"
		}
		return 0, "no request for " + words(sig.Idle), "idle"
	case stable < current:
		if now.Before(st.downFrom) {
			return current, join(why, "next step down in "+words(st.downFrom.Sub(now))), "cooldown_down"
		}
		if stable > need {
			why = join(why, fmt.Sprintf("up to %d within %s", stable, words(hold)))
		}
		if s.StepDown > 0 && stable < current-s.StepDown {
			stable = current - s.StepDown
			st.downFrom = now.Add(hold)
		}
		return stable, why, code
	case need < current:
		return current, join(why, "was more within "+words(hold)), "cooldown_down"
	}
	return current, why, "hold"
}

// bounds are the least and the most that may be wanted.
func (s Sizing) bounds() (low, high int) {
	low, high = max(s.Min, 0), max(s.Max, 0)
	if s.Pinned {
		low = 0
	}
	if s.Limited {
		high = min(high, max(s.Limit, 0))
	}
	return min(low, high), high
}

// advance moves the state on to now. Over a second that was not measured, and over a time that no tick can
// take, all times in the state move along, so that every window keeps what was left of it.
func (st State) advance(now time.Time, stale bool) (State, bool) {
	dt := now.Sub(st.at)
	regular := st.at.IsZero() || dt >= 0 && dt <= tickMax
	if !st.at.IsZero() && (stale || !regular) {
		moved := make([]recommendation, len(st.window))
		for i, r := range st.window {
			moved[i] = recommendation{r.at.Add(dt), r.n}
		}
		st.window = moved
		if !st.upAt.IsZero() {
			st.upAt = st.upAt.Add(dt)
		}
		if !st.downFrom.IsZero() {
			st.downFrom = st.downFrom.Add(dt)
		}
	}
	st.at = now
	return st, regular
}

// remember is the window with r added and what is older than length left out. It is a new slice: the state
// that was given to Decide stays as it is.
func (st State) remember(r recommendation, length time.Duration) []recommendation {
	window := make([]recommendation, 0, len(st.window)+1)
	for _, old := range st.window {
		if old.n > r.n && r.at.Sub(old.at) < length {
			window = append(window, old)
		}
	}
	return append(window, r)
}

// most is the largest recommendation within d, or the last one.
func (st State) most(now time.Time, d time.Duration) int {
	for _, r := range st.window {
		if now.Sub(r.at) < d {
			return r.n
		}
	}
	return st.window[len(st.window)-1].n
}

func (s Sizing) result(n int, why, code string) Decision {
	if why == "" {
		why = "steady"
	}
	return Decision{Wanted: n, Reason: why + ": " + replicas(n), Code: code}
}

func clamp(n, low, high int) int { return max(min(n, high), low) }

func join(why, more string) string {
	switch "" {
	case why:
		return more
	case more:
		return why
	}
	return why + ", " + more
}

// words is d to the second, or to the millisecond when it is short.
func words(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
