package http1

import "testing"

func TestBrevity(t *testing.T) {
	var b brevity
	first := &UpConn{served: 1}
	for range briefAfter {
		if b.pointless() {
			t.Fatal("given up too early")
		}
		b.closed(first)
	}
	kept := 0
	for range 10 * briefSample {
		if !b.pointless() {
			kept++
		}
	}
	if kept != 10 {
		t.Errorf("%d of %d connections kept to try again, want 10", kept, 10*briefSample)
	}
	b.lasted()
	if b.pointless() {
		t.Error("a connection lasted, and still none is kept")
	}
	for range 2 * briefAfter { // closed after many exchanges: a restart, or the server's idle limit
		b.closed(&UpConn{served: 50})
	}
	if b.pointless() {
		t.Error("connections that served long count as short")
	}
}
