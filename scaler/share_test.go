package scaler

import (
	"math"
	"strings"
	"testing"
	"time"
)

// measured is a mean share over n replicas, with what else there is.
func measured(mean float64, n, missing, unready int) ShareSignal {
	return ShareSignal{Mean: mean, Measured: n, Missing: missing, Unready: unready, Of: "limit"}
}

func TestShareRule(t *testing.T) {
	for _, c := range []struct {
		name    string
		target  float64
		m       ShareSignal
		current int
		want    int
	}{
		{"too much", .7, measured(.91, 3, 0, 0), 3, 4},
		{"exactly what is wanted", .7, measured(.7, 3, 0, 0), 3, 3},
		{"within the tolerance", .7, measured(.75, 3, 0, 0), 3, 3},
		{"at its upper end", .7, measured(.77, 3, 0, 0), 3, 3},
		{"above it", .7, measured(.78, 3, 0, 0), 3, 4},
		{"at its lower end", .7, measured(.63, 10, 0, 0), 10, 10},
		{"below it", .7, measured(.62, 10, 0, 0), 10, 9},
		{"within it nothing comes or goes", .7, measured(.7, 3, 0, 0), 5, 5},
		{"far too much", .5, measured(1, 4, 0, 0), 4, 8},
		{"more than all", .5, measured(1.4, 2, 0, 0), 2, 6},
		{"a whole number is not rounded up", .1, measured(.3, 3, 0, 0), 3, 9},
		{"half", .7, measured(.35, 4, 0, 0), 4, 2},
		{"little for the last", .7, measured(.1, 2, 0, 0), 2, 0},
		{"nothing", .7, measured(0, 3, 0, 0), 3, 0},

		{"up, with others to be ready soon", .7, measured(.91, 1, 0, 3), 4, 4},
		{"up, and those will not do", .5, measured(1, 3, 0, 1), 4, 6},
		{"up, those asked for and not listed yet count as well", .7, measured(1, 2, 0, 0), 3, 3},
		{"up, never fewer than there are", .7, measured(1, 2, 0, 3), 5, 5},
		{"down, those not ready do not count", .8, measured(.2, 4, 0, 2), 6, 0},
		{"down, the ready ones alone", .5, measured(.25, 4, 0, 2), 6, 2},

		{"up, missing ones count nothing", .5, measured(1, 3, 1, 0), 4, 6},
		{"up, too many are missing", .7, measured(.91, 1, 3, 0), 4, 4},
		{"up, missing and within the tolerance", .7, measured(.91, 4, 1, 0), 5, 5},
		{"up, missing and not ready", .5, measured(1, 4, 1, 1), 6, 8},
		{"down, missing ones count all they may have", .7, measured(.2, 3, 1, 0), 4, 3},
		{"down, too many are missing", .7, measured(.2, 1, 3, 0), 4, 4},
		{"down, all but little is measured", .7, measured(.1, 9, 1, 0), 10, 3},
		{"exactly, and one missing", .7, measured(.7, 3, 1, 0), 4, 4},
	} {
		if got := (share{c.m, "cpu", c.target}).replicas(c.current); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
	}
}

// What is missing or not ready never makes a change larger than it would be if that were measured, whatever it used.
func TestShareRuleIsCautious(t *testing.T) {
	for mean := .0; mean <= 1; mean += .05 {
		for target := .1; target <= 1; target += .1 {
			for n := 1; n <= 6; n++ {
				for missing := range 4 {
					current := n + missing
					got := (share{measured(mean, n, missing, 0), "cpu", target}).rule(current)
					least := (share{measured(mean*float64(n)/float64(current), current, 0, 0), "cpu", target}).rule(current)
					most := (share{measured((mean*float64(n)+float64(missing))/float64(current), current, 0, 0), "cpu", target}).rule(current)
					if got > max(least, current) || got < min(most, current) {
						t.Fatalf("mean %v, target %v, %d measured, %d missing: %d, though %d if they use nothing and %d if all", mean, target, n, missing, got, least, most)
					}
				}
			}
		}
	}
}

func TestShareObjectives(t *testing.T) {
	cpu := Sizing{CPU: .7}
	for _, c := range []struct {
		name   string
		sizing Sizing
		sig    Signal
		now    int
		want   int
		code   string
		words  string
	}{
		{"cpu", cpu, Signal{CPU: measured(.91, 3, 0, 0)}, 3, 4, "cpu", "cpu 91 % of limit (target 70 %)"},
		{"memory", Sizing{Memory: .8}, Signal{Memory: measured(.95, 2, 0, 0)}, 2, 3, "memory", "memory 95 % of limit (target 80 %)"},
		{"one missing", cpu, Signal{CPU: measured(1, 4, 1, 0)}, 5, 6, "cpu", "cpu 100 % of limit (target 70 %), 1 of 5 not measured"},
		{"the largest of both", Sizing{CPU: .7, Memory: .5}, Signal{CPU: measured(.91, 3, 0, 0), Memory: measured(.9, 3, 0, 0)}, 3, 6, "memory", "memory 90 %"},
		{"a queue is larger", Sizing{CPU: .7, QueuedPerReplica: 10}, Signal{Queue: 90, Slots: 4, CPU: measured(.91, 3, 0, 0)}, 3, 9, "queue", "queue 90"},
		{"cpu is larger than the queue", Sizing{CPU: .7, QueuedPerReplica: 10}, Signal{Queue: 9, Slots: 4, CPU: measured(.91, 3, 0, 0)}, 3, 4, "cpu", "cpu 91 %"},
		{"never the load: that is the law's", cpu, Signal{InFlight: 100, Queue: 100, Slots: 4, CPU: measured(.3, 4, 0, 0)}, 4, 2, "cpu", "cpu 30 %"},
	} {
		n, why, code := c.sizing.demand(c.sig, c.now)
		if n != c.want || code != c.code || !strings.HasPrefix(why, c.words) {
			t.Errorf("%s: %d, %s (%q)", c.name, n, code, why)
		}
	}
}

func TestSharesUnknownHold(t *testing.T) {
	s := Sizing{Max: 20, CPU: .7, CooldownDown: 10 * time.Second, ToZeroAfter: 20 * time.Second}
	st := begin(t, s, 8)
	st.stays(10, Signal{Ready: 8, CPU: measured(.7, 8, 0, 0)}, 8)
	for words, m := range map[string]ShareSignal{
		"cpu not known yet":                                        {Missing: 8},
		"cpu not known (the metrics API is not there)":             {Missing: 8, Why: "the metrics API is not there"},
		"cpu not known (2 of 8 replicas have no limit or request)": {Measured: 8, Mean: 1, Boundless: 2},
	} {
		st.stays(60, Signal{Ready: 8, Idle: time.Hour, InFlight: 50, CPU: m}, 8)
		if st.last.Code != "stale" || !strings.Contains(st.last.Reason, words) {
			t.Errorf("%s %q, want %q", st.last.Code, st.last.Reason, words)
		}
	}
	// Another objective still scales up.
	st.sizing.QueuedPerReplica = 1
	st.wants(Signal{Ready: 8, Slots: 4, Queue: 12, CPU: ShareSignal{Missing: 8}}, 12, "queue")
	if !strings.Contains(st.last.Reason, "cpu not known yet") {
		t.Errorf("reason %q", st.last.Reason)
	}
	st.stays(30, Signal{Ready: 12, Slots: 4, Queue: 1, CPU: ShareSignal{Missing: 12}}, 12)
}

func TestSharesDownAndToZero(t *testing.T) {
	s := Sizing{Max: 20, CPU: .7, Memory: .8, CooldownDown: 10 * time.Second, ToZeroAfter: 20 * time.Second}
	st := begin(t, s, 4)
	quiet := func(idle time.Duration) Signal {
		return Signal{Ready: st.state.Wanted, Idle: idle, CPU: measured(0, st.state.Wanted, 0, 0), Memory: measured(.05, st.state.Wanted, 0, 0)}
	}
	st.stays(9, quiet(0), 4)
	st.step(quiet(0))
	st.wants(quiet(0), 1, "hold")
	st.stays(100, quiet(19*time.Second), 1) // no use alone takes the last one away
	st.step(quiet(20 * time.Second))
	if st.last.Wanted != 0 || st.last.Code != "idle" {
		t.Errorf("without a request for long: %+v", st.last)
	}
	st.stays(5, Signal{Idle: time.Hour}, 0)
	if strings.Contains(st.last.Reason, "not known") {
		t.Errorf("at zero: %q", st.last.Reason)
	}
	st.wants(Signal{Waiting: 1, Queue: 1}, 1, "wake")
	// Idle at the gateway, and yet busy: what works on its own stays.
	st.stays(100, Signal{Ready: 1, Idle: time.Hour, CPU: measured(1, 1, 0, 0), Memory: measured(.1, 1, 0, 0)}, 2)
}

// heard is what a gauge tells of a replica that is measured once a second.
func heard(replica string, at time.Time, cpu, memory float64) Usage {
	return Usage{Replica: replica, At: at, CPUShare: cpu, MemoryShare: memory, Of: "limit"}
}

func TestUseWindow(t *testing.T) {
	at := time.Unix(1000, 0)
	second := func(n int) time.Time { return at.Add(time.Duration(n) * time.Second) }
	var u use
	for i := range 40 {
		u.take([]Usage{heard("a", second(i), float64(i), .5)})
		u.take([]Usage{heard("a", second(i), 99, .5)}) // heard again: the same measurement
	}
	if all := u.fresh("a", time.Time{}, second(39)); len(all) != 16 || all[0].CPUShare != 24 || all[15].CPUShare != 39 {
		t.Errorf("%d measurements: %+v", len(all), all)
	}
	if all := u.fresh("a", second(37), second(39)); len(all) != 3 {
		t.Errorf("since the load was shared anew: %+v", all)
	}
	if all := u.fresh("a", time.Time{}, second(39+15)); len(all) != 16 {
		t.Error("15 s old is not too old")
	}
	if all := u.fresh("a", time.Time{}, second(39+16)); len(all) != 0 {
		t.Errorf("16 s old: %+v", all)
	}
	u.take([]Usage{{Replica: "b", At: second(0), Every: 30 * time.Second, Why: "no answer"}})
	if all := u.fresh("b", time.Time{}, second(90)); len(all) != 1 || u.why("b") != "no answer" {
		t.Errorf("measured each half a minute: %+v", all)
	}
	if all := u.fresh("a", time.Time{}, second(39)); len(all) != 0 {
		t.Errorf("of a replica that is gone: %+v", all)
	}
}

// useEngine is an engine that measures its replicas.
type useEngine struct {
	*fakeEngine
	usage func() []Usage
}

func (e useEngine) Usage() []Usage { return e.usage() }

func TestLoopSizesByUse(t *testing.T) {
	cfg := demoConfig()
	cfg.QueuedPerReplica, cfg.CPU, cfg.Min = 0, .7, 1
	work, limit := 1.6, 1.0 // cores that there is work for, and that a replica may use
	deaf := false
	var e *fakeEngine
	usage := func() (all []Usage) {
		e.mu.Lock()
		defer e.mu.Unlock()
		for _, r := range e.replicas {
			u := heard(r.ID, time.Now(), min(work/float64(max(len(e.replicas), 1)), limit)/limit, math.NaN())
			if s := e.u.Server(r.ID); s == nil || s.ReadyAt().IsZero() {
				u.CPUShare = 1 // as starting takes it
			}
			if deaf {
				u = Usage{Replica: r.ID, Why: "the engine is deaf"}
			}
			all = append(all, u)
		}
		return all
	}
	inBubbleWith(t, cfg, func(f *fakeEngine) Driver { e = f; return wrapped{useEngine{f, usage}} }, func(b *bench) {
		b.until("three for 1.6 cores", 2*time.Minute, func(s Status) bool { return s.Ready == 3 })
		b.pass(time.Minute)
		s := b.loop.Status()
		if s.Wanted != 3 || len(s.Usage) != 3 || !strings.HasPrefix(s.Reason, "cpu 53 % of limit (target 70 %)") {
			t.Errorf("status %+v", s)
		}
		if b.engine.now().most != 3 {
			t.Errorf("there were %d meanwhile", b.engine.now().most)
		}
		b.engine.set(func() { deaf = true; work = .1 })
		b.pass(time.Minute)
		if s := b.loop.Status(); s.Wanted != 3 || !strings.Contains(s.Reason, "cpu not known (the engine is deaf)") || s.Code != "stale" {
			t.Errorf("deaf: %+v", s)
		}
		b.engine.set(func() { deaf = false })
		b.until("one", 2*time.Minute, func(s Status) bool { return s.Wanted == 1 && s.Ready == 1 })
		b.engine.set(func() { work = 20 })
		b.until("all", 2*time.Minute, func(s Status) bool { return s.Ready == 6 })
		b.loop.Configure(demoConfig())
		b.pass(2 * time.Second)
		if s := b.loop.Status(); len(s.Usage) != 0 {
			t.Errorf("not asked for any more: %+v", s.Usage)
		}
	})
}

// wrapped is a driver within another.
type wrapped struct{ Driver }

func (w wrapped) Unwrap() Driver { return w.Driver }

func TestLoopWithoutAGauge(t *testing.T) {
	cfg := demoConfig()
	cfg.QueuedPerReplica, cfg.CPU = 0, .7
	inBubble(t, cfg, nil, func(b *bench) {
		b.until("one", time.Minute, func(s Status) bool { return s.Ready == 1 })
		b.pass(2 * time.Second)
		if s := b.loop.Status(); s.Wanted != 1 || !strings.Contains(s.Reason, "cpu not known (this engine does not tell it)") {
			t.Errorf("status %+v", s)
		}
	})
}
