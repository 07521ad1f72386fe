package process

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestTakeUsage(t *testing.T) {
	at := time.Unix(1000, 0)
	g := gauge{last: map[string]measured{}}
	begun := make(chan context.Context)
	g.listening.Asked(at, func(ctx context.Context) { begun <- ctx })
	ctx := <-begun
	pids := map[string]int{"a": 1}
	take := func(seconds int, cpu time.Duration, err error) {
		t.Helper()
		all := map[string]consumed{"a": {cpu: cpu, memory: 5}}
		if !g.take(ctx, pids, all, err, at.Add(time.Duration(seconds)*time.Second)) {
			t.Fatal("it does not go on")
		}
	}
	take(0, 10*time.Second, nil)
	if u := g.last["a"].usage; !u.At.IsZero() {
		t.Errorf("one measurement is none: %+v", u)
	}
	take(2, 11*time.Second, nil)
	if u := g.last["a"].usage; u.CPU != 0.5 || u.CPUShare != 0.5 || u.Memory != 5 || !u.At.Equal(at.Add(2*time.Second)) {
		t.Errorf("half a core: %+v", u)
	}
	take(3, 0, errors.New("no /proc"))
	if u := g.last["a"].usage; u.CPU != 0.5 || u.Why != "no /proc" {
		t.Errorf("not measured: %+v", u)
	}
	take(4, 13*time.Second, nil)
	if u := g.last["a"].usage; u.CPU != 1 || u.Why != "" {
		t.Errorf("measured again: %+v", u)
	}
	take(5, time.Second, nil)
	take(6, 3*time.Second, nil)
	if u := g.last["a"].usage; u.CPU != 2 {
		t.Errorf("after the counter fell: %+v", u)
	}
	if pids = map[string]int{"b": 2}; !g.take(ctx, pids, nil, nil, at.Add(7*time.Second)) || len(g.last) != 1 || g.last["b"].usage.Replica != "b" {
		t.Errorf("another replica: %+v", g.last)
	}
	if g.take(ctx, pids, nil, nil, at.Add(61*time.Second)) || ctx.Err() == nil {
		t.Error("nobody asks, and it goes on")
	}
}
