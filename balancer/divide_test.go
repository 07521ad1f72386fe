package balancer

import (
	"errors"
	"testing"
	"time"
)

func TestDivide(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Queue.Timeout = 20 * time.Millisecond
	u := newTestUpstream(t, cfg, 4, 6, 0)
	part := map[string]int{"a": 1, "b": -1}
	var asked []string
	divide := func(id string, slots int) int {
		asked = append(asked, id)
		if slots != 4 && slots != 6 {
			t.Errorf("%s is asked with %d", id, slots)
		}
		return part[id]
	}
	u.Server("c").Drain()
	u.Divide(divide)
	if len(asked) != 2 || u.Server("a").Slots() != 1 || u.Server("b").Slots() != -1 || u.Server("c").Slots() != 0 || u.Server("a").MaxConns() != 4 {
		t.Fatalf("asked %v, slots %d, %d, %d of %d", asked, u.Server("a").Slots(), u.Server("b").Slots(), u.Server("c").Slots(), u.Server("a").MaxConns())
	}
	if r := u.Read(time.Now()); r.Slots != 1 {
		t.Errorf("the meter says %d slots", r.Slots)
	}
	one := mustAcquire(t, u)
	if one.Server().ID() != "a" {
		t.Errorf("the slot is %s's", one.Server().ID())
	}
	if err := u.Acquire(&Ticket{}, time.Now()); !errors.Is(err, ErrQueueTimeout) {
		t.Errorf("beyond the part: %v", err)
	}
	release(u, one)
	bound := &Ticket{Sticky: u.Server("b").StickyID()}
	if err := u.Acquire(bound, time.Now()); !errors.Is(err, ErrQueueTimeout) {
		t.Errorf("bound to a server that is the others': %v", err)
	}

	// One that waits is served when the part grows.
	one = mustAcquire(t, u)
	cfg.Queue.Timeout = 10 * time.Second
	u.Configure(cfg)
	got := make(chan *Ticket)
	go func() { got <- mustAcquire(t, u) }()
	for u.Queued() == 0 {
		time.Sleep(time.Millisecond)
	}
	part["b"] = 1
	u.Divide(divide)
	two := <-got
	if two.Server().ID() != "b" {
		t.Errorf("the new slot is %s's", two.Server().ID())
	}
	// A part that is taken away while it is used is not handed on.
	part["b"] = -1
	u.Divide(divide)
	go func() { got <- mustAcquire(t, u) }()
	for u.Queued() == 0 {
		time.Sleep(time.Millisecond)
	}
	release(u, two)
	if u.Queued() != 1 {
		t.Error("a slot that is no longer ours was handed on")
	}
	release(u, one)
	release(u, <-got)
}
