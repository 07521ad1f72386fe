package balancer

import (
	"slices"
	"testing"
	"time"
)

// What was held is told to the next process, which holds it from its first set on; what is only drained, has another
// address or comes later is not held.
func TestHeldServersPassOn(t *testing.T) {
	now := time.Now()
	specs := []ServerSpec{{ID: "a", Addr: "a:1"}, {ID: "b", Addr: "b:1"}, {ID: "c", Addr: "c:1"}, {ID: "d", Addr: "d:1"}, {ID: "e", Addr: "e:1"}}
	u := NewUpstream("api", DefaultConfig())
	u.Update(specs, now)
	u.Server("a").Hold()
	u.Server("b").Drain() // by the scaler
	u.Server("c").Hold()
	u.Server("d").Hold()
	u.Server("e").Hold()
	u.Server("e").Enable()
	told := u.Held()
	if want := []Held{{"a", "a:1"}, {"c", "c:1"}, {"d", "d:1"}}; !slices.Equal(told, want) {
		t.Fatalf("held %v, want %v", told, want)
	}

	next := NewUpstream("api", DefaultConfig())
	next.Hold(told)
	if !slices.Equal(next.Held(), told) {
		t.Errorf("before the first set %v are held", next.Held())
	}
	next.SetHooks(func(s *Server) any { return next.Server(s.ID()) == nil && s.Draining() }, nil)
	next.Update([]ServerSpec{specs[0], specs[1], {ID: "c", Addr: "elsewhere:1"}}, now)
	for id, want := range map[string]bool{"a": true, "b": false, "c": false} {
		if s := next.Server(id); s.Draining() != want || s.Attached() != want {
			t.Errorf("%s: draining %v, from the beginning %v", id, s.Draining(), s.Attached())
		}
	}
	next.Update(specs, now)
	if got := next.Held(); !slices.Equal(got, []Held{{"a", "a:1"}}) {
		t.Errorf("after the first set %v are held", got)
	}
	next.Server("a").Enable()
	if got := next.Held(); len(got) != 0 {
		t.Errorf("%v are held, none should be", got)
	}
}
