package http2

import (
	"net/http"
	"strconv"
	"strings"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// maxInterim is how many interim responses a request may get.
const maxInterim = 10

// onHeaders takes a response's head, an interim one, or trailers. The block is decoded whatever becomes of it.
func (c *clientConn) onHeaders(f *h2.HeadersFrame) error {
	id, end := f.StreamID, f.StreamEnded()
	if err := c.readBlock(f); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.unlock()
	if c.idle(id) {
		return connError{h2.ErrCodeProtocol, "HEADERS on an idle stream"}
	}
	s := c.streams[id]
	var err error
	switch {
	case s == nil:
		return c.spendNoise(1) // it was closed before the server knew
	case s.recvEnded:
		return streamError{id, h2.ErrCodeStreamClosed, "HEADERS behind the end of a stream"}
	case c.fields.large:
		return streamError{id, h2.ErrCodeEnhanceYourCalm, "field list too large"}
	case s.started:
		err = c.takeTrailers(s, end)
	default:
		err = c.takeHead(s, end)
	}
	if err != nil {
		return malformedStream(id, err)
	}
	if end {
		c.received(s)
	}
	s.readable.Signal()
	return nil
}

// readBlock decodes a header block: HEADERS and the CONTINUATION frames behind it, which nothing may interrupt.
func (c *clientConn) readBlock(f *h2.HeadersFrame) error {
	c.fields.begin()
	last := f.HeadersEnded()
	if err := c.fields.add(f.HeaderBlockFragment(), last); err != nil {
		return err
	}
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

// takeHead gives the head of a response, interim or final, to whoever reads. mu is held.
func (c *clientConn) takeHead(s *Stream, end bool) error {
	fields := c.fields.fields
	r, err := parseResponse(fields)
	if err != nil {
		return err
	}
	if r.status < 200 {
		if s.interims++; end || s.interims > maxInterim {
			return malformed("interim response that ends the stream, or too many")
		}
		s.addHead(r.appendText(takeBuffer(textSize(fields))[:0], fields, noBody, true))
		return nil
	}
	bodyless := s.bodyless || r.status == 204 || r.status == 304
	framing, withLength := noBody, true
	switch {
	case bodyless:
		s.declared = 0
		withLength = r.status != 204
	case end && r.length > 0:
		return malformed("no DATA for content-length")
	case end:
		s.declared = 0
	case r.length < 0 || r.trailers: // whose length, if there is one, is counted here
		framing, withLength, s.declared = chunked, false, r.length
	case r.length == 0:
		s.declared = 0
	default:
		framing, s.declared = sized, r.length
		s.text.left = r.length
	}
	s.started, s.text.framing = true, framing
	text := r.appendText(takeBuffer(textSize(fields))[:0], fields, framing, !withLength)
	if end && !bodyless && r.length < 0 {
		text = append(text[:len(text)-2], "content-length: 0\r\n\r\n"...)
	}
	s.addHead(text)
	return nil
}

// answered tells that a head has come, be it an interim one, which may be with the client already: the server has looked at the request.
// mu is held.
func (s *Stream) answered() bool { return s.started || s.interims > 0 }

// whole tells that nothing of the response is missing: its end has come, or it has no body, as those to HEAD, 204, 304 and of length 0.
// mu is held.
func (s *Stream) whole() bool { return s.recvEnded || s.started && s.text.framing == noBody }

// takeTrailers gives the field section behind a body to whoever reads. mu is held.
func (c *clientConn) takeTrailers(s *Stream, end bool) error {
	if !end {
		return malformed("HEADERS in the middle of a stream")
	}
	if s.declared > s.received {
		return malformed("DATA of another length than content-length")
	}
	trailers, err := appendTrailers(nil, c.fields.fields)
	s.text.trailers = trailers
	return err
}

// addHead gives a head, which lies at the start of a pooled buffer, behind what was not read yet of others.
func (s *Stream) addHead(head []byte) {
	if before := s.text.head; len(before) > 0 {
		both := append(append(takeBuffer(len(before) + len(head))[:0], before...), head...)
		giveBuffer(head)
		s.text.drop()
		head = both
	}
	s.text.setHead(head)
}

// response is what the fields of a response say (RFC 9113 §8.3.2).
type response struct {
	status   int
	length   int64 // -1: none
	trailers bool  // may follow
}

// parseResponse checks the fields of a response. Nothing of one that is malformed may go on.
func parseResponse(fields []hpack.HeaderField) (r response, err error) {
	r.length = -1
	if len(fields) == 0 || fields[0].Name != ":status" {
		return r, malformed("no :status")
	}
	status, ok := parseLength(fields[0].Value)
	if !ok || len(fields[0].Value) != 3 || status < 100 || status > 599 || status == 101 {
		return r, malformed("bad :status")
	}
	r.status = int(status)
	for i := range fields[1:] {
		f := &fields[1+i]
		switch {
		case f.IsPseudo():
			return r, malformed("pseudo field twice, unknown or behind others")
		case !validName(f.Name):
			return r, malformed("bad field name")
		case !validValue(f.Value):
			return r, malformed("bad byte in a field value")
		case ofConnection(f.Name):
			return r, malformed("field of a connection")
		}
		switch f.Name {
		case "content-length":
			n, ok := parseLength(f.Value)
			if !ok || r.length >= 0 && r.length != n {
				return r, malformed("bad content-length")
			}
			r.length = n
		case "trailer":
			r.trailers = true
		case "content-type":
			r.trailers = r.trailers || strings.HasPrefix(f.Value, "application/grpc")
		}
	}
	return r, nil
}

// appendText appends the head in HTTP/1.1.
func (r *response) appendText(dst []byte, fields []hpack.HeaderField, framing framing, withoutLength bool) []byte {
	dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(r.status), 10)
	dst = append(append(append(dst, ' '), http.StatusText(r.status)...), "\r\n"...)
	length := withoutLength
	for i := range fields[1:] {
		f := &fields[1+i]
		if f.Name == "content-length" {
			if length {
				continue
			}
			length = true
		}
		dst = appendField(dst, f.Name, f.Value)
	}
	if framing == chunked {
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	}
	return append(dst, "\r\n"...)
}
