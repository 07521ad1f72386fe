package scaler

import (
	"math"
	"strings"
	"testing"
	"time"
)

// known is a signal with that value of the query, heard a second ago.
func known(v float64) Signal {
	return Signal{Ready: 1, Slots: 4, Query: QuerySignal{Value: v, Age: time.Second, Known: true}}
}

func TestDemandFromOutside(t *testing.T) {
	query := Sizing{QueryPerReplica: 50, QueryFresh: 17 * time.Second}
	queue := Sizing{QueuedPerReplica: 20}
	inFlight := Sizing{InFlightPerReplica: 10}
	for _, test := range []struct {
		name    string
		sizing  Sizing
		sig     Signal
		current int
		want    int
		code    string
	}{
		{"average value", query, known(201), 1, 5, "query"},
		{"within tolerance", query, known(219), 4, 4, "query"},
		{"beyond it", query, known(221), 4, 5, "query"},
		{"a part of one", query, known(.02), 0, 0, "query"}, // as a hundredth of any gauge
		{"below zero", query, known(-70), 3, 0, "query"},
		{"largest wins", Sizing{QueryPerReplica: 50, QueryFresh: 17 * time.Second, InFlightPerReplica: 1},
			Signal{InFlight: 3, Query: QuerySignal{Value: 400, Known: true}}, 1, 8, "query"},
		{"too old counts for nothing", query, Signal{Query: QuerySignal{Value: 400, Known: true, Age: time.Minute}}, 2, 0, "query"},
		{"within servers", queue, Signal{Queue: 10, InFlight: 4, Slots: 4, Ready: 1, Servers: ServersSignal{Queue: 50, Asked: 1}}, 1, 3, "queue"},
		{"tasks as well", queue, Signal{Servers: ServersSignal{Queue: 30, Tasks: 45, Asked: 2}}, 2, 4, "queue"},
		{"one task keeps one", Sizing{QueuedPerReplica: 1000}, Signal{Servers: ServersSignal{Tasks: 1, Asked: 1}}, 1, 1, "queue"},
		{"what waits within servers is in flight already", inFlight, Signal{InFlight: 20, Servers: ServersSignal{Queue: 500}}, 1, 2, "in_flight"},
		{"tasks are not", inFlight, Signal{InFlight: 20, Servers: ServersSignal{Tasks: 30, HasTasks: true}}, 1, 5, "in_flight"},
	} {
		n, why, code := test.sizing.demand(test.sig, test.current)
		if n != test.want || code != test.code {
			t.Errorf("%s: %d %s (%s), want %d %s", test.name, n, code, why, test.want, test.code)
		}
	}
}

func TestUnknownFromOutsideNeverScalesDown(t *testing.T) {
	s := Sizing{Min: 0, Max: 20, QueryPerReplica: 10, QueryFresh: 17 * time.Second, CooldownDown: 10 * time.Second, ToZeroAfter: 20 * time.Second}
	st := begin(t, s, 8)
	st.stays(10, known(80), 8)
	for name, q := range map[string]QuerySignal{
		"never":   {},
		"refused": {Why: "connection refused"},
		"old":     {Known: true, Value: 10, Age: 18 * time.Second},
		"NaN":     {Known: true, Value: math.NaN()},
		"endless": {Known: true, Value: math.Inf(1)},
	} {
		sig := Signal{Ready: 8, Idle: time.Hour, Query: q}
		st.stays(60, sig, 8)
		if st.last.Code != "stale" || !strings.Contains(st.last.Reason, "query not known") {
			t.Errorf("%s: %s %q", name, st.last.Code, st.last.Reason)
		}
		if q.Why != "" && !strings.Contains(st.last.Reason, q.Why) {
			t.Errorf("%s: the reason %q does not say why", name, st.last.Reason)
		}
	}
	// Another objective still scales up, and says what is missing.
	both := s
	both.InFlightPerReplica = 1
	st.sizing = both
	if st.wants(Signal{Ready: 8, InFlight: 12}, 12, "in_flight"); !strings.Contains(st.last.Reason, "query not known yet") {
		t.Errorf("reason %q", st.last.Reason)
	}
	st.stays(60, Signal{Ready: 12, InFlight: 1}, 12)
	// Known again, the stabilisation window counts from then.
	st.sizing = s
	st.stays(9, known(30), 12)
	st.stays(3, known(30), 3)
	zero := known(0)
	zero.Idle = time.Minute
	st.stays(9, zero, 3)
	st.wants(zero, 0, "idle")
	st.wants(known(31), 4, "query") // from zero by the query alone
}

func TestUnheardServersNeverScaleDown(t *testing.T) {
	s := Sizing{Min: 1, Max: 20, QueuedPerReplica: 5, CooldownDown: 10 * time.Second}
	st := begin(t, s, 4)
	one := Signal{Ready: 4, Slots: 4, Servers: ServersSignal{Asked: 4, Unheard: 1, Why: "no answer within 2s"}}
	st.stays(60, one, 4)
	if want := "own queue of 1 of 4 servers not known (no answer within 2s)"; st.last.Code != "stale" || !strings.Contains(st.last.Reason, want) {
		t.Errorf("%s %q, want %q", st.last.Code, st.last.Reason, want)
	}
	one.Servers.Queue = 31
	st.wants(one, 7, "queue") // those that are heard still count
	one.Servers.Queue, one.Servers.Unheard = 0, 0
	st.stays(9, one, 7)
	st.wants(one, 1, "in_flight")

	// Where no objective divides by them, they hold nothing back.
	s.QueuedPerReplica, s.InFlightPerReplica = 0, 5
	st = begin(t, s, 4)
	st.stays(9, Signal{Ready: 4, Servers: ServersSignal{Asked: 4, Unheard: 4}}, 4)
	st.step(Signal{Ready: 4, Servers: ServersSignal{Asked: 4, Unheard: 4}})
	if st.step(Signal{Ready: 4, Servers: ServersSignal{Asked: 4, Unheard: 4}}); st.last.Wanted != 1 {
		t.Errorf("wanted %d: %q", st.last.Wanted, st.last.Reason)
	}
}

func TestExternalSignal(t *testing.T) {
	now := time.Unix(1000, 0)
	told := func(id string, queue float64, ago time.Duration) ServerReading {
		r := Untold(id)
		r.Queue, r.At = queue, now.Add(-ago)
		return r
	}
	silent := Untold("d")
	silent.Why = "connection refused"
	e := External{Queue: true, Fresh: 17 * time.Second, Servers: []ServerReading{told("a", 3, time.Second), told("b", 4, 17*time.Second), told("c", 100, 18*time.Second), silent}}
	s := e.signal(now)
	if s.Queue != 7 || s.Asked != 4 || s.Unheard != 2 || s.Age != 17*time.Second || s.Why != "connection refused" {
		t.Errorf("%+v", s)
	}
	e.Queue = false // asked for other things only
	if s := e.signal(now); s != (ServersSignal{}) {
		t.Errorf("%+v", s)
	}
}
