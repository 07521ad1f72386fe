package simulator

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

var standard = Setup{Slots: 4, Start: 30 * time.Second, Jitter: .1, SLO: time.Second, Min: 1, Max: 1000, Target: .7, Seed: 1}

// poisson is arrivals at a rate with exponential service times.
func poisson(rate float64, service, length time.Duration, seed uint64) Trace {
	r := rand.New(rand.NewPCG(seed, 1))
	t := Trace{Length: length}
	for at := 0.0; ; {
		at += r.ExpFloat64() / rate
		d := time.Duration(at * float64(time.Second))
		if d >= length {
			return t
		}
		t.Requests = append(t.Requests, Request{d, time.Duration(r.ExpFloat64() * float64(service))})
	}
}

// erlangC is the probability of waiting in M/M/n with load a (Erlang 1917).
func erlangC(n int, a float64) float64 {
	b := 1.0 // Erlang B, by its recursion
	for k := 1; k <= n; k++ {
		b = a * b / (float64(k) + a*b)
	}
	rho := a / float64(n)
	return b / (1 - rho + rho*b)
}

// With a fixed number of replicas the simulator is a queue whose waiting is known: P(wait), the mean and the tail.
func TestErlangC(t *testing.T) {
	if p := erlangC(12, 10); math.Abs(p-.449) > .0005 {
		t.Fatalf("Erlang C of 12 with a load of 10 is %.4f, not .449", p)
	}
	for _, c := range []struct {
		replicas, slots int
		rho             float64
	}{{12, 1, 10. / 12}, {3, 4, .83}, {1, 1, .6}, {5, 10, .9}} {
		n := c.replicas * c.slots
		a := c.rho * float64(n)
		trace := poisson(a, time.Second, time.Duration(4e5/a)*time.Second, 11)
		s := standard
		s.Slots, s.Initial, s.SLO = c.slots, c.replicas, time.Duration(math.Log(10)/(float64(n)-a)*float64(time.Second))
		r := simulate(trace, s, fixed(c.replicas))
		want := erlangC(n, a)
		if math.Abs(r.Waited-want) > .03*want+.005 {
			t.Errorf("%d replicas of %d at %g: %.4f wait, not %.4f", c.replicas, c.slots, c.rho, r.Waited, want)
		}
		if tail := want / 10; math.Abs(r.BeyondSLO-tail) > .1*tail+.002 { // P(wait > t) = P(wait)·e^(-(n-a)t)
			t.Errorf("%d replicas of %d at %g: %.4f wait for more than %s, not %.4f", c.replicas, c.slots, c.rho, r.BeyondSLO, s.SLO, tail)
		}
		if math.Abs(r.Utilisation-c.rho) > .02 {
			t.Errorf("utilisation %.3f, not %g", r.Utilisation, c.rho)
		}
	}
}

// By hand: one slot, three requests of 10 s at 0, 1 and 2 s, deadline 15 s.
func TestByHand(t *testing.T) {
	trace := Trace{Requests: []Request{{0, 10 * second}, {second, 10 * second}, {2 * second, 10 * second}}, Length: 40 * second}
	s := standard
	s.Slots, s.Initial, s.Deadline = 1, 1, 15*second
	r := simulate(trace, s, fixed(1))
	if r.Rejected != 1 || r.WaitP99 != 9 || math.Abs(r.BeyondSLO-2./3) > 1e-9 || r.ReplicaSeconds != 40 || r.Actions != 0 || r.Peak != 1 {
		t.Errorf("%+v", r)
	}
	s.Deadline, s.Queue = 0, 1
	if r = simulate(trace, s, fixed(1)); r.Rejected != 1 || r.WaitP99 != 9 {
		t.Errorf("a queue of 1: %+v", r)
	}
	s.Queue = 0
	if r = simulate(trace, s, fixed(1)); r.Rejected != 0 || r.WaitP99 != 18 {
		t.Errorf("no bounds: %+v", r)
	}
}

// script is a policy that wants what it is told at a second.
type script map[time.Duration]int

func (s script) decide(l look) int {
	if n, ok := s[l.now]; ok {
		return n
	}
	return l.wanted
}

// Replicas take their time to start, finish what they have before they go, are paid for until then, and are taken
// back while they drain.
func TestReplicas(t *testing.T) {
	s := standard
	s.Slots, s.Initial, s.Start, s.Jitter = 1, 1, 10*second, 0
	two := Trace{Requests: []Request{{0, 30 * second}, {second, 30 * second}}, Length: 100 * second}
	r := simulate(two, s, script{5 * second: 2})
	if r.WaitP99 != 14 || r.ReplicaSeconds != 100+95 || r.Actions != 1 || r.Flips != 0 || r.Peak != 2 {
		t.Errorf("up: %+v", r)
	}
	// Down to 1 at 20 s: both are busy, the younger goes when it is done at 45 s.
	if r = simulate(two, s, script{5 * second: 2, 20 * second: 1}); r.ReplicaSeconds != 100+40 || r.Flips != 1 {
		t.Errorf("down: %+v", r)
	}
	// Down before it is ready: it is the one that goes, at once.
	if r = simulate(two, s, script{5 * second: 2, 9 * second: 1}); r.ReplicaSeconds != 100+4 || r.WaitP99 != 29 {
		t.Errorf("down while starting: %+v", r)
	}
	// Up again while it drains: nothing is started.
	if r = simulate(two, s, script{5 * second: 2, 20 * second: 1, 25 * second: 2}); r.ReplicaSeconds != 100+95 || r.Peak != 2 || r.Flips != 2 {
		t.Errorf("taken back: %+v", r)
	}
}

// The same seed gives the same run, another one another, and no policy can lose a request.
func TestRunsRepeat(t *testing.T) {
	trace, err := Synthetic("spiky", 5, 20*time.Minute, 3)
	if err != nil {
		t.Fatal(err)
	}
	svc := Service{Mean: 2 * time.Second}
	for _, name := range append([]string{"fixed:5"}, Policies...) {
		run := func(seed uint64) *Result {
			s := standard
			s.Seed = seed
			r, err := Seeds(trace, svc, s, name, 1)
			if err != nil {
				t.Fatal(err)
			}
			return r
		}
		a, b, c := run(1), run(1), run(2)
		if !reflect.DeepEqual(a, b) {
			t.Errorf("%s: not the same twice: %+v %+v", name, a, b)
		}
		if a.ReplicaSeconds == c.ReplicaSeconds && a.Utilisation == c.Utilisation {
			t.Errorf("%s: another seed, the same run", name)
		}
		if a.Rejected != 0 || a.WaitP50 > a.WaitP95 || a.WaitP95 > a.WaitP99 || a.Peak < 1 || a.ReplicaSeconds < 1200 {
			t.Errorf("%s: %+v", name, a)
		}
	}
	three, err := Seeds(trace, svc, standard, "kpa", 3)
	if err != nil || three.Spread == nil || three.Spread.ReplicaSeconds[0] > three.ReplicaSeconds || three.Spread.ReplicaSeconds[1] < three.ReplicaSeconds {
		t.Errorf("three seeds: %+v, %v", three, err)
	}
}

// Thousands of replicas are no slower to pick from than few.
func TestFleet(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	f := newFleet(3)
	for range 50 {
		rep := &replica{}
		f.all = append(f.all, rep)
		f.becomeReady(rep)
	}
	for range 20000 {
		rep := f.all[r.IntN(len(f.all))]
		switch {
		case r.IntN(10) == 0 && !rep.draining:
			f.drain(rep)
		case r.IntN(3) == 0 && rep.draining:
			f.undrain(rep)
		case r.IntN(2) == 0 && rep.busy > 0:
			f.take(rep, -1)
		}
		least := 3
		ready := 0
		for _, o := range f.all {
			if !o.draining {
				least = min(least, o.busy)
				ready++
			}
		}
		p := f.pick()
		if (p == nil) != (least == 3) || p != nil && (p.busy != least || p.draining) || ready != f.ready {
			t.Fatalf("picked %+v, least %d; %d ready, not %d", p, least, f.ready, ready)
		}
		if p != nil {
			f.take(p, 1)
		}
	}
}
