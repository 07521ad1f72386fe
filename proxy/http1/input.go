package http1

import (
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

var (
	errNoRoom  = errors.New("http1: buffer full")
	errStopped = errors.New("http1: reading stopped")
)

// input is the receiving half of a connection. b[:head] is the head in use, which stays where it is until recycle;
// b[pos:end] was received and not used yet. One goroutine uses it at a time; only stop may come from another.
type input struct {
	nc  net.Conn
	raw syscall.RawConn // nil: reads need a buffer beforehand
	b   []byte          // nil while idle

	head, pos, end int
	// keep: nothing behind the head was overwritten and nothing shall be as long as there is room, so that a body can be
	// read again.
	keep     bool
	deadline deadline
	stopped  atomic.Bool

	// What the RawConn.Read callbacks, made once, give and take.
	wait, fill func(fd uintptr) bool // waitRead, fillInto
	try        func(fd uintptr)      // fillInto, once
	waitN      int
	waitErr    error
	into       []byte
}

func (in *input) init(nc net.Conn) {
	in.nc, in.raw = nc, nil
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			in.raw = raw
			in.wait, in.fill = in.waitRead, in.fillInto
			in.try = func(fd uintptr) { in.fillInto(fd) }
		}
	}
}

func (in *input) take() {
	if in.b == nil {
		in.b = takeBuffer(inSize)
		in.head, in.pos, in.end = 0, 0, 0
	}
}

// release gives the buffer back; what was not used yet is lost.
func (in *input) release() {
	giveBuffer(in.b)
	in.b = nil
	in.head, in.pos, in.end = 0, 0, 0
}

// recycle forgets the head and moves what was not used yet to the front.
func (in *input) recycle() {
	if in.pos > 0 {
		in.end = copy(in.b, in.b[in.pos:in.end])
		in.pos = 0
	}
	in.head = 0
}

func (in *input) unread() []byte { return in.b[in.pos:in.end] }

// first waits for the first bytes of a message without holding a buffer meanwhile. It must be called with nothing unread.
func (in *input) first(timeout time.Duration) error {
	if timeout != keepDeadline {
		in.deadline.read(in.nc, timeout)
	}
	if in.raw == nil {
		in.take()
		n, err := in.nc.Read(in.b)
		in.end = n
		if n > 0 {
			return nil
		}
		return err
	}
	in.release()
	in.waitN, in.waitErr = 0, nil
	if err := in.raw.Read(in.wait); err != nil {
		return err
	}
	in.end = in.waitN
	return in.waitErr
}

// poll reads what is there without waiting, whatever the deadline; false when there is nothing or it cannot be told.
func (in *input) poll() bool {
	if in.raw == nil {
		return false
	}
	in.waitN, in.waitErr = 0, nil
	_ = in.raw.Control(func(fd uintptr) { in.wait(fd) })
	in.end = in.waitN
	return in.waitN > 0
}

// waitRead is a RawConn.Read callback: false waits until the descriptor is readable.
func (in *input) waitRead(fd uintptr) bool {
	in.take()
	if in.waitN, in.waitErr = recv(fd, in.b); in.waitN > 0 {
		return true
	}
	in.release()
	return in.waitErr != syscall.EAGAIN
}

// fillInto is one that reads into a given buffer.
func (in *input) fillInto(fd uintptr) bool {
	in.waitN, in.waitErr = recv(fd, in.into)
	return in.waitErr != syscall.EAGAIN
}

// read makes one read behind what is there. timeout 0 is none; with deadlines set elsewhere pass keepDeadline.
func (in *input) read(timeout time.Duration) error {
	if !in.keep && in.pos == in.end {
		in.pos, in.end = in.head, in.head
	}
	if in.end == len(in.b) {
		if in.pos == in.head {
			return errNoRoom
		}
		in.keep = false
		in.end = in.head + copy(in.b[in.head:], in.b[in.pos:in.end])
		in.pos = in.head
	}
	n, err := in.readInto(in.b[in.end:], timeout)
	in.end += n
	return err
}

// keepDeadline leaves the deadline as it is.
const keepDeadline time.Duration = -1

// readInto reads past the buffer, which must hold nothing unread then. n > 0 comes without error.
func (in *input) readInto(p []byte, timeout time.Duration) (n int, err error) {
	if timeout != keepDeadline {
		in.deadline.read(in.nc, timeout)
	}
	if in.stopped.Load() {
		return 0, errStopped
	}
	if in.raw == nil {
		n, err = in.nc.Read(p)
	} else {
		in.into = p
		if err = in.raw.Read(in.fill); err == nil {
			n, err = in.waitN, in.waitErr
		}
		in.into = nil
	}
	if n > 0 {
		return n, nil
	}
	if err != nil && in.stopped.Load() {
		return 0, errStopped
	}
	return 0, err
}

// tryInto reads what is there without waiting; 0 also for an end or an error, which the next read tells.
func (in *input) tryInto(p []byte) int {
	in.into, in.waitN = p, 0
	_ = in.raw.Control(in.try)
	in.into = nil
	return in.waitN
}

// stop makes the goroutine that reads return errStopped, at once or at its next read. The deadline is set after the flag and
// the reader looks at the flag after it set its own deadline, so one of the two is always seen.
func (in *input) stop() {
	in.stopped.Store(true)
	_ = in.nc.SetReadDeadline(longAgo)
}

// resume is called once the stopped goroutine has ended.
func (in *input) resume() {
	in.stopped.Store(false)
	in.deadline.unknown()
}

// grow makes the buffer at least n bytes large; nothing may point into it yet.
func (in *input) grow(n int) {
	if len(in.b) >= n {
		return
	}
	in.move(n)
}

// shrink goes over to a small buffer when little has come of a head: thousands of slow clients shall not hold much.
func (in *input) shrink() {
	if len(in.b) > slowSize && in.end <= slowSize/2 {
		in.move(slowSize)
	}
}

// fit goes over to the smallest buffer that holds what is there: thousands of requests that wait shall not hold much either.
func (in *input) fit() {
	for _, size := range [...]int{headSize, slowSize} {
		if in.end <= size && size < len(in.b) {
			in.move(size)
			return
		}
	}
}

func (in *input) move(n int) {
	b := takeBuffer(n)
	copy(b, in.b[:in.end])
	giveBuffer(in.b)
	in.b = b
}
