package http1

import (
	"io"
	"syscall"
)

type peekResult uint8

const (
	peekQuiet peekResult = iota // open, nothing to read
	peekData
	peekEnd // FIN or error
)

// peek looks at what a read would give, without waiting and without taking it.
func peek(raw syscall.RawConn) peekResult {
	result := peekEnd
	_ = raw.Control(func(fd uintptr) { result = peekFD(int(fd)) })
	return result
}

// Looking before sending.
//
// A kept connection may have been ended by its server since it was used last, and what the server sent on it since is not the answer to
// the request that comes next (RFC 9112 §9.2). Only the kernel knows at once: a flag that a watcher sets lags behind by as much as the
// scheduler takes, and bytes read together with the answer do not tell when they came. So each request costs one look, or a part of one
// while there are many (lookout_linux.go), after which the request goes out: inside of the wait for the answer where that is armed before
// it (askFD), so that what comes after the look makes an edge; else before the first write, after which ReadHead reads without waiting
// for one.

// look is askFD's look for requests that go out otherwise; ErrServerClosed when nothing may be sent.
func (u *UpConn) look() error {
	if s, ok := u.nc.(*secureConn); ok && u.reused {
		if u.found = s.look(); u.stale() {
			return u.headFailed(io.EOF)
		}
		return nil
	}
	if !u.reused || u.in.raw == nil {
		return nil
	}
	if err := u.in.raw.Control(u.peekFD); err != nil { // we closed it
		return u.headFailed(err)
	}
	if u.stale() {
		return u.headFailed(io.EOF)
	}
	return nil
}

// stale tells, of what was found before the first byte was sent, that none may be: the server has ended the connection, or has sent
// something on one that served somebody before. On a new one it can only be meant for who comes.
func (u *UpConn) stale() bool {
	if u.found == peekEnd && u.reused {
		u.t.endedAfter(uptime() - u.since)
	}
	return u.found == peekEnd || u.found == peekData && u.reused
}
