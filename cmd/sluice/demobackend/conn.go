package demobackend

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// tracker is a listener that knows its connections, so that they can be drained without losing a request.
// fasthttp's own Shutdown closes idle connections blindly: one on which a request has just arrived is closed
// with it unread.
type tracker struct {
	net.Listener
	mu       sync.Mutex
	conns    map[*conn]struct{} // guarded by mu
	draining bool               // guarded by mu
	changed  chan struct{}      // capacity 1: a connection was closed
}

func newTracker(ln net.Listener) *tracker {
	return &tracker{Listener: ln, conns: map[*conn]struct{}{}, changed: make(chan struct{}, 1)}
}

func (t *tracker) Accept() (net.Conn, error) {
	nc, err := t.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, t: t}
	if sc, ok := nc.(syscall.Conn); ok {
		c.raw, _ = sc.SyscallConn()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.conns[c] = struct{}{}
	if t.draining {
		c.nudge()
	}
	return c, nil
}

// open is the number of connections.
func (t *tracker) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.conns)
}

// idle is told when a connection has been answered.
func (t *tracker) idle(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	c.busy.Store(false)
	if t.draining {
		c.nudge()
	}
}

// drain closes the listener and every connection as soon as it is idle.
func (t *tracker) drain() {
	t.Listener.Close()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.draining = true
	for c := range t.conns {
		if !c.busy.Load() {
			c.nudge()
		}
	}
}

// conn is one connection of a tracker.
type conn struct {
	net.Conn
	t   *tracker
	raw syscall.RawConn // nil: not a socket
	// busy: bytes of a request have arrived that is not answered yet, or the connection is a WebSocket.
	busy atomic.Bool
	// nudged: the read deadline was set by nudge.
	nudged atomic.Bool
	closed sync.Once
}

// nudge wakes a pending Read so that it finds out whether the connection is idle.
func (c *conn) nudge() {
	c.nudged.Store(true)
	c.Conn.SetReadDeadline(time.Unix(1, 0))
}

func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 {
			c.busy.Store(true)
			return n, err
		}
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) || !c.nudged.Swap(false) {
			return n, err
		}
		c.Conn.SetReadDeadline(time.Time{})
		if !c.busy.Load() {
			return c.readArrived(p)
		}
	}
}

// readArrived reads what has already arrived; io.EOF when that is nothing.
func (c *conn) readArrived(p []byte) (n int, err error) {
	if c.raw == nil {
		return 0, io.EOF
	}
	rerr := c.raw.Read(func(fd uintptr) bool {
		n, err = unix.Read(int(fd), p)
		return true
	})
	if rerr != nil || err != nil || n <= 0 {
		return 0, io.EOF
	}
	c.busy.Store(true)
	return n, nil
}

// left tells whether the client has closed or reset the connection, unless it sent something
// before that is still unread. It must not be called while the connection is being read.
func (c *conn) left() bool {
	if c.raw == nil {
		return false
	}
	gone := false
	_ = c.raw.Read(func(fd uintptr) bool { gone = peek(fd) < 0; return true })
	return gone
}

// peek is how many bytes can be read at once, 0 or 1; -1 when the connection has ended.
func peek(fd uintptr) int {
	var b [1]byte
	n, _, err := unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	switch {
	case err == unix.EAGAIN, err == unix.EINTR:
		return 0
	case err != nil, n == 0:
		return -1
	}
	return n
}

func (c *conn) Close() error {
	err := c.Conn.Close()
	c.closed.Do(func() {
		c.t.mu.Lock()
		delete(c.t.conns, c)
		c.t.mu.Unlock()
		select {
		case c.t.changed <- struct{}{}:
		default:
		}
	})
	return err
}
