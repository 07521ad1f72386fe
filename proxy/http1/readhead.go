package http1

import (
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"
)

// ReadHead reads the next response head: interim ones (status below 200, at most 10) as well as the final one, valid until the next
// ReadHead, CopyBody or the end of the exchange. Errors: ErrFirstByteTimeout, ErrServerClosed, *ProtocolError, ErrCanceled, and that of the
// request body when it could not be read on (BodyErr).
func (u *UpConn) ReadHead(method []byte) (*Head, error) {
	in := &u.in
	if u.reused && u.found != peekQuiet { // what lies there is not the answer
		return nil, ErrServerClosed
	}
	in.recycle()
	in.keep = false
	if err := u.await(); err != nil {
		return nil, err
	}
	defer u.setAwaiting(false)
	lim := u.cfg.Limits
	for {
		if in.end > 0 {
			if u.message == nil {
				u.message = takeMessage()
				u.body.up = u
			}
			n, err := u.head.ParseResponse(in.b[:in.end], method, lim)
			if err == nil {
				return u.accept(n)
			}
			if err != ErrMore {
				return nil, err
			}
		}
		if u.unsent {
			if err := u.sendAndWait(); err != nil {
				return nil, err
			}
			continue
		}
		if err := u.readMore(lim); err != nil {
			return nil, err
		}
	}
}

// sendAndWait sends the request and waits for the first bytes of the answer in one RawConn.Read, which is armed before the request goes
// out: an answer can come only after that and makes an edge, so that no read has to look for it first.
func (u *UpConn) sendAndWait() error {
	u.askN, u.askErr, u.askFailed = 0, nil, nil
	err := u.in.raw.Read(u.ask)
	if u.askFailed != nil {
		return u.writeError(u.askFailed)
	}
	if u.unsent { // nor is it sent: the connection is stale, or could not be waited on
		if err == nil {
			err = io.EOF
		}
		return u.headFailed(err)
	}
	if partsLen(&u.out.parts) > 0 { // the kernel took a part: the rest goes the way that can wait
		if err := u.out.writeParts(); err != nil {
			return u.writeError(err)
		}
		return nil
	}
	if err == nil {
		err = u.askErr
	}
	if err != nil {
		return u.headFailed(err)
	}
	u.in.end += u.askN
	u.begun = u.begun || u.askN > 0
	return nil
}

// askFD is a RawConn.Read callback: the first call looks and writes, the others read; false waits until the descriptor is readable. What
// was there before the wait was armed makes no edge.
func (u *UpConn) askFD(fd uintptr) bool {
	if u.unsent {
		if u.found = u.lookAt(fd); u.stale() {
			return true
		}
		u.unsent = false
		n, err := sendParts(fd, &u.out.parts)
		u.out.written.Add(int64(n))
		takeOff(&u.out.parts, n)
		if err == syscall.EAGAIN {
			err = nil
		}
		u.askFailed = err
		if err != nil || partsLen(&u.out.parts) > 0 {
			return true
		}
		if u.found == peekQuiet {
			return false
		}
	}
	u.spot.seen()
	u.in.take() // not while it waits
	u.askN, u.askErr = recv(fd, u.in.b[u.in.end:])
	if u.askErr == syscall.EAGAIN {
		u.in.release()
		return false
	}
	return true
}

// readMore reads until there is something new to parse.
func (u *UpConn) readMore(lim Limits) error {
	in := &u.in
	if in.b == nil { // nothing has come yet, and there is no buffer while it is waited for
		if err := in.first(keepDeadline); err != nil {
			return u.headFailed(err)
		}
		u.begun = true
		return nil
	}
	for scanned := in.end; ; {
		if in.end == len(in.b) {
			in.grow(2 * len(in.b))
		}
		n, err := in.readInto(in.b[in.end:], keepDeadline)
		if err != nil {
			return u.headFailed(err)
		}
		in.end += n
		u.begun = true
		if scanned == 0 || in.end >= lim.maxHead() || headEnds(in.b[:in.end], scanned) {
			return nil
		}
	}
}

func (u *UpConn) headFailed(err error) error {
	if why := u.ended(); why != nil {
		return why
	}
	if fault, ok := errors.AsType[malformedStream](err); ok {
		return badResponse("HTTP/2: " + fault.Malformed())
	}
	if isTimeout(err) {
		u.in.deadline.unknown()
		return ErrFirstByteTimeout
	}
	if u.served == 1 && !u.begun && RefusedHandshake(err) {
		return fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	if err == io.EOF {
		if !u.begun && u.Sent() {
			acked, base, ok := int64(0), u.base, false
			if s, is := u.nc.(*secureConn); is {
				acked, ok = bytesAcked(s.wire.raw)
				base = s.base
			} else if u.in.raw != nil {
				acked, ok = bytesAcked(u.in.raw)
			}
			u.delivered = !ok || acked > base+int64(len(u.prologue))
		}
		return ErrServerClosed
	}
	return fmt.Errorf("%w: %w", ErrServerClosed, err)
}

// accept takes a parsed head of n bytes.
func (u *UpConn) accept(n int) (*Head, error) {
	in := &u.in
	in.head, in.pos = n, n
	h := &u.head
	switch {
	case h.status == 101:
		if !u.upgrade {
			return nil, faultUnasked
		}
	case h.status < 200:
		if u.interim++; u.interim > maxInterim {
			return nil, faultInterim
		}
		return h, nil
	}
	u.final = true
	if h.keepAliveField >= 0 {
		u.learnKeepAlive(h.Value(h.keepAliveField))
	}
	if len(in.b)-in.head < bodyRoom {
		in.grow(in.head + bodyRoom)
		h.buf = in.b[:in.head:in.head]
	}
	if u.sent { // else its rest is still on its way
		u.out.release()
		u.out.parts = [3][]byte{}
	}
	u.body.reset(in, h, u.cfg.Idle)
	return h, nil
}

// learnKeepAlive stays a second, or half the time, under what the server said (RFC 2068 §19.7.1.1: Keep-Alive: timeout=N).
func (u *UpConn) learnKeepAlive(value []byte) {
	for item, rest := nextItem(value); ; item, rest = nextItem(rest) {
		if hasPrefixFold(item, "timeout=") {
			switch s, ok := parseLength(item[len("timeout="):]); {
			case ok && s == 0: // which is said of this connection
				u.leaves = true
			case ok && s < 1e6:
				d := time.Duration(s) * time.Second
				u.t.learn(max(d-time.Second, d/2), u.now)
			}
		}
		if rest == nil {
			return
		}
	}
}

// await starts the time for the first byte, or leaves that to the goroutine that still sends.
func (u *UpConn) await() error {
	if u.request == nil {
		now := u.now
		if !u.unsent { // sending took its time
			now = uptime()
		}
		u.in.deadline.readFrom(now, u.nc, u.cfg.FirstByte)
		return u.ended()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bodyErr != nil {
		return u.bodyErr
	}
	u.awaiting = true
	if u.sending {
		u.in.deadline.read(u.nc, 0)
	} else {
		u.in.deadline.read(u.nc, u.cfg.FirstByte)
	}
	return nil
}

func (u *UpConn) setAwaiting(on bool) {
	if u.request == nil {
		return
	}
	u.mu.Lock()
	u.awaiting, u.answered = on, u.final
	u.mu.Unlock()
	u.in.deadline.unknown() // the sender may have set it
}
