package http1

import (
	"net"
	"syscall"
)

// Following a stream.
//
// A wait that is entered anew has to look first whether something came meanwhile, and mostly finds nothing. So, as with requests
// (inside.go), a stream whose client takes what comes at once is followed in one long RawConn.Read of its server's connection: the
// callback reads, passes on what it read and returns false to wait for the next edge of the poller. Only an end of the connection that
// came along with bytes makes no edge: the watcher tells of it. Closing the connection waits for the callback, so it must not wait for
// the client, and Cancel does not wait for it.
//
// The plain version is CopyBody without follow.

// followFrom is how often more of a body was waited for when it is taken for a stream.
const followFrom = 2

// follows tells that more of u's body can be waited for inside of one read, and lets go of its head: nothing of it is unread. A client over
// TLS may have to be waited for where spill has no room; and while a request is still sent, whoever sends may close the connection with mu held.
func (c *Conn) follows(u *UpConn) bool {
	if !edges || !c.out.eager || c.out.spill != nil || u.request != nil || !u.body.lulls() || !u.watchEnd() {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return !u.over
}

// setFollowed makes peerLeft wake who waits, or not any more; it tells whether the server has ended the connection.
func (u *UpConn) setFollowed(on bool) (over bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.followed = on
	return u.over
}

func (u *UpConn) isFollowed() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.followed
}

// peerLeft is called by the watcher.
func (u *UpConn) peerLeft() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.over = true
	if u.followed {
		_ = u.nc.SetReadDeadline(longAgo)
	}
}

// follow passes on what comes of u's body until something else is to be done: CopyBody finds out what. n counts body bytes. Errors are
// CopyBody's.
func (c *Conn) follow(u *UpConn) (n int64, err error) {
	in, b := &u.in, &u.body
	var failed error // of reading
	in.release()
	in.deadline.read(in.nc, b.timeout)
	u.setFollowed(true)
	waitErr := in.raw.Read(func(fd uintptr) bool {
		for full := true; full && !u.canceled.Load(); {
			in.take()
			if in.end, failed = recv(fd, in.b); failed == syscall.EAGAIN {
				in.release()
				break
			} else if failed != nil {
				in.release()
				return true
			}
			full = in.end == len(in.b)
			c.out.take()
			passed, all, passErr := c.passOn(b)
			if n += passed; !all {
				err = passErr
				return true
			}
			c.lull()
			in.release()
		}
		in.deadline.read(in.nc, b.timeout)
		return u.setFollowed(true) || u.canceled.Load() // after the deadline, which peerLeft has moved or will move
	})
	over := u.setFollowed(false)
	if over {
		in.deadline.unknown()
	}
	switch {
	case err != nil:
		return n, err
	case u.canceled.Load():
		failed = net.ErrClosed
	case waitErr != nil && !(over && isTimeout(waitErr)):
		failed = waitErr
	case failed == syscall.EAGAIN: // woken by peerLeft
		failed = nil
	}
	if failed != nil {
		return n, b.readFailed(failed)
	}
	return n, nil
}

// passOn gives the client the payload that is at hand. all is false, without an error, when the body ends or is at fault, when the
// client did not take all of it, or when bytes are left that make no payload yet.
func (c *Conn) passOn(b *Body) (n int64, all bool, err error) {
	for {
		view, err := b.ready(maxInt)
		if err != nil {
			return n, false, nil // b.ready says so again
		}
		if len(view) == 0 {
			break
		}
		n += int64(len(view))
		if err := c.putBoth(view, nil); err != nil || c.out.stalled() {
			return n, false, err
		}
	}
	if err := c.flush(); err != nil || c.out.stalled() {
		return n, false, err
	}
	return n, len(b.in.unread()) == 0, nil
}
