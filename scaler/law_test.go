package scaler

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

var lawful = Sizing{Min: 1, Max: 50, CooldownDown: 30 * time.Second, ToZeroAfter: 5 * time.Minute, Headroom: .98}

// shop is a model of an upstream by the law: load arrives evenly, replicas are ready one start time after they are
// wanted, and what finds no slot waits.
type shop struct {
	*story
	slots           int
	service, start  time.Duration
	rates           []float64
	queue, inFlight float64
	ready           int
	asked           []int // wanted, a second each
	idle            time.Duration
}

func open(t *testing.T, s Sizing, replicas, slots int, service, start time.Duration) *shop {
	h := &shop{story: begin(t, s, replicas), slots: slots, service: service, start: start, ready: replicas}
	return h
}

// second lets rate requests come within one second.
func (h *shop) second(rate float64) {
	s := h.service.Seconds()
	h.asked = append(h.asked, h.last.Wanted)
	back := max(len(h.asked)-1-int(h.start.Seconds()), 0)
	h.ready = h.last.Wanted
	for _, n := range h.asked[back:] {
		h.ready = min(h.ready, n)
	}
	capacity := float64(h.ready * h.slots)
	finished := h.inFlight / max(s, 1)
	h.inFlight -= finished
	h.queue += rate
	began := min(h.queue, max(capacity-h.inFlight, 0)*max(1, 1/s))
	h.queue -= began
	quick := began
	if s >= 1 {
		quick = 0
	}
	h.inFlight = min(h.inFlight+began-quick+quick*s, capacity)
	h.rates = append(h.rates, rate)
	mean := func(n int) float64 {
		list := h.rates[max(0, len(h.rates)-n):]
		sum := 0.0
		for _, r := range list {
			sum += r
		}
		return sum / float64(len(list))
	}
	if h.idle += time.Second; rate > 0 || h.inFlight > .01 {
		h.idle = 0
	}
	sig := Signal{
		Length: time.Second, Arrived: rate, Finished: finished + quick, Served: (finished + quick) * s, InFlight: h.inFlight, Queue: h.queue, Waiting: int(h.queue),
		Rate1: rate, Rate4: mean(4), Rate10: mean(10), Rate60: mean(60), Rate600: mean(600), Slots: h.slots, Ready: h.ready, Starting: h.last.Wanted - h.ready,
		Start: h.start, Service: h.service, Idle: h.idle,
	}
	if h.queue >= 1 {
		sig.OldestWait = time.Duration(h.queue / max(capacity/s, .1) * float64(time.Second))
	}
	h.step(sig)
}

func (h *shop) seconds(n int, rate float64) {
	for range n {
		h.second(rate)
	}
}

// A steady load is served with little to spare, whatever a request and a start take.
func TestLawSteady(t *testing.T) {
	for _, c := range []struct {
		service, start time.Duration
		rate           float64
		slots          int
	}{
		{time.Millisecond, time.Second, 20000, 4},
		{200 * time.Millisecond, 2 * time.Second, 100, 4},
		{6 * time.Second, 30 * time.Second, 5, 4},
		{time.Minute, time.Minute, .5, 2},
		{10 * time.Minute, 3 * time.Minute, .05, 1},
	} {
		h := open(t, lawful, 1, c.slots, c.service, c.start)
		h.seconds(3600, c.rate)
		load := c.rate * c.service.Seconds()
		least, most := ceil(load/float64(c.slots)), ceil((load+3*math.Sqrt(load)+1)/float64(c.slots))+1
		if n := h.last.Wanted; n < least || n > most || h.queue > 1 {
			t.Errorf("service %s, load %g, %d slots: %d replicas (%s), want %d to %d; queue %g", c.service, load, c.slots, n, h.last.Reason, least, most, h.queue)
		}
	}
}

// Up at once with the load and a queue, down only when the load has been low for long enough, and not by small steps.
func TestLawUpAndDown(t *testing.T) {
	h := open(t, lawful, 1, 4, 2*time.Second, 10*time.Second)
	h.seconds(600, 1)
	quiet := h.last.Wanted
	if quiet > 2 {
		t.Fatalf("load 2 of 4 slots: %d replicas: %s", quiet, h.last.Reason)
	}
	h.seconds(5, 20)
	if h.last.Wanted < 8 {
		t.Errorf("5 s after a step to a load of 40: %d replicas: %s", h.last.Wanted, h.last.Reason)
	}
	h.seconds(3600, 20)
	high := h.last.Wanted
	if high < 10 || high > 14 || h.queue > 1 {
		t.Errorf("load 40 of 4 slots a replica: %d replicas, queue %g: %s", high, h.queue, h.last.Reason)
	}
	actions, last := 0, high
	for i := range 1200 {
		h.second(1)
		if h.last.Wanted > last {
			t.Errorf("up while the load is low: %s", h.last.Reason)
		}
		if h.last.Wanted < last {
			if i < 30 && h.last.Wanted < 10 {
				t.Errorf("down %d s after the load fell: %s", i, h.last.Reason)
			}
			actions++
		}
		last = h.last.Wanted
	}
	if last > 3 || actions > 8 {
		t.Errorf("20 minutes later: %d replicas after %d steps: %s", last, actions, h.last.Reason)
	}
}

// A load that comes every ten minutes and stays for one is not chased up and down for ever more: what is planned for
// covers the share that the headroom asks for.
func TestLawHeadroom(t *testing.T) {
	at := func(headroom float64) int {
		z := lawful
		z.Headroom = headroom
		h := open(t, z, 1, 1, time.Second, 60*time.Second)
		r := rand.New(rand.NewPCG(3, 4))
		sum := 0
		for i := range 3 * 3600 {
			h.second(10 + 4*r.NormFloat64()*math.Sin(float64(i)/20))
			sum += h.last.Wanted
		}
		return sum
	}
	low, high := at(.8), at(.99)
	if low >= high {
		t.Errorf("headroom .8 costs %d replica-seconds, .99 costs %d", low, high)
	}
}

// With requests of ten minutes the load follows the arrivals slowly, and so do the replicas, from the first request on:
// never more than what is in flight and what can come within a start.
func TestLawLongService(t *testing.T) {
	z := lawful
	z.Max = 10000
	h := open(t, z, 1, 1, 10*time.Minute, 30*time.Second)
	for i := range 2400 {
		h.second(.5)
		soon := h.inFlight + h.queue + .5*30
		if n := float64(h.last.Wanted); n > soon+4*math.Sqrt(soon)+2 {
			t.Fatalf("after %d s: %g replicas, %g in flight and %g waiting: %s", i, n, h.inFlight, h.queue, h.last.Reason)
		}
	}
	if n := h.last.Wanted; n < 280 || n > 360 {
		t.Errorf("a load of %g: %d replicas: %s", h.inFlight, n, h.last.Reason)
	}
}

// Streams that never end are load though nothing arrives, and keep their replicas.
func TestLawOpenStreams(t *testing.T) {
	s := begin(t, lawful, 5)
	sig := Signal{Length: time.Second, InFlight: 20, Slots: 4, Ready: 5, Start: 10 * time.Second}
	for range 7200 {
		if s.step(sig); s.last.Wanted < 5 || s.last.Wanted > 10 {
			t.Fatalf("20 open streams, 4 a replica: %+v", s.last)
		}
	}
}

// Streams that come to hold every slot, where requests were short before, do not let others wait until the law has
// learned of them.
func TestLawStuck(t *testing.T) {
	h := open(t, lawful, 1, 4, 100*time.Millisecond, 5*time.Second)
	h.seconds(1200, 10)
	if h.last.Wanted != 1 {
		t.Fatalf("a load of 1 of 4 slots: %+v", h.last)
	}
	held := Signal{Length: time.Second, InFlight: 4, Queue: 3, Waiting: 3, Slots: 4, Ready: 1, Start: 5 * time.Second}
	for i := range 10 {
		held.OldestWait = time.Duration(i) * time.Second
		h.step(held)
	}
	if h.last.Wanted < 2 {
		t.Errorf("3 wait for 9 s, all slots held: %+v", h.last)
	}
}

// Without a bound on requests in flight a guess sizes; with nothing known at all the law does what is in flight.
func TestLawUnknowns(t *testing.T) {
	s := begin(t, lawful, 1)
	sig := Signal{Length: time.Second, InFlight: 95, Arrived: 50, Finished: 50, Served: 95, Rate1: 50, Rate4: 50, Rate10: 50, Rate60: 50, Rate600: 50, Ready: 1}
	for range 600 {
		s.step(sig)
	}
	if s.last.Wanted < 10 || s.last.Wanted > 13 {
		t.Errorf("a load of 95 without slots or a start time: %+v", s.last)
	}
	s = begin(t, lawful, 1)
	if s.step(Signal{Slots: 4, InFlight: 7, Queue: 2, Ready: 1}); s.last.Wanted != 3 {
		t.Errorf("9 requests and nothing learned: %+v", s.last)
	}
}

func TestLawToZero(t *testing.T) {
	z := lawful
	z.Min, z.ToZeroAfter = 0, 2*time.Minute
	h := open(t, z, 1, 1, time.Second, 5*time.Second)
	h.seconds(600, 3)
	h.seconds(119, 0)
	if h.last.Wanted == 0 {
		t.Fatalf("before its time: %+v", h.last)
	}
	h.seconds(40, 0)
	if h.last.Wanted != 0 {
		t.Fatalf("not idle enough: %+v", h.last)
	}
	h.second(5)
	if h.last.Wanted != 1 || h.last.Code != "wake" {
		t.Errorf("at zero: %+v", h.last)
	}
	// With min 1 and without traffic there is one, even with one slot a replica.
	h = open(t, lawful, 5, 1, time.Second, 5*time.Second)
	h.seconds(600, 3)
	h.seconds(3600, 0)
	if h.last.Wanted != 1 {
		t.Errorf("an hour without traffic: %+v", h.last)
	}
}

func TestLawWords(t *testing.T) {
	s := Sizing{Min: 1, Max: 10, Headroom: .98}
	l := Learned{Service: ServiceTime{Mean: 1, Finished: 100, Served: 100}, Load: 4}
	l.Loads.add(0, 4, 300)
	calm := Signal{InFlight: 4, Slots: 4, Ready: 2, Start: 21 * time.Second, Rate4: 4, Rate10: 4, Rate60: 4, Rate600: 4}
	_, why, code := s.leadTime(&l, calm)
	if why != "load 4, 4 expected with a start taking 21s and 4 more for what may come" || code != "load" {
		t.Errorf("%q, %s", why, code)
	}
	burst := calm
	burst.Rate4, burst.Rate10 = 30, 16
	_, why, code = s.leadTime(&l, burst)
	if why != "burst: 120 requests within seconds, load 35 instead of 4" || code != "burst" {
		t.Errorf("%q, %s", why, code)
	}
	stream := calm
	stream.InFlight = 12
	_, why, code = s.leadTime(&l, stream)
	if why != "in flight 12, 4 a replica" || code != "in_flight" {
		t.Errorf("%q, %s", why, code)
	}
	// The house's own example: a queue that replicas which are asked for now will still find.
	_, why, code = s.leadTime(&l, Signal{Queue: 84, OldestWait: 3 * time.Second, Waiting: 84, InFlight: 4, Slots: 4, Ready: 1, Start: 21 * time.Second, Rate10: 4, Rate60: 4, Rate600: 4})
	if why != "queue 84, 3 s old; start takes 21s" || code != "queue" {
		t.Errorf("%q, %s", why, code)
	}
}

// More of anything that asks for replicas never asks for fewer.
func TestLawMonotone(t *testing.T) {
	h := open(t, lawful, 1, 4, 2*time.Second, 20*time.Second)
	r := rand.New(rand.NewPCG(5, 6))
	for i := range 1800 {
		h.second(max(0, 6+3*r.NormFloat64()+4*math.Sin(float64(i)/100)))
	}
	l := h.state.Learned
	base := Signal{InFlight: 8, Queue: 3, Rate4: 6, Rate10: 6, Rate60: 6, Rate600: 6, Slots: 4, Ready: 3, Start: 20 * time.Second}
	for _, more := range []func(s *Signal, z *Sizing, x float64){
		func(s *Signal, _ *Sizing, x float64) { s.InFlight += x },
		func(s *Signal, _ *Sizing, x float64) { s.Queue += x },
		func(s *Signal, _ *Sizing, x float64) { s.Ready = max(0, s.Ready-int(x)) },
		func(_ *Signal, z *Sizing, x float64) { z.Headroom = min(.999, z.Headroom+x/1e3) },
	} {
		last := 0
		for x := 0.0; x < 60; x++ {
			sig, z := base, lawful
			z.Headroom = .95
			more(&sig, &z, x)
			n, _, _ := z.leadTime(&l, sig)
			if n < last {
				t.Fatalf("%+v: %d after %d", sig, n, last)
			}
			last = n
		}
	}
}

// Whatever comes, the law stays within its bounds and finite, and nothing goes down on no data.
func TestLawAlways(t *testing.T) {
	for seed := range uint64(60) {
		r := rand.New(rand.NewPCG(seed, 9))
		z := lawful
		z.Min, z.Max, z.Headroom = r.IntN(2), 2+r.IntN(3000), .5+.499*r.Float64()
		now := time.Unix(1e6, 0)
		st, _ := Decide(z, State{}, Signal{Replicas: 1, Stale: true}, now)
		scale := math.Exp(12*r.Float64() - 4)
		wild := func() float64 {
			switch r.IntN(8) {
			case 0:
				return 0
			case 1:
				return 1e9 * r.Float64()
			}
			return scale * r.ExpFloat64()
		}
		for i := range 400 {
			dt := time.Duration(200+r.IntN(4800)) * time.Millisecond
			if r.IntN(40) == 0 {
				dt = []time.Duration{time.Hour, -time.Hour, 0}[r.IntN(3)]
			}
			now = now.Add(dt)
			sig := Signal{
				Length: max(dt, 0), Arrived: math.Floor(wild()), Finished: math.Floor(wild()), Served: wild(), InFlight: wild(), Queue: wild() * float64(r.IntN(2)),
				Rate1: wild(), Rate4: wild(), Rate10: wild(), Rate60: wild(), Rate600: wild(), Slots: r.IntN(9), Ready: r.IntN(st.Wanted + 1), Starting: r.IntN(3),
				Start: time.Duration(wild() * 1e9), Stale: r.IntN(9) == 0, Partial: r.IntN(9) == 0, Unhealthy: r.IntN(2), Idle: time.Duration(r.IntN(700)) * time.Second,
			}
			if sig.Stale {
				sig.Length = 0
			}
			before := st
			next, d := Decide(z, st, sig, now)
			if again, d2 := Decide(z, before, sig, now); d2 != d || again.Learned != next.Learned {
				t.Fatalf("seed %d, %d: not the same twice", seed, i)
			}
			st = next
			switch regular := dt >= 0 && dt <= tickMax; {
			case st.Wanted < z.Min || st.Wanted > z.Max:
				t.Fatalf("seed %d, %d: %d is out of bounds: %+v", seed, i, st.Wanted, d)
			case st.Wanted < before.Wanted && (sig.Stale || sig.Partial || !regular):
				t.Fatalf("seed %d, %d: down on no data: %+v", seed, i, d)
			case (sig.Stale || sig.Partial || !regular) && st.Learned != before.Learned:
				t.Fatalf("seed %d, %d: learned from no data", seed, i)
			case d.Reason == "" || d.Code == "":
				t.Fatalf("seed %d, %d: no words", seed, i)
			}
			if !st.Learned.Sound() {
				b, err := json.Marshal(st.Learned)
				t.Fatalf("seed %d, %d: learned nonsense: %s %v", seed, i, b, err)
			}
		}
	}
}

// lasting is what of l is kept across a restart: all but the queues that run beside the real one.
func lasting(l Learned) Learned {
	l.Levels.in, l.Levels.fleet = [levelCount]float64{}, fleet{}
	return l
}

// What was learned survives as JSON, to the last bit, and nonsense is refused.
func TestLearnedJSON(t *testing.T) {
	h := open(t, lawful, 1, 4, 2*time.Second, 20*time.Second)
	r := rand.New(rand.NewPCG(7, 8))
	for range 900 {
		h.second(max(0, 6+6*r.NormFloat64()))
	}
	b, err := json.Marshal(h.state.Learned)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) > 64<<10 {
		t.Errorf("%d bytes", len(b))
	}
	var back Learned
	if err := json.Unmarshal(b, &back); err != nil || back != lasting(h.state.Learned) {
		t.Errorf("not the same after JSON: %v", err)
	}
	var zero Learned
	if !zero.Sound() || !back.Sound() {
		t.Error("what was learned is sound")
	}
	for name, spoil := range map[string]func(l *Learned){
		"late":         func(l *Learned) { l.Levels.Late[3] = -1 },
		"law's cost":   func(l *Learned) { l.Levels.LawCost = math.NaN() },
		"NaN":          func(l *Learned) { l.Load = math.NaN() },
		"infinite":     func(l *Learned) { l.Forecast.Weights[2] = math.Inf(1) },
		"negative":     func(l *Learned) { l.Margin.Buckets[3] = -1 },
		"out of range": func(l *Learned) { l.Forecast.First = expectedMost },
		"too many":     func(l *Learned) { l.Loads.N = peaksMost + 1 },
		"gaps":         func(l *Learned) { l.Gaps.N = -1 },
		"weights":      func(l *Learned) { l.Forecast.Squares[1][1] = -5 },
	} {
		l := back
		if spoil(&l); l.Sound() {
			t.Errorf("%s is taken for sound", name)
		}
	}
}

// A leap of the clock and a gap in the measurements change nothing of what was learned.
func TestLawAcrossGaps(t *testing.T) {
	h := open(t, lawful, 1, 4, 2*time.Second, 10*time.Second)
	h.seconds(900, 10)
	n, learned := h.last.Wanted, h.state.Learned
	for _, dt := range []time.Duration{time.Hour, -time.Hour, time.Second, 24 * time.Hour} {
		if got := h.jump(dt, Signal{Stale: true, Slots: 4, Ready: n, Idle: time.Hour}); got != n || h.state.Learned != learned {
			t.Errorf("after %s without data: %d replicas, not %d", dt, got, n)
		}
	}
	h.seconds(60, 10)
	if d := h.last.Wanted - n; d < -1 || d > 1 {
		t.Errorf("the load is the same after the gap: %d replicas, not %d: %s", h.last.Wanted, n, h.last.Reason)
	}
}

func TestPeaks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 1))
	var p Peaks
	var all []peak
	for i := range 3000 {
		at, v := float64(i), r.Float64()*10
		p.add(at, v, 300)
		all = append(all, peak{at, v})
		for _, age := range []float64{10, 60, 300} {
			most := 0.0
			for _, e := range all[max(0, len(all)-301):] {
				if at-e.At <= age {
					most = max(most, e.Value)
				}
			}
			if got := p.most(at, age); got > most+1e-9 || age == 300 && got < most-1e-9 {
				t.Fatalf("at %d over %g s: %g, not %g", i, age, got, most)
			}
		}
	}
}

func TestGaps(t *testing.T) {
	var g Gaps
	clock := 0.0
	run := func(seconds, level int) {
		for range seconds {
			clock++
			g.add(clock, 1, level)
			g.learn(clock, 60)
		}
	}
	for range 50 { // 3 layers come back after 40 s, every time
		run(20, 5)
		run(40, 2)
	}
	if g.Best < 40 || g.Best > 50 {
		t.Errorf("gaps of 40 s, a start of 60 s: hold %g s", g.Best)
	}
	g, clock = Gaps{}, 0
	for range 20 { // after 10 minutes: not worth it
		run(20, 5)
		run(600, 2)
	}
	if g.Best > 20 {
		t.Errorf("gaps of 10 min, a start of 60 s: hold %g s", g.Best)
	}
	if h := g.hold(); h != holdLeast*time.Second {
		t.Errorf("hold %s", h)
	}
}

func TestMargin(t *testing.T) {
	var m Margin
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		m.fade(math.Exp2(-1. / memoryHalf))
		m.add(24, 24+5*r.NormFloat64(), 1)
	}
	for q, z := range map[float64]float64{.5: 0, .84: 1, .977: 2, .9986: 3} {
		if got := m.over(24, q) / 5; math.Abs(got-z) > .3 {
			t.Errorf("quantile %g of a normal distribution: %g, not %g", q, got, z)
		}
	}
}

// One tick of the law, with thousands of replicas and everything in use, is to take 50 µs at most.
func BenchmarkDecide(b *testing.B) {
	for _, replicas := range []int{1, 5000} {
		b.Run(fmt.Sprint(replicas), func(b *testing.B) {
			z := lawful
			z.Max = 10000
			r := rand.New(rand.NewPCG(1, 3))
			now := time.Unix(1e6, 0)
			st, _ := Decide(z, State{}, Signal{Replicas: replicas, Stale: true}, now)
			sigs := make([]Signal, 1000)
			for i := range sigs {
				load := float64(4*replicas) * (1 + .3*math.Sin(float64(i)/80) + .05*r.NormFloat64())
				sigs[i] = Signal{Length: time.Second, Arrived: load, Finished: load, Served: load, InFlight: load, Queue: float64(r.IntN(3)), Rate1: load, Rate4: load, Rate10: load,
					Rate60: load, Rate600: load, Slots: 4, Ready: replicas, Start: 30 * time.Second}
			}
			b.ReportAllocs()
			for i := range b.N {
				now = now.Add(time.Second)
				st, _ = Decide(z, st, sigs[i%len(sigs)], now)
			}
		})
	}
}
