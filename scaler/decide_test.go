package scaler

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

// story steps Decide by hand: a second per call unless told otherwise.
type story struct {
	t      *testing.T
	sizing Sizing
	state  State
	now    time.Time
	last   Decision
}

func begin(t *testing.T, s Sizing, replicas int) *story {
	t.Helper()
	st := &story{t: t, sizing: s, now: time.Unix(1_000_000, 0)}
	st.state, st.last = Decide(s, State{}, Signal{Replicas: replicas, Stale: true}, st.now)
	return st
}

func (s *story) jump(dt time.Duration, sig Signal) int {
	s.now = s.now.Add(dt)
	s.state, s.last = Decide(s.sizing, s.state, sig, s.now)
	return s.last.Wanted
}

func (s *story) step(sig Signal) int { return s.jump(time.Second, sig) }

// wants steps once and checks number and code.
func (s *story) wants(sig Signal, n int, code string) {
	s.t.Helper()
	if s.step(sig); s.last.Wanted != n || s.last.Code != code {
		s.t.Errorf("wanted %d, %s (%q), not %d, %s", s.last.Wanted, s.last.Code, s.last.Reason, n, code)
	}
}

// stays steps that many seconds and checks that the number is held.
func (s *story) stays(seconds int, sig Signal, n int) {
	s.t.Helper()
	for i := range seconds {
		if s.step(sig) != n {
			s.t.Fatalf("second %d: wanted %d (%q), not %d", i+1, s.last.Wanted, s.last.Reason, n)
		}
	}
}

func TestDemand(t *testing.T) {
	queue := Sizing{QueuedPerReplica: 20}
	inFlight := Sizing{InFlightPerReplica: 10}
	both := Sizing{QueuedPerReplica: 20, InFlightPerReplica: 10}
	s := time.Second
	tests := []struct {
		name    string
		sizing  Sizing
		sig     Signal
		current int
		want    int
		code    string
	}{
		{"HPA's average value", queue, Signal{InFlight: 4, Queue: 84, OldestWait: 3 * s, Slots: 4, Ready: 1}, 1, 5, "queue"},
		{"busy replicas stay and a short queue may wait", queue, Signal{InFlight: 20, Queue: 40, OldestWait: s, Slots: 4, Ready: 5}, 5, 5, "in_flight"},
		{"a queue that stands", queue, Signal{InFlight: 20, Queue: 40, OldestWait: 6 * s, Slots: 4, Ready: 5}, 5, 7, "saturated"},
		{"a queue kept short by refusing", queue, Signal{InFlight: 20, Queue: 40, OldestWait: s, Refused: 3, Slots: 4, Ready: 5}, 5, 7, "saturated"},
		{"old but slots are free", queue, Signal{InFlight: 15, Queue: 40, OldestWait: 6 * s, Slots: 4, Ready: 5}, 5, 4, "in_flight"},
		{"what is starting is not asked for twice", queue, Signal{InFlight: 20, Queue: 40, OldestWait: 7 * s, Slots: 4, Ready: 5, Starting: 2}, 7, 7, "saturated"},
		{"occupied", queue, Signal{InFlight: 9, Slots: 4, Ready: 5}, 5, 3, "in_flight"},
		{"nothing", queue, Signal{Slots: 4, Ready: 5}, 5, 0, "in_flight"},
		{"queue within tolerance", queue, Signal{InFlight: 4, Queue: 43, Slots: 4, Ready: 2}, 2, 2, "queue"},
		{"queue beyond tolerance", queue, Signal{InFlight: 8, Queue: 45, Slots: 4, Ready: 2}, 2, 3, "queue"},
		{"unbounded slots keep replicas", queue, Signal{InFlight: 35, Ready: 5}, 5, 4, "in_flight"},
		{"unbounded slots add none", queue, Signal{InFlight: 900, Ready: 5}, 5, 5, "in_flight"},
		{"Knative's target", inFlight, Signal{InFlight: 20, Queue: 14, Slots: 4, Ready: 5}, 1, 4, "in_flight"},
		{"in flight within tolerance", inFlight, Signal{InFlight: 31, Slots: 20, Ready: 3}, 3, 3, "in_flight"},
		{"largest wins: queue", both, Signal{InFlight: 4, Queue: 200, Slots: 100, Ready: 1}, 1, 21, "in_flight"},
		{"largest wins: in flight", both, Signal{InFlight: 90, Queue: 1, Slots: 100, Ready: 1}, 1, 10, "in_flight"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			n, why, code := test.sizing.demand(test.sig, test.current)
			if n != test.want || code != test.code {
				t.Errorf("%d, %s (%s), not %d, %s", n, code, why, test.want, test.code)
			}
		})
	}
}

var shipped = Sizing{Min: 1, Max: 6, QueuedPerReplica: 8, CooldownDown: 30 * time.Second, ToZeroAfter: 5 * time.Minute}

func busy(ready int, queue float64) Signal {
	return Signal{InFlight: float64(4 * ready), Queue: queue, Waiting: int(queue), Slots: 4, Ready: ready, OldestWait: time.Duration(queue) * 20 * time.Millisecond}
}

func TestUpAndDown(t *testing.T) {
	s := begin(t, shipped, 0)
	if s.last.Wanted != 1 || s.last.Code != "start" {
		t.Fatalf("at first: %+v", s.last)
	}
	s.wants(busy(1, 40), 5, "queue")
	if s.last.Reason != "queue 40: 5 replicas" {
		t.Errorf("in words: %q", s.last.Reason)
	}
	s.wants(busy(1, 84), 6, "queue")
	s.stays(3, busy(2, 160), 6)
	calm := Signal{InFlight: 6, Slots: 4, Ready: 6}
	s.wants(calm, 6, "cooldown_down")
	s.stays(28, calm, 6)
	s.wants(calm, 2, "in_flight") // 30 s after the last full one
	s.stays(29, Signal{Slots: 4, Ready: 2}, 2)
	s.wants(Signal{Slots: 4, Ready: 2, Idle: time.Hour}, 1, "in_flight")
	s.stays(600, Signal{Slots: 4, Ready: 1, Idle: 2 * time.Hour}, 1)
}

// The words of the house's own example.
func TestWords(t *testing.T) {
	s := begin(t, Sizing{Min: 1, Max: 10, QueuedPerReplica: 20}, 1)
	sig := busy(1, 84)
	sig.OldestWait = 3 * time.Second
	s.step(sig)
	if s.last.Reason != "queue 84, 3 s old: 5 replicas" {
		t.Errorf("%q", s.last.Reason)
	}
}

// A load that saturates what is there brings enough replicas for it, and they go after it: the shipped demo
// against a model of the queue (4 slots, 200 ms, replicas ready two seconds after they are wanted).
func TestDemoModel(t *testing.T) {
	for _, load := range []float64{25, 45, 70, 95, 110} {
		s := begin(t, shipped, 1)
		queue, ready := 0.0, []int{1, 1, 1}
		run := func(load float64, seconds int) (worst int) {
			for range seconds {
				n := min(ready[len(ready)-3], s.last.Wanted)
				served := min(load+queue, 20*float64(n))
				mean := queue
				queue = load + queue - served
				mean = (mean + queue) / 2
				s.step(Signal{InFlight: served / 5, Queue: mean, Waiting: int(queue), Slots: 4, Ready: n, OldestWait: time.Duration(queue / (20 * float64(n)) * 1e9)})
				ready = append(ready, s.last.Wanted)
				worst = max(worst, s.last.Wanted)
			}
			return worst
		}
		run(load, 60)
		need := ceil(load / 20)
		if got := s.last.Wanted; got < need || queue > float64(8*need) {
			t.Errorf("load %g/s: %d replicas and a queue of %g after a minute", load, got, queue)
		}
		run(2, 70)
		if s.last.Wanted != 1 {
			t.Errorf("after a load of %g/s %d replicas stay: %s", load, s.last.Wanted, s.last.Reason)
		}
	}
}

func TestStabilisation(t *testing.T) {
	s := begin(t, shipped, 1)
	s.step(busy(1, 44))
	// Short calms between peaks bring nothing down.
	for range 5 {
		s.stays(25, Signal{InFlight: 2, Slots: 4, Ready: 6}, 6)
		s.stays(2, busy(6, 48), 6)
	}
	// The largest recommendation of the window counts: a peak of 3 in it leaves 3.
	s.stays(10, Signal{InFlight: 2, Slots: 4, Ready: 6}, 6)
	s.stays(1, Signal{InFlight: 12, Slots: 4, Ready: 6}, 6)
	s.stays(18, Signal{InFlight: 2, Slots: 4, Ready: 6}, 6)
	s.wants(Signal{InFlight: 2, Slots: 4, Ready: 6}, 3, "in_flight")
	s.stays(10, Signal{InFlight: 2, Slots: 4, Ready: 3}, 3)
	s.wants(Signal{InFlight: 2, Slots: 4, Ready: 3}, 1, "in_flight")
}

func TestCooldownUpAndSteps(t *testing.T) {
	z := shipped
	z.CooldownUp, z.StepUp, z.StepDown = 5*time.Second, 2, 1
	s := begin(t, z, 1)
	s.wants(busy(1, 80), 3, "queue")
	s.wants(busy(1, 80), 3, "cooldown_up")
	s.stays(3, busy(1, 80), 3)
	s.wants(busy(3, 80), 5, "queue")
	s.stays(4, busy(5, 80), 5)
	s.wants(busy(5, 80), 6, "queue")
	calm := Signal{Slots: 4, Ready: 6}
	s.stays(29, calm, 6)
	s.wants(calm, 5, "in_flight")
	s.stays(29, calm, 5) // a step that was cut short waits for another cooldown
	s.wants(calm, 4, "in_flight")
}

func TestToZeroAndBack(t *testing.T) {
	z := shipped
	z.Min, z.ToZeroAfter = 0, time.Minute
	s := begin(t, z, 1)
	idle := func(d time.Duration) Signal { return Signal{Slots: 4, Ready: 1, Idle: d} }
	for i := range 59 {
		s.stays(1, idle(time.Duration(i+1)*time.Second), 1)
	}
	s.wants(idle(time.Minute), 0, "idle")
	if s.last.Reason != "no request for 1m0s: 0 replicas" {
		t.Errorf("%q", s.last.Reason)
	}
	s.stays(100, Signal{Slots: 4, Idle: time.Hour}, 0)

	// 500 requests wait: one is started, and no more before it is ready.
	flood := Signal{Slots: 4, Waiting: 500, Queue: 400, OldestWait: time.Second}
	s.wants(flood, 1, "wake")
	s.wants(flood, 1, "starting")
	flood.Starting = 1
	s.stays(30, flood, 1)
	s.wants(Signal{Slots: 4, Waiting: 480, Queue: 490, InFlight: 4, Ready: 1}, 6, "queue")

	// A stream that is open for hours keeps its replica.
	s.stays(29, Signal{Slots: 4, Ready: 6, InFlight: 1}, 6)
	s.stays(3600, Signal{Slots: 4, Ready: 1, InFlight: 1}, 1)
	// A wake-up comes even when nothing was ever measured.
	s = begin(t, z, 0)
	s.wants(Signal{Slots: 4, Waiting: 1, Stale: true}, 1, "wake")
	// And at the very first look.
	if _, d := Decide(z, State{}, Signal{Waiting: 1, Stale: true}, time.Unix(5, 0)); d.Wanted != 1 || d.Code != "wake" {
		t.Errorf("first look with one waiting: %+v", d)
	}
}

func TestStaleAndClock(t *testing.T) {
	z := shipped
	z.Min, z.ToZeroAfter = 0, time.Minute
	s := begin(t, z, 1)
	s.step(busy(1, 44))
	s.stays(300, Signal{Stale: true, Slots: 4, Ready: 6}, 6)
	for range 20 { // as if ntp could not make up its mind
		for _, dt := range []time.Duration{time.Hour, -time.Hour, -time.Hour, time.Hour, time.Second, 10 * time.Minute} {
			if n := s.jump(dt, Signal{Slots: 4, Ready: 6, Idle: 2 * time.Hour}); n != 6 {
				t.Fatalf("after a leap of %s: %+v", dt, s.last)
			}
		}
	}
	// Windows keep what was left of them: 20 regular seconds of the 30 have passed.
	s.step(busy(6, 48))
	s.stays(19, Signal{Slots: 4, Ready: 6}, 6)
	s.jump(time.Hour, Signal{Slots: 4, Ready: 6})
	s.stays(9, Signal{Slots: 4, Ready: 6}, 6)
	for i := 0; s.last.Wanted != 1; i++ {
		if s.step(Signal{Slots: 4, Ready: 6}); i > 3 {
			t.Fatalf("never down after a leap: %+v", s.last)
		}
	}
	// A leap does not end cooldown_up either, nor starts anything.
	z.CooldownUp = time.Minute
	s = begin(t, z, 1)
	s.wants(busy(1, 16), 2, "queue")
	s.jump(time.Hour, busy(2, 44))
	s.wants(busy(2, 44), 2, "cooldown_up")
}

func TestPin(t *testing.T) {
	s := begin(t, shipped, 1)
	s.sizing.Pinned, s.sizing.Pin = true, 4
	s.wants(busy(1, 200), 4, "pin")
	s.sizing.Pin = 0
	s.wants(busy(1, 200), 0, "pin")
	s.sizing.Pin = 99
	s.wants(Signal{Stale: true}, 6, "pin")
	s.sizing.Pinned = false
	s.stays(29, Signal{Slots: 4, Ready: 6}, 6)
	s.wants(Signal{Slots: 4, Ready: 6}, 1, "in_flight")
}

func TestBounds(t *testing.T) {
	s := begin(t, shipped, 40) // found more than max
	if s.last.Wanted != 6 {
		t.Errorf("found 40: %+v", s.last)
	}
	s.sizing.Limited, s.sizing.Limit = true, 3
	s.wants(busy(6, 100), 3, "budget")
	if !strings.Contains(s.last.Reason, "budget") {
		t.Errorf("%q", s.last.Reason)
	}
	s.sizing.Limited = false
	s.wants(busy(3, 100), 6, "queue")
	s.sizing.Max = 2
	s.wants(Signal{Stale: true}, 2, "bounds")
	s.sizing.Min, s.sizing.Max = 3, 5
	s.wants(Signal{Stale: true}, 3, "bounds")
}

// Whatever comes: the bounds hold, a stale signal or a jumped clock never brings the number down, a step is
// never larger than allowed, and no step down comes within cooldown_down of a step up.
func TestDecideAlways(t *testing.T) {
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		z := Sizing{
			Min: r.IntN(3), Max: 3 + r.IntN(20), CooldownDown: time.Duration(r.IntN(40)) * time.Second, CooldownUp: time.Duration(r.IntN(5)) * time.Second,
			StepUp: r.IntN(4), StepDown: r.IntN(4), ToZeroAfter: time.Duration(r.IntN(60)) * time.Second,
			QueuedPerReplica: r.IntN(2) * (1 + r.IntN(20)), InFlightPerReplica: r.IntN(2) * (1 + r.IntN(20)),
		}
		now := time.Unix(1e6, 0)
		st, d := Decide(z, State{}, Signal{Replicas: r.IntN(30), Stale: true}, now)
		sinceUp, idle, load := time.Duration(1<<60), time.Duration(0), 0.0
		for i := range 300 {
			if r.IntN(20) == 0 {
				load = r.ExpFloat64() * 40
			}
			if r.IntN(30) == 0 {
				load = 0
			}
			dt := time.Second
			if r.IntN(50) == 0 {
				dt = []time.Duration{time.Hour, -time.Hour, 0, 7 * time.Second}[r.IntN(4)]
			}
			slots := r.IntN(2) * 4
			sig := Signal{
				InFlight: min(load, float64(4*d.Wanted)), Queue: max(0, load-float64(4*d.Wanted)), Slots: slots, Ready: r.IntN(d.Wanted + 1), Unhealthy: r.IntN(2),
				Stale: r.IntN(10) == 0, OldestWait: time.Duration(r.IntN(10)) * time.Second, Refused: float64(r.IntN(2)),
			}
			if idle += time.Second; load > 0 {
				idle = 0
			}
			sig.Idle, sig.Waiting = idle, int(sig.Queue)
			now = now.Add(dt)
			before, window := st, slices.Clone(st.window)
			regular := dt >= 0 && dt <= tickMax
			var next State
			next, d = Decide(z, st, sig, now)
			if !slices.Equal(before.window, window) {
				t.Fatalf("seed %d: Decide changed the state it was given", seed)
			}
			if again, d2 := Decide(z, before, sig, now); d2 != d || !slices.Equal(again.window, next.window) || again.upAt != next.upAt || again.Demand != next.Demand {
				t.Fatalf("seed %d: not the same twice", seed)
			}
			st = next
			step := st.Wanted - before.Wanted
			if regular {
				sinceUp += dt
			}
			switch {
			case st.Wanted < z.Min || st.Wanted > z.Max:
				t.Fatalf("seed %d, %d: %d is out of bounds %d…%d", seed, i, st.Wanted, z.Min, z.Max)
			case step < 0 && (sig.Stale || !regular):
				t.Fatalf("seed %d, %d: down on no data: %+v", seed, i, d)
			case step < 0 && sinceUp < z.CooldownDown && st.Wanted > 0:
				t.Fatalf("seed %d, %d: down %s after up: %+v", seed, i, sinceUp, d)
			case z.StepUp > 0 && step > z.StepUp, z.StepDown > 0 && -step > z.StepDown:
				t.Fatalf("seed %d, %d: a step of %d: %+v", seed, i, step, d)
			case st.Wanted == 0 && before.Wanted > 0 && idle < z.ToZeroAfter:
				t.Fatalf("seed %d, %d: to zero after %s: %+v", seed, i, idle, d)
			case d.Reason == "" || d.Code == "":
				t.Fatalf("seed %d, %d: no words: %+v", seed, i, d)
			}
			if step > 0 {
				sinceUp = 0
			}
		}
	}
}

func TestBudget(t *testing.T) {
	b := NewBudget(10)
	demand := map[string]int{}
	held := map[string]int{}
	ask := func(name string, least, want int) int {
		demand[name] = want
		b.share(name, least, func(limited bool, limit int) claim {
			if !limited {
				limit = 1 << 30
			}
			held[name] = min(want, limit)
			return claim{least: least, demand: want, held: held[name]}
		})
		return held[name]
	}
	check := func(name string, least, want, got int) {
		t.Helper()
		if n := ask(name, least, want); n != got {
			t.Errorf("%s asks for %d and gets %d, not %d (held %v)", name, want, n, got, held)
		}
	}
	check("a", 1, 10, 10)
	check("b", 1, 4, 0) // nothing is left yet
	check("a", 1, 10, 6)
	check("b", 1, 4, 4)
	check("c", 2, 5, 0)
	check("a", 1, 10, 4)
	check("b", 1, 4, 3)
	check("c", 2, 5, 3)
	check("a", 1, 10, 4)
	check("a", 1, 1, 1) // who needs less leaves it to the others
	check("c", 2, 5, 5)
	check("b", 1, 4, 4)
	b.Drop("c")
	check("a", 1, 10, 6)
	b.Configure(0)
	check("a", 1, 50, 50)
	var none *Budget
	none.share("a", 0, func(limited bool, _ int) claim {
		if limited {
			t.Error("no budget limits")
		}
		return claim{}
	})
}

// Whatever is asked in whatever order, the sum never passes the budget, and mins are served first.
func TestBudgetAlways(t *testing.T) {
	for seed := range uint64(100) {
		r := rand.New(rand.NewPCG(seed, 2))
		most := 1 + r.IntN(20)
		b := NewBudget(most)
		held := map[string]int{}
		for range 300 {
			name := string(rune('a' + r.IntN(5)))
			want := r.IntN(15)
			b.share(name, 1, func(_ bool, limit int) claim {
				held[name] = min(want, limit)
				return claim{least: 1, demand: want, held: held[name]}
			})
			sum := 0
			for _, n := range held {
				sum += n
			}
			if sum > most {
				t.Fatalf("seed %d: %v is more than %d", seed, held, most)
			}
		}
	}
}
