package scaler

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
)

// fakeEngine is engine, driver and discovery in one: replicas become ready startTime after they are asked for.
type fakeEngine struct {
	u         *balancer.Upstream
	startTime time.Duration

	mu       sync.Mutex // guards all below
	replicas []Replica
	seq      int
	started  int
	stopped  []string
	most     int                // live at once
	dead     func(n int) string // why the nth start crashes after half its start time; nil or "": it does not
	never    bool               // replicas do not become ready
	refuse   error              // what Scale returns
	hang     bool               // no call returns before its context ends
	calls    int
	changed  chan struct{}
}

func (f *fakeEngine) Changed() <-chan struct{} { return f.changed }

func (f *fakeEngine) answer(ctx context.Context) error {
	f.mu.Lock()
	f.calls++
	hang := f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f *fakeEngine) List(ctx context.Context) ([]Replica, error) {
	if err := f.answer(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.replicas), nil
}

func (f *fakeEngine) live() (n int) {
	for _, r := range f.replicas {
		if r.live() {
			n++
		}
	}
	return n
}

func (f *fakeEngine) Scale(ctx context.Context, n int, victims []string) error {
	if err := f.answer(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	f.replicas = slices.DeleteFunc(f.replicas, func(r Replica) bool {
		if slices.Contains(victims, r.ID) {
			f.stopped = append(f.stopped, r.ID)
			return true
		}
		return r.State == ReplicaFailed
	})
	for f.live() > n {
		f.stopped = append(f.stopped, "unasked "+f.replicas[0].ID)
		f.replicas = f.replicas[1:]
	}
	for f.live() < n {
		f.seq++
		f.started++
		r := Replica{ID: fmt.Sprintf("r%d", f.seq), Addr: fmt.Sprintf("127.0.0.1:%d", f.seq), State: ReplicaRunning, Asked: time.Now(), Index: f.seq}
		f.replicas = append(f.replicas, r)
		switch {
		case f.dead != nil && f.dead(f.seq) != "":
			time.AfterFunc(f.startTime/2, func() { f.crash(r.ID, f.dead(r.Index)) })
		case !f.never:
			time.AfterFunc(f.startTime, func() { f.probe(r.ID, nil) })
		}
	}
	f.most = max(f.most, f.live())
	f.update()
	return nil
}

func (f *fakeEngine) probe(id string, err error) {
	if s := f.u.Server(id); s != nil {
		s.Probe(err, 1, 1, time.Now())
	}
}

func (f *fakeEngine) crash(id, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.replicas {
		if f.replicas[i].ID == id {
			f.replicas[i].State, f.replicas[i].Reason = ReplicaFailed, why
		}
	}
	f.update()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fakeEngine) update() {
	var specs []balancer.ServerSpec
	for _, r := range f.replicas {
		if r.live() {
			specs = append(specs, balancer.ServerSpec{ID: r.ID, Addr: r.Addr})
		}
	}
	f.u.Update(specs, time.Now())
}

func (f *fakeEngine) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// seen is what a test looks at.
type seen struct {
	calls, started, most int
	stopped              []string
	replicas             []Replica
}

func (f *fakeEngine) now() seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return seen{f.calls, f.started, f.most, slices.Clone(f.stopped), slices.Clone(f.replicas)}
}

// bench is a loop over a fake engine in a bubble.
type bench struct {
	t      *testing.T
	engine *fakeEngine
	loop   *Loop
	u      *balancer.Upstream
	log    bytes.Buffer
	ctx    context.Context
	failed int // requests
	mu     sync.Mutex
}

func demoConfig() Config {
	var c Config
	c.SetDefaults()
	c.Max, c.QueuedPerReplica, c.StartTime = 6, 8, 2*time.Second
	return c
}

// inBubble runs test with a loop over it; everything ends with it.
func inBubble(t *testing.T, cfg Config, prepare func(*fakeEngine), test func(b *bench)) {
	t.Helper()
	inBubbleWith(t, cfg, func(f *fakeEngine) Driver {
		if prepare != nil {
			prepare(f)
		}
		return f
	}, test)
}

// inBubbleWith is inBubble over what the test makes of the engine.
func inBubbleWith(t *testing.T, cfg Config, driver func(*fakeEngine) Driver, test func(b *bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		conf := balancer.DefaultConfig()
		conf.MaxConns = 4
		u := balancer.NewUpstream("demo", conf)
		b := &bench{t: t, u: u, engine: &fakeEngine{u: u, startTime: 2 * time.Second, changed: make(chan struct{}, 1)}}
		b.loop = NewLoop(u, driver(b.engine), cfg, NewBudget(0), slog.New(slog.NewTextHandler(&b.log, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		b.ctx = ctx
		done := make(chan struct{})
		go func() { defer close(done); b.loop.Run(ctx) }()
		test(b)
		cancel()
		u.Close()
		<-done
		synctest.Wait()
		if t.Failed() {
			t.Log(b.log.String())
		}
	})
}

// pass lets time go by and everything settle.
func (b *bench) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// until lets seconds pass until ok.
func (b *bench) until(what string, within time.Duration, ok func(Status) bool) time.Duration {
	b.t.Helper()
	for from := time.Now(); ; b.pass(100 * time.Millisecond) {
		s := b.loop.Status()
		if ok(s) {
			return time.Since(from)
		}
		if time.Since(from) > within {
			b.t.Fatalf("not %s within %s: %+v\n%s", what, within, s, b.log.String())
		}
	}
}

// clients send one request after the other until stop is called.
func (b *bench) clients(n int, service time.Duration) (stop func()) {
	ctx, cancel := context.WithCancel(b.ctx)
	var all sync.WaitGroup
	for range n {
		all.Go(func() {
			for ctx.Err() == nil {
				var t balancer.Ticket
				if err := b.u.Acquire(&t, time.Now()); err != nil {
					if ctx.Err() == nil {
						b.mu.Lock()
						b.failed++
						b.mu.Unlock()
					}
					return
				}
				time.Sleep(service)
				b.u.Release(&t, balancer.Outcome{Status: 200}, time.Now())
			}
		})
	}
	return func() { cancel(); all.Wait() }
}

// stream holds a slot until end is called.
func (b *bench) stream() (server *balancer.Server, end func()) {
	b.t.Helper()
	t := new(balancer.Ticket)
	if err := b.u.Acquire(t, time.Now()); err != nil {
		b.t.Fatal(err)
	}
	return t.Server(), func() { b.u.Release(t, balancer.Outcome{Status: 200}, time.Now()) }
}

func ready(n int) func(Status) bool { return func(s Status) bool { return s.Ready == n } }

func (b *bench) events(kind string) (all []Event) {
	for _, e := range b.loop.Recent() {
		if e.Kind == kind {
			all = append(all, e)
		}
	}
	return all
}

func TestOneFiveOne(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		news := make(chan Event, 100)
		unsubscribe := b.loop.Subscribe(news)
		b.until("up", 10*time.Second, ready(1))
		stop := b.clients(42, 200*time.Millisecond)
		took := b.until("five", 15*time.Second, ready(5))
		if took > 6*time.Second {
			t.Errorf("took %s to five", took)
		}
		b.pass(20 * time.Second)
		stop()
		b.until("one", 60*time.Second, func(s Status) bool { return s.Ready == 1 && s.Draining == 0 && s.Wanted == 1 })
		if b.failed > 0 {
			t.Errorf("%d requests failed", b.failed)
		}
		s := b.loop.Status()
		if s.Decisions[[2]string{"up", "queue"}] == 0 || s.Decisions[[2]string{"down", "in_flight"}] == 0 || s.Errors != 0 || s.Failure != "" {
			t.Errorf("status %+v", s)
		}
		if s.StartTime != 2*time.Second || s.StartSeconds.Count != uint64(b.engine.now().started) {
			t.Errorf("start time %s of %d", s.StartTime, s.StartSeconds.Count)
		}
		if b.engine.now().most > 6 || slices.ContainsFunc(b.engine.now().stopped, func(id string) bool { return strings.HasPrefix(id, "un") }) {
			t.Errorf("at most %d at once, stopped %v", b.engine.now().most, b.engine.now().stopped)
		}
		if first := <-news; first.Kind != "scale" || first.Upstream != "demo" || first.To == 0 || first.Reason == "" {
			t.Errorf("first event %+v", first)
		}
		unsubscribe()
		if lines := strings.Count(b.log.String(), "msg=scale"); lines != len(b.events("scale")) {
			t.Errorf("%d log lines for %d changes", lines, len(b.events("scale")))
		}
	})
}

// A request at zero waits for as long as starts were seen to take: the first guess, then how long the one under way has
// taken already, then what was measured.
func TestPatienceAtZeroFollowsTheMeasuredStart(t *testing.T) {
	cfg := demoConfig() // with a first guess of its own
	cfg.Min, cfg.ToZeroAfter, cfg.CooldownDown, cfg.StartTime = 0, 5*time.Second, time.Second, 4*time.Second
	inBubble(t, cfg, nil, func(b *bench) {
		b.engine.startTime = 20 * time.Second
		waits := func() (how time.Duration, err error) {
			begun := time.Now()
			ticket := &balancer.Ticket{}
			if err = b.u.Acquire(ticket, begun); err == nil {
				b.u.Release(ticket, balancer.Outcome{}, time.Now())
			}
			return time.Since(begun), err
		}
		b.pass(2500 * time.Millisecond)
		if how, err := waits(); !errors.Is(err, balancer.ErrQueueTimeout) || how != 14*time.Second {
			t.Errorf("on a guess of 4 s: %v after %v, want a timeout after 3.5 times that", err, how)
		}
		if how, err := waits(); err != nil || how > 6*time.Second { // the start is under way for 14 s
			t.Errorf("the second: %v after %v", err, how)
		}
		b.until("zero", time.Minute, func(s Status) bool { return s.Wanted == 0 && s.Ready == 0 && s.StartSeconds.Count == 1 })
		b.engine.mu.Lock()
		b.engine.never = true
		b.engine.mu.Unlock()
		if how, err := waits(); !errors.Is(err, balancer.ErrQueueTimeout) || how.Round(time.Second) != 70*time.Second {
			t.Errorf("with a start of 20 s measured: %v after %v, want a timeout after 3.5 times that", err, how)
		}
	})
}

// Those that Starting counts are named, so that whoever knows the servers of now counts none twice.
func TestStatusNamesWhatComes(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("one is asked for", 5*time.Second, func(s Status) bool { return s.Starting == 1 })
		if s := b.loop.Status(); !slices.Equal(s.Coming, []string{"r1"}) {
			t.Errorf("coming: %v", s.Coming)
		}
		b.until("it is ready", 10*time.Second, ready(1))
		b.pass(time.Second)
		if s := b.loop.Status(); len(s.Coming) != 0 || s.Starting != 0 {
			t.Errorf("coming: %v, %d starting", s.Coming, s.Starting)
		}
	})
}

func TestWakeFromZero(t *testing.T) {
	cfg := demoConfig()
	cfg.Min, cfg.ToZeroAfter = 0, time.Minute
	inBubble(t, cfg, nil, func(b *bench) {
		b.pass(5 * time.Second)
		if b.engine.now().started != 0 {
			t.Fatal("something was started without any request")
		}
		b.pass(300 * time.Millisecond)
		stop := b.clients(500, 20*time.Millisecond)
		b.pass(50 * time.Millisecond)
		if n := b.engine.now().started; n != 1 {
			t.Fatalf("%d starts 50 ms after the first request", n)
		}
		b.pass(1900 * time.Millisecond)
		if n := b.engine.now().started; n != 1 {
			t.Errorf("%d starts for one wake-up", n)
		}
		b.until("more", 20*time.Second, ready(6))
		stop()
		if b.failed > 0 {
			t.Errorf("%d requests failed", b.failed)
		}
		b.until("zero", 3*time.Minute, func(s Status) bool { return s.Wanted == 0 && s.Ready == 0 && s.Draining == 0 })
	})
}

func TestCrashLoop(t *testing.T) {
	inBubble(t, demoConfig(), func(f *fakeEngine) { f.dead = func(int) string { return "exit status 1" } }, func(b *bench) {
		b.until("given up", time.Minute, func(s Status) bool { return strings.Contains(s.Failure, "3 starts failed in a row") })
		b.pass(10 * time.Minute)
		if b.engine.now().started != 3 {
			t.Errorf("%d starts", b.engine.now().started)
		}
		if s := b.loop.Status(); !strings.Contains(s.Failure, "exit status 1") || s.FailedStarts != 3 {
			t.Errorf("status %+v", s)
		}
		fails := b.events("failure")
		if len(fails) != 3 || fails[1].At.Sub(fails[0].At) < 2*time.Second || fails[2].At.Sub(fails[1].At) < 3*time.Second {
			t.Errorf("no back-off: %+v", fails)
		}
		// With nobody to start anything requests are refused at once.
		if err := b.u.Acquire(new(balancer.Ticket), time.Now()); !errors.Is(err, balancer.ErrNoHealthyServer) {
			t.Errorf("a request gets %v", err)
		}
		b.engine.set(func() { b.engine.dead = nil })
		b.loop.Configure(demoConfig())
		b.until("well", 10*time.Second, func(s Status) bool { return s.Ready == 1 && s.Failure == "" })
	})
}

// Several that fail together are one failed attempt.
func TestTogetherIsOnce(t *testing.T) {
	cfg := demoConfig()
	cfg.Min = 4
	inBubble(t, cfg, func(f *fakeEngine) { f.dead = func(int) string { return "exit status 1" } }, func(b *bench) {
		b.until("given up", time.Minute, func(s Status) bool { return strings.Contains(s.Failure, "3 starts failed in a row") })
		b.pass(10 * time.Second) // a call of the driver may be under way as this is said
		// One that dies while the others of its attempt are cleared away may be started once more with them.
		n := b.engine.now().started
		if n < 12 || n > 2*12 || len(b.events("failure")) != 3 {
			t.Errorf("%d starts, %+v", n, b.events("failure"))
		}
		time.Sleep(time.Hour)
		if later := b.engine.now().started; later != n {
			t.Errorf("%d more starts after giving up", later-n)
		}
	})
}

// A broken replica that still has requests is not yet gone: max holds for it too.
func TestReplacementKeepsMax(t *testing.T) {
	cfg := demoConfig()
	cfg.Max = 2
	inBubble(t, cfg, nil, func(b *bench) {
		b.loop.Pin(2, time.Time{})
		b.until("two", 10*time.Second, ready(2))
		s1, end1 := b.stream()
		_, end2 := b.stream()
		b.engine.probe(s1.ID(), errors.New("status 500"))
		b.pass(50 * time.Second)
		if seen := b.engine.now(); !s1.Draining() || seen.most != 2 || seen.started != 2 {
			t.Errorf("draining %v, %+v", s1.Draining(), seen)
		}
		b.until("replaced", time.Minute, ready(2))
		if seen := b.engine.now(); seen.most != 2 || !slices.Equal(seen.stopped, []string{s1.ID()}) {
			t.Errorf("%+v", seen)
		}
		end1()
		end2()
	})
}

// Replicas that do not start never cost one that works.
func TestHealthyIsNotTraded(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.engine.set(func() { b.engine.never = true })
		stop := b.clients(20, 200*time.Millisecond)
		b.until("given up", 10*time.Minute, func(s Status) bool { return strings.Contains(s.Failure, "3 starts failed") })
		b.pass(5 * time.Minute)
		stop()
		s := b.loop.Status()
		if s.Ready != 1 || slices.Contains(b.engine.now().stopped, "r1") {
			t.Errorf("the healthy one went: %+v, stopped %v", s, b.engine.now().stopped)
		}
		if !strings.Contains(s.Failure, "not ready after 1m") || !strings.Contains(s.Failure, "not probed yet") {
			t.Errorf("failure %q", s.Failure)
		}
		if len(b.engine.now().replicas) != 1 {
			t.Errorf("what did not start is left: %+v", b.engine.now().replicas)
		}
		// A pin tries again.
		b.engine.set(func() { b.engine.never = false })
		b.loop.Pin(2, time.Time{})
		b.until("two", 10*time.Second, ready(2))
	})
}

func TestImageMissing(t *testing.T) {
	inBubble(t, demoConfig(), func(f *fakeEngine) { f.refuse = fmt.Errorf("%w: image x not found", ErrStart) }, func(b *bench) {
		b.until("given up", time.Minute, func(s Status) bool { return strings.Contains(s.Failure, "3 starts failed") })
		calls := b.engine.now().calls
		b.pass(time.Minute)
		if s := b.loop.Status(); s.Errors != 3 || !strings.Contains(s.Failure, "image x not found") {
			t.Errorf("status %+v", s)
		}
		if n := b.engine.now().calls; n-calls > 70 {
			t.Errorf("%d calls in a minute of nothing", n-calls)
		}
	})
}

// What worked for long and then dies is replaced at once, and is no failed start.
func TestCrashIsReplaced(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(3, time.Time{})
		for range 6 {
			b.until("three", 10*time.Second, ready(3))
			b.pass(15 * time.Second)
			id := b.engine.now().replicas[0].ID
			b.engine.crash(id, "signal: killed")
			b.pass(time.Millisecond)
			if took := b.until("replaced", 5*time.Second, ready(3)); took > 3*time.Second {
				t.Errorf("replaced after %s", took)
			}
		}
		if s := b.loop.Status(); s.FailedStarts != 0 || len(b.events("crash")) != 6 {
			t.Errorf("status %+v, events %+v", s, b.events("crash"))
		}
	})
}

// Replicas that start well and die of something soon after are replaced, ever more slowly but never given up.
func TestCrashesSoonAfter(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		from := time.Now()
		for i := range 8 {
			b.until("up", 15*time.Second, ready(1))
			b.pass(12 * time.Second)
			b.engine.crash(fmt.Sprintf("r%d", i+1), "out of memory")
			b.pass(time.Millisecond)
		}
		if took := time.Since(from); took < 8*14*time.Second+25*time.Second {
			t.Errorf("no pause: eight in %s", took)
		}
		if s := b.loop.Status(); !strings.Contains(s.Failure, "8 replicas in a row crashed") || !strings.Contains(s.Failure, "out of memory") || s.FailedStarts != 0 {
			t.Errorf("status %+v", s)
		}
		b.until("up", 15*time.Second, ready(1))
		b.pass(40 * time.Second)
		b.engine.crash("r9", "out of memory")
		b.pass(time.Millisecond)
		if s := b.loop.Status(); s.Failure != "" {
			t.Errorf("failure %q", s.Failure)
		}
		if took := b.until("up", 5*time.Second, ready(1)); took > 3*time.Second {
			t.Errorf("replaced after %s", took)
		}
	})
}

// A drain is taken back when replicas are wanted again, before anything is started.
func TestDrainCancelled(t *testing.T) {
	cfg := demoConfig()
	cfg.DrainTimeout = 5 * time.Minute
	inBubble(t, cfg, nil, func(b *bench) {
		b.loop.Pin(2, time.Time{})
		b.until("two", 10*time.Second, ready(2))
		s1, end1 := b.stream()
		s2, end2 := b.stream()
		if s1 == s2 {
			t.Fatal("both streams on one server")
		}
		b.loop.Pin(1, time.Time{})
		b.until("draining", 5*time.Second, func(s Status) bool { return s.Draining == 1 })
		b.pass(time.Minute)
		started := b.engine.now().started
		b.loop.Pin(2, time.Time{})
		b.until("back", 3*time.Second, ready(2))
		if b.engine.now().started != started || len(b.engine.now().stopped) > 0 {
			t.Errorf("%d started, stopped %v", b.engine.now().started-started, b.engine.now().stopped)
		}
		// The youngest of equals goes, and once it has nothing in flight it is stopped.
		b.loop.Pin(1, time.Time{})
		b.until("draining", 5*time.Second, func(s Status) bool { return s.Draining == 1 })
		if !b.u.Server("r2").Draining() {
			t.Error("not the youngest is draining")
		}
		end1()
		end2()
		b.until("stopped", 3*time.Second, func(s Status) bool { return s.Draining == 0 && s.Ready == 1 })
		if !slices.Equal(b.engine.now().stopped, []string{"r2"}) || len(b.events("cut")) > 0 {
			t.Errorf("stopped %v, cut %v", b.engine.now().stopped, b.events("cut"))
		}
	})
}

func TestDrainDeadline(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(1, time.Time{})
		b.until("one", 10*time.Second, ready(1))
		_, end := b.stream()
		b.loop.Pin(0, time.Time{})
		b.pass(29 * time.Second)
		if len(b.engine.now().stopped) > 0 {
			t.Error("stopped before drain_timeout")
		}
		b.pass(3 * time.Second)
		if len(b.engine.now().stopped) != 1 || len(b.events("cut")) != 1 {
			t.Errorf("stopped %v, cut %v", b.engine.now().stopped, b.events("cut"))
		}
		end()
	})
}

// tunnelled is what a proxy attaches to a server: when its WebSockets were told to go.
type tunnelled struct{ told chan time.Time }

func (a tunnelled) EndTunnels() int {
	a.told <- time.Now()
	return 1
}

// At the drain deadline the clients of WebSockets are told to go, once, and only then is the replica stopped.
func TestTunnelsAreToldBeforeTheStop(t *testing.T) {
	told := make(chan time.Time, 9)
	hooks := func(f *fakeEngine) {
		f.u.SetHooks(func(*balancer.Server) any { return tunnelled{told} }, nil)
	}
	inBubble(t, demoConfig(), hooks, func(b *bench) {
		b.loop.Pin(1, time.Time{})
		b.until("one", 10*time.Second, ready(1))
		_, end := b.stream()
		begun := time.Now()
		b.loop.Pin(0, time.Time{})
		b.until("told", time.Minute, func(Status) bool { return len(told) > 0 })
		if after := (<-told).Sub(begun); after < 30*time.Second || after > 32*time.Second || len(b.engine.now().stopped) > 0 {
			t.Errorf("told after %s, stopped %v", after, b.engine.now().stopped)
		}
		b.pass(2100 * time.Millisecond)
		if len(b.engine.now().stopped) != 1 || len(told) > 0 {
			t.Errorf("stopped %v, told again %d times", b.engine.now().stopped, len(told))
		}
		end()
	})
}

func TestVictims(t *testing.T) {
	at := time.Unix(100, 0)
	m := func(id string, ready bool, inFlight int, age int) *member {
		return &member{Replica: Replica{ID: id, Asked: at.Add(-time.Duration(age) * time.Second)}, ready: ready, inFlight: inFlight}
	}
	outdated, fixed := m("outdated", true, 9, 9), m("fixed", true, 0, 0)
	outdated.Outdated, fixed.Fixed = true, true
	got := ""
	for _, v := range order([]*member{fixed, m("busy", true, 3, 1), m("old", true, 1, 9), m("young", true, 1, 2), outdated, m("starting", false, 0, 5)}) {
		got += v.ID + " "
	}
	if got != "starting outdated young old busy fixed " {
		t.Errorf("order %s", got)
	}
}

func TestPinEnds(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(4, time.Now().Add(time.Minute))
		b.until("four", 10*time.Second, ready(4))
		if s := b.loop.Status(); !s.Pinned || s.Until.IsZero() || s.Code != "pin" {
			t.Errorf("status %+v", s)
		}
		b.pass(45 * time.Second)
		if s := b.loop.Status(); s.Ready != 4 {
			t.Errorf("while pinned: %+v", s)
		}
		b.until("unpinned", 20*time.Second, func(s Status) bool { return !s.Pinned })
		b.until("one", 40*time.Second, ready(1))
		b.loop.Pin(3, time.Time{})
		b.until("three", 10*time.Second, ready(3))
		b.loop.Unpin()
		b.until("one", 40*time.Second, ready(1))
	})
}

// An engine that hangs freezes scaling and nothing else; after it all goes on.
func TestEngineHangs(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.engine.set(func() { b.engine.hang = true })
		stop := b.clients(30, 200*time.Millisecond)
		b.pass(time.Minute)
		s := b.loop.Status()
		if s.Ready != 1 || s.Wanted < 3 || s.Errors == 0 || !strings.Contains(s.Failure, "does not answer") {
			t.Errorf("while it hangs: %+v", s)
		}
		if age := time.Since(s.At); age > time.Second {
			t.Errorf("the last decision is %s old", age)
		}
		b.engine.set(func() { b.engine.hang = false })
		b.until("more", 40*time.Second, func(s Status) bool { return s.Ready >= 3 && s.Failure == "" })
		stop()
		if b.failed > 0 {
			t.Errorf("%d requests failed", b.failed)
		}
	})
}

func TestEngineErrors(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.engine.set(func() { b.engine.refuse = errors.New("connection refused") })
		b.loop.Pin(3, time.Time{})
		b.pass(2 * time.Minute)
		s := b.loop.Status()
		if s.Ready != 1 || s.FailedStarts != 0 || s.Errors < 3 || s.Errors > 15 || !strings.Contains(s.Failure, "connection refused") {
			t.Errorf("status %+v", s)
		}
		b.engine.set(func() { b.engine.refuse = nil })
		b.until("three", 20*time.Second, func(s Status) bool { return s.Ready == 3 && s.Failure == "" })
	})
}

// What the engine refuses to stop serves on.
func TestRefusalGivesBack(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(3, time.Time{})
		b.until("three", 10*time.Second, ready(3))
		b.engine.set(func() { b.engine.refuse = fmt.Errorf("%w: somebody else scales it", ErrRefused) })
		b.loop.Pin(1, time.Time{})
		refused := func(s Status) bool { return s.Errors > 0 }
		b.until("refused", 10*time.Second, refused)
		if s := b.loop.Status(); s.Ready != 3 || s.Draining != 0 || s.Failure != "scaling is refused: somebody else scales it" {
			t.Errorf("status %+v", s)
		}
		for _, s := range b.u.Servers() {
			if s.Draining() {
				t.Errorf("%s is still drained", s.ID())
			}
		}
		b.engine.set(func() { b.engine.refuse = nil })
		b.until("one", 30*time.Second, func(s Status) bool { return s.Ready == 1 && s.Failure == "" })
	})
}

func TestUnhealthyIsReplaced(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.loop.Pin(3, time.Time{})
		b.until("three", 10*time.Second, ready(3))
		b.engine.probe("r2", errors.New("status 500"))
		b.pass(28 * time.Second)
		if len(b.engine.now().stopped) > 0 {
			t.Error("replaced within its grace")
		}
		b.until("replaced", 10*time.Second, func(s Status) bool { return s.Ready == 3 })
		if !slices.Equal(b.engine.now().stopped, []string{"r2"}) || b.engine.now().most > 3 || len(b.events("replace")) != 1 {
			t.Errorf("stopped %v, at most %d, events %v", b.engine.now().stopped, b.engine.now().most, b.events("replace"))
		}
		// Most at once are left alone, with an alarm.
		b.engine.probe("r1", errors.New("status 500"))
		b.engine.probe("r3", errors.New("status 500"))
		b.pass(5 * time.Minute)
		if s := b.loop.Status(); len(b.engine.now().stopped) != 1 || !strings.Contains(s.Alarm, "2 of 3 replicas") || len(b.events("alarm")) != 1 {
			t.Errorf("alarm %q, stopped %v", s.Alarm, b.engine.now().stopped)
		}
		// When one recovers the other is replaced.
		b.engine.probe("r1", nil)
		b.until("replaced", time.Minute, func(s Status) bool { return s.Ready == 3 && s.Alarm == "" })
	})
}

// A single replica that hangs is replaced too: nothing healthy is lost by it.
func TestTheOnlyOneIsReplaced(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.pass(15 * time.Second)
		b.engine.probe("r1", errors.New("timeout"))
		b.until("replaced", 40*time.Second, func(Status) bool { s := b.u.Server("r2"); return s != nil && !s.ReadyAt().IsZero() })
	})
}

func TestRollingReplacement(t *testing.T) {
	for _, most := range []int{3, 6} {
		t.Run(fmt.Sprintf("max=%d", most), func(t *testing.T) { rolls(t, most) })
	}
}

func rolls(t *testing.T, most int) {
	cfg := demoConfig()
	cfg.Max = most
	inBubble(t, cfg, nil, func(b *bench) {
		b.loop.Pin(3, time.Time{})
		b.until("three", 10*time.Second, ready(3))
		b.pass(15 * time.Second)
		for range 3 { // whoever drains has something to finish
			_, end := b.stream()
			time.AfterFunc(15*time.Second, end)
		}
		b.engine.set(func() {
			for i := range b.engine.replicas {
				b.engine.replicas[i].Outdated = true
			}
		})
		least, drains, draining := 3, 0, false
		b.until("all new", time.Minute, func(s Status) bool {
			least = min(least, s.Ready)
			if s.Draining > 0 && !draining {
				drains++
			}
			draining = s.Draining > 0
			return len(b.engine.now().stopped) == 3 && s.Ready == 3
		})
		if least < 3 || drains > 3 || b.engine.now().most != 4 || b.engine.now().started != 6 {
			t.Errorf("at least %d ready, at most %d live, %d started, %d drains", least, b.engine.now().most, b.engine.now().started, drains)
		}
	})
}

func TestObserveTouchesNothing(t *testing.T) {
	cfg := demoConfig()
	cfg.Mode = "observe"
	inBubble(t, cfg, nil, func(b *bench) {
		b.pass(10 * time.Second)
		s := b.loop.Status()
		if b.engine.now().started != 0 || s.Wanted != 1 || s.Mode != "observe" || s.Decisions[[2]string{"up", "start"}] != 1 {
			t.Errorf("%d started, status %+v", b.engine.now().started, s)
		}
		if err := b.u.Acquire(new(balancer.Ticket), time.Now()); !errors.Is(err, balancer.ErrNoHealthyServer) {
			t.Errorf("a request gets %v", err)
		}
		cfg.Mode = "apply"
		b.loop.Configure(cfg)
		b.until("up", 10*time.Second, ready(1))
	})
}

func TestFreeze(t *testing.T) {
	inBubble(t, demoConfig(), nil, func(b *bench) {
		b.until("up", 10*time.Second, ready(1))
		b.loop.Freeze(true)
		b.pass(time.Second)
		calls := b.engine.now().calls
		b.loop.Pin(3, time.Time{})
		b.pass(30 * time.Second)
		if n := b.engine.now().calls; n != calls {
			t.Errorf("%d calls while frozen", n-calls)
		}
		b.loop.Freeze(false)
		b.until("three", 10*time.Second, ready(3))
	})
}

// What an earlier gateway left is taken on as it is, not torn down to min.
func TestFoundReplicasStay(t *testing.T) {
	inBubble(t, demoConfig(), func(f *fakeEngine) {
		for i := range 4 {
			f.seq++
			f.replicas = append(f.replicas, Replica{ID: fmt.Sprintf("r%d", i+1), Addr: fmt.Sprintf("127.0.0.1:%d", i+1), State: ReplicaRunning})
		}
		f.replicas = append(f.replicas, Replica{ID: "broken", State: ReplicaFailed, Reason: "exit status 1"})
		f.update()
		for i := range 4 {
			f.probe(fmt.Sprintf("r%d", i+1), nil)
		}
	}, func(b *bench) {
		b.pass(20 * time.Second)
		if s := b.loop.Status(); s.Wanted != 4 || s.Ready != 4 || s.FailedStarts != 0 || s.StartSeconds.Count != 0 {
			t.Errorf("status %+v", s)
		}
		if len(b.engine.now().replicas) != 4 {
			t.Errorf("what failed before is not cleared away: %+v", b.engine.now().replicas)
		}
		b.until("one", 30*time.Second, ready(1))
	})
}

// Before the first start is measured, one that takes longer than the guess says so itself.
func TestStartTimeUnknown(t *testing.T) {
	cfg := demoConfig()
	cfg.StartTime = time.Second
	inBubble(t, cfg, func(f *fakeEngine) { f.startTime = 20 * time.Second }, func(b *bench) {
		b.pass(12 * time.Second)
		if d := b.loop.Status().Signal.Start; d < 9*time.Second || d > 12*time.Second {
			t.Errorf("12 s after the first was asked for a start is taken to last %s", d)
		}
		b.until("ready", 30*time.Second, ready(1))
		b.pass(2 * time.Second)
		if d := b.loop.Status().Signal.Start; d < 19*time.Second || d > 21*time.Second {
			t.Errorf("a start takes %s, not 20 s", d)
		}
	})
}
