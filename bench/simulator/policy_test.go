package simulator

import (
	"bytes"
	"encoding/xml"
	"io"
	"testing"
	"time"
)

// watch feeds a policy a load and replicas that follow at once, and returns what it wants every second.
func watch(p policy, seconds int, load func(s int) float64, slots int, first int) (wants []int) {
	n := first
	for i := 1; i <= seconds; i++ {
		v := load(i)
		busy := min(v, float64(n*slots))
		n = p.decide(look{now: time.Duration(i) * second, inFlight: busy, queue: v - busy, queued: int(v - busy), active: n, ready: n, wanted: n})
		wants = append(wants, n)
	}
	return wants
}

func constant(v float64) func(int) float64 { return func(int) float64 { return v } }

func TestHPA(t *testing.T) {
	// 14 of 5·4 slots are the target of 70 %: nothing changes, nor within the tolerance of 10 %.
	for _, v := range []float64{14, 15.3, 12.7} {
		if w := watch(newHPA(standard, false), 600, constant(v), 4, 5); w[599] != 5 {
			t.Errorf("load %g: %d", v, w[599])
		}
	}
	// All slots busy says 100 %, whatever waits: ceil(5/.7) at the first sync, and so on.
	w := watch(newHPA(standard, false), 45, constant(100), 4, 5)
	if w[13] != 5 || w[14] != 8 || w[29] != 12 || w[44] != 18 {
		t.Errorf("utilisation 100 %%: %v", w)
	}
	// The queue counts with hpa-queue, and 4 pods or 100 % are the most in 15 s.
	w = watch(newHPA(standard, true), 60, constant(100), 4, 2)
	if w[14] != 6 || w[29] != 12 || w[44] != 24 || w[59] != 36 {
		t.Errorf("concurrency and queue: %v", w)
	}
	// Down only 300 s after the last higher recommendation.
	w = watch(newHPA(standard, true), 700, func(s int) float64 {
		if s <= 60 {
			return 28
		}
		return 2.8
	}, 4, 10)
	if w[59] != 10 || w[344] != 10 || w[374] != 1 {
		t.Errorf("stabilisation: %d %d %d", w[59], w[344], w[374])
	}
	// Pods that are not ready count as idle ones on the way up.
	h := newHPA(standard, false)
	var n int
	for i := 1; i <= 15; i++ {
		n = h.decide(look{now: time.Duration(i) * second, inFlight: 20, active: 8, ready: 5, starting: 3, wanted: 8})
	}
	if n != 8 {
		t.Errorf("3 of 8 not ready, the others full: %d", n)
	}
}

func TestKPA(t *testing.T) {
	// .7·4 a pod: a steady load of 28 needs 10.
	if w := watch(newKPA(standard, 0), 300, constant(28), 4, 10); w[299] != 10 || w[0] != 10 {
		t.Errorf("steady: %d", w[299])
	}
	// Twice as much as the ready pods should have within 6 s is panic: up at once, and not down for 60 s.
	spike := func(s int) float64 {
		if s > 120 && s <= 126 {
			return 84
		}
		return 8.4
	}
	w := watch(newKPA(standard, 0), 400, spike, 4, 3)
	high := 0
	for _, n := range w {
		high = max(high, n)
	}
	if high != 30 || w[119] != 3 || w[125] != 30 || w[180] != 30 || w[399] != 3 {
		t.Errorf("panic: %d at most, %d %d %d %d", high, w[119], w[125], w[180], w[399])
	}
	// Never down by more than half at a time, and after the scale-down delay with it.
	if w := watch(newKPA(standard, 0), 200, constant(2.8), 4, 64); w[1] != 32 || w[3] != 16 {
		t.Errorf("down: %v", w[:10])
	}
	if w = watch(newKPA(standard, kpaDelay), 600, spike, 4, 3); w[180] != 30 || w[420] != 30 || w[520] != 15 { // half of those that were ready
		t.Errorf("delay: %d %d %d", w[180], w[420], w[520])
	}
	// To zero 30 s after the stable window is empty, and back at the first request.
	w = watch(newKPA(standard, 0), 200, func(s int) float64 {
		if s <= 10 {
			return 2
		}
		return 0
	}, 4, 1)
	if w[95] != 1 || w[105] != 0 {
		t.Errorf("to zero: %v", w[60:120])
	}
}

// The oracle on a trace by hand: one slot, 30 s to start. A gap of 20 s is kept, one of 100 s is not.
func TestOracle(t *testing.T) {
	s := standard
	s.Slots, s.Min = 1, 0
	r := oracle(Trace{Requests: []Request{{100 * second, 10 * second}, {130 * second, 10 * second}, {240 * second, 10 * second}, {245 * second, 10 * second}}, Length: 300 * second}, s)
	if want := float64(30+40) + (30 + 10) + (30 + 10); r.ReplicaSeconds != want || r.Peak != 2 || r.BeyondSLO != 0 || r.WaitP99 != 0 {
		t.Errorf("%+v, not %g replica-seconds", r, want)
	}
	// No policy that makes nobody wait costs less.
	trace, err := Synthetic("diurnal", 5, time.Hour, 1)
	if err != nil {
		t.Fatal(err)
	}
	trace, err = Service{Mean: 2 * time.Second}.Fill(trace, 1)
	if err != nil {
		t.Fatal(err)
	}
	best, err := Run(trace, standard, "oracle")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"ltd", "hpa-queue", "kpa-delay", "fixed:20"} {
		r, err := Run(trace, standard, name)
		if err != nil {
			t.Fatal(err)
		}
		if r.ReplicaSeconds < best.ReplicaSeconds && r.BeyondSLO < .01 {
			t.Errorf("%s costs %g, less than the oracle's %g", name, r.ReplicaSeconds, best.ReplicaSeconds)
		}
	}
}

// What the law is for, on traces that nothing was chosen on: together, fewer requests beyond the SLO than under HPA
// and KPA with their longest memories, for fewer replica-seconds and a third of KPA's actions; and never worse in
// both respects.
func TestLawBeatsBaselines(t *testing.T) {
	names := []string{"ltd", "hpa-queue", "kpa-delay", "kpa"}
	beyond, cost, actions := map[string]float64{}, map[string]float64{}, map[string]int{}
	for i, kind := range []string{"diurnal", "steps"} {
		for _, start := range []time.Duration{10 * time.Second, 60 * time.Second, 180 * time.Second} {
			trace, err := Synthetic(kind, 10, 2*time.Hour, uint64(77+i))
			if err != nil {
				t.Fatal(err)
			}
			s := standard
			s.Start = start
			got := map[string]*Result{}
			for _, name := range names {
				r, err := Seeds(trace, Service{Mean: 4 * time.Second}, s, name, 1)
				if err != nil {
					t.Fatal(err)
				}
				got[name] = r
				beyond[name] += r.BeyondSLO
				cost[name] += r.ReplicaSeconds
				actions[name] += r.Actions
				t.Logf("%s, start %s: %s %.3f%% for %.0f, %d actions", kind, start, name, 100*r.BeyondSLO, r.ReplicaSeconds, r.Actions)
			}
			for _, name := range names[1:] {
				if l, r := got["ltd"], got[name]; l.BeyondSLO > r.BeyondSLO && l.ReplicaSeconds > r.ReplicaSeconds {
					t.Errorf("%s, start %s: ltd %.3f%% for %.0f, %s %.3f%% for %.0f", kind, start, 100*l.BeyondSLO, l.ReplicaSeconds, name, 100*r.BeyondSLO, r.ReplicaSeconds)
				}
			}
		}
	}
	for _, name := range names[1:] {
		if beyond["ltd"] > beyond[name] || cost["ltd"] > cost[name] {
			t.Errorf("together: ltd %.4f for %.0f, %s %.4f for %.0f", beyond["ltd"], cost["ltd"], name, beyond[name], cost[name])
		}
	}
	if 3*actions["ltd"] > actions["kpa"] {
		t.Errorf("%d actions, KPA %d", actions["ltd"], actions["kpa"])
	}
}

func TestPlot(t *testing.T) {
	trace := poisson(5, time.Second, 3*time.Minute, 1)
	var rows []*Result
	for _, name := range []string{"ltd", "oracle", "fixed:3"} {
		r, err := Run(trace, standard, name)
		if err != nil {
			t.Fatal(err)
		}
		rows = append(rows, r)
	}
	svg := Plot(trace, rows, 4)
	d := xml.NewDecoder(bytes.NewReader(svg))
	lines := 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "polyline" {
			lines++
		}
	}
	if lines != 1+3+4 {
		t.Errorf("%d curves", lines)
	}
}
