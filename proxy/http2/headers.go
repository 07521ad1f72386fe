package http2

import (
	"slices"
	"time"

	h2 "golang.org/x/net/http2"
)

// onHeaders opens a stream or ends one with trailers. The block is decoded whatever becomes of it.
func (c *serverConn) onHeaders(f *h2.HeadersFrame) error {
	id, end := f.StreamID, f.StreamEnded()
	dependsOnSelf := f.HasPriority() && f.Priority.StreamDep == id
	if err := c.readBlock(f); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.unlock()
	s := c.streams[id]
	switch {
	case c.err != nil: // the writer has failed: nobody would tell the handler
		return c.err
	case id%2 == 0:
		return connError{h2.ErrCodeProtocol, "a client opens streams of odd numbers"}
	case s != nil && s.recvEnded:
		return streamError{id, h2.ErrCodeStreamClosed, "HEADERS behind the end of a stream"}
	case s != nil:
		return c.endWithTrailers(s, end)
	case id <= c.lastID && c.wasReset(id):
		return c.spendNoise(1)
	case id <= c.lastID:
		return connError{h2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
	case c.leaving: // the client had not seen that yet, and what more it sends on the stream is on its way (RFC 9113 §6.8)
		c.ignored = max(c.ignored, id)
		return c.spendNoise(1)
	}
	c.lastID = id
	if dependsOnSelf {
		return streamError{id, h2.ErrCodeProtocol, "stream depends on itself"}
	}
	if len(c.streams) >= c.set.MaxStreams {
		return streamError{id, h2.ErrCodeRefusedStream, "too many streams"}
	}
	return c.open(id, end)
}

// readBlock decodes a header block: HEADERS and the CONTINUATION frames behind it, which nothing may interrupt.
func (c *serverConn) readBlock(f *h2.HeadersFrame) error {
	c.fields.begin()
	last := f.HeadersEnded()
	if err := c.fields.add(f.HeaderBlockFragment(), last); err != nil || last {
		return err
	}
	c.within()
	defer c.inTime()
	for !last {
		f, err := c.readFrame()
		if err != nil {
			return err
		}
		more := f.(*h2.ContinuationFrame) // the Framer has seen to it
		last = more.HeadersEnded()
		if err := c.fields.add(more.HeaderBlockFragment(), last); err != nil {
			return err
		}
	}
	return nil
}

// open begins the stream of a request. mu is held.
func (c *serverConn) open(id uint32, end bool) error {
	if c.fields.large {
		return c.refuseLarge(id, end)
	}
	fields := c.fields.fields
	r, err := parseRequest(fields)
	if err != nil {
		return malformedStream(id, err)
	}
	if end && r.length > 0 {
		return streamError{id, h2.ErrCodeProtocol, "no DATA for content-length"}
	}
	s := c.newStream(id)
	s.started = true
	s.bodyless = r.method == "HEAD"
	s.declared = r.length
	s.recvEnded = end
	unknown := !end && r.length < 0 && r.method != "CONNECT"
	switch {
	case unknown:
		s.text.framing = chunked
	case r.length > 0:
		s.text.framing, s.text.left = sized, r.length
	}
	s.text.setHead(r.appendText(takeBuffer(textSize(fields))[:0], fields, unknown))
	c.streams[id] = s
	c.noise.earn(earnedRequest)
	c.begin(s)
	return nil
}

// begin calls the handler, now or when another has ended: a client may open a stream for each that it has seen the end of, but
// handlers may take longer.
func (c *serverConn) begin(s *Stream) {
	if c.running >= c.set.MaxStreams {
		if len(c.pending) >= c.set.MaxStreams { // some were reset meanwhile: no more can be open
			c.pending = slices.DeleteFunc(c.pending, func(s *Stream) bool { return s.gone != nil })
		}
		c.pending = append(c.pending, s)
		return
	}
	c.running++
	c.handlers.Add(1)
	c.server.start(job{c, s})
}

// handled counts that the handler of s has returned, and gives the stream that has waited for that, or nil.
func (c *serverConn) handled(s *Stream) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.sentEnd {
		c.breaks.earn(1)
	}
	for len(c.pending) > 0 {
		next := c.pending[0]
		c.pending[0] = nil
		c.pending = c.pending[1:]
		if next.gone == nil {
			return next
		}
	}
	c.pending = nil
	if c.running--; c.running == 0 {
		c.idleFrom = time.Now()
		c.leaveIfDone()
	}
	return nil
}

// endWithTrailers takes the field section behind a request's body (RFC 9113 §8.1). mu is held.
func (c *serverConn) endWithTrailers(s *Stream, end bool) error {
	if !end {
		return streamError{s.id, h2.ErrCodeProtocol, "HEADERS in the middle of a stream"}
	}
	if c.fields.large {
		return streamError{s.id, h2.ErrCodeEnhanceYourCalm, "trailers too large"}
	}
	if s.declared > s.received {
		return streamError{s.id, h2.ErrCodeProtocol, "DATA of another length than content-length"}
	}
	trailers, err := appendTrailers(nil, c.fields.fields)
	if err != nil {
		return malformedStream(s.id, err)
	}
	s.text.trailers = trailers
	c.received(s)
	s.readable.Signal()
	return nil
}

// refuseLarge answers a request whose fields are more than was said to be taken. mu is held.
func (c *serverConn) refuseLarge(id uint32, end bool) error {
	if err := c.spendNoise(largeNoise); err != nil {
		return err
	}
	if err := c.answer(64); err != nil {
		return err
	}
	c.enc.begin()
	c.enc.add(":status", []byte("431"))
	c.enc.add("x-sluice-reason", []byte("header_too_large"))
	c.enc.add("content-length", []byte("0"))
	c.out = appendHeaders(c.out, id, true, c.enc.block)
	if !end {
		s := c.newStream(id)
		s.started, s.sentEnd, s.closed = true, true, true
		c.streams[id] = s
		c.linger(s)
	}
	return nil
}
