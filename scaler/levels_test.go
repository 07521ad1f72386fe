package scaler

import (
	"math"
	"testing"
	"time"
)

// A queue with 10 slots (7 and a bit after what is spared) and a service time of 2 s.
func TestFluid(t *testing.T) {
	const slots = 10
	able := slots - math.Sqrt(slots)
	for _, c := range []struct {
		name               string
		in, arrived        float64
		left, late, within float64
	}{
		{"empty", 0, 0, 0, 0, 1e-9},
		{"nobody waits", 1, 5, 6 * math.Exp(-.5), 0, 1e-9},
		{"all slots are busy for the whole second", 10, 10, 20 - able/2, 20 - able*1.5, 1e-9},
		{"those before are not counted twice", 30, 2, 32 - able/2, 2, 1e-9},
		{"nobody came", 30, 0, 30 - able/2, 0, 1e-9},
	} {
		in := c.in
		late := fluid{c.arrived, 2, 1, math.Exp(-.5)}.pass(&in, slots)
		if math.Abs(in-c.left) > c.within || math.Abs(late-c.late) > c.within {
			t.Errorf("%s: %.3f left and %.3f late, not %.3f and %.3f", c.name, in, late, c.left, c.late)
		}
	}
	in := 0.0
	if late := (fluid{3, 2, 1, math.Exp(-.5)}).pass(&in, 0); late != 3 || in != 3 {
		t.Errorf("without slots %.1f are late and %.1f left", late, in)
	}
}

// The replicas that the law asks for are there after the start time, unless it has let go of them meanwhile.
func TestFleet(t *testing.T) {
	var f fleet
	for i, c := range []struct{ wanted, ready float64 }{
		{2, 2}, {5, 2}, {5, 2}, {6, 2}, {6, 5}, {6, 5}, {6, 6}, {3, 3}, {8, 3}, {4, 3}, {4, 3}, {4, 4}, {4, 4},
	} {
		if f.want(c.wanted, 1, 3); f.ready != c.ready {
			t.Errorf("second %d: %v ready of %v", i, f.ready, c.wanted)
		}
	}
	for i := range 100 { // more steps than are remembered
		f.want(float64(10+i), 1, 1000)
	}
	if f.want(109, 2000, 1000); f.ready != 109 {
		t.Errorf("%v ready in the end", f.ready)
	}
}

// Bursts that are shorter than a start: what the law adds for them comes late and is paid for when they are over. The least number that
// would have done is kept, once that has been seen for long enough, and no longer when the bursts have stayed away.
func TestKept(t *testing.T) {
	var l Levels
	seconds := func(n int, burst float64) {
		for i := range n {
			wanted, arrived := 2, .1
			if i%90 < 60 {
				wanted = 12
			}
			if i%90 < 5 {
				arrived = burst
			}
			l.learn(1, arrived, 2, 2, 30, wanted)
		}
	}
	seconds(540, 4)
	if n := l.kept(); n != 0 {
		t.Fatalf("%d kept after 9 minutes", n)
	}
	seconds(360, 4)
	n := l.kept()
	if n < 5 || n > 8 { // 9 requests at once and what is spared; the law had 8.7
		t.Fatalf("%d kept, the law had %.0f late for %.1f replicas", n, l.LawLate, l.LawCost/l.Seconds)
	}
	for i, level := range levelsOf {
		if int(level) == n-1 && l.Late[i] < levelGain*l.LawLate {
			t.Errorf("%d would have done", n-1)
		}
	}
	for range 4 * levelHalf {
		l.learn(1, .1, 2, 2, 30, 1)
	}
	if n := l.kept(); n > 1 {
		t.Errorf("%d kept two hours after the last burst", n)
	}
}

// Nothing is kept that costs more than the law, or lets as many wait.
func TestKeptIsBetter(t *testing.T) {
	var l Levels
	for i := range 3600 {
		arrived, wanted := 0., 1
		if i >= 3500 { // the law is there in time, and lets go
			wanted = 20
		}
		if i >= 3530 {
			arrived = 10
		}
		l.learn(1, arrived, 2, 2, 20, wanted)
	}
	if n := l.kept(); n != 0 {
		t.Errorf("%d kept: the law had %.0f late for %.1f replicas", n, l.LawLate, l.LawCost/l.Seconds)
	}
}

// keeping is a state in which n replicas are better than the law, which wants one.
func keeping(t *testing.T, s Sizing, n int) *story {
	t.Helper()
	h := begin(t, s, 1)
	h.state.Learned.Service.Mean = 1
	v := &h.state.Learned.Levels
	v.Seconds, v.LawLate = 2*levelProof, 100
	v.LawCost = 1e6
	for i := range v.Late {
		if levelsOf[i] < float64(n) {
			v.Late[i] = 100
		}
	}
	if got := v.kept(); got != n {
		t.Fatalf("%d kept", got)
	}
	return h
}

// What is kept keeps to the bounds, and to the limits of a step.
func TestKeptWithinBounds(t *testing.T) {
	quiet := Signal{Length: time.Second, InFlight: .1, Ready: 1, Slots: 2, Start: time.Second}
	for name, c := range map[string]struct {
		change func(s *Sizing)
		want   []int
	}{
		"as it is":     {func(*Sizing) {}, []int{7, 7}},
		"max":          {func(s *Sizing) { s.Max = 5 }, []int{5, 5}},
		"min":          {func(s *Sizing) { s.Min = 9 }, []int{9, 9}},
		"step_up":      {func(s *Sizing) { s.StepUp = 2 }, []int{3, 5, 7, 7}},
		"cooldown_up":  {func(s *Sizing) { s.StepUp = 4; s.CooldownUp = 2 * time.Second }, []int{5, 5, 7}},
		"pinned":       {func(s *Sizing) { s.Pinned, s.Pin = true, 3 }, []int{3, 3}},
		"an objective": {func(s *Sizing) { s.InFlightPerReplica = 2 }, []int{1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := lawful
			h := keeping(t, s, 7)
			c.change(&h.sizing)
			for i, n := range c.want {
				if got := h.step(quiet); got != n {
					t.Fatalf("second %d: %d (%s), not %d", i, got, h.last.Reason, n)
				}
			}
		})
	}
}

// What the law adds to the number that is kept goes after cooldown_down, not at once and not after the law's longer hold.
func TestKeptAndCooldown(t *testing.T) {
	h := keeping(t, lawful, 7)
	busy := Signal{Length: time.Second, InFlight: 20, Ready: 7, Slots: 2, Start: time.Second}
	if got := h.step(busy); got != 10 {
		t.Fatalf("%d (%s) for 20 in flight", got, h.last.Reason)
	}
	quiet := Signal{Length: time.Second, InFlight: .1, Ready: 10, Slots: 2, Start: time.Second}
	for i := range 29 {
		if got := h.step(quiet); got != 10 {
			t.Fatalf("%d (%s) after %d s", got, h.last.Reason, i+1)
		}
	}
	if got := h.step(quiet); got != 7 || h.last.Code != "kept" {
		t.Errorf("%d (%s) after 30 s", got, h.last.Reason)
	}
}

// Nothing is let go while not every gateway was heard, and a stop to zero is not prevented.
func TestKeptAndLetGo(t *testing.T) {
	h := keeping(t, lawful, 7)
	quiet := Signal{Length: time.Second, InFlight: .1, Ready: 1, Slots: 2, Start: time.Second}
	h.step(quiet)
	h.state.Learned.Levels.LawLate = 0 // what was kept is no longer better
	partial := quiet
	partial.Partial = true
	if got := h.step(partial); got != 7 {
		t.Errorf("%d (%s) while a gateway was not heard", got, h.last.Reason)
	}

	zero := lawful
	zero.Min = 0
	h = keeping(t, zero, 7)
	h.step(quiet)
	idle := Signal{Length: time.Second, Idle: time.Hour, Ready: 7, Slots: 2, Start: time.Second}
	for range 400 {
		h.step(idle)
	}
	if h.last.Wanted != 0 {
		t.Errorf("%d (%s) after an hour without a request", h.last.Wanted, h.last.Reason)
	}
}
