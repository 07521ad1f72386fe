package http1

import (
	"io"
	"time"
)

// CopyBody sends the body of u's response to the client, each read as it comes: an event of a stream is not held back for the next.
// The last bytes may be held for Finish to send with the end of the message; for a client that is slow to take them see ahead.go,
// for a server that is silent lull.go.
// idle bounds the silence of the server, 0 = no bound.
// first, unless nil, is called when the first of them have come. n is the number of body bytes taken from the server.
// Errors: ErrUpstream (the response was cut or bad: Abort, if that was not done), ErrClient, or bare ErrCanceled.
func (c *Conn) CopyBody(u *UpConn, idle time.Duration, first func()) (n int64, err error) {
	b := &u.body
	b.timeout = idle
	var scratch []byte
	defer func() {
		giveBuffer(scratch)
		c.out.unstall()
	}()
	c.out.eager = c.out.tries() && !(c.out.chunked && b.kind == bodyLength)
	for waits := 0; ; {
		if c.out.stalled() {
			if n > 0 {
				first = nil
			}
			more, whole, err := c.readAhead(u, first)
			if n += more; whole || err != nil {
				return n, err
			}
			continue
		}
		view, err := b.ready(maxInt)
		if len(view) == 0 && err == nil {
			if err := c.flush(); err != nil {
				return n, err
			}
			if c.out.stalled() {
				continue
			}
			if n > 0 {
				moved, done, err := c.spliceFrom(b)
				n += moved
				if err != nil {
					return n, err
				}
				if done {
					continue
				}
			}
			if scratch == nil && b.kind == bodyLength && b.left >= bulkFrom {
				scratch = takeBuffer(bigSize)
			}
			if b.kind != bodyLength {
				c.lull()
			}
			if waits++; waits > followFrom && c.follows(u) {
				more, err := c.follow(u)
				if n += more; err != nil {
					return n, err
				}
				c.out.take()
				continue
			}
			view, err = b.next(scratch, maxInt)
			c.out.take()
		}
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		if n == 0 && first != nil && len(view) > 0 {
			first()
		}
		more, err := c.joinRest(b, len(view), &scratch)
		if err != nil {
			return n, err
		}
		n += int64(len(view) + len(more))
		if u.whole != nil && len(view) > smallCopy && b.last() {
			c.out.eager = false
			kept := u.part() // in which view may lie; from here on u is not ours
			err := c.putBoth(view, more)
			giveBuffer(kept)
			return n, err
		}
		if err := c.putBoth(view, more); err != nil {
			return n, err
		}
	}
}

// joinRest reads the rest of a body of medium size if it is there already, so that it goes out in one write with the have bytes that were
// read before: into the connection's buffer, as long as there is no scratch.
func (c *Conn) joinRest(b *Body, have int, scratch *[]byte) (more []byte, err error) {
	if *scratch != nil || b.kind != bodyLength || b.left == 0 || b.left > bigSize || have <= smallCopy || b.in.raw == nil || len(b.in.unread()) > 0 {
		return nil, nil
	}
	*scratch = takeBuffer(bigSize)
	more = (*scratch)[:b.in.tryInto((*scratch)[:b.left])]
	return more, b.took(len(more))
}

// spliceFrom moves the rest of a large body past all buffers; done is false when that cannot be done.
func (c *Conn) spliceFrom(b *Body) (n int64, done bool, err error) {
	if !c.sized || c.left < b.left || c.ended || c.finished || c.broken {
		return 0, false, nil
	}
	if !c.setStalled(true) {
		return 0, true, ErrCanceled
	}
	defer c.setStalled(false)
	n, done, readErr, writeErr := b.spliceTo(&c.out)
	c.left -= n
	if writeErr != nil {
		return n, done, c.writeFailed(writeErr)
	}
	return n, done, readErr
}
