package http1

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// acceptedConn is a client's TCP connection that enters the runtime's poller when it first has to wait. Its first request mostly is there
// when it is accepted (TCP_DEFER_ACCEPT), so that one which ends with that request never does: it is accepted, read from, written to and
// closed, without the half a dozen system calls that package net needs besides, of which two tell the scheduler and so wake the
// runtime's monitor. The plain version is net.TCPConn.
//
// All methods may be called concurrently, but for two Reads or two Writes at a time. Callbacks of SyscallConn's Read and Write may
// be called once more than those of package net.
type acceptedConn struct {
	fd            int
	local, remote netip.AddrPort
	users         atomic.Int64 // who uses fd past the poller, and the owner until Close: the last one closes it
	waits         atomic.Pointer[polled]

	mu              sync.Mutex // guards what follows, and entering the poller
	closed          bool
	readAt, writeAt time.Time // the deadlines, until it is in the poller
}

// polled is a connection in the runtime's poller.
type polled struct {
	file  *os.File
	raw   syscall.RawConn
	bytes atomic.Pointer[rawBytes] // of one that is read and written by net.Conn's methods, as TLS does
}

func (p *polled) io() *rawBytes {
	if known := p.bytes.Load(); known != nil {
		return known
	}
	p.bytes.CompareAndSwap(nil, newRawBytes(p.raw))
	return p.bytes.Load()
}

// newAcceptedConn takes fd over, which does not block.
func newAcceptedConn(fd int, local, remote netip.AddrPort) *acceptedConn {
	c := &acceptedConn{fd: fd, local: local, remote: remote}
	c.users.Store(1)
	return c
}

// use keeps fd from being closed until leave; false when it is closed already.
func (c *acceptedConn) use() bool {
	for {
		n := c.users.Load()
		if n == 0 {
			return false
		}
		if c.users.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// leave closes the descriptor if nobody is left.
func (c *acceptedConn) leave() (last bool) {
	if c.users.Add(-1) > 0 {
		return false
	}
	if p := c.waits.Load(); p != nil {
		_ = p.file.Close()
	} else {
		_, _, _ = syscall.RawSyscall(unix.SYS_CLOSE, uintptr(c.fd), 0, 0) // sockets never block in it
	}
	return true
}

// poll makes the connection wait in the poller from now on.
func (c *acceptedConn) poll() (*polled, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.enter()
}

// enter is poll with mu held.
func (c *acceptedConn) enter() (*polled, error) {
	if p := c.waits.Load(); p != nil || c.closed {
		return p, c.ended()
	}
	p := &polled{file: os.NewFile(uintptr(c.fd), "client")}
	p.raw, _ = p.file.SyscallConn()
	c.waits.Store(p) // also if the poller does not take it: the file closes the descriptor
	return p, errors.Join(p.file.SetReadDeadline(c.readAt), p.file.SetWriteDeadline(c.writeAt))
}

// ended is net.ErrClosed once Close was called. mu is held.
func (c *acceptedConn) ended() error {
	if c.closed {
		return net.ErrClosed
	}
	return nil
}

// Close implements net.Conn. Who waits is woken; the descriptor is closed when the last callback has returned.
func (c *acceptedConn) Close() error {
	c.mu.Lock()
	ended := c.ended()
	c.closed = true
	c.mu.Unlock()
	if ended != nil {
		return ended
	}
	if c.leave() { // without mu: it waits for callbacks, which may move deadlines
		return nil
	}
	if p := c.waits.Load(); p != nil {
		_ = p.file.SetDeadline(longAgo) // it may have been closed meanwhile
	}
	return nil
}

// meaning says what an error of os is here.
func (c *acceptedConn) meaning(op string, err error) error {
	if err == io.EOF {
		return err
	}
	if err = c.waited(err); err == nil || err == net.ErrClosed {
		return err
	}
	if of, ok := err.(*os.PathError); ok {
		err = of.Err
	}
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err}
}

// Read implements net.Conn.
func (c *acceptedConn) Read(b []byte) (n int, err error) {
	p := c.waits.Load()
	if p == nil && len(b) > 0 {
		if !c.use() {
			return 0, net.ErrClosed
		}
		n, err = recv(uintptr(c.fd), b)
		c.leave()
		if err == syscall.EAGAIN {
			p, err = c.poll()
		}
	}
	if p != nil && err == nil {
		n, err = p.io().Read(b)
	}
	return n, c.meaning("read", err)
}

// Write implements net.Conn.
func (c *acceptedConn) Write(b []byte) (n int, err error) {
	p := c.waits.Load()
	for p == nil && n < len(b) && err == nil {
		if !c.use() {
			return n, net.ErrClosed
		}
		var took int
		took, err = send(uintptr(c.fd), b[n:])
		n += took
		c.leave()
		if err == syscall.EAGAIN {
			p, err = c.poll()
		}
	}
	if p != nil && err == nil {
		var took int
		took, err = p.io().Write(b[n:])
		n += took
	}
	return n, c.meaning("write", err)
}

// SyscallConn implements syscall.Conn.
func (c *acceptedConn) SyscallConn() (syscall.RawConn, error) { return rawAccepted{c}, nil }

type rawAccepted struct{ c *acceptedConn }

// Read implements syscall.RawConn.
func (r rawAccepted) Read(f func(fd uintptr) bool) error { return r.c.call(f, syscall.RawConn.Read) }

// Write implements syscall.RawConn.
func (r rawAccepted) Write(f func(fd uintptr) bool) error { return r.c.call(f, syscall.RawConn.Write) }

// call calls f until it is true: once past the poller, and after that in the poller's Read or Write.
func (c *acceptedConn) call(f func(fd uintptr) bool, wait func(syscall.RawConn, func(fd uintptr) bool) error) error {
	p := c.waits.Load()
	if p == nil {
		done, err := c.try(f)
		if done || err != nil {
			return err
		}
		if p, err = c.poll(); err != nil {
			return err
		}
	}
	return c.waited(wait(p.raw, f))
}

// Control implements syscall.RawConn.
func (r rawAccepted) Control(f func(fd uintptr)) error {
	if p := r.c.waits.Load(); p != nil {
		return r.c.waited(p.raw.Control(f))
	}
	_, err := r.c.try(func(fd uintptr) bool { f(fd); return true })
	return err
}

// try calls f past the poller.
func (c *acceptedConn) try(f func(fd uintptr) bool) (done bool, err error) {
	if !c.use() {
		return false, net.ErrClosed
	}
	defer c.leave()
	return f(uintptr(c.fd)), nil
}

// waited says what an error of the poller is here.
func (c *acceptedConn) waited(err error) error {
	if err == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if ended := c.ended(); ended != nil {
		return ended
	}
	return err
}

// CloseWrite ends what is sent.
func (c *acceptedConn) CloseWrite() (err error) {
	if controlErr := (rawAccepted{c}).Control(func(fd uintptr) { err = syscall.Shutdown(int(fd), syscall.SHUT_WR) }); controlErr != nil {
		return controlErr
	}
	return os.NewSyscallError("shutdown", err)
}

// SetLinger is that of net.TCPConn.
func (c *acceptedConn) SetLinger(sec int) (err error) {
	linger := syscall.Linger{Onoff: 1, Linger: int32(sec)}
	if sec < 0 {
		linger = syscall.Linger{}
	}
	if controlErr := (rawAccepted{c}).Control(func(fd uintptr) {
		err = syscall.SetsockoptLinger(int(fd), syscall.SOL_SOCKET, syscall.SO_LINGER, &linger)
	}); controlErr != nil {
		return controlErr
	}
	return os.NewSyscallError("setsockopt", err)
}

// endpoints spares the allocation of RemoteAddr and LocalAddr.
func (c *acceptedConn) endpoints() (remote, local netip.AddrPort) { return c.remote, c.local }

// LocalAddr implements net.Conn.
func (c *acceptedConn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr implements net.Conn.
func (c *acceptedConn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// SetDeadline implements net.Conn.
func (c *acceptedConn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements net.Conn. One that passes before the connection had to wait for the first time counts from then on.
func (c *acceptedConn) SetReadDeadline(t time.Time) error {
	return c.setDeadline(&c.readAt, t, (*os.File).SetReadDeadline)
}

// SetWriteDeadline implements net.Conn, as SetReadDeadline does.
func (c *acceptedConn) SetWriteDeadline(t time.Time) error {
	return c.setDeadline(&c.writeAt, t, (*os.File).SetWriteDeadline)
}

func (c *acceptedConn) setDeadline(kept *time.Time, t time.Time, set func(*os.File, time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	*kept = t
	p := c.waits.Load()
	if p == nil && !t.IsZero() && time.Until(t) <= 0 { // it is to end what begins from now on
		_, err := c.enter()
		return err
	}
	if p == nil || c.closed {
		return c.ended()
	}
	return set(p.file, t)
}
