package balancer

import (
	"errors"
	"testing"
	"time"
)

var errProbe = errors.New("connection refused")

// newTestUpstream has ready servers with these numbers of slots, named a, b, c …
func newTestUpstream(t testing.TB, cfg Config, slots ...int) *Upstream {
	t.Helper()
	u := NewUpstream("test", cfg)
	var specs []ServerSpec
	for i, n := range slots {
		id := string(rune('a' + i))
		specs = append(specs, ServerSpec{ID: id, Addr: "127.0.0.1:" + id, Slots: n})
	}
	u.Update(specs, time.Now())
	for _, s := range u.Servers() {
		s.Probe(nil, 1, 1, time.Now())
	}
	return u
}

func mustAcquire(t testing.TB, u *Upstream) *Ticket {
	t.Helper()
	ticket := &Ticket{}
	if err := u.Acquire(ticket, time.Now()); err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	return ticket
}

func release(u *Upstream, tickets ...*Ticket) {
	for _, t := range tickets {
		u.Release(t, Outcome{Status: 200}, time.Now())
	}
}
