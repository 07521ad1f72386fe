package http1

import (
	"errors"
	"time"
)

// receive reads the head of a request whose first bytes are there. False when the connection is to be closed; what is wrong
// with the head was answered.
func (c *Conn) receive() bool {
	in := &c.in
	c.begin()
	set := c.server.settings()
	lim := set.Limits
	c.out.timeout = set.BodyTimeout
	deadlineSet := false
	for {
		if c.mayTurn && asksHTTP2(in.b[:in.end]) {
			c.turned = !c.within
			return false
		}
		n, err := c.head.ParseRequest(in.b[:in.end], lim)
		if err == nil {
			in.head, in.pos = n, n
			c.mayTurn = false
			break
		}
		if err != ErrMore {
			return c.refuse(err)
		}
		if c.within {
			return false
		}
		timeout := time.Duration(0)
		if set.HeaderTimeout > 0 {
			timeout = keepDeadline
			if !deadlineSet {
				deadlineSet = true
				_ = c.nc.SetReadDeadline(time.Now().Add(set.HeaderTimeout))
				in.deadline.unknown()
			}
		}
		err = c.receiveMore(lim, timeout)
		if isTimeout(err) {
			c.head.buf = in.b[:in.end] // it may have moved since it was parsed
			return c.refuse(faultSlow)
		}
		if err != nil {
			return false
		}
	}
	switch {
	case c.whole():
		in.fit()
	case len(in.b)-in.head < bodyRoom || len(in.b) < inSize:
		in.grow(max(in.head+bodyRoom, inSize))
	}
	c.head.buf = in.b[:in.head:in.head]
	c.expect = c.head.ExpectContinue()
	c.body.reset(in, &c.head, set.BodyTimeout)
	return true
}

// whole tells that all of the request is at hand.
func (c *Conn) whole() bool {
	h := &c.head
	return !h.HasBody() || !h.chunked && h.length <= int64(c.in.end-c.in.head)
}

// receiveMore reads until there is something new to parse.
func (c *Conn) receiveMore(lim Limits, timeout time.Duration) error {
	c.server.slow.Add(1)
	defer c.server.slow.Add(-1)
	in := &c.in
	in.shrink()
	for scanned := in.end; in.end < lim.maxHead() && (in.end == scanned || !headEnds(in.b[:in.end], scanned)); {
		if in.end == len(in.b) {
			in.grow(2 * len(in.b))
		}
		n, err := in.readInto(in.b[in.end:], timeout)
		in.end += n
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) begin() {
	c.agree()
	c.started, c.finished, c.ended, c.bodyless, c.sized = false, false, false, false, false
	c.closing, c.refused, c.expect, c.broken = false, false, false, false
	c.left, c.heads = 0, 0
	c.mark = c.out.written.Load()
	if c.message == nil {
		c.message = takeMessage()
		c.body.conn = c
	} else { // it was sent with the one before
		c.renew()
	}
	c.out.held = c.out.held[:0]
	c.out.chunked = false
}

// refuse answers a request whose head was not accepted; always false.
func (c *Conn) refuse(err error) bool {
	var fault *ProtocolError
	if !errors.As(err, &fault) {
		return false
	}
	c.refused, c.closing = true, true
	c.in.pos = c.in.end
	c.body.kind, c.body.eof, c.body.err = bodyNone, true, nil
	c.body.read.Store(0)
	if f := c.server.Refuse; f != nil {
		f(c, fault)
	} else {
		c.answer(fault.Status, fault.Reason, fault.Detail)
	}
	return c.settle()
}
