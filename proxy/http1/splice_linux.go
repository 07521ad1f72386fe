package http1

import (
	"io"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Large bodies of known length go from socket to socket through a pipe, by reference (splice(2)): no byte of them is copied into this
// process. The plain version reads into a buffer and writes it.

const (
	pipeSize  = 256 << 10
	keptPipes = 64
)

// pipe carries a body; it is empty between two of them. The callbacks are made once.
type pipe struct {
	r, w        int
	fill, drain func(fd uintptr) bool
	want        int // to be taken from the source
	have        int // in the pipe
	err         error
	eager       bool          // drain does not wait
	more        bool          // the body goes on after what is in the pipe
	moved       time.Duration // a reading of uptime: when, in a drain that waited, the peer last took something
}

// pipes are kept for the next body.
var pipes = make(chan *pipe, keptPipes)

var maxPipes = sync.OnceValue(func() int64 { return descriptorLimit() / pipeShare })

// takePipe gives a pipe, nil when the system has none or the others need their descriptors.
func takePipe() *pipe {
	select {
	case p := <-pipes:
		return p
	default:
	}
	var fds [2]int
	if pipesOpen.Add(1) > maxPipes() || syscall.Pipe2(fds[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK) != nil {
		pipesOpen.Add(-1)
		return nil
	}
	p := &pipe{r: fds[0], w: fds[1]}
	_, _ = unix.FcntlInt(uintptr(p.w), unix.F_SETPIPE_SZ, pipeSize) // a smaller one only takes more calls
	p.fill, p.drain = p.fillFrom, p.drainTo
	return p
}

// givePipe keeps an empty pipe; one that holds the rest of a body that was cut is closed.
func givePipe(p *pipe) {
	if p.have == 0 {
		select {
		case pipes <- p:
			return
		default:
		}
	}
	_ = syscall.Close(p.r)
	_ = syscall.Close(p.w)
	pipesOpen.Add(-1)
}

// fillFrom is a RawConn.Read callback: false waits until the descriptor is readable.
func (p *pipe) fillFrom(fd uintptr) bool {
	n, err := splice(int(fd), p.w, p.want, 0)
	if err == syscall.EAGAIN {
		return false
	}
	if p.have, p.err = n, err; n == 0 && err == nil {
		p.err = io.EOF
	}
	return true
}

// drainTo is a RawConn.Write callback: false waits until the descriptor is writable.
func (p *pipe) drainTo(fd uintptr) bool {
	flags := 0
	if p.more {
		flags = unix.SPLICE_F_MORE
	}
	for moved := false; p.have > 0; moved = true {
		n, err := splice(p.r, int(fd), p.have, flags)
		if err == syscall.EAGAIN {
			if moved && !p.eager {
				p.moved = uptime()
			}
			return p.eager
		}
		if err != nil {
			p.err = err
			return true
		}
		p.have -= n
	}
	return true
}

func splice(from, to, n, flags int) (int, error) {
	for {
		moved, err := unix.Splice(from, nil, to, nil, n, flags|unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if err != syscall.EINTR {
			return int(max(moved, 0)), err
		}
	}
}

// spliceTo moves the rest of a large body to out, past all buffers; done is false when that cannot be done, and nothing was then. n
// counts also with an error. readErr is the body's, as of Read, writeErr that of out.
func (b *Body) spliceTo(out *output) (n int64, done bool, readErr, writeErr error) {
	if b.kind != bodyLength || b.left < bulkFrom || b.in.raw == nil || out.raw == nil || len(b.in.unread()) > 0 || b.in.keep {
		return 0, false, nil, nil
	}
	p := takePipe()
	if p == nil {
		return 0, false, nil, nil
	}
	defer givePipe(p)
	for b.left > 0 {
		p.want = int(min(b.left, pipeSize))
		if err := b.in.spliceInto(p, b); err != nil {
			if err = b.readFailed(err); err != nil {
				return n, true, err, nil
			}
		}
		if err := b.took(p.have); err != nil {
			return n, true, err, nil
		}
		took := p.have
		p.more = b.left > 0
		err := out.drainPipe(p, out.eager)
		if err == nil && p.have > 0 {
			if out.ahead = readsAhead(out, b.up, p.have, b.left); out.ahead != nil {
				return n + int64(took), true, out.ahead.addPipe(p), nil
			}
			err = out.drainPipe(p, false)
		}
		if err != nil {
			return n + int64(took-p.have), true, nil, err
		}
		n += int64(took)
	}
	return n, true, nil, nil
}

// spliceInto is readInto with a pipe.
func (in *input) spliceInto(p *pipe, b *Body) error {
	in.deadline.read(in.nc, b.timeout)
	if in.stopped.Load() {
		return errStopped
	}
	p.err = nil
	err := in.raw.Read(p.fill)
	if err == nil {
		err = p.err
	}
	if err != nil && in.stopped.Load() {
		return errStopped
	}
	return err
}

// drainPipe is writeParts with a pipe.
func (o *output) drainPipe(p *pipe, eager bool) error {
	p.eager = eager
	o.deadline.write(o.nc, o.timeout)
	for {
		if o.stopped.Load() {
			return errStopped
		}
		before := p.have
		p.err = nil
		err := o.raw.Write(p.drain)
		o.written.Add(int64(before - p.have))
		if err == nil {
			err = p.err
		}
		if err == nil || p.have == before || !isTimeout(err) || !o.deadline.moveWrite(o.nc, p.moved, o.timeout) {
			return err
		}
	}
}

// addPipe adds what is in p.
func (a *ahead) addPipe(p *pipe) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p.have > 0 {
		b := a.space() // there is room for it
		n, err := syscall.Read(p.r, (*b)[len(*b):min(cap(*b), len(*b)+p.have)])
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil:
			return err
		case n == 0:
			return io.ErrUnexpectedEOF
		}
		*b = (*b)[:len(*b)+n]
		p.have -= n
		a.want -= n
	}
	return nil
}
