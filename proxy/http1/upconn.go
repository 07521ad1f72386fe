package http1

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// UpConn is a connection to a server for the time of one exchange: Send, ReadHead until the status is final, the body, Release.
// Its methods belong to one goroutine, except Cancel.
type UpConn struct {
	t   *Transport
	cfg *TransportConfig
	nc  net.Conn

	prologue []byte // that it began with

	in       input
	out      output
	*message // of the answer, from when its first bytes have come

	era    int64         // of t when it was dialed
	once   bool          // a stream of HTTP/2: it has no descriptor of its own
	since  time.Duration // uptime when it became unused
	now    time.Duration // uptime when the exchange began
	reused bool
	served int // exchanges, the one under way included
	cancel *Cancel
	inUse  bool // between Get and Release or Close

	// of the exchange under way
	base      int64 // out.written when it began
	begun     bool  // a byte of a response was received
	final     bool  // the head that was read last is not interim
	upgrade   bool
	leaves    bool // the server does not keep the connection
	interim   int
	delivered bool
	sent      bool       // the whole request went out, or will with ReadHead
	unsent    bool       // it is out.parts: ReadHead sends it
	found     peekResult // before the first byte was sent

	canceled atomic.Bool
	whole    func() // see WhenWhole

	request  *Body         // streamed by a goroutine; nil without
	sendDone chan struct{} // capacity 1: that goroutine has ended
	mu       sync.Mutex    // guards what follows, while that goroutine runs
	sending  bool
	ending   bool  // the body was read to its end
	awaiting bool  // ReadHead waits: its time runs from the last byte sent
	answered bool  // ReadHead has read the final head
	over     bool  // the server has ended the connection, if it is watched
	followed bool  // peerLeft must wake who waits
	bodyErr  error // why the request body could not be read on

	spot      spot
	watch     watch                 // since it was followed for the first time
	peekFD    func(fd uintptr)      // made once, as is ask
	ask       func(fd uintptr) bool // askFD
	askN      int
	askErr    error // of the read
	askFailed error // of the write
}

// maxInterim is how many 1xx responses one request may get.
const maxInterim = 10

func newUpConn(t *Transport, nc net.Conn) *UpConn {
	u := &UpConn{t: t, nc: nc}
	_, u.once = nc.(requestStream)
	u.in.init(nc)
	u.out.init(nc, u.in.raw)
	u.peekFD = func(fd uintptr) { u.found = peekFD(int(fd)) }
	u.ask = u.askFD
	return u
}

// begin makes the connection ready for an exchange.
func (u *UpConn) begin(c *Cancel, reused bool, now time.Duration) {
	u.inUse, u.now = true, now
	u.served++
	u.cfg = u.t.cfg.Load()
	u.cancel, u.reused = c, reused
	u.base = u.out.written.Load()
	u.begun, u.final, u.upgrade, u.leaves, u.sent, u.unsent = false, false, false, false, false, false
	u.interim, u.delivered, u.found = 0, true, peekQuiet
	u.request, u.bodyErr = nil, nil
	u.sending, u.ending, u.awaiting, u.answered = false, false, false, false
	u.whole = nil
	u.out.parts = [3][]byte{}
	u.out.chunked = false
	u.out.timeout = u.cfg.Idle
}

// Reused tells that the connection served an earlier exchange.
func (u *UpConn) Reused() bool { return u.reused }

// LocalAddr is our end of the connection.
func (u *UpConn) LocalAddr() netip.AddrPort { return addrPort(u.nc.LocalAddr()) }

// Body is the response's body, ready after ReadHead returned a final head.
func (u *UpConn) Body() *Body { return &u.body }

// Sent tells that a byte of the request was handed to the kernel.
func (u *UpConn) Sent() bool { return u.out.written.Load() > u.base }

// Begun tells that a byte of a response was received.
func (u *UpConn) Begun() bool { return u.begun }

// Delivered tells whether the server may have seen any byte of the request. False when none was sent, as on a kept connection that was
// found closed or with bytes on it, or when ReadHead failed because the server had closed in order (FIN) and its kernel acknowledged
// nothing of it: then the request can be sent again to another server whatever its method. Only Linux tells the latter. Of a
// stream of HTTP/2 it is false also when the server said that it has not looked at the request.
func (u *UpConn) Delivered() bool { return u.Sent() && u.delivered && !u.unprocessed() }

// requestStream is a stream of HTTP/2 as a connection: it serves one exchange.
type requestStream interface {
	// Unprocessed tells that the server has not looked at the request, and will not.
	Unprocessed() bool
	// Refused tells of one that is Unprocessed that the server did not want this request: its connection goes on.
	Refused() bool
}

// malformedStream is what reading from one fails with when the server breaks the protocol.
type malformedStream interface {
	error
	// Malformed says in words what was wrong; it holds no bytes of the message.
	Malformed() string
}

func (u *UpConn) unprocessed() bool {
	s, ok := u.nc.(requestStream)
	return ok && s.Unprocessed()
}

// Stale tells that nothing of the request was seen because the connection was at its end, which says nothing of the server: the request
// can be sent on another one. That a server of HTTP/2 refuses a stream of a connection that goes on does say something.
func (u *UpConn) Stale() bool {
	if s, ok := u.nc.(requestStream); ok {
		return s.Unprocessed() && !s.Refused()
	}
	return u.reused && !u.Delivered()
}

// AllowUpgrade lets ReadHead return a 101: the request that is sent asks for WebSocket.
func (u *UpConn) AllowUpgrade() { u.upgrade = true }

// WhenWhole sets what CopyBody calls once it has the last bytes of the response and before it writes them to the client, if they are
// more than a few: f gives u up, by Release, so that a client that takes its time holds no server. The response has no trailers then.
func (u *UpConn) WhenWhole(f func()) { u.whole = f }

// part calls what WhenWhole set. It gives the buffer that the last bytes lie in, which is then the caller's.
func (u *UpConn) part() []byte {
	b := u.in.b
	u.in.b = nil
	u.whole()
	return b
}

// Cancel ends the exchange from any goroutine: its I/O fails with ErrCanceled and the connection is never used again. Prefer a
// Cancel value given to Get, which cannot hit an exchange that has ended.
func (u *UpConn) Cancel() {
	u.canceled.Store(true)
	if u.isFollowed() { // which sees canceled, but perhaps not at once
		go u.nc.Close()
		return
	}
	_ = u.nc.Close()
}

// ended is why the exchange was ended from our side, if it was.
func (u *UpConn) ended() error {
	if u.canceled.Load() {
		return ErrCanceled
	}
	return u.BodyErr()
}

// Release ends the exchange. The connection is kept when it is clean: request and response are complete, both sides let it live
// and nothing came after the response. Else it is closed. The response head and body are gone then. Calling it after Close or
// Tunnel does nothing. at is the time.
func (u *UpConn) Release(at time.Time) {
	if !u.inUse {
		return
	}
	if !u.clean() {
		u.Close()
		return
	}
	u.cancel.unbind(u)
	u.cancel = nil
	if u.canceled.Load() { // between clean and unbind
		u.shut()
		return
	}
	u.inUse = false
	u.since = uptimeAt(at)
	if u.reused {
		u.t.brief.lasted()
	}
	u.idle()
	u.t.push(u)
}

func (u *UpConn) clean() bool {
	if !u.final || u.leaves || u.head.status == 101 || !u.head.KeepAlive() || !u.body.eof || u.body.err != nil {
		return false
	}
	if u.once || u.in.pos < u.in.end || u.canceled.Load() {
		return false
	}
	return u.sent || u.sendEnded()
}

// idle lets go of what an unused connection does not need.
func (u *UpConn) idle() {
	giveMessage(u.message)
	u.message = nil
	u.out.release()
	u.in.release()
}

// Close ends the exchange and the connection; a goroutine that still streams the request body has ended when it returns. It may be
// called more than once.
func (u *UpConn) Close() {
	if !u.inUse {
		return
	}
	u.cancel.unbind(u)
	u.cancel = nil
	if u.reused && !u.begun && u.found != peekData && !u.canceled.Load() && u.BodyErr() == nil {
		u.t.brief.closed(u)
	}
	u.shut()
}

// shut closes the connection and waits for the goroutine that streams the request body.
func (u *UpConn) shut() {
	u.inUse = false
	u.watch.stop()
	u.spot.leave()
	_ = u.nc.Close()
	u.joinSend()
	u.idle()
	u.t.live.Add(-1)
	if !u.once {
		serversOpen.Add(-1)
	}
}

// writeError says what a failed write to the server means.
func (u *UpConn) writeError(err error) error {
	switch {
	case u.canceled.Load():
		return ErrCanceled
	case isTimeout(err):
		return ErrUpstream{ErrIdleTimeout}
	}
	return fmt.Errorf("%w: %w", ErrServerClosed, err)
}
