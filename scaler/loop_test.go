package scaler

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/balancer"
)

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
