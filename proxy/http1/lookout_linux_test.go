package http1

import (
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

func init() {
	amongMany = func(u *UpConn) {
		l := theLookout()
		_ = u.in.raw.Control(func(fd uintptr) { l.enter(u, fd) })
		l.last.Store(int64(u.now - lookEvery))
		l.asked.Store(lookFrom)
	}
}

// While requests come often, one look serves all of them for lookEvery, and the next one sees what a server has done with any kept
// connection since. What was read is forgotten.
func TestLookout(t *testing.T) {
	const often, seldom = true, false
	for _, row := range []struct {
		name string
		act  func(nc *client)
		want peekResult
	}{
		{"closed", func(nc *client) { _ = nc.Close() }, peekEnd},
		{"reset", func(nc *client) { _ = nc.SetLinger(0); _ = nc.Close() }, peekEnd},
		{"bytes", func(nc *client) { nc.send("poison") }, peekData},
	} {
		t.Run(row.name, func(t *testing.T) {
			now := make(chan struct{})
			var conns atomic.Int32
			tr := NewTransport(script(t, func(nc *client) {
				if conns.Add(1) <= 2 {
					<-now
					row.act(nc)
				}
				_, _ = nc.rest()
			}), TransportConfig{})
			t.Cleanup(tr.Close)
			u, other := dialed(t, tr), dialed(t, tr)
			l := lookoutOfItsOwn(t)
			at := time.Hour
			ask := func(u *UpConn, after time.Duration, many bool) (quiet bool) {
				if at += after; many {
					l.asked.Store(lookFrom)
				}
				if err := u.in.raw.Control(func(fd uintptr) { quiet = l.quiet(u, fd, at) }); err != nil {
					t.Fatal(err)
				}
				return quiet
			}
			for i, step := range []struct {
				u     *UpConn
				after time.Duration
				many  bool
				quiet bool
			}{
				{u, 0, seldom, false},
				{u, lookEvery, seldom, false}, // who asks seldom looks for himself
				{u, lookEvery, often, false},  // not known yet
				{u, 0, often, true},
				{other, 0, often, false},
				{other, lookEvery, often, true},
				{u, 0, often, true},
				{u, lookPause, often, false}, // so that was not often
				{u, lookEvery, often, true},
			} {
				if q := ask(step.u, step.after, step.many); q != step.quiet {
					t.Errorf("step %d: %v", i, q)
				}
			}
			close(now)
			eventually(t, "it is here", func() bool { return peek(u.in.raw) == row.want && peek(other.in.raw) == row.want })
			if !ask(u, lookEvery-1, often) {
				t.Error("looked too soon")
			}
			if ask(u, 1, often) || ask(other, 0, often) || ask(u, lookEvery, often) {
				t.Error("not seen")
			}
			if row.want == peekData {
				u.spot.seen()
				if n := u.in.tryInto(make([]byte, 100)); n != len("poison") {
					t.Fatal(n)
				}
				if !ask(u, lookEvery, often) || ask(other, 0, often) {
					t.Error("what was read is not forgotten")
				}
			}
			u.Close()
			if third := dialed(t, tr); ask(third, lookEvery, often) || third.spot.slot != 0 || !ask(third, 0, often) {
				t.Errorf("in slot %d", third.spot.slot)
			}
		})
	}
}

// A look does not end at as many events as one call gives.
func TestLookoutOverMany(t *testing.T) {
	tr := NewTransport(script(t, func(nc *client) {
		nc.send("poison")
		_, _ = nc.rest()
	}), TransportConfig{})
	t.Cleanup(tr.Close)
	l := lookoutOfItsOwn(t)
	conns := make([]*UpConn, 2*len(l.events)+1)
	for i := range conns {
		u := dialed(t, tr)
		conns[i] = u
		eventually(t, "it is here", func() bool { return peek(u.in.raw) == peekData })
		_ = u.in.raw.Control(func(fd uintptr) { l.enter(u, fd) })
	}
	l.asked.Store(lookFrom)
	l.last.Store(int64(time.Hour))
	l.mu.Lock()
	l.look(time.Hour + lookEvery)
	l.mu.Unlock()
	for i, u := range conns {
		if !u.spot.noted.Load() {
			t.Errorf("connection %d was not seen", i)
		}
		u.Close()
	}
	if len(l.free) != len(conns) {
		t.Errorf("%d slots are free", len(l.free))
	}
}

func lookoutOfItsOwn(t *testing.T) *lookout {
	l := newLookout()
	if l == nil {
		t.Fatal("no epoll")
	}
	t.Cleanup(func() { _ = syscall.Close(l.fd) })
	return l
}

func dialed(t *testing.T, tr *Transport) *UpConn {
	u, err := tr.Dial(nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(u.Close)
	return u
}
