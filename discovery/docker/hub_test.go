package docker

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	dockernet "github.com/docker/docker/api/types/network"
	"github.com/docker/go-connections/nat"

	"sluice/balancer"
)

// fake is an engine without an engine.
type fake struct {
	mu      sync.Mutex
	list    []container.Summary
	hung    bool  // no call returns before its context ends
	err     error // of every call
	started string
	lists   int
	streams []chan events.Message // open event streams
	cut     chan struct{}         // closed to end them
	deaf    bool                  // no event stream can be opened
}

func newFake(cs ...container.Summary) *fake { return &fake{list: cs, cut: make(chan struct{})} }

func (f *fake) answer(ctx context.Context) error {
	f.mu.Lock()
	hung, err := f.hung, f.err
	f.mu.Unlock()
	if hung {
		<-ctx.Done()
		return ctx.Err()
	}
	return err
}

func (f *fake) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fake) ContainerList(ctx context.Context, _ container.ListOptions) ([]container.Summary, error) {
	if err := f.answer(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	return append([]container.Summary(nil), f.list...), nil
}

func (f *fake) ContainerInspect(ctx context.Context, id string) (container.InspectResponse, error) {
	if err := f.answer(ctx); err != nil {
		return container.InspectResponse{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range f.list {
		if c.ID == id {
			return container.InspectResponse{
				ContainerJSONBase: &container.ContainerJSONBase{ID: id, State: &container.State{Running: true, StartedAt: f.started}},
				Config:            &container.Config{ExposedPorts: nat.PortSet{"8000/tcp": {}, "53/udp": {}}, StopSignal: "SIGQUIT"},
			}, nil
		}
	}
	return container.InspectResponse{}, errdefs.ErrNotFound
}

func (f *fake) NetworkList(ctx context.Context, _ dockernet.ListOptions) ([]dockernet.Summary, error) {
	return []dockernet.Summary{{ID: "FRONT", Name: "front", Driver: "bridge"}}, f.answer(ctx)
}

func (f *fake) Events(ctx context.Context, _ events.ListOptions) (<-chan events.Message, <-chan error) {
	out, errs := make(chan events.Message), make(chan error, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.deaf {
		errs <- errors.New("not today")
		return out, errs
	}
	in, cut := make(chan events.Message, 16), f.cut
	f.streams = append(f.streams, in)
	go func() {
		for {
			select {
			case m := <-in:
				select {
				case out <- m:
				case <-ctx.Done():
				}
			case <-cut:
				errs <- errors.New("cut")
				return
			case <-ctx.Done():
				errs <- ctx.Err()
				return
			}
		}
	}()
	return out, errs
}

func (f *fake) send(action events.Action, id string, attributes map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m := events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: id, Attributes: attributes}, TimeNano: time.Now().UnixNano()}
	for _, s := range f.streams {
		s <- m
	}
}

// latest keeps the last set that a source sent.
type latest struct {
	mu   sync.Mutex
	sets int
	last []balancer.ServerSpec
}

func (l *latest) get() (string, int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var addrs []string
	for _, s := range l.last {
		addrs = append(addrs, s.Addr)
	}
	return strings.Join(addrs, " "), l.sets
}

// follow runs a source of the service api until stop is called.
func follow(t *testing.T, cli Client, q Query) (src *Source, got *latest, stop func()) {
	t.Helper()
	src, got = NewSource(cli, q, slog.New(slog.DiscardHandler)), &latest{}
	ctx, cancel := context.WithCancel(context.Background())
	out, done := make(chan []balancer.ServerSpec), make(chan struct{})
	go func() {
		defer close(done)
		src.Run(ctx, out)
	}()
	go func() {
		for {
			select {
			case specs := <-out:
				got.mu.Lock()
				got.sets, got.last = got.sets+1, specs
				got.mu.Unlock()
			case <-done:
				return
			}
		}
	}()
	stop = func() {
		cancel()
		<-done
	}
	t.Cleanup(stop)
	return src, got, stop
}

var api = Query{Project: "shop", Service: "api"}

// whys are the notes of a source, joined.
func whys(s *Source) string {
	var b strings.Builder
	for _, n := range s.Notes() {
		b.WriteString(n.ID + " " + n.Name + ": " + n.Why + "\n")
	}
	return b.String()
}

func expect(t *testing.T, got *latest, want string) {
	t.Helper()
	synctest.Wait()
	if addrs, _ := got.get(); addrs != want {
		t.Errorf("servers %q, want %q", addrs, want)
	}
}

func TestSourceLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(summary(id("a"), "front=10.0.0.2"))
		_, got, stop := follow(t, f, api)
		expect(t, got, "10.0.0.2:8000")
		// Without an event: the periodic listing.
		f.change(func() { f.list = append(f.list, summary(id("b"), "front=10.0.0.3")) })
		time.Sleep(listPeriod)
		expect(t, got, "10.0.0.2:8000 10.0.0.3:8000")
		if _, sets := got.get(); sets != 2 {
			t.Errorf("%d sets", sets)
		}
		stop()
		if len(hubs) != 0 {
			t.Error("the hub outlives its last user")
		}
	})
}

func TestEmptyFirstSet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		src, got, stop := follow(t, newFake(), api)
		defer stop()
		synctest.Wait()
		if _, sets := got.get(); sets != 1 || !strings.Contains(whys(src), "no container found") {
			t.Errorf("%d sets, %s", sets, whys(src))
		}
	})
}

// A source that joins a running hub sends nothing before its containers are inspected: its first set
// replaces that of its predecessor.
func TestSecondSourceStartsWithAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(summary(id("a"), "front=10.0.0.2"))
		_, _, stop1 := follow(t, f, Query{Project: "shop", Service: "other"})
		defer stop1()
		synctest.Wait()
		_, got, stop2 := follow(t, f, api)
		defer stop2()
		expect(t, got, "10.0.0.2:8000")
		if _, sets := got.get(); sets != 1 {
			t.Errorf("%d sets", sets)
		}
		if len(f.streams) != 1 {
			t.Errorf("%d event streams", len(f.streams))
		}
	})
}

func TestEventsTakeOutAtOnce(t *testing.T) {
	a := id("a")
	for _, tt := range []struct {
		action  events.Action
		attrs   map[string]string
		out     bool
		because string
	}{
		{events.ActionKill, map[string]string{"signal": "15"}, true, "being stopped (signal 15)"},
		{events.ActionKill, map[string]string{"signal": "9"}, true, "being stopped"},
		{events.ActionKill, map[string]string{"signal": "3"}, true, "being stopped"}, // its own StopSignal
		{events.ActionKill, map[string]string{"signal": "1"}, false, ""},
		{events.ActionDie, map[string]string{"exitCode": "137"}, true, "ended with exit code 137"},
		{events.ActionStop, nil, true, "stopped"},
		{events.ActionDestroy, nil, true, "removed"},
		{events.ActionPause, nil, true, "paused"},
		{events.ActionOOM, nil, false, ""},
		{events.ActionHealthStatusHealthy, nil, false, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			f := newFake(summary(a, "front=10.0.0.2"))
			src, got, stop := follow(t, f, api)
			defer stop()
			expect(t, got, "10.0.0.2:8000")
			f.change(func() { f.hung = true }) // no listing helps
			f.send(tt.action, a, tt.attrs)
			want := "10.0.0.2:8000"
			if tt.out {
				want = ""
			}
			expect(t, got, want)
			if !strings.Contains(whys(src), tt.because) {
				t.Errorf("%s: %q, want %q", tt.action, whys(src), tt.because)
			}
			// Started again, it is back with the address that a listing tells, not with the old one.
			f.send(events.ActionStart, a, nil)
			expect(t, got, "")
			f.change(func() { f.hung, f.list[0] = false, summary(a, "front=10.0.0.5") })
			time.Sleep(2 * callTimeout)
			expect(t, got, "10.0.0.5:8000")
		})
	}
}

// A container that was asked to stop stays out while the listing still says that it runs, and is
// back when it was started again even if that event was lost.
func TestAskedToStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(summary(id("a"), "front=10.0.0.2"))
		f.started = time.Now().Add(-time.Hour).Format(time.RFC3339Nano)
		_, got, stop := follow(t, f, api)
		defer stop()
		synctest.Wait()
		f.send(events.ActionKill, id("a"), map[string]string{"signal": "15"})
		time.Sleep(time.Minute)
		expect(t, got, "")
		f.change(func() { f.started = time.Now().Format(time.RFC3339Nano) })
		time.Sleep(listPeriod)
		expect(t, got, "10.0.0.2:8000")
	})
}

func TestEngineTroubleKeepsTheServers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(summary(id("a"), "front=10.0.0.2"))
		src, got, stop := follow(t, f, api)
		defer stop()
		expect(t, got, "10.0.0.2:8000")
		f.change(func() { f.hung = true })
		time.Sleep(time.Minute)
		expect(t, got, "10.0.0.2:8000")
		if w := whys(src); !strings.Contains(w, "no answer within 5s; the containers as of 1m") {
			t.Errorf("%q", w)
		}
		f.change(func() { f.hung, f.err, f.deaf = false, errors.New("is it running?"), true; close(f.cut) })
		time.Sleep(time.Minute)
		expect(t, got, "10.0.0.2:8000")
		if w := whys(src); !strings.Contains(w, "is it running?") {
			t.Errorf("%q", w)
		}
		f.change(func() { f.err, f.list = nil, append(f.list, summary(id("b"), "front=10.0.0.3")) })
		time.Sleep(listPeriod)
		expect(t, got, "10.0.0.2:8000 10.0.0.3:8000")
		if w := whys(src); !strings.Contains(w, "sends no events: not today") {
			t.Errorf("%q", w)
		}
		f.change(func() { f.deaf, f.cut = false, make(chan struct{}) })
		time.Sleep(6 * time.Second)
		if w := whys(src); w != "" {
			t.Errorf("%q", w)
		}
	})
}

func TestEngineAbsentAtFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(summary(id("a"), "front=10.0.0.2"))
		f.err = errors.New("connection refused")
		src, got, stop := follow(t, f, api)
		defer stop()
		time.Sleep(time.Minute)
		if _, sets := got.get(); sets != 0 || !strings.Contains(whys(src), "the engine cannot be asked: connection refused") {
			t.Errorf("%d sets, %q", sets, whys(src))
		}
		f.change(func() { f.err = nil })
		time.Sleep(listPeriod)
		expect(t, got, "10.0.0.2:8000")
	})
}

// Many events cost few listings.
func TestEventStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(summary(id("a"), "front=10.0.0.2"))
		_, _, stop := follow(t, f, api)
		defer stop()
		synctest.Wait()
		before := f.lists
		for range 1000 {
			f.send(events.ActionHealthStatusHealthy, id("b"), nil)
			time.Sleep(time.Millisecond)
		}
		synctest.Wait()
		if n := f.lists - before; n > 25 {
			t.Errorf("%d listings in a second", n)
		}
	})
}
