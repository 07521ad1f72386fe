package http2

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
)

// ErrReset is what a Stream's methods return after the peer has reset it, and ErrGone after its connection has ended.
var (
	ErrReset = errors.New("http2: stream reset by the peer")
	ErrGone  = errors.New("http2: connection ended")
)

// connError ends the connection with that code (RFC 9113 §5.4.1), streamError one stream (§5.4.2).
type connError struct {
	code h2.ErrCode
	why  string
}

type streamError struct {
	id   uint32
	code h2.ErrCode
	why  string
}

// reset is what becomes of a stream that the peer has reset (ErrReset).
type reset struct{ code h2.ErrCode }

func (r reset) Error() string        { return fmt.Sprintf("%v: %v", ErrReset, r.code) }
func (r reset) Is(target error) bool { return target == ErrReset }

func (e connError) Error() string { return fmt.Sprintf("http2: %v: %s", e.code, e.why) }
func (e streamError) Error() string {
	return fmt.Sprintf("http2: stream %d: %v: %s", e.id, e.code, e.why)
}

const (
	// outSize is how much may wait to be written; payload leaves outSpare of it to control frames and heads. Twice as much is
	// held while the other half is being written.
	outSize  = wireSize
	outSpare = 4 << 10
	outLeast = 1 << 10 // smaller pieces are not worth a frame while there is more
	// maxControls bounds the control frames that a peer has provoked and does not take.
	maxControls = 1000
	// lastWrite is for the last frames of a connection.
	lastWrite = 300 * time.Millisecond
	// lingerStream is how long the end of a request that was answered already is waited for.
	lingerStream = 500 * time.Millisecond
	// keptResets is how many of the streams that we have reset are known, so that what the peer had sent before it knew is ignored.
	keptResets = 256
)

// link is what both ends of a connection have in common: its streams, both connection windows, and the one goroutine that writes
// (write). Others append whole frames to out under mu and wake it, so that what several streams say at the same time goes
// out with one write.
type link struct {
	nc      net.Conn
	timeout time.Duration // silence of a peer that takes nothing; 0 = no bound
	wake    chan struct{} // of capacity 1: there is something to be written
	written chan struct{} // closed when write has returned
	// encodeHead encodes the head that was written to s, and says what follows it. mu is held.
	encodeHead func(s *Stream, section []byte) (follows, error)
	client     bool // we are the end that opens streams

	mu       sync.Mutex // guards what follows, and the streams
	streams  map[uint32]*Stream
	resets   []uint32 // a ring of keptResets, made with the first
	nextIn   int      // resets
	enc      *fieldEncoder
	out      []byte
	controls int  // control frames in out that the peer has provoked
	over     bool // write ends when out is empty
	err      error
	after    []func() // to be called when mu is free

	lastID        uint32 // of the streams that were opened, by whoever opens them
	ignored       uint32 // the last stream that was opened after our last GOAWAY: nothing of it means anything
	noise, breaks allowance
	send          sendWindow
	recv          recvWindow
	initialWindow int64 // of the peer, for what a new stream may send
	streamWindow  int   // ours

	turns   turns     // streams that wait to send payload
	waiting []*Stream // streams that wait for room to send anything else
}

// follows says what is behind a head.
type follows struct {
	another bool  // a further head
	length  int64 // of the body; negative: not known
	none    bool  // no body, whatever length says
}

func (l *link) init(nc net.Conn, streamWindow, connWindow int) {
	l.nc = nc
	l.wake, l.written = make(chan struct{}, 1), make(chan struct{})
	l.streams = map[uint32]*Stream{}
	l.enc = newFieldEncoder()
	l.send, l.initialWindow = defaultWindow, defaultWindow
	l.recv, l.streamWindow = newRecvWindow(connWindow), streamWindow
}

// unlock calls what has to be called without the lock.
func (l *link) unlock() {
	after := l.after
	l.after = nil
	l.mu.Unlock()
	for _, f := range after {
		f()
	}
}

// kick wakes the writer.
func (l *link) kick() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// control makes room for a frame without payload; the caller appends it to out. mu is held.
func (l *link) control(n int) {
	l.out = roomFor(l.out, frameHeader+n)
	l.kick()
}

// answer is control for a frame that the peer has provoked: not without end.
func (l *link) answer(n int) error {
	if l.controls++; l.controls > maxControls {
		return connError{h2.ErrCodeEnhanceYourCalm, "answers are not taken"}
	}
	l.control(n)
	return nil
}

// credit grants n bytes of the connection's window that need no room any more. mu is held.
func (l *link) credit(n int) {
	if grant := l.recv.taken(n); grant > 0 && !l.over {
		l.control(4)
		l.out = appendWindowUpdate(l.out, 0, grant)
	}
}

// room is how much payload may be put into out.
func (l *link) room() int { return outSize - outSpare - len(l.out) }

// write is the goroutine that writes, once it has let all run that are ready to. event, which may be nil, is told once, by then.
func (l *link) write(event <-chan struct{}, then func()) {
	defer close(l.written)
	var armed time.Time
	for {
		select {
		case <-l.wake:
			// Answers come together: whoever else is ready appends first, and one write takes all of it along.
			runtime.Gosched()
		case <-event:
			event = nil
			then()
		}
		l.mu.Lock()
		for len(l.out) > 0 {
			p := l.out
			l.out, l.controls = nil, 0
			l.roomMade()
			armed = l.armWrite(armed)
			l.mu.Unlock()
			err := l.transmit(p)
			giveBuffer(p)
			if err != nil {
				l.end(errors.Join(ErrGone, err))
				_ = l.nc.Close()
				return
			}
			l.mu.Lock()
		}
		over := l.over
		l.mu.Unlock()
		if over {
			return
		}
	}
}

// armWrite sets the deadline of a write when the last one is half over. mu is held, so that end comes before or after.
func (l *link) armWrite(armed time.Time) time.Time {
	if l.err != nil || l.timeout <= 0 {
		return armed
	}
	now := time.Now()
	if armed.Sub(now) < l.timeout/2 {
		armed = now.Add(l.timeout)
		_ = l.nc.SetWriteDeadline(armed)
	}
	return armed
}

// transmit writes p. A peer that takes bytes, however slowly, is not silent.
func (l *link) transmit(p []byte) error {
	for {
		n, err := l.nc.Write(p)
		if err == nil || n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		p = p[n:]
		l.mu.Lock()
		ended := l.err != nil
		l.armWrite(time.Time{})
		l.mu.Unlock()
		if ended {
			return err
		}
	}
}

// roomMade wakes who waits for room in out. mu is held.
func (l *link) roomMade() {
	for i, s := range l.waiting {
		s.waits = false
		s.writable.Signal()
		l.waiting[i] = nil
	}
	l.waiting = l.waiting[:0]
	l.nextTurn()
}

// nextTurn wakes the stream whose turn it is to send payload, if any could be sent. mu is held.
func (l *link) nextTurn() {
	if s := l.turns.first; s != nil && l.send > 0 && l.room() >= outLeast {
		s.writable.Signal()
	}
}

// end lets go of all streams, with that error. What is in out is still written, and nothing after it. A goroutine that reads
// from nc is not woken.
func (l *link) end(err error) {
	l.mu.Lock()
	defer l.unlock()
	if l.err != nil {
		return
	}
	l.err = err
	for _, s := range l.streams {
		l.lose(s, err)
	}
	_ = l.nc.SetWriteDeadline(time.Now().Add(lastWrite))
	l.finish()
}

// finish ends the writer when all is written. mu is held.
func (l *link) finish() {
	l.over = true
	l.kick()
}

// lose ends a stream for whoever uses it: the peer has reset it, or it is to be reset. mu is held.
func (l *link) lose(s *Stream, err error) {
	if s.gone != nil {
		return
	}
	s.gone = err
	l.remove(s)
	l.forget(s)
	s.readable.Broadcast()
	s.writable.Broadcast()
	if f := s.whenGone; f != nil && !s.closed {
		s.whenGone = nil
		l.after = append(l.after, f)
	}
}

// forget drops what was received of s and not read. mu is held.
func (l *link) forget(s *Stream) {
	s.text.drop()
	s.text.line = nil
	if n := s.in.drop(); n > 0 {
		l.credit(n)
	}
}

// resetStream sends RST_STREAM and loses the stream, which may be nil: then there is only the frame. mu is held.
func (l *link) resetStream(id uint32, s *Stream, code h2.ErrCode, err error) {
	if s != nil && s.gone != nil || l.over {
		return
	}
	l.control(4)
	l.out = appendReset(l.out, id, code)
	if l.resets == nil {
		l.resets = make([]uint32, keptResets)
	}
	l.resets[l.nextIn] = id
	l.nextIn = (l.nextIn + 1) % keptResets
	if s != nil {
		l.lose(s, err)
	}
}

// linger waits for the end of what the peer sends on a stream that is closed otherwise, for a while and no further than its window.
// Only then it is reset, with NO_ERROR, which takes nothing away from the answer (RFC 9113 §8.1): clients, curl 7.88 among them,
// take the reset for a failure when it comes together with the answer. mu is held.
func (l *link) linger(s *Stream) {
	s.lingers = time.AfterFunc(lingerStream, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if !s.recvEnded {
			l.resetStream(s.id, s, h2.ErrCodeNo, net.ErrClosed)
		}
	})
}

// unfinished is the code for a stream that is closed before what it sends is complete.
func (l *link) unfinished() h2.ErrCode {
	if l.client {
		return h2.ErrCodeCancel
	}
	return h2.ErrCodeInternal
}

// wasReset tells that we have reset that stream not long ago.
func (l *link) wasReset(id uint32) bool {
	for _, r := range l.resets {
		if r == id {
			return true
		}
	}
	return false
}

// done removes a stream that both sides have ended. mu is held.
func (l *link) done(s *Stream) {
	if s.sentEnd && s.recvEnded {
		l.remove(s)
	}
}

func (l *link) remove(s *Stream) {
	delete(l.streams, s.id)
	if s.lingers != nil {
		s.lingers.Stop()
	}
}
