package http2

import (
	"bytes"
	"errors"
	"net"
	"sync/atomic"

	h2 "golang.org/x/net/http2"
)

// clientStream is what Client.Dial gives. The server does not know the stream before the request's head is written: streams are opened
// in the order of their numbers.
type clientStream struct {
	*Stream
	conn   *clientConn
	closed atomic.Bool
}

// orNil keeps a nil pointer from becoming an interface that is not nil.
func (s *clientStream) orNil() net.Conn {
	if s == nil {
		return nil
	}
	return s
}

// Unprocessed tells that the server has not looked at the request, and will not.
func (s *clientStream) Unprocessed() bool { return s.ended(ErrUnprocessed) }

// Refused tells of one that is Unprocessed that the server did not want this request, rather than any on the connection.
func (s *clientStream) Refused() bool { return s.ended(errRefused) }

// ended tells that the stream is gone for that reason.
func (s *clientStream) ended(why error) bool {
	l := s.link
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Is(s.gone, why)
}

// Canceled tells an error of a stream that its server has reset with CANCEL, as gRPC's do at the end of a call's time.
func Canceled(err error) bool {
	r, ok := errors.AsType[reset](err)
	return ok && r.code == h2.ErrCodeCancel
}

// Close ends the stream. The server is told when it still works on it.
func (s *clientStream) Close() error {
	if s.closed.Swap(true) {
		return net.ErrClosed
	}
	l := s.link
	l.mu.Lock()
	switch {
	case s.gone != nil:
	case s.id == 0 || s.stopped: // the server knows nothing of it, or nothing any more
		l.lose(s.Stream, net.ErrClosed)
	case !s.recvEnded:
		l.resetStream(s.id, s.Stream, h2.ErrCodeCancel, net.ErrClosed)
	}
	l.unlock()
	err := s.Stream.Close()
	s.conn.release()
	return err
}

// encodeRequest opens the stream of a request whose head was written in HTTP/1.1, and encodes that (link.encodeHead).
func (c *clientConn) encodeRequest(s *Stream, section []byte) (follows, error) {
	if s.id != 0 {
		return follows{}, errMessage
	}
	line, fields := nextLine(section)
	method, rest, _ := bytes.Cut(line, []byte(" "))
	target, version, _ := bytes.Cut(rest, []byte(" "))
	if string(version) != "HTTP/1.1" || len(target) == 0 {
		return follows{}, errMessage
	}
	length, err := bodyLength(fields)
	if err != nil {
		return follows{}, err
	}
	if c.leaving && c.pool != nil || c.err != nil || c.lastID >= lastOpened {
		c.leaving = true
		c.lose(s, ErrUnprocessed)
		return follows{}, ErrUnprocessed
	}
	if s.id = 1; c.lastID > 0 {
		s.id = c.lastID + 2
	}
	c.lastID = s.id
	c.streams[s.id] = s
	s.send = sendWindow(c.initialWindow) // which may have changed
	s.bodyless = string(method) == "HEAD"
	c.enc.add(":method", method)
	c.enc.add(":scheme", c.scheme())
	if host := hostOf(fields); len(host) > 0 {
		c.enc.add(":authority", host)
	}
	c.enc.add(":path", target)
	c.enc.requestLines(fields)
	return follows{length: length, none: length == lengthUnknown}, nil
}

var (
	schemeHTTP   = []byte("http")
	schemeHTTPS  = []byte("https")
	onlyTrailers = []byte("trailers")
)

func (c *clientConn) scheme() []byte {
	if c.set.Secure {
		return schemeHTTPS
	}
	return schemeHTTP
}

// hostOf finds the Host field.
func hostOf(fields []byte) []byte {
	for {
		name, value, rest, ok, _ := nextField(fields)
		if !ok || foldedTo(name, "host") {
			return value
		}
		fields = rest
	}
}

// requestLines encodes checked field lines but for those that have another form, or none, in HTTP/2.
func (e *fieldEncoder) requestLines(fields []byte) {
	for {
		name, value, rest, ok, _ := nextField(fields)
		if !ok {
			return
		}
		fields = rest
		switch low := e.fieldName(name); {
		case low == "host", ofConnection(low):
		case low == "te":
			if foldedTo(value, "trailers") {
				e.add(low, onlyTrailers)
			}
		default:
			e.add(low, value)
		}
	}
}
