package http1

import "syscall"

// Serving inside of the wait.
//
// A connection that is entered anew for each read has to look first whether something came meanwhile, and mostly finds nothing. So the
// wait for a request is one long RawConn.Read: its callback reads, serves what it read and returns false to wait for the next edge of
// the poller, which counts edges from the moment the wait was entered and so loses none. The plain version is
//
//	for c.await(first) && c.request() {
//	}
//
// which still serves all requests that need more than the bytes of one read. RawConn.Read holds the descriptor for reading: while
// within is set nothing may read from the connection, which would wait for ever, nor close it, which waits for the holder: cut resets
// it instead and leaves the closing to the end of the request.

// serveInside waits and serves until the connection is over or a request is at hand that is to be served outside.
func (c *Conn) serveInside() error {
	c.over, c.lingers = false, false
	c.in.waitErr = nil
	err := c.in.raw.Read(c.inside)
	if err == nil {
		err = c.in.waitErr
	}
	return err
}

// insideFD is the RawConn.Read callback: false waits until the descriptor is readable.
func (c *Conn) insideFD(fd uintptr) bool {
	in := &c.in
	for {
		in.take()
		n, err := recv(fd, in.b)
		if n == 0 {
			in.release()
			in.waitErr = err
			return err != syscall.EAGAIN
		}
		in.end, in.waitErr = n, nil
		c.short = n < len(in.b)
		for more := true; more; more = c.rest(false) {
			c.wake()
			if !c.serveWithin(fd) {
				return true
			}
		}
		// A short read took all there was: what comes next makes an edge. Only an end of the stream that came along with the
		// bytes does not; the watcher tells of it, either before this or after rest has set c.drained.
		if c.short && c.watchNow() && !c.gone.Load() {
			return false
		}
	}
}

// serveWithin serves one request whose first bytes are there; false when the connection is over or the request needs further reads.
func (c *Conn) serveWithin(fd uintptr) bool {
	c.within, c.out.within, c.out.fd = true, true, fd
	defer func() { c.within, c.out.within = false, false }()
	c.server.active.Add(1)
	defer c.server.active.Add(-1)
	if !c.receive() {
		c.over = c.closing // refused; else the head is not whole
		return false
	}
	if c.readsOn() && !c.fetchBody(fd) {
		c.received = true
		return false
	}
	if c.handle() && c.settle() {
		return true
	}
	c.over = true
	return false
}

// fetchBody reads the rest of a small body if it is there already; true when the body is whole then.
func (c *Conn) fetchBody(fd uintptr) bool {
	in, h := &c.in, &c.head
	size := int64(in.head) + h.length
	if h.upgradeAsked || h.chunked || size > bigSize || c.expect {
		return false
	}
	in.grow(int(size))
	h.buf = in.b[:in.head:in.head]
	in.keep = true // it all fits behind its head, as body.reset may not have seen
	for int64(in.end) < size {
		n, _ := recv(fd, in.b[in.end:]) // an error comes again to whoever reads on
		if n == 0 {
			return false
		}
		in.end += n
		c.short = in.end < len(in.b)
	}
	return true
}

// readsOn tells that the request at hand cannot be served with the bytes that are there.
func (c *Conn) readsOn() bool {
	h := &c.head
	return h.upgradeAsked || h.chunked || h.length > int64(c.in.end-c.in.pos)
}
