package http2

import (
	"net"
	"os"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
)

// Stream is one HTTP/2 stream as a connection that speaks HTTP/1.1 (net.Conn), for one exchange. What is read is the peer's
// message, what is written becomes frames as it comes: each Write is on its way when it returns, and waits as long as the
// peer's flow control asks for. After the end of the peer's message Read waits until the stream or its connection is gone.
//
// All methods may be called concurrently, but for two Reads or two Writes at a time.
type Stream struct {
	link *link
	id   uint32

	readable, writable sync.Cond // of link.mu, which guards what follows

	in        pipe
	text      text
	recv      recvWindow
	received  int64 // bytes of payload
	declared  int64 // by content-length; -1: not
	recvEnded bool  // END_STREAM has come
	started   bool  // the peer's first head has come

	message  message // what is written
	send     sendWindow
	sentEnd  bool // END_STREAM was sent
	bodyless bool // the response to it has no body (HEAD)
	stopped  bool // the peer takes no more; its own message is whole
	interims int  // heads before the final one that have come
	turn     place
	waits    bool      // in link.waiting
	waited   time.Time // since when a window has been waited for; zero: none is

	readDeadline, writeDeadline deadline

	closed   bool
	gone     error // why nothing can be read or written any more
	whenGone func()
	lingers  *time.Timer // after Close, until the peer's message has ended
}

func (l *link) newStream(id uint32) *Stream {
	s := &Stream{link: l, id: id, send: sendWindow(l.initialWindow), recv: newRecvWindow(l.streamWindow), declared: -1}
	s.readable.L, s.writable.L = &l.mu, &l.mu
	return s
}

// ID is the stream's identifier.
func (s *Stream) ID() uint32 { return s.id }

// LocalAddr is the connection's.
func (s *Stream) LocalAddr() net.Addr { return s.link.nc.LocalAddr() }

// RemoteAddr is the connection's.
func (s *Stream) RemoteAddr() net.Addr { return s.link.nc.RemoteAddr() }

// WhenGone sets the function that is called, once and from another goroutine, when the peer resets the stream or its connection
// ends before it was closed; at once, from this goroutine, when that has happened already. It must not block.
func (s *Stream) WhenGone(f func()) {
	s.link.mu.Lock()
	gone := s.gone != nil && !s.closed
	if !gone {
		s.whenGone = f
	}
	s.link.mu.Unlock()
	if gone {
		f()
	}
}

// usable is nil as long as s can be read from and written to. The link's mutex is held.
func (s *Stream) usable(d *deadline) error {
	switch {
	case s.closed:
		return net.ErrClosed
	case s.gone != nil:
		return s.gone
	case d.passed():
		return os.ErrDeadlineExceeded
	}
	return nil
}

// Read implements net.Conn.
func (s *Stream) Read(p []byte) (int, error) {
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	for {
		if err := s.usable(&s.readDeadline); err != nil {
			return 0, err
		}
		n, payload := s.text.read(p, &s.in, s.recvEnded)
		if payload > 0 {
			s.credit(payload)
		}
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		s.readDeadline.wait(&s.readable)
	}
}

// credit lets the peer send n bytes more.
func (s *Stream) credit(n int) {
	l := s.link
	l.credit(n)
	if s.recvEnded || s.gone != nil {
		return
	}
	if grant := s.recv.taken(n); grant > 0 {
		l.control(4)
		l.out = appendWindowUpdate(l.out, s.id, grant)
	}
}

// Write implements net.Conn: p is a piece of an HTTP/1.1 message. With os.ErrDeadlineExceeded n bytes were taken, and writing can
// go on once the deadline has been moved. Other errors are final.
func (s *Stream) Write(p []byte) (n int, err error) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.write(p)
}

// WriteParts is Write for several pieces: what fits goes out with one write of the connection.
func (s *Stream) WriteParts(parts [][]byte) (n int, err error) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	return s.writeParts(parts)
}

// TryWriteParts is WriteParts that waits no longer than a moment, 10 ms. That not all was taken is no error.
func (s *Stream) TryWriteParts(parts [][]byte) (n int, err error) {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	d := &s.writeDeadline
	d.trying = true
	n, err = s.writeParts(parts)
	d.trying, d.tryEnd = false, time.Time{}
	if err == os.ErrDeadlineExceeded && !d.passed() {
		err = nil
	}
	return n, err
}

// Waited tells since when a write that has run into its deadline had waited for the peer's windows: all that went out of it had done so by
// then. Where it waited for the connection to take more, how lately that took something is not known, and Waited is the time.
func (s *Stream) Waited() time.Time {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if s.waited.IsZero() {
		return time.Now()
	}
	return s.waited
}

func (s *Stream) writeParts(parts [][]byte) (n int, err error) {
	for _, p := range parts {
		took, err := s.write(p)
		if n += took; err != nil {
			return n, err
		}
	}
	return n, nil
}

func (s *Stream) write(p []byte) (n int, err error) {
	for n < len(p) {
		if !s.sentEnd { // else what is left is the framing of an end that was sent
			if _, err := s.await(0); err != nil {
				return n, err
			}
		}
		what, used, err := s.message.next(p[n:])
		if err != nil {
			return n, s.fault(err)
		}
		switch what {
		case partNone:
			n += used
		case partHead:
			n += used
			if err := s.sendHead(p[n:]); err != nil {
				return n, s.fault(err)
			}
		case partData:
			sent, err := s.sendData(p[n:n+used], p[n+used:])
			n += sent
			if err != nil {
				return n, err
			}
		case partTrailers:
			n += used
			if err := s.sendTrailers(); err != nil {
				return n, s.fault(err)
			}
		}
	}
	return n, nil
}

// fault resets a stream to which something was written that is no HTTP/1.1 message.
func (s *Stream) fault(err error) error {
	s.link.resetStream(s.id, s, h2.ErrCodeInternal, err)
	return err
}

func (s *Stream) sendHead(rest []byte) error {
	l := s.link
	l.enc.begin()
	f, err := l.encodeHead(s, s.message.section)
	if err != nil {
		return err
	}
	if f.none {
		f.length = 0
	}
	s.message.expect(f.another, f.length)
	s.sendBlock(!f.another && s.message.ends(0, rest))
	return nil
}

func (s *Stream) sendTrailers() error {
	if s.sentEnd {
		return nil
	}
	l := s.link
	if _, err := bodyLength(s.message.section); err != nil {
		return err
	}
	l.enc.begin()
	if l.enc.fieldLines(s.message.section) > 0 {
		s.sendBlock(true)
		return nil
	}
	l.control(0)
	l.out = appendData(l.out, s.id, true, nil)
	s.end()
	return nil
}

// sendBlock sends what was encoded.
func (s *Stream) sendBlock(end bool) {
	l := s.link
	s.waited = time.Time{}
	block := l.enc.block
	l.control(len(block) + len(block)/maxFrame*frameHeader)
	if l.out = appendHeaders(l.out, s.id, end, block); end {
		s.end()
	}
}

// sendData sends as much of p as one frame holds; rest is what was written behind p.
func (s *Stream) sendData(p, rest []byte) (int, error) {
	l := s.link
	n, err := s.await(len(p))
	if err != nil {
		return 0, err
	}
	end := n == len(p) && s.message.ends(n, rest)
	l.out = roomFor(l.out, frameHeader+n)
	l.out = appendData(l.out, s.id, end, p[:n])
	l.kick()
	l.send -= sendWindow(n)
	s.send -= sendWindow(n)
	s.message.took(n)
	s.waited = time.Time{}
	l.noise.earn(earnedFrame)
	if end {
		s.end()
	}
	l.nextTurn()
	return n, nil
}

// end counts that END_STREAM was sent.
func (s *Stream) end() {
	s.sentEnd = true
	s.link.done(s)
}

// await waits until s may append to out: a frame with payload when want > 0, whose size it returns, or else any other.
func (s *Stream) await(want int) (int, error) {
	l := s.link
	for {
		err := s.usable(&s.writeDeadline)
		if err == nil && s.stopped {
			err = ErrReset
		}
		if err != nil {
			if l.turns.remove(s) {
				l.nextTurn()
			}
			return 0, err
		}
		switch {
		case want == 0:
			if len(l.out) < outSize {
				return 0, nil
			}
			if !s.waits {
				s.waits = true
				l.waiting = append(l.waiting, s)
			}
		case s.send <= 0:
			if l.turns.remove(s) {
				l.nextTurn()
			}
		default:
			if first := l.turns.first; (first == nil || first == s) && l.send > 0 && l.room() >= outLeast {
				l.turns.remove(s)
				return int(min(int64(min(want, maxFrame, l.room())), int64(s.send), int64(l.send))), nil
			}
			l.turns.add(s)
		}
		switch {
		case want == 0 || s.send > 0 && l.send > 0:
			s.waited = time.Time{}
		case s.waited.IsZero():
			s.waited = time.Now()
		}
		s.writeDeadline.wait(&s.writable)
	}
}

// Close ends the stream. If what was written is not complete the peer sees it reset, so that it cannot pass for all of it. If only
// the peer's message has not ended its end is waited for a while (linger), in which nobody reads it.
func (s *Stream) Close() error {
	l := s.link
	l.mu.Lock()
	defer l.unlock()
	if s.closed {
		return net.ErrClosed
	}
	s.closed = true
	s.whenGone = nil
	s.readDeadline.stop()
	s.writeDeadline.stop()
	switch {
	case s.gone != nil:
	case !s.sentEnd:
		l.resetStream(s.id, s, l.unfinished(), net.ErrClosed)
	case !s.recvEnded:
		l.linger(s)
	}
	l.forget(s)
	s.readable.Broadcast()
	s.writable.Broadcast()
	return nil
}

// Cancel is Close for a response that is broken off for a reason that is not ours: the peer sees CANCEL in place of INTERNAL_ERROR.
func (s *Stream) Cancel() {
	l := s.link
	l.mu.Lock()
	defer l.unlock()
	if !s.closed && !s.sentEnd {
		l.resetStream(s.id, s, h2.ErrCodeCancel, net.ErrClosed)
	}
}

// SetDeadline implements net.Conn.
func (s *Stream) SetDeadline(t time.Time) error {
	return firstError(s.SetReadDeadline(t), s.SetWriteDeadline(t))
}

// SetReadDeadline implements net.Conn. It may be moved at any time, also while Read waits.
func (s *Stream) SetReadDeadline(t time.Time) error {
	return s.setDeadline(&s.readDeadline, &s.readable, t)
}

// SetWriteDeadline implements net.Conn. It may be moved at any time, also while Write waits.
func (s *Stream) SetWriteDeadline(t time.Time) error {
	return s.setDeadline(&s.writeDeadline, &s.writable, t)
}

func (s *Stream) setDeadline(d *deadline, cond *sync.Cond, t time.Time) error {
	s.link.mu.Lock()
	defer s.link.mu.Unlock()
	if s.closed {
		return net.ErrClosed
	}
	d.at = t
	cond.Broadcast()
	return nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
