package http1

import (
	"io"
	"time"
)

const (
	// drainLimit is how much of a request body that nobody wanted is read so that the connection can live on.
	drainLimit = 64 << 10
	// Lingering close (RFC 9112 §9.6): how long a client that is still sending is listened to after our last byte, so that
	// no reset takes the answer away from it.
	lingerTime    = 10 * time.Second
	lingerSilence = 2 * time.Second
	lingerLimit   = 64 << 20
)

// settle brings the connection to where the next request begins; false when it is to be closed.
func (c *Conn) settle() bool {
	switch {
	case c.ended:
		return false
	case c.body.lent:
		c.server.log().Error("handler returned without giving up its server connection", "client", c.origin.Remote.String())
		c.Abort()
		return false
	case !c.started:
		c.closing = true
		c.answer(500, "internal", "no answer was made")
	case !c.finished:
		c.Abort()
		return false
	}
	if c.stream {
		return false
	}
	whole := c.body.eof
	if !whole && !c.closing {
		whole = c.drain()
		c.closing = !whole
	}
	if !c.closing {
		return true
	}
	if c.refused || !whole || c.in.pos < c.in.end {
		if c.lingers = true; !c.within {
			c.linger()
		}
	}
	return false
}

// drain reads the rest of a request body that is small enough.
func (c *Conn) drain() bool {
	b := &c.body
	if b.err != nil || b.Remaining() > drainLimit {
		return false
	}
	b.timeout = lingerSilence
	c.now = 0
	b.limit = -1
	until := time.Now().Add(2 * lingerSilence)
	for left := drainLimit; left > 0 && time.Now().Before(until); {
		view, err := b.next(nil, left)
		if err == io.EOF {
			return true
		}
		if err != nil {
			return false
		}
		left -= len(view)
	}
	return false
}

// linger closes our side and reads on for a bounded while.
func (c *Conn) linger() {
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.mu.Lock()
	c.idle = true // the answer was given: Shutdown cuts nothing here
	c.mu.Unlock()
	c.in.grow(inSize)
	until := time.Now().Add(lingerTime)
	for n := 0; n < lingerLimit; {
		at := time.Now().Add(lingerSilence)
		if at.After(until) {
			at = until
		}
		_ = c.nc.SetReadDeadline(at)
		got, err := c.nc.Read(c.in.b)
		if err != nil {
			return
		}
		n += got
	}
}

// Abort breaks the connection with a reset, so that whatever was sent of the response cannot pass for all of it. A Unix socket knows
// no reset: there the framing alone tells, which a client of HTTP/1.0 may have none of.
func (c *Conn) Abort() {
	c.ended, c.closing = true, true
	c.cut()
}

// AbortCanceled is Abort for a response that the server has canceled: a client of HTTP/2 is told so.
func (c *Conn) AbortCanceled() {
	if s, ok := c.socket.(interface{ Cancel() }); ok {
		s.Cancel()
	}
	c.Abort()
}

func (c *Conn) cut() {
	if c.within { // close follows when the descriptor is no longer held
		disconnect(c.in.raw)
		return
	}
	c.reset()
	_ = c.socket.Close()
}

// reset makes the next close one that the client takes for an error.
func (c *Conn) reset() {
	if l, ok := c.socket.(interface{ SetLinger(int) error }); ok {
		_ = l.SetLinger(0)
	}
}

// cutFromOutside is cut for other goroutines. A handler that was called inside of a read holds the descriptor.
func (c *Conn) cutFromOutside() {
	c.reset()
	if c.raw != nil {
		disconnect(c.raw)
	}
	go c.socket.Close()
}

func (c *Conn) close() {
	c.agree()
	c.watch.stop()
	_ = c.nc.Close()
	c.out.spill.release()
	if c.message == nil || !c.body.lent { // a handler that panicked may have left a goroutine reading: its buffers are not for others then
		c.forget()
		c.out.release()
		c.in.release()
	}
	c.server.remove(c)
}
