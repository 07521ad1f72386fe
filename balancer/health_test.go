package balancer

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestRiseAndFall(t *testing.T) {
	now := time.Now()
	u := NewUpstream("test", DefaultConfig())
	u.Update([]ServerSpec{{ID: "a", Addr: "a:1"}}, now)
	s := u.Servers()[0]
	for i, step := range []struct {
		err  error
		want State
	}{
		{nil, StateStarting}, {errProbe, StateStarting}, {nil, StateStarting}, {nil, StateReady},
		{errProbe, StateReady}, {errProbe, StateReady}, {nil, StateReady},
		{errProbe, StateReady}, {errProbe, StateReady}, {errProbe, StateUnhealthy},
	} {
		s.Probe(step.err, 2, 3, now.Add(time.Duration(i)*time.Minute))
		if state, why := s.State(now); state != step.want {
			t.Fatalf("after probe %d: %s (%s), want %s", i+1, state, why, step.want)
		}
	}
	if _, why := s.State(now); why != errProbe.Error() {
		t.Errorf("reason %q", why)
	}
	if got, want := s.ReadyAt(), now.Add(3*time.Minute); !got.Equal(want) {
		t.Errorf("ReadyAt %v, want %v", got, want)
	}
	if got, want := s.UnhealthySince(), now.Add(9*time.Minute); !got.Equal(want) {
		t.Errorf("UnhealthySince %v, want %v", got, want)
	}
}

func TestServerThatNeverAnswersIsUnhealthyUnlessItIsAReplica(t *testing.T) {
	for _, elastic := range []bool{false, true} {
		u := NewUpstream("test", DefaultConfig())
		u.SetElastic(elastic)
		u.Update([]ServerSpec{{ID: "a", Addr: "a:1"}}, time.Now())
		for range 5 {
			u.Servers()[0].Probe(errProbe, 1, 2, time.Now())
		}
		want := map[bool]State{false: StateUnhealthy, true: StateStarting}[elastic]
		if state, why := u.Servers()[0].State(time.Now()); state != want || !strings.Contains(why, "refused") {
			t.Errorf("elastic %v: %s (%s), want %s", elastic, state, why, want)
		}
	}
}

// A server that flaps once a second changes its state at most about once in ten seconds.
func TestFlappingIsDamped(t *testing.T) {
	now := time.Now()
	u := NewUpstream("test", DefaultConfig())
	u.Update([]ServerSpec{{ID: "a", Addr: "a:1"}}, now)
	s := u.Servers()[0]
	changes, last := 0, StateStarting
	for i := range 3000 { // ten minutes, five probes a second
		var err error
		if i/5%2 == 1 {
			err = errProbe
		}
		at := now.Add(time.Duration(i) * 200 * time.Millisecond)
		s.Probe(err, 1, 2, at)
		if state, _ := s.State(at); state != last {
			changes, last = changes+1, state
		}
	}
	if changes > 60 {
		t.Errorf("%d changes of state in 600 s", changes)
	}
	at := now.Add(time.Hour)
	for range 3 {
		s.Probe(nil, 1, 2, at)
	}
	if state, why := s.State(at); state != StateReady {
		t.Errorf("steady again for long, still %s (%s)", state, why)
	}
}

func TestEjectionDoublesAndSparesTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := DefaultConfig()
		u := newTestUpstream(t, cfg, 0, 0, 0)
		s := u.Server("a")
		fail := func(s *Server, n int) {
			for range n {
				s.take()
				u.Release(&Ticket{server: s}, Outcome{Status: 503}, time.Now())
			}
		}
		fail(s, 4)
		if state, _ := s.State(time.Now()); state != StateReady {
			t.Fatalf("ejected after 4 failures: %s", state)
		}
		fail(s, 1)
		if state, why := s.State(time.Now()); state != StateEjected || !strings.Contains(why, "status 503") {
			t.Fatalf("after 5 failures: %s (%s)", state, why)
		}
		fail(u.Server("b"), 9)
		if state, _ := u.Server("b").State(time.Now()); state != StateReady {
			t.Error("two of three ejected, more than half")
		}
		time.Sleep(10 * time.Second)
		if state, _ := s.State(time.Now()); state != StateReady {
			t.Fatalf("after eject_for: %s", state)
		}
		fail(s, 5)
		time.Sleep(19 * time.Second)
		if state, _ := s.State(time.Now()); state != StateEjected {
			t.Error("the second ejection was not twice as long")
		}
		time.Sleep(time.Second)
		if state, _ := s.State(time.Now()); state != StateReady {
			t.Errorf("after the second ejection: %s", state)
		}
	})
}

func TestLastServerIsNeverEjected(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Outlier.MaxShare = 1
	u := newTestUpstream(t, cfg, 0)
	for range 50 {
		ticket := mustAcquire(t, u)
		u.Release(ticket, Outcome{Failed: true}, time.Now())
	}
	if state, why := u.Servers()[0].State(time.Now()); state != StateReady {
		t.Errorf("the only server is %s (%s)", state, why)
	}
	select {
	case <-u.Servers()[0].Suspect():
	default:
		t.Error("nobody was asked to probe it")
	}
}

func TestClientsThatLeaveSayNothingOfTheServer(t *testing.T) {
	u := newTestUpstream(t, DefaultConfig(), 0, 0)
	for range 50 {
		u.Release(mustAcquire(t, u), Outcome{Failed: true, Neutral: true}, time.Now())
	}
	for _, s := range u.Servers() {
		if state, why := s.State(time.Now()); state != StateReady {
			t.Errorf("%s: %s (%s)", s.ID(), state, why)
		}
	}
}
