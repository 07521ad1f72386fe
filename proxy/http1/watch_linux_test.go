package http1

import (
	"testing"
)

// An event that was fetched before its connection was closed does not reach the next one in the same slot.
func TestStaleEventReachesNobody(t *testing.T) {
	a, _ := pair(t)
	first := newConn(&Server{}, a, Origin{})
	first.startWatch()
	id := first.watch.id
	w := theWatcher()
	if w.lookup(id) != first {
		t.Fatal("not registered")
	}
	first.watch.stop()
	b, _ := pair(t)
	second := newConn(&Server{}, b, Origin{})
	second.startWatch()
	again := second.watch.id
	defer second.watch.stop()
	if again.slot != id.slot {
		t.Fatalf("slot %d, then %d", id.slot, again.slot)
	}
	if w.lookup(id) != nil || w.lookup(again) != second {
		t.Error("a stale event reaches the next connection")
	}
}
