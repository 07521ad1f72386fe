package scaler

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
	"sluice/scaler/vertical"
)

const mib = 1 << 20

// sizedEngine is a fakeEngine whose replicas use something of what they may.
type sizedEngine struct {
	*fakeEngine
	declared vertical.Resources            // guarded by fakeEngine.mu, as all below
	has      map[string]vertical.Resources // by replica; what is missing is declared
	uses     vertical.Resources            // each of them, second after second
	silent   bool                          // nothing is told of what they use
	ranOut   map[string]time.Time
	waits    string
	broken   error
	resizes  []string // "r1 0.5 cores, 300 MiB at 12s"
	begun    time.Time
	start    vertical.Recommendation
	asks     int
}

func (e *sizedEngine) Usage() (all []Usage) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.silent {
		return nil
	}
	for _, r := range e.replicas {
		all = append(all, Usage{Replica: r.ID, At: time.Now(), CPU: e.uses.CPUs, Memory: e.uses.Memory})
	}
	return all
}

func (e *sizedEngine) of(id string) vertical.Resources {
	if r, ok := e.has[id]; ok {
		return r
	}
	return e.declared
}

func (e *sizedEngine) Allowances(context.Context) (Allowances, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.asks++
	all := Allowances{Most: vertical.Resources{CPUs: 8, Memory: 64 << 30}}
	for _, r := range e.replicas {
		all.Replicas = append(all.Replicas, Allowance{Replica: r.ID, Has: e.of(r.ID), Limit: e.of(r.ID), RanOut: e.ranOut[r.ID], Waits: e.waits})
	}
	return all, nil
}

func (e *sizedEngine) Resize(_ context.Context, id string, to vertical.Resources) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.resizes = append(e.resizes, fmt.Sprintf("%s %v at %s", id, to, time.Since(e.begun).Round(time.Second)))
	if e.broken != nil {
		return e.broken
	}
	is := e.of(id)
	if to.CPUs > 0 {
		is.CPUs = to.CPUs
	}
	if to.Memory > 0 {
		is.Memory = to.Memory
	}
	e.has[id] = is
	return nil
}

func (e *sizedEngine) StartWith(r vertical.Recommendation) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.start = r
}

func (e *sizedEngine) done() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return append([]string(nil), e.resizes...)
}

// days is a model that has seen replicas use so much for some days, a sample a minute.
func days(n float64, use vertical.Resources, end time.Time) *vertical.Checkpoint {
	m := vertical.NewModel()
	for at := end.Add(-time.Duration(n * 24 * float64(time.Hour))); !at.After(end); at = at.Add(vertical.Every) {
		m.Add(vertical.Sample{Replica: "before", CPU: use.CPUs, Memory: use.Memory, Has: 1, Limit: 1}, at)
	}
	return m.Checkpoint()
}

// withSized runs test with a loop over two replicas of a sizedEngine, that begins with what m knows.
func withSized(t *testing.T, cfg Config, known *vertical.Checkpoint, prepare func(*sizedEngine), test func(e *sizedEngine, l *Loop, m *Memory)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		u := balancer.NewUpstream("demo", balancer.DefaultConfig())
		e := &sizedEngine{
			fakeEngine: &fakeEngine{u: u, startTime: 2 * time.Second, changed: make(chan struct{}, 1)},
			has:        map[string]vertical.Resources{}, ranOut: map[string]time.Time{}, begun: time.Now(),
			declared: vertical.Resources{CPUs: 4, Memory: 2048 * mib}, uses: vertical.Resources{CPUs: .1, Memory: 100 * mib},
		}
		if prepare != nil {
			prepare(e)
		}
		m := NewMemory(slog.New(slog.DiscardHandler))
		if known != nil {
			m.keepUse("demo", known, time.Now())
		}
		l := NewLoop(u, e, cfg, nil, slog.New(slog.DiscardHandler))
		l.Remember(m)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); l.Run(ctx) }()
		test(e, l, m)
		cancel()
		<-ended
		u.Close()
	})
}

func sizedConfig() Config {
	cfg := demoConfig()
	cfg.Min, cfg.Vertical = 2, "apply"
	return cfg
}

func settle(d time.Duration) { time.Sleep(d); synctest.Wait() }

var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // when bubbles begin

// Too large a limit is lowered after days of history: one replica after the other, with a pause, and not again.
func TestFitOneAtATime(t *testing.T) {
	withSized(t, sizedConfig(), days(8, vertical.Resources{CPUs: .1, Memory: 300 * mib}, epoch), nil, func(e *sizedEngine, l *Loop, _ *Memory) {
		settle(40 * time.Second)
		if got := e.done(); len(got) != 0 {
			t.Fatalf("before anything was measured: %v", got)
		}
		settle(160 * time.Second)
		got := e.done()
		if len(got) != 2 || !strings.HasPrefix(got[0], "r1 0.127 cores, ") || !strings.HasPrefix(got[1], "r2 0.127 cores, ") {
			t.Fatalf("changed: %q", got)
		}
		if e.has["r1"].Memory < 345*mib || e.has["r1"].Memory > 400*mib {
			t.Errorf("memory is %v", e.has["r1"])
		}
		events := 0
		var at []time.Time
		for _, one := range l.Recent() {
			if one.Kind == "resize" {
				events++
				at = append(at, one.At)
			}
		}
		if events != 2 || at[1].Sub(at[0]) < resizePause {
			t.Errorf("%d events, at %v", events, at)
		}
		settle(10 * time.Minute)
		if again := e.done(); len(again) != 2 {
			t.Errorf("changed again: %q", again)
		}
		s := l.Status().Vertical
		if s == nil || !s.Known || s.Mode != "apply" || s.Trouble != "" || !strings.Contains(s.Reason, "replica r2: 4 cores to 0.127 cores") || len(s.Replicas) != 2 {
			t.Errorf("status %+v", s)
		}
		if e.start != s.Recommendation {
			t.Errorf("new ones start with %+v", e.start)
		}
	})
}

// With next to no history nothing is lowered, but what is far too small is raised.
func TestFitRaisesEarly(t *testing.T) {
	withSized(t, sizedConfig(), nil, func(e *sizedEngine) {
		e.declared, e.uses = vertical.Resources{CPUs: .5, Memory: 4096 * mib}, vertical.Resources{CPUs: .5, Memory: 300 * mib}
	}, func(e *sizedEngine, _ *Loop, _ *Memory) {
		settle(20 * time.Minute)
		if got := e.done(); len(got) < 2 || strings.Contains(got[0], "4096") || !strings.Contains(got[0], ", 0 MiB") {
			t.Errorf("changed: %q", got)
		}
		if e.has["r1"].CPUs <= .5 || e.has["r1"].Memory != 4096*mib {
			t.Errorf("r1 has %v", e.has["r1"])
		}
	})
}

// Below what is used now nothing is lowered, whatever the history says, and the status says so.
func TestFitNeverBelowUse(t *testing.T) {
	cfg := sizedConfig()
	cfg.VerticalMax.Memory = 400 * mib
	withSized(t, cfg, days(8, vertical.Resources{CPUs: .1, Memory: 300 * mib}, epoch), func(e *sizedEngine) {
		e.declared, e.uses = vertical.Resources{CPUs: 1, Memory: 1000 * mib}, vertical.Resources{CPUs: .98, Memory: 950 * mib}
	}, func(e *sizedEngine, l *Loop, _ *Memory) {
		settle(5 * time.Minute)
		if got := e.done(); len(got) != 0 {
			t.Errorf("changed: %q", got)
		}
		if s := l.Status().Vertical; !strings.Contains(s.Reason, "stays at 1 cores, not 0.127 cores: it uses 0.98 cores; stays at 1000 MiB, not 400 MiB: it uses 950 MiB") {
			t.Errorf("status %+v", s)
		}
	})
	// What is not known is not below anything.
	withSized(t, sizedConfig(), days(8, vertical.Resources{CPUs: .1, Memory: 300 * mib}, epoch), func(e *sizedEngine) { e.silent = true }, func(e *sizedEngine, l *Loop, _ *Memory) {
		settle(5 * time.Minute)
		if got := e.done(); len(got) != 0 || !strings.Contains(l.Status().Vertical.Reason, "what it uses is not known") {
			t.Errorf("changed: %q, status %+v", got, l.Status().Vertical)
		}
	})
}

// recommend, observe, a freeze and another gateway that acts change nothing.
func TestFitOnlyWhenAsked(t *testing.T) {
	for name, change := range map[string]func(*Config, *Loop){
		"recommend": func(c *Config, _ *Loop) { c.Vertical = "recommend" },
		"observe":   func(c *Config, _ *Loop) { c.Mode = "observe" },
		"freeze":    func(_ *Config, l *Loop) { l.Freeze(true) },
		"follow":    func(_ *Config, l *Loop) { l.Follow(true) },
		"off":       func(c *Config, _ *Loop) { c.Vertical = "off" },
	} {
		cfg := sizedConfig()
		withSized(t, cfg, days(8, vertical.Resources{CPUs: .1, Memory: 300 * mib}, epoch), nil, func(e *sizedEngine, l *Loop, _ *Memory) {
			settle(10 * time.Second)
			change(&cfg, l)
			l.Configure(cfg)
			settle(10 * time.Minute)
			if got := e.done(); len(got) != 0 {
				t.Errorf("%s: changed %q", name, got)
			}
			if s := l.Status().Vertical; (s == nil) != (name == "off") || s != nil && !s.Known {
				t.Errorf("%s: status %+v", name, s)
			}
			if (name == "recommend" || name == "observe" || name == "off") && e.start != (vertical.Recommendation{}) {
				t.Errorf("%s: new ones start with %+v", name, e.start)
			}
		})
	}
}

// What the engine refuses is said once, and tried again ever more seldom; then it goes on.
func TestFitFails(t *testing.T) {
	withSized(t, sizedConfig(), days(8, vertical.Resources{CPUs: .1, Memory: 300 * mib}, epoch), func(e *sizedEngine) { e.broken = errors.New("device or resource busy") },
		func(e *sizedEngine, l *Loop, _ *Memory) {
			settle(15 * time.Minute)
			n := len(e.done())
			if n < 3 || n > 8 {
				t.Errorf("tried %d times: %q", n, e.done())
			}
			s := l.Status()
			if !strings.Contains(s.Vertical.Trouble, "device or resource busy") || s.Failure != "" || s.Errors != 0 {
				t.Errorf("status %+v, failure %q", s.Vertical, s.Failure)
			}
			if s.Ready != 2 {
				t.Errorf("%d ready", s.Ready)
			}
			e.set(func() { e.broken = nil })
			settle(15 * time.Minute)
			if s := l.Status().Vertical; s.Trouble != "" || e.has["r1"].CPUs > .2 || e.has["r2"].CPUs > .2 {
				t.Errorf("then %+v, %v", s, e.has)
			}
		})
}

// One that got unhealthy by its change holds the others back, and so does one whose change waits.
func TestFitHoldsBack(t *testing.T) {
	known := days(8, vertical.Resources{CPUs: .1, Memory: 300 * mib}, epoch)
	withSized(t, sizedConfig(), known, nil, func(e *sizedEngine, l *Loop, _ *Memory) {
		for len(e.done()) == 0 {
			settle(time.Second)
		}
		e.probe("r1", errors.New("status 500"))
		settle(25 * time.Second) // it is replaced after 30
		if got := e.done(); len(got) != 1 {
			t.Errorf("changed %q", got)
		}
	})
	withSized(t, sizedConfig(), known, nil, func(e *sizedEngine, l *Loop, _ *Memory) {
		for len(e.done()) == 0 {
			settle(time.Second)
		}
		e.set(func() { e.waits = "the node has no room" })
		settle(5 * time.Minute)
		if got := e.done(); len(got) != 1 || !strings.Contains(l.Status().Vertical.Reason, "the node has no room") {
			t.Errorf("changed %q, %+v", got, l.Status().Vertical)
		}
	})
}

// A replica that ran out of memory gets more at once, though the history would not ask for it; once for one time.
func TestFitOutOfMemory(t *testing.T) {
	withSized(t, sizedConfig(), days(8, vertical.Resources{CPUs: .1, Memory: 300 * mib}, epoch), func(e *sizedEngine) {
		e.declared = vertical.Resources{CPUs: .13, Memory: 400 * mib}
	}, func(e *sizedEngine, l *Loop, _ *Memory) {
		settle(3 * time.Minute)
		if got := e.done(); len(got) != 0 {
			t.Fatalf("changed %q", got)
		}
		e.set(func() { e.ranOut["r2"] = time.Now() })
		settle(5 * time.Minute)
		if e.has["r1"].Memory < 500*mib || e.has["r2"].Memory != e.has["r1"].Memory || e.has["r2"].Memory > 700*mib {
			t.Errorf("they have %v after %q", e.has, e.done())
		}
		n := len(e.done())
		settle(10 * time.Minute)
		if got := e.done(); len(got) != n {
			t.Errorf("changed again: %q", got)
		}
		if s := l.Status().Vertical; s.Recommendation.OOM != 500*mib {
			t.Errorf("status %+v", s)
		}
	})
}

// What is known of use outlives a restart, beside what the law knows; a file of an older sluice has none, and one that is
// not sound is left out without the rest.
func TestMemoryOfUse(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state.json")
	m := NewMemory(slog.New(slog.DiscardHandler))
	m.Configure(file)
	known := days(3, vertical.Resources{CPUs: .2, Memory: 300 * mib}, epoch)
	m.keep("a", Learned{Clock: 5}, epoch)
	m.keepUse("a", known, epoch)
	m.keep("a", Learned{Clock: 6}, epoch)
	m.keepUse("b", known, epoch)
	bad := *known
	bad.Samples = -1
	m.keepUse("c", &bad, epoch)
	m.keep("c", Learned{Clock: 7}, epoch)
	m.keep("old", Learned{Clock: 8}, epoch)
	m.Save()
	m = NewMemory(slog.New(slog.DiscardHandler))
	m.Configure(file)
	if m.recall("a").Clock != 6 || m.recallUse("a") == nil || m.recallUse("b") == nil || m.recallUse("c") != nil || m.recall("c").Clock != 7 ||
		m.recall("old").Clock != 8 || m.recallUse("old") != nil {
		t.Errorf("after a restart %+v", m.entries)
	}
	is, err := m.recallUse("b").Model()
	if err != nil {
		t.Fatal(err)
	}
	was, _ := known.Model()
	x, _ := is.Recommend(vertical.Resources{}, vertical.Resources{}, epoch)
	if y, _ := was.Recommend(vertical.Resources{}, vertical.Resources{}, epoch); x != y {
		t.Errorf("%+v, and was %+v", x, y)
	}
	var none *Memory
	if none.keepUse("a", known, epoch); none.recallUse("a") != nil {
		t.Error("a nil memory remembers")
	}
	// The loop leaves there what it has measured.
	cfg := sizedConfig()
	withSized(t, cfg, nil, nil, func(_ *sizedEngine, _ *Loop, m *Memory) {
		settle(8 * time.Minute)
		c := m.recallUse("demo")
		if c == nil || c.Samples < 6 {
			t.Errorf("after 8 minutes the memory has %+v", c)
		}
	})
}

// An engine that cannot change what runs, or does not even tell what it uses, says so, and all else goes on.
func TestFitOfEnginesThatCannot(t *testing.T) {
	for _, one := range []struct {
		vertical string
		driver   func(*sizedEngine) Driver
		want     string
		known    bool
	}{
		{"apply", func(e *sizedEngine) Driver { return e.fakeEngine }, "this engine does not tell what replicas use, what a replica may use cannot be changed", false},
		{"recommend", func(e *sizedEngine) Driver { return e.fakeEngine }, "this engine does not tell what replicas use", false},
		{"apply", func(e *sizedEngine) Driver { return measuring{e.fakeEngine, e} }, "what a replica may use cannot be changed while it runs", true},
		{"recommend", func(e *sizedEngine) Driver { return measuring{e.fakeEngine, e} }, "", true},
		{"apply", func(e *sizedEngine) Driver { return unresizable{e} }, "what a replica may use cannot be changed while it runs", true},
	} {
		synctest.Test(t, func(t *testing.T) {
			u := balancer.NewUpstream("demo", balancer.DefaultConfig())
			e := &sizedEngine{fakeEngine: &fakeEngine{u: u, startTime: time.Second, changed: make(chan struct{}, 1)}, uses: vertical.Resources{CPUs: .1, Memory: mib}}
			cfg := sizedConfig()
			cfg.Vertical = one.vertical
			l := NewLoop(u, one.driver(e), cfg, nil, slog.New(slog.DiscardHandler))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { defer close(ended); l.Run(ctx) }()
			settle(3 * time.Minute)
			s := l.Status()
			if v := s.Vertical; !strings.Contains(v.Trouble, one.want) || (v.Trouble == "") != (one.want == "") || v.Known != one.known || s.Ready != 2 || s.Failure != "" || len(e.done()) != 0 {
				t.Errorf("%s: %+v, %d ready", one.vertical, v, s.Ready)
			}
			cancel()
			<-ended
			u.Close()
		})
	}
}

// measuring only tells what replicas use.
type measuring struct {
	*fakeEngine
	Gauge
}

// unresizable refuses.
type unresizable struct{ *sizedEngine }

func (unresizable) Allowances(context.Context) (Allowances, error) { return Allowances{}, ErrNoResize }

// fencedIn is a driver within another, as among several gateways.
type fencedIn struct {
	Resizer
	Driver
}

func (w fencedIn) Unwrap() Driver { return w.Driver }

func TestResizerOf(t *testing.T) {
	outer := &sizedEngine{}
	if resizerOf(nil) != nil || resizerOf(&fakeEngine{}) != nil || resizerOf(fencedIn{outer, &fakeEngine{}}) != nil {
		t.Error("one that cannot resize is taken for one that can")
	}
	if w := (fencedIn{outer, outer}); resizerOf(outer) == nil || resizerOf(w) != Resizer(w) { // not what is within: it may only be called through the wrapping
		t.Error("one that can resize is not called as it is wrapped")
	}
}
