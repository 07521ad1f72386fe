package scaler

import (
	"math"
	"time"

	"sluice/scaler/vertical"
)

const (
	// allowEvery is how often is asked what replicas may use.
	allowEvery = time.Minute
	// resizePause is between changes of two replicas: time for the first to show that it is well.
	resizePause = 30 * time.Second
	// resizeFailed is how long a replica is left alone that could not be changed, and the longest pause after failures.
	resizeFailed = 5 * time.Minute
	// useKept is how often what is known of use is given to the memory.
	useKept = 5 * time.Minute
)

// fit is the vertical sizing of one upstream: what replicas use goes into a model, and with apply one replica at a
// time gets what that recommends. The zero value is off.
type fit struct {
	model   *vertical.Model // nil: off
	rec     vertical.Recommendation
	known   bool // rec
	heard   []Usage
	uses    map[string]*using
	allowed Allowances
	ranOut  map[string]time.Time // what the model knows of
	kept    time.Time
	asked   time.Time // for allowed; zero: to be asked before anything is changed

	last    string // the replica that was changed last
	at      time.Time
	fails   int                  // calls in a row
	failing string               // the kind of the last of those
	until   time.Time            // pause after them
	failed  map[string]time.Time // by replica: not to be changed before
	trouble string
	did     string // the last change in words
	not     string // what is not changed and why
}

// using is what one replica has used since the last sample of it.
type using struct {
	began  time.Time
	last   Usage   // as last heard, if it could be measured
	cpu    float64 // sum over n
	n      int
	memory int64               // the most
	before *vertical.Resources // the last sample
}

// at is what it uses: of CPU the mean and of memory the most of the last one or two minutes. It is false before it was
// measured for a minute, and while nothing fresh is known.
func (u *using) at(now time.Time) (vertical.Resources, bool) {
	if u == nil || u.before == nil || !u.last.Fresh(now) {
		return vertical.Resources{}, false
	}
	r := *u.before
	if u.n > 0 {
		r.CPUs = max(r.CPUs, u.cpu/float64(u.n))
	}
	r.Memory = max(r.Memory, u.memory)
	return r, true
}

// watchUse takes what replicas use, a sample a minute of each, and says what they should have.
func (l *Loop) watchUse(cfg Config, now time.Time) {
	f := &l.fit
	if cfg.Vertical != "recommend" && cfg.Vertical != "apply" || cfg.Mode == "off" {
		if f.model != nil {
			f.keep(l.memory, l.upstream.Name(), now)
			if l.resizer != nil {
				l.resizer.StartWith(vertical.Recommendation{})
			}
			*f = fit{}
		}
		return
	}
	if f.model == nil {
		f.begin(l.memory.recallUse(l.upstream.Name()), now)
	}
	if l.gauge != nil {
		f.heard = l.gauge.Usage()
		f.take(f.heard, now)
	}
	most := cfg.VerticalMax
	if engine := f.allowed.Most; engine.CPUs > 0 && (most.CPUs <= 0 || engine.CPUs < most.CPUs) {
		most.CPUs = engine.CPUs
	}
	if engine := f.allowed.Most; engine.Memory > 0 && (most.Memory <= 0 || engine.Memory < most.Memory) {
		most.Memory = engine.Memory
	}
	f.rec, f.known = f.model.Recommend(cfg.VerticalMin, most, now)
	if l.resizer != nil {
		start := f.rec
		if cfg.Vertical != "apply" || !l.acts(cfg) {
			start = vertical.Recommendation{}
		}
		l.resizer.StartWith(start)
	}
	if now.Sub(f.kept) >= useKept {
		f.keep(l.memory, l.upstream.Name(), now)
	}
}

// begin starts with what is known from before.
func (f *fit) begin(known *vertical.Checkpoint, now time.Time) {
	f.model = vertical.NewModel()
	if known != nil {
		if m, err := known.Model(); err == nil { // else it was said when the file was read
			f.model = m
		}
	}
	f.uses, f.ranOut, f.failed, f.kept = map[string]*using{}, map[string]time.Time{}, map[string]time.Time{}, now
}

// take takes what was heard last of each replica.
func (f *fit) take(all []Usage, now time.Time) {
	uses := make(map[string]*using, len(all))
	for _, one := range all {
		u := f.uses[one.Replica]
		if u == nil {
			u = &using{began: now}
		}
		uses[one.Replica] = u
		if !one.Fresh(now) || !one.At.After(u.last.At) || math.IsNaN(one.CPU) {
			continue
		}
		u.last = one
		u.cpu, u.n, u.memory = u.cpu+one.CPU, u.n+1, max(u.memory, one.Memory)
		if now.Sub(u.began) < vertical.Every {
			continue
		}
		u.before = &vertical.Resources{CPUs: u.cpu / float64(u.n), Memory: u.memory}
		has, limit := f.has(one)
		f.model.Add(vertical.Sample{Replica: one.Replica, CPU: u.before.CPUs, Memory: u.memory, Has: has.CPUs, Limit: limit.CPUs}, now)
		u.began, u.cpu, u.n, u.memory = now, 0, 0, 0
	}
	f.uses = uses
}

// has is what a replica has and what its limits are: as the engine told, else as its shares tell.
func (f *fit) has(u Usage) (has, limit vertical.Resources) {
	if a, ok := f.allowance(u.Replica); ok {
		return a.Has, a.Limit
	}
	if u.CPUShare > 0 {
		has.CPUs = u.CPU / u.CPUShare
	}
	return has, limit
}

// keep gives the memory what is known.
func (f *fit) keep(m *Memory, name string, now time.Time) {
	if f.model != nil && f.known {
		f.kept = now
		m.keepUse(name, f.model.Checkpoint(), now)
	}
}
