package http1

import (
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// output is the sending half of a connection: what is held and at most one payload go out with one system call. One
// goroutine uses it at a time.
type output struct {
	nc       net.Conn
	raw      syscall.RawConn // nil: writes go through gather or nc
	gather   gatherer        // nc, if it is one
	spill    *spill          // what nc ends in, when it is encrypted
	held     []byte
	chunked  bool
	timeout  time.Duration // silence of the peer while it takes nothing; 0 = no bound
	deadline deadline
	written  atomic.Int64 // bytes the kernel took, over the life of the connection
	late     int          // bytes that spill has kept some of: they count when it has sent all
	within   bool         // fd is the descriptor, held by whoever serves inside of a wait (inside.go)
	fd       uintptr
	stopped  atomic.Bool // for good

	eager   bool                  // do not wait: what is not taken stays in parts, or goes to ahead
	ahead   *ahead                // that holds what was not taken
	parts   [3][]byte             // what is being written
	push    func(fd uintptr) bool // pushParts, made once
	pushErr error
	moved   time.Duration // a reading of uptime: when, in a write that waited, the peer last took something
}

// gatherer is a connection without a descriptor of its own that takes several pieces at once.
type gatherer interface {
	WriteParts(parts [][]byte) (n int, err error)
	// TryWriteParts is WriteParts that waits no longer than a moment. That not all was taken is no error.
	TryWriteParts(parts [][]byte) (n int, err error)
	// Waited tells since when the write that has just run into its deadline had waited for the peer to take more.
	Waited() time.Time
}

func (o *output) init(nc net.Conn, raw syscall.RawConn) {
	o.nc, o.raw = nc, raw
	o.gather, _ = nc.(gatherer)
	o.push = o.pushParts
	if raw != nil {
		o.spill = nil
	}
}

// tries tells that writes can be eager.
func (o *output) tries() bool { return o.raw != nil || o.gather != nil || o.spill != nil }

// take gets a buffer for what is held; release gives it back.
func (o *output) take() {
	if o.held == nil {
		o.held = takeBuffer(outSize)[:0]
	}
}

func (o *output) release() {
	giveBuffer(o.held)
	o.held = nil
}

var crlf = []byte("\r\n")

// put sends p, framed as a chunk when chunked. Short payloads are held until flush, long ones are written at once together
// with what is held.
func (o *output) put(p []byte) error {
	if len(p) == 0 {
		return nil // an empty chunk would end the body
	}
	if len(p) <= smallCopy && len(p)+32 <= cap(o.held)-len(o.held) {
		if o.chunked {
			o.held = appendChunkSize(o.held, len(p))
		}
		o.held = append(o.held, p...)
		if o.chunked {
			o.held = append(o.held, "\r\n"...)
		}
		return nil
	}
	if o.chunked {
		o.held = appendChunkSize(o.held, len(p))
	}
	o.parts = [3][]byte{o.held, p}
	if o.chunked {
		o.parts[2] = crlf
	}
	err := o.writeParts()
	o.held = o.held[:0]
	return err
}

// putBoth sends what is held, p and q with one system call, without framing.
func (o *output) putBoth(p, q []byte) error {
	o.parts = [3][]byte{o.held, p, q}
	err := o.writeParts()
	o.held = o.held[:0]
	return err
}

// end closes a chunked body; trailers are complete field lines.
func (o *output) end(trailers []byte) {
	if o.chunked {
		o.held = append(o.held, "0\r\n"...)
		o.held = append(o.held, trailers...)
		o.held = append(o.held, "\r\n"...)
	}
}

// flush writes what is held.
func (o *output) flush() error {
	if len(o.held) == 0 {
		return nil
	}
	p := o.held
	o.held = o.held[:0]
	return o.write(p)
}

func (o *output) write(p []byte) error {
	o.parts = [3][]byte{p}
	return o.writeParts()
}

// writeParts writes all of parts, unless eager. A peer that takes bytes, however slowly, is not silent: its time runs from the last of
// them.
func (o *output) writeParts() error {
	defer func() {
		if !o.eager {
			o.parts = [3][]byte{}
		}
	}()
	if o.within && !o.stopped.Load() { // what is taken at once needs neither the poller nor a deadline
		before := partsLen(&o.parts)
		o.pushErr = nil
		done := o.pushParts(o.fd)
		o.written.Add(int64(before - partsLen(&o.parts)))
		if done {
			return o.pushErr
		}
	}
	o.deadline.write(o.nc, o.timeout)
	for {
		if o.stopped.Load() {
			return errStopped
		}
		n, err := o.transmit()
		o.written.Add(int64(n))
		if err == nil || n == 0 || !isTimeout(err) || !o.deadline.moveWrite(o.nc, o.moved, o.timeout) {
			return err
		}
	}
}

// stop makes the goroutine that writes fail, at once or with its next write; see input.stop.
func (o *output) stop() {
	o.stopped.Store(true)
	_ = o.nc.SetWriteDeadline(longAgo)
}

// stalled tells that an eager write was not taken whole.
func (o *output) stalled() bool { return o.ahead != nil || partsLen(&o.parts) > 0 || o.spill.kept() }

// unstall ends eager writing.
func (o *output) unstall() {
	o.eager = false
	o.parts = [3][]byte{}
	if o.ahead != nil { // readAhead did not come to it
		o.ahead.close()
		o.ahead = nil
	}
}

// transmit writes parts and takes what was written off them. n counts also with an error.
func (o *output) transmit() (n int, err error) {
	before := partsLen(&o.parts)
	if o.raw != nil {
		o.pushErr = nil
		if err = o.raw.Write(o.push); err == nil {
			err = o.pushErr
		}
		return before - partsLen(&o.parts), err
	}
	if o.gather != nil {
		if o.eager {
			n, err = o.gather.TryWriteParts(o.parts[:])
		} else {
			if n, err = o.gather.WriteParts(o.parts[:]); isTimeout(err) {
				o.moved = uptimeAt(o.gather.Waited())
			}
		}
		takeOff(&o.parts, n)
		return n, err
	}
	if o.spill.kept() {
		if o.eager {
			return 0, nil
		}
		if err := o.flushSpill(); err != nil {
			return 0, err
		}
		n, o.late = o.late, 0
	}
	for partsLen(&o.parts) > 0 {
		took, err := o.transmitRecord()
		if err == nil && o.eager && o.spill.kept() {
			o.late = took
			return n, nil
		}
		n += took
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// flushSpill waits until spill has sent all. A peer that takes some of it is not silent.
func (o *output) flushSpill() error {
	o.deadline.write(o.nc, o.timeout)
	for {
		if o.stopped.Load() {
			return errStopped
		}
		if n, err := o.spill.flush(); err == nil || n == 0 || !isTimeout(err) || !o.deadline.moveWrite(o.nc, o.spill.moved, o.timeout) {
			return err
		}
	}
}

// recordSize is how much one Write of an encrypted connection makes one record of (RFC 8446 §5.1).
const recordSize = 16 << 10

// transmitRecord writes the next bytes of parts, with one system call where they are encrypted: short parts go together. A Write that
// does not end in time breaks such a connection, so each has the whole time for its own few bytes.
func (o *output) transmitRecord() (int, error) {
	o.deadline.write(o.nc, o.timeout)
	if o.stopped.Load() {
		return 0, errStopped
	}
	i := 0
	for len(o.parts[i]) == 0 {
		i++
	}
	p := o.parts[i][:min(recordSize, len(o.parts[i]))]
	if len(p) < recordSize && len(p) < partsLen(&o.parts) {
		joined := takeBuffer(recordSize)
		defer giveBuffer(joined)
		n := 0
		for _, part := range o.parts {
			n += copy(joined[n:recordSize], part)
		}
		p = joined[:n]
	}
	if o.eager {
		o.spill.setEager(true)
		defer o.spill.setEager(false)
	}
	n, err := o.nc.Write(p)
	takeOff(&o.parts, n)
	return n, err
}

// pushParts is a RawConn.Write callback: false waits until the descriptor is writable.
func (o *output) pushParts(fd uintptr) bool {
	for moved := false; partsLen(&o.parts) > 0; moved = true {
		n, err := sendParts(fd, &o.parts)
		if err == syscall.EAGAIN {
			if moved && !o.eager {
				o.moved = uptime()
			}
			return o.eager
		}
		if err != nil {
			o.pushErr = err
			return true
		}
		takeOff(&o.parts, n)
	}
	return true
}

func partsLen(parts *[3][]byte) int { return len(parts[0]) + len(parts[1]) + len(parts[2]) }

// takeOff takes n bytes off the front.
func takeOff(parts *[3][]byte, n int) {
	for i := range parts {
		took := min(n, len(parts[i]))
		parts[i] = parts[i][took:]
		n -= took
	}
}
