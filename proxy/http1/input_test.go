package http1

import (
	"io"
	"net"
	"testing"
	"time"
)

// pair is both ends of a TCP connection.
func pair(t *testing.T) (a, b *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	a, accepted := connectTo(t, l, l.Addr().String(), "")
	return a, accepted.(*net.TCPConn)
}

// connectTo is both ends of a connection to l by its address addr; what say says is there when it is accepted.
func connectTo(t testing.TB, l net.Listener, addr, say string) (client *net.TCPConn, accepted net.Conn) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	if _, err := nc.Write([]byte(say)); err != nil {
		t.Fatal(err)
	}
	if accepted, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = accepted.Close() })
	return nc.(*net.TCPConn), accepted
}

// A request that came just when its connection was to be closed for silence is still seen.
func TestPollSeesWhatCameAtTheDeadline(t *testing.T) {
	a, b := pair(t)
	var in input
	in.init(a)
	if _, err := b.Write([]byte("late")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "bytes", func() bool { return peek(in.raw) == peekData })
	_ = a.SetReadDeadline(longAgo)
	if err := in.first(keepDeadline); !isTimeout(err) {
		t.Fatal(err)
	}
	if !in.poll() || string(in.unread()) != "late" {
		t.Error("not seen")
	}
	in.release()
	if in.poll() || in.b != nil {
		t.Error("seen twice")
	}
}

func TestStoppedReaderLosesNothing(t *testing.T) {
	a, b := pair(t)
	var in input
	in.init(a)
	in.take()
	done := make(chan error)
	go func() { done <- in.read(time.Minute) }()
	in.stop()
	if err := <-done; err != errStopped {
		t.Fatal(err)
	}
	in.resume()
	_, _ = b.Write([]byte("x"))
	if err := in.read(time.Minute); err != nil || string(in.unread()) != "x" {
		t.Errorf("%q, %v", in.unread(), err)
	}
	_ = b.Close()
	if err := in.read(time.Minute); err != io.EOF {
		t.Error(err)
	}
}

func TestDeadlineIsMovedSeldomAndNeverEarly(t *testing.T) {
	var d deadline
	first, change := d.next(uptime(), 8*time.Second)
	if left := time.Until(first); !change || left < 8*time.Second || left > 9*time.Second {
		t.Error(left)
	}
	if at, change := d.next(uptime(), 8*time.Second); change || at != first {
		t.Error("moved though it still serves")
	}
	if _, change := d.next(uptime(), 9*time.Second); !change {
		t.Error("too early")
	}
	if _, change := d.next(uptime(), time.Second); !change {
		t.Error("too late")
	}
	if at, change := d.next(uptime(), 0); !change || !at.IsZero() {
		t.Error("not cleared")
	}
	if _, change := d.next(uptime(), 0); change {
		t.Error("cleared twice")
	}
}

func TestGoneIsToldOnlyWhileHandling(t *testing.T) {
	a, _ := pair(t)
	c := newConn(&Server{}, a, Origin{})
	called := 0
	c.SetGone(func() { called++ })
	c.clientLeft()
	if called != 0 || !c.Gone() {
		t.Error("called", called, "gone", c.Gone())
	}
	c.wake()
	c.clientLeft()
	c.rest(false)
	c.clientLeft()
	if called != 1 {
		t.Error("called", called)
	}
}
