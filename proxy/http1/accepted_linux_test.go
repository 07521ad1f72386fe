package http1

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"
	"golang.org/x/sys/unix"
)

// acceptOne gives both ends of a connection to a listener of Listen; what say says is there when it is accepted.
func acceptOne(t testing.TB, say string) (*acceptedConn, *net.TCPConn) {
	t.Helper()
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, nc := connectTo(t, l, l.Addr().String(), say)
	return nc.(*acceptedConn), client
}

// acceptSilent is acceptOne on which nothing is to be read.
func acceptSilent(t testing.TB) (*acceptedConn, syscall.RawConn, *net.TCPConn) {
	t.Helper()
	c, client := acceptOne(t, "x")
	if _, err := c.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return c, raw, client
}

func TestAcceptedConnIsAConn(t *testing.T) {
	nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := Listen(context.Background(), "127.0.0.1:0")
		if err != nil {
			return nil, nil, nil, err
		}
		acceptAtOnce(l)
		defer l.Close()
		if c2, err = net.Dial("tcp", l.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		c1, err = l.Accept()
		return c1, c2, func() { c1.Close(); c2.Close() }, err
	})
}

// What is there is read and answered past the poller; the first wait enters it.
func TestAcceptedConnWaitsLate(t *testing.T) {
	c, client := acceptOne(t, "question")
	b := make([]byte, 100)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "question" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	if n, err := c.Write([]byte("answer")); n != 6 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if c.waits.Load() != nil {
		t.Error("it has waited")
	}
	if n, err := io.ReadFull(client, b[:6]); err != nil || string(b[:n]) != "answer" {
		t.Fatalf("%q, %v", b[:n], err)
	}
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := c.Read(b); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	if c.waits.Load() == nil {
		t.Error("it has not waited")
	}
	_ = c.SetReadDeadline(time.Time{})
	_ = client.CloseWrite()
	if n, err := c.Read(b); n != 0 || err != io.EOF {
		t.Errorf("%d, %v", n, err)
	}
}

// More than the kernel takes at once.
func TestAcceptedConnWritesAll(t *testing.T) {
	c, client := acceptOne(t, "x")
	big := strings.Repeat("0123456789abcdef", 1<<20)
	done := make(chan error, 1)
	go func() {
		n, err := c.Write([]byte(big))
		if err == nil && n != len(big) {
			err = io.ErrShortWrite
		}
		done <- errors.Join(err, c.CloseWrite())
	}()
	got, err := io.ReadAll(client)
	if err != nil || string(got) != big {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// Close wakes who waits, and leaves the descriptor to who uses it.
func TestAcceptedConnClosedInUse(t *testing.T) {
	c, client := acceptOne(t, "x")
	raw, _ := c.SyscallConn()
	inside, closed := make(chan struct{}), make(chan struct{})
	ended := make(chan error, 1)
	go func() {
		ended <- raw.Read(func(fd uintptr) bool {
			close(inside)
			<-closed
			if _, err := unix.FcntlInt(fd, unix.F_GETFD, 0); err != nil {
				t.Errorf("the descriptor of a callback: %v", err)
			}
			return true
		})
	}()
	<-inside
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	close(closed)
	if err := <-ended; err != nil {
		t.Error(err)
	}
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) { // a byte was not read
		t.Errorf("the client sees %v", err)
	}
	for what, err := range map[string]error{"Close": c.Close(), "SetDeadline": c.SetDeadline(time.Now()), "CloseWrite": c.CloseWrite(), "SetLinger": c.SetLinger(0),
		"Control": raw.Control(func(uintptr) {}), "RawConn.Read": raw.Read(func(uintptr) bool { return true }), "RawConn.Write": raw.Write(func(uintptr) bool { return true })} {
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestAcceptedConnClosedWhileWaiting(t *testing.T) {
	c, raw, client := acceptSilent(t)
	second := make(chan struct{})
	calls := 0
	ended := make(chan error, 1)
	go func() {
		ended <- raw.Read(func(uintptr) bool {
			if calls++; calls == 2 { // in the poller
				close(second)
			}
			return false
		})
	}()
	<-second
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client sees %v", err)
	}
}

// A client that leaves is noticed, though its connection was not watched from the beginning.
func TestAcceptedConnLeft(t *testing.T) {
	left, free := make(chan struct{}), make(chan struct{})
	defer close(free)
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		c.SetGone(func() { close(left) })
		select {
		case <-left:
		case <-free:
		}
		c.Abort()
	})})
	nc, err := net.Dial("tcp", f.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(nc, getRoot); err != nil {
		t.Fatal(err)
	}
	nc.Close()
	select {
	case <-left:
	case <-time.After(10 * time.Second): // proxy's TestLeavingFreesTheSlotAtOnce says how soon
		t.Fatal("nobody was told")
	}
}

// Close may wait for a callback, which may move a deadline meanwhile.
func TestAcceptedConnClosedInCallback(t *testing.T) {
	c, raw, _ := acceptSilent(t)
	calls := 0
	ended, closed := make(chan error, 1), make(chan error, 1)
	go func() {
		ended <- raw.Read(func(uintptr) bool {
			if calls++; calls == 1 {
				return false // into the poller
			}
			go func() { closed <- c.Close() }()
			for c.SetReadDeadline(time.Now().Add(time.Hour)) == nil {
				runtime.Gosched()
			}
			return true
		})
	}()
	for what, done := range map[string]chan error{"callback": ended, "Close": closed} {
		select {
		case err := <-done:
			if err != nil && !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: %v", what, err)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("%s does not end", what)
		}
	}
}

// Reading and writing by the methods of net.Conn, as TLS does, allocates nothing once the connection has waited.
func TestAcceptedConnPassesBytesWithoutAllocating(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c, _, client := acceptSilent(t)
	go func() { _, _ = io.Copy(client, client) }()
	b := make([]byte, 64)
	pass := func() {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, b); err != nil { // waits, mostly
			t.Fatal(err)
		}
	}
	pass()
	if n := testing.AllocsPerRun(500, pass); n >= 1 {
		t.Errorf("%v allocations", n)
	}
	_ = c.Close()
	if _, err := c.Read(b); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}
