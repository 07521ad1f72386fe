package discovery

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice/balancer"
)

// channelSource sends what the test puts into sets and ends with what it puts into errs; errPanics is a panic.
type channelSource struct {
	sets chan []balancer.ServerSpec
	errs chan error
}

var errPanics = errors.New("a panic that is out of order")

func newChannelSource() *channelSource {
	return &channelSource{sets: make(chan []balancer.ServerSpec), errs: make(chan error)}
}

func (s *channelSource) Run(ctx context.Context, out chan<- []balancer.ServerSpec) error {
	for {
		select {
		case specs := <-s.sets:
			select {
			case out <- specs:
			case <-ctx.Done():
				return ctx.Err()
			}
		case err := <-s.errs:
			if err == errPanics {
				panic(err)
			}
			return err
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (s *channelSource) send(addrs ...string) {
	specs := make([]balancer.ServerSpec, len(addrs))
	for i, a := range addrs {
		specs[i] = balancer.ServerSpec{ID: a, Addr: a}
	}
	s.sets <- specs
}

// farm stands in for servers: what a probe of each gives, and what was probed when.
type farm struct {
	mu     sync.Mutex
	answer map[string]func(ctx context.Context, lim limits) error // nil: refused
	probed map[string][]time.Time
	open   map[string]int // probes under way
	most   int            // of one server at once
}

func newFarm() *farm {
	return &farm{answer: map[string]func(context.Context, limits) error{}, probed: map[string][]time.Time{}, open: map[string]int{}}
}

func (f *farm) set(addr string, answer func(context.Context, limits) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.answer[addr] = answer
}

func (f *farm) times(addr string) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]time.Time(nil), f.probed[addr]...)
}

func (f *farm) try(ctx context.Context, c *check, addr string, lim limits) error {
	f.mu.Lock()
	f.probed[addr] = append(f.probed[addr], time.Now())
	f.open[addr]++
	f.most = max(f.most, f.open[addr])
	answer := f.answer[addr]
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.open[addr]--
		f.mu.Unlock()
	}()
	if answer == nil {
		return errors.New("connection refused")
	}
	return answer(ctx, lim)
}

func well(context.Context, limits) error { return nil }

// silent ends by the probe's limit, as a stopped process does.
func silent(ctx context.Context, lim limits) error {
	select {
	case <-time.After(lim.total):
		return fmt.Errorf("GET /: %w", errSilent)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stuck ends with its context only.
func stuck(ctx context.Context, _ limits) error {
	<-ctx.Done()
	return ctx.Err()
}

// watch runs a watcher over f until the test ends.
func watch(t *testing.T, hc HealthConfig) (*Watcher, *balancer.Upstream, *channelSource, *farm) {
	t.Helper()
	u := balancer.NewUpstream("u", balancer.DefaultConfig())
	u.SetElastic(true) // a server that never answered is starting, not unhealthy
	src, f := newChannelSource(), newFarm()
	w := NewWatcher(u, src, hc, slog.New(slog.DiscardHandler))
	w.try = f.try
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w, u, src, f
}

func state(u *balancer.Upstream, id string) balancer.State {
	s, _ := u.Server(id).State(time.Now())
	return s
}

func TestStartingServerIsReadySoon(t *testing.T) {
	for _, start := range []time.Duration{0, 7 * time.Millisecond, 130 * time.Millisecond, 1300 * time.Millisecond, 1900 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			_, u, src, f := watch(t, DefaultConfig().HealthCheck)
			src.send("a:1")
			begun := time.Now()
			synctest.Wait()
			if start > 0 && state(u, "a:1") != balancer.StateStarting {
				t.Fatalf("%v before the first good probe", state(u, "a:1"))
			}
			time.Sleep(start)
			f.set("a:1", well)
			time.Sleep(100 * time.Millisecond)
			synctest.Wait()
			if ready := u.Server("a:1").ReadyAt(); ready.IsZero() || ready.Sub(begun) > start+100*time.Millisecond {
				t.Errorf("answers after %s, ready after %s", start, ready.Sub(begun))
			}
		})
	}
}

// What is known is in the upstream already.
func TestKnownComesWithTheFirstSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, u, src, _ := watch(t, DefaultConfig().HealthCheck)
		time.Sleep(time.Hour)
		select {
		case <-w.Known():
			t.Fatal("known before the source has said anything")
		default:
		}
		src.send("a:1")
		<-w.Known()
		if n := len(u.Servers()); n != 1 {
			t.Errorf("%d servers", n)
		}
		src.send() // none is an answer too, and not the first any more
		synctest.Wait()
	})
}

func TestStartingServerIsProbedLessAndLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, src, f := watch(t, DefaultConfig().HealthCheck)
		src.send("a:1")
		time.Sleep(5 * time.Minute)
		times := f.times("a:1")
		if len(times) > 300 {
			t.Errorf("%d probes in 5 min", len(times))
		}
		if last := times[len(times)-1].Sub(times[len(times)-2]); last != 2*time.Second {
			t.Errorf("after 5 min every %s", last)
		}
	})
}

func TestReadyServerIsProbedAtTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, _, src, f := watch(t, DefaultConfig().HealthCheck)
		f.set("a:1", well)
		src.send("a:1")
		time.Sleep(time.Minute)
		var shortest, longest time.Duration = time.Hour, 0
		times := f.times("a:1")
		if d := times[1].Sub(times[0]); d > 2*time.Second {
			t.Errorf("the first two are %s apart", d)
		}
		for i := 2; i < len(times); i++ { // the second is where chance says
			d := times[i].Sub(times[i-1])
			shortest, longest = min(shortest, d), max(longest, d)
		}
		if shortest < 1600*time.Millisecond || longest > 2*time.Second || longest-shortest < 20*time.Millisecond {
			t.Errorf("%d probes, %s … %s apart", len(times), shortest, longest)
		}
	})
}

// Servers that were probed together at first are not from then on.
func TestProbesSpreadOverTheInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := DefaultConfig().HealthCheck
		hc.Interval = 10 * time.Second
		w, _, src, f := watch(t, hc)
		addrs := make([]string, 500)
		for i := range addrs {
			addrs[i] = fmt.Sprintf("a:%d", i+1)
			f.set(addrs[i], well)
		}
		src.send(addrs...)
		for _, after := range []string{"the first set", "another check"} {
			synctest.Wait()
			begun := time.Now()
			time.Sleep(hc.Interval)
			var seconds [10]int
			for _, a := range addrs {
				for _, at := range f.times(a) {
					if d := at.Sub(begun); d > 0 && d < hc.Interval {
						seconds[d/time.Second]++
					}
				}
			}
			if most := slices.Max(seconds[:]); most > len(addrs)/4 { // an eighth is even
				t.Errorf("after %s: probes in each second %v", after, seconds)
			}
			hc.Path = "/other"
			w.Configure(hc)
		}
	})
}

// A machine without a descriptor to spare cannot probe, which is no fault of the servers.
func TestServersStayWhileSluiceCannotProbe(t *testing.T) {
	for _, own := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		synctest.Test(t, func(t *testing.T) {
			_, u, src, f := watch(t, DefaultConfig().HealthCheck)
			f.set("a:1", well)
			src.send("a:1", "b:1")
			time.Sleep(3 * time.Second)
			cannot := func(context.Context, limits) error { return connectError("a:1", os.NewSyscallError("socket", own)) }
			f.set("a:1", cannot)
			f.set("b:1", cannot)
			for range 200 {
				time.Sleep(100 * time.Millisecond)
				if s := state(u, "a:1"); s != balancer.StateReady {
					t.Fatalf("%v: a server that was ready is %v", own, s)
				}
				if s := state(u, "b:1"); s == balancer.StateReady {
					t.Fatalf("%v: a server that never answered is ready", own)
				}
			}
			f.set("a:1", nil) // there is room again, and the server did go meanwhile
			time.Sleep(3 * time.Second)
			if s := state(u, "a:1"); s != balancer.StateUnhealthy {
				t.Errorf("%v: %v after probes that say so", own, s)
			}
		})
	}
}

// A server that is stopped, not killed, is out within 3 s at the default health check.
func TestSilentServerIsOutWithinThreeSeconds(t *testing.T) {
	for after := 5 * time.Second; after < 8*time.Second; after += 210 * time.Millisecond {
		synctest.Test(t, func(t *testing.T) {
			_, u, src, f := watch(t, DefaultConfig().HealthCheck)
			f.set("a:1", well)
			src.send("a:1")
			time.Sleep(after)
			f.set("a:1", silent)
			time.Sleep(3 * time.Second)
			synctest.Wait()
			if s := state(u, "a:1"); s != balancer.StateUnhealthy {
				t.Errorf("silent since %s: %v 3 s later", after, s)
			}
		})
	}
}

func TestOneBadProbeTakesNoServerOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, u, src, f := watch(t, DefaultConfig().HealthCheck)
		f.set("a:1", well)
		src.send("a:1")
		time.Sleep(time.Second)
		f.set("a:1", func(context.Context, limits) error {
			f.set("a:1", well)
			return errors.New("status 503")
		})
		for range 100 {
			time.Sleep(50 * time.Millisecond)
			if s := state(u, "a:1"); s != balancer.StateReady {
				t.Fatalf("%v", s)
			}
		}
	})
}

// A slow server that misses its time once is given the time it usually takes when that is confirmed.
func TestConfirmingProbeWaitsAsLongAsUsual(t *testing.T) {
	k := course{bad: 1, silent: true, usual: 200 * time.Millisecond}
	c, _ := newCheck(HealthConfig{})
	if _, lim := k.next(c, false, 0, time.Now()); lim.total != 800*time.Millisecond {
		t.Errorf("%s", lim.total)
	}
	k.usual = time.Second
	if _, lim := k.next(c, false, 0, time.Now()); lim.total != c.Timeout {
		t.Errorf("%s, more than the timeout", lim.total)
	}
}

func TestHungProbeHoldsNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, u, src, f := watch(t, DefaultConfig().HealthCheck)
		f.set("hung:1", stuck)
		f.set("good:1", well)
		src.send("hung:1", "good:1")
		time.Sleep(time.Minute)
		if n := len(f.times("good:1")); n < 30 || state(u, "good:1") != balancer.StateReady {
			t.Errorf("%d probes of the good one", n)
		}
		if n := len(f.times("hung:1")); n != 1 {
			t.Errorf("%d probes of the hung one", n)
		}
		src.send("good:1") // ends the hung probe
		synctest.Wait()
		if f.open["hung:1"] != 0 {
			t.Error("the probe of a server that left goes on")
		}
		if f.most != 1 {
			t.Errorf("%d probes of one server at once", f.most)
		}
	})
}

func TestProbesEndWhenTheServerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, u, src, f := watch(t, DefaultConfig().HealthCheck)
		f.set("a:1", well)
		f.set("b:1", well)
		src.send("a:1", "b:1")
		time.Sleep(10 * time.Second)
		kept := u.Server("b:1")
		src.send("b:1")
		synctest.Wait()
		before := len(f.times("a:1"))
		time.Sleep(10 * time.Second)
		if n := len(f.times("a:1")) - before; n != 0 {
			t.Errorf("%d probes after it left", n)
		}
		if u.Server("a:1") != nil || u.Server("b:1") != kept {
			t.Error("wrong set")
		}
		if n := len(f.times("b:1")); n > 14 {
			t.Errorf("%d probes of the one that stayed: a second loop", n)
		}
	})
}

func TestConfigureProbesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hc := DefaultConfig().HealthCheck
		hc.Interval = time.Hour
		w, _, src, f := watch(t, hc)
		f.set("a:1", well)
		src.send("a:1")
		time.Sleep(time.Minute)
		w.Configure(hc) // the same
		synctest.Wait()
		if n := len(f.times("a:1")); n != 1 {
			t.Fatalf("%d probes", n)
		}
		hc.Interval = time.Second
		w.Configure(hc)
		time.Sleep(10 * time.Second)
		if n := len(f.times("a:1")); n < 10 || n > 14 {
			t.Errorf("%d probes in 10 s", n)
		}
		hc.Status = "fine"
		w.Configure(hc)
		if notes := w.Notes(); len(notes) != 1 || !strings.Contains(notes[0].Why, `"fine" is not a status`) {
			t.Errorf("%+v", notes)
		}
	})
}

func TestSourceErrorKeepsTheServers(t *testing.T) {
	for _, why := range []error{errors.New("out of order"), errPanics} {
		synctest.Test(t, func(t *testing.T) {
			w, u, src, f := watch(t, DefaultConfig().HealthCheck)
			f.set("a:1", well)
			src.send("a:1")
			time.Sleep(time.Second)
			src.errs <- why
			synctest.Wait()
			if notes := w.Notes(); len(notes) != 1 || !strings.Contains(notes[0].Why, "out of order") {
				t.Errorf("%+v", notes)
			}
			if state(u, "a:1") != balancer.StateReady {
				t.Error("the server is gone")
			}
			src.send("a:1", "b:1") // blocks until the source runs again
			synctest.Wait()
			if len(w.Notes()) != 0 || len(u.Servers()) != 2 {
				t.Errorf("%+v, %d servers", w.Notes(), len(u.Servers()))
			}
		})
	}
}

// A probe that panics has failed, and is all that has.
func TestPanicCostsOneProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, u, src, f := watch(t, DefaultConfig().HealthCheck)
		f.set("a:1", well)
		f.set("b:1", well)
		src.send("a:1", "b:1")
		time.Sleep(time.Minute)
		f.set("a:1", func(context.Context, limits) error { panic("out of order") })
		time.Sleep(time.Minute)
		s, why := u.Server("a:1").State(time.Now())
		if s != balancer.StateUnhealthy || !strings.Contains(why, "out of order") || state(u, "b:1") != balancer.StateReady {
			t.Errorf("%v %q, the other %v", s, why, state(u, "b:1"))
		}
		f.set("a:1", well)
		time.Sleep(time.Minute)
		if state(u, "a:1") != balancer.StateReady {
			t.Error("not ready again")
		}
	})
}

// A static list over real sockets: probed first, then ready; out soon after its end.
func TestStaticServers(t *testing.T) {
	var status sync.Map
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		code, _ := status.LoadOrStore("code", 200)
		w.WriteHeader(code.(int))
	}))
	defer srv.Close()
	addr := srv.Listener.Addr().String()
	u := balancer.NewUpstream("u", balancer.DefaultConfig())
	src := NewStatic([]ServerConfig{{Addr: addr, Weight: 3, MaxConns: 7}, {Addr: addr}, {Addr: silentListener(t), Backup: true}})
	hc := HealthConfig{Path: "/healthz", Interval: 200 * time.Millisecond, Timeout: 200 * time.Millisecond}
	w := NewWatcher(u, src, hc, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); w.Run(ctx) }()
	defer func() { cancel(); <-done }()

	await(t, "ready", func() bool { s := u.Server(addr); return s != nil && !s.ReadyAt().IsZero() })
	s := u.Server(addr)
	if len(u.Servers()) != 2 || s.Weight() != 3 || s.Slots() != 7 || !u.Servers()[1].Backup() {
		t.Errorf("%d servers, weight %d, slots %d", len(u.Servers()), s.Weight(), s.Slots())
	}
	status.Store("code", 500)
	await(t, "unhealthy", func() bool { return state(u, addr) == balancer.StateUnhealthy })
	if _, why := s.State(time.Now()); why != "GET /healthz: status 500, expected 200-399" {
		t.Errorf("%q", why)
	}
	await(t, "known to be silent", func() bool {
		_, why := u.Servers()[1].State(time.Now())
		return strings.Contains(why, "no answer within")
	})
}

// await polls cond, which no event tells of, for up to 5 s.
func await(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); !cond(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not %s after 5 s", what)
		}
	}
}
