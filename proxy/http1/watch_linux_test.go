package http1

import (
	"testing"
)

// An event that was fetched before its connection was closed does not reach the next one in the same slot.
func TestStaleEventReachesNobody(t *testing.T) {
	a, _ := pair(t)
	first := newConn(&Server{}, a, Origin{})
	id := startWatch(first)
	w := theWatcher()
	if w.lookup(id) != first {
		t.Fatal("not registered")
	}
	stopWatch(id)
	b, _ := pair(t)
	second := newConn(&Server{}, b, Origin{})
	again := startWatch(second)
	defer stopWatch(again)
	if again.slot != id.slot {
		t.Fatalf("slot %d, then %d", id.slot, again.slot)
	}
	if w.lookup(id) != nil || w.lookup(again) != second {
		t.Error("a stale event reaches the next connection")
	}
}
