package vertical

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

const mib = 1 << 20

// minutes adds a sample a minute of one replica.
func minutes(m *Model, from time.Time, n int, s Sample) time.Time {
	for range n {
		m.Add(s, from)
		from = from.Add(time.Minute)
	}
	return from
}

func TestRecommendByHand(t *testing.T) {
	m := NewModel()
	if _, ok := m.Recommend(Resources{}, Resources{}, day0); ok {
		t.Fatal("something is recommended on nothing")
	}
	// A day of 0.1 cores, in the bucket from 0.09549 to 0.11027 (0.01·(1.05^9−1)/0.05), and 100 MB, in the same of memory.
	end := minutes(m, day0, 1441, Sample{Replica: "a", CPU: .1, Memory: 1e8, Has: 1, Limit: 1})
	r, ok := m.Recommend(Resources{}, Resources{}, end)
	if !ok || !near1(r.Days, 1) {
		t.Fatalf("%+v, %v", r, ok)
	}
	for _, one := range []struct {
		what      string
		got, want float64
	}{
		{"target CPU: 0.110266 × 1.15 = 0.126805", r.Target.CPUs, .127},
		{"lower CPU: × 1.001^-2 = 0.126552", r.Lower.CPUs, .127},
		{"upper CPU: × 2 = 0.253611", r.Upper.CPUs, .254},
		{"target memory: 126,805,488 B = 120.93 MiB", float64(r.Target.Memory), 121 * mib},
		{"upper memory: 241.86 MiB", float64(r.Upper.Memory), 242 * mib},
	} {
		if !near1(one.got, one.want) {
			t.Errorf("%s: %v, not %v", one.what, one.got, one.want)
		}
	}
	r, _ = m.Recommend(Resources{CPUs: .2, Memory: 64 * mib}, Resources{CPUs: .22, Memory: 100 * mib}, end)
	if want := (Resources{.2, 100 * mib}); r.Target != want || r.Lower != want || r.Upper != (Resources{.22, 100 * mib}) {
		t.Errorf("within bounds: %+v", r)
	}
}

// The bounds are wide while little is known: by days, or by samples where many were missed.
func TestConfidence(t *testing.T) {
	for _, one := range []struct {
		minutes      int
		every        time.Duration
		days         float64
		lower, upper float64 // factors
	}{
		{1, time.Minute, 0, 0, -1},
		{145, time.Minute, .1, .980296, 11},               // 1.01^-2, 1+10
		{15, time.Minute, .00972222, .822128, 103.857142}, // (1+0.001/0.0097222)^-2
		{2881, time.Minute, 2, .999000749, 1.5},
		{145, 10 * time.Minute, .1006944, .98043, 10.931}, // a day, and a tenth of its samples
	} {
		m := NewModel()
		at := day0
		for range one.minutes {
			m.Add(Sample{Replica: "a", CPU: 10, Memory: 1e10}, at)
			at = at.Add(one.every)
		}
		r, _ := m.Recommend(Resources{}, Resources{}, at)
		if diff := r.Days - one.days; diff < -1e-5 || diff > 1e-5 {
			t.Errorf("%d samples are %g days, not %g", one.minutes, r.Days, one.days)
		}
		base := m.cpu.quantile(.9) * margin
		if lower := r.Lower.CPUs / base; lower < one.lower-1e-3 || lower > one.lower+1e-3 {
			t.Errorf("%d samples: lower × %g, not %g", one.minutes, lower, one.lower)
		}
		if upper := r.Upper.CPUs / base; one.upper > 0 && (upper < one.upper*.999 || upper > one.upper*1.001) || one.upper < 0 && r.Upper.CPUs != highestCPUs {
			t.Errorf("%d samples: upper × %g, not %g", one.minutes, upper, one.upper)
		}
	}
}

// Samples weigh what the replica might have used: ten minutes at a limit of 2 count like 200 at 0.1.
func TestWeights(t *testing.T) {
	m := NewModel()
	at := minutes(m, day0, 190, Sample{Replica: "a", CPU: .05, Has: .1, Limit: .1})
	at = minutes(m, at, 10, Sample{Replica: "b", CPU: 1.5, Has: 2, Limit: 2})
	if got := m.cpu.quantile(.45); got > .1 {
		t.Errorf("less than half: %g", got)
	}
	if got := m.cpu.quantile(.55); got < 1 {
		t.Errorf("more than half: %g", got)
	}
	// One at its limit shows that it wants more.
	m = NewModel()
	minutes(m, at, 10, Sample{Replica: "a", CPU: .099, Has: .1, Limit: .1})
	if got := m.cpu.quantile(.9); got < .099*1.2 {
		t.Errorf("at its limit of 0.1 it counts as %g", got)
	}
}

// Of a replica's memory the peak of a day is one sample, replaced while the day lasts.
func TestMemoryPeaks(t *testing.T) {
	m := NewModel()
	for i, used := range []int64{100, 50, 200, 150} {
		m.Add(Sample{Replica: "a", Memory: used * mib}, day0.Add(time.Duration(i)*time.Hour))
	}
	m.Add(Sample{Replica: "b", Memory: 20 * mib}, day0)
	if n := weighs(m.memory); n != 2 || m.peaks["a"].Bytes != 200*mib {
		t.Errorf("%d samples in the first day, peak %d", n, m.peaks["a"].Bytes)
	}
	if got, want := m.memory.quantile(1), memoryScale.start(memoryScale.bucket(200*mib)+1); got != want {
		t.Errorf("the largest is %g, not %g", got, want)
	}
	m.Add(Sample{Replica: "a", Memory: 40 * mib}, day0.Add(25*time.Hour))
	if n := weighs(m.memory); n != 3 || len(m.peaks) != 1 || m.peaks["a"].Bytes != 40*mib {
		t.Errorf("%d samples after a day, peaks %+v", n, m.peaks)
	}
	for i := range peaksMost + 10 {
		m.Add(Sample{Replica: fmt.Sprint(i), Memory: mib}, day0.Add(26*time.Hour))
	}
	if len(m.peaks) != peaksMost {
		t.Errorf("%d peaks are kept", len(m.peaks))
	}
}

// weighs is how many buckets hold something.
func weighs(h histogram) (n int) {
	for _, w := range h.weights {
		if w > 0 {
			n++
		}
	}
	return n
}

func TestOutOfMemory(t *testing.T) {
	for _, one := range []struct {
		what        string
		peak, limit int64
		needs       int64
		known       bool
	}{
		{"a small one: 100 MiB more", 50 * mib, 64 * mib, 164 * mib, true},
		{"a large one: a fifth more", 900 * mib, 1000 * mib, 1200 * mib, true},
		{"no limit: its peak counts", 700 * mib, 0, 840 * mib, true},
		{"nothing known", 0, 0, 0, false},
	} {
		m := NewModel()
		at := day0
		if one.peak > 0 {
			at = minutes(m, at, 3000, Sample{Replica: "a", CPU: .1, Memory: one.peak})
		}
		m.OutOfMemory("a", one.limit, at)
		r, ok := m.Recommend(Resources{}, Resources{}, at)
		if ok != one.known || r.OOM != one.needs || r.Target.Memory < one.needs || r.Lower.Memory < one.needs || r.Upper.Memory < r.Target.Memory {
			t.Errorf("%s: %+v", one.what, r)
		}
		if r, ok := m.Recommend(Resources{}, Resources{Memory: 128 * mib}, at); ok && r.Target.Memory != 128*mib {
			t.Errorf("%s: %+v, beyond what is allowed", one.what, r)
		}
		if r, _ := m.Recommend(Resources{}, Resources{}, at.Add(25*time.Hour)); r.OOM != 0 {
			t.Errorf("%s: a day later still %+v", one.what, r)
		}
	}
	// Killed again with what it got: more again; killed twice with the same: once.
	m := NewModel()
	m.OutOfMemory("a", 64*mib, day0)
	m.OutOfMemory("a", 64*mib, day0)
	if m.oom.Needs != 164*mib || weighs(m.memory) != 1 {
		t.Errorf("the same twice: %+v", m.oom)
	}
	m.OutOfMemory("a", 164*mib, day0)
	if m.oom.Needs != 264*mib || weighs(m.memory) != 1 {
		t.Errorf("again: %+v", m.oom)
	}
}

func TestCheckpoint(t *testing.T) {
	m := NewModel()
	at := minutes(m, day0, 3000, Sample{Replica: "a", CPU: .3, Memory: 70 * mib, Has: 1, Limit: 1})
	m.OutOfMemory("a", 100*mib, at)
	b, err := json.Marshal(m.Checkpoint())
	if err != nil {
		t.Fatal(err)
	}
	var c Checkpoint
	if err := json.Unmarshal(b, &c); err != nil {
		t.Fatal(err)
	}
	is, err := c.Model()
	if err != nil {
		t.Fatal(err)
	}
	was, _ := m.Recommend(Resources{}, Resources{}, at)
	if got, ok := is.Recommend(Resources{}, Resources{}, at); !ok || got != was {
		t.Errorf("%+v, and was %+v", got, was)
	}
	is.Add(Sample{Replica: "a", Memory: 60 * mib}, at) // no new peak: its day goes on
	if weighs(is.memory) != weighs(m.memory) {
		t.Error("a peak is counted twice")
	}
	for name, spoil := range map[string]func(*Checkpoint){
		"samples": func(c *Checkpoint) { c.Samples = -1 },
		"times":   func(c *Checkpoint) { c.Last = c.First.Add(-1) },
		"peaks":   func(c *Checkpoint) { c.Peaks["a"] = peak{Bytes: 5, Needs: 4} },
		"oom":     func(c *Checkpoint) { c.OOM.Needs = -1 },
		"cpu":     func(c *Checkpoint) { c.CPU.Weights[500] = 1 },
		"memory":  func(c *Checkpoint) { c.Memory.Total = -1 },
	} {
		bad := m.Checkpoint()
		spoil(bad)
		if _, err := bad.Model(); err == nil {
			t.Errorf("unsound %s are believed", name)
		}
	}
}
