package http1

import (
	"errors"
	"io"
	"sync/atomic"
	"time"
)

type bodyKind uint8

const (
	bodyNone bodyKind = iota
	bodyLength
	bodyChunks
	bodyUntilClose
)

// Body is the body of the message that its connection is at, decoded: a request's (Conn.Body) or a response's (UpConn.Body).
// It reads from the connection as it is asked to; it is used by one goroutine at a time.
type Body struct {
	in      *input
	head    *Head
	conn    *Conn   // of a request: says 100 Continue before the first wait; nil for responses
	up      *UpConn // of a response: knows whether it was canceled; nil for requests
	kind    bodyKind
	left    int64 // bodyLength: not read yet
	limit   int64 // -1 = none
	timeout time.Duration
	chunks  chunks
	eof     bool
	err     error // sticky
	// trailers are complete field lines, CRLF included.
	trailers []byte
	refuses  func(name []byte) bool // see RefuseTrailers
	// lent tells the connection's goroutine that another one streams this body on.
	lent bool
	// read counts payload bytes; BytesIn may be asked for while the body is lent.
	read atomic.Int64
}

func (b *Body) reset(in *input, head *Head, timeout time.Duration) {
	b.in, b.head, b.timeout = in, head, timeout
	b.limit, b.left, b.err, b.trailers, b.refuses, b.lent = -1, 0, nil, nil, nil, false
	b.chunks = chunks{}
	if b.read.Load() != 0 { // storing costs more
		b.read.Store(0)
	}
	switch {
	case !head.HasBody():
		b.kind = bodyNone
	case head.Chunked():
		b.kind = bodyChunks
	case head.ContentLength() > 0:
		b.kind = bodyLength
		b.left = head.ContentLength()
	default:
		b.kind = bodyUntilClose
	}
	b.eof = b.kind == bodyNone
	// A request's body is kept for a second try as long as it fits behind its head.
	in.keep = b.conn != nil && (b.kind == bodyChunks || b.kind == bodyLength && b.left <= int64(len(in.b)-in.head))
}

// Remaining is the number of bytes not read yet, -1 when that is not known; 0 also when there is no body.
func (b *Body) Remaining() int64 {
	switch {
	case b.eof:
		return 0
	case b.kind == bodyLength:
		return b.left
	}
	return -1
}

// Received tells that all of a body, whose length is known, is at hand.
func (b *Body) Received() bool {
	return b.eof || b.kind == bodyLength && b.left <= int64(len(b.in.unread()))
}

// Limit bounds the body to n bytes, negative for no bound. ErrBodyTooLarge at once when its declared length is more, later
// from Read when it turns out so.
func (b *Body) Limit(n int64) error {
	b.limit = n
	if n >= 0 && b.kind == bodyLength && b.head.ContentLength() > n {
		return ErrBodyTooLarge
	}
	return nil
}

// Rewindable tells that Rewind would make the body readable from its start again.
func (b *Body) Rewindable() bool {
	return b.kind == bodyNone || b.err == nil && b.in.keep || b.read.Load() == 0 && b.in.pos == b.in.head
}

// Rewind goes back to the start of a body that is Rewindable.
func (b *Body) Rewind() {
	if b.kind == bodyNone || b.err != nil {
		return
	}
	b.in.pos = b.in.head
	b.read.Store(0)
	b.chunks = chunks{}
	b.trailers = nil
	b.eof = false
	if b.kind == bodyLength {
		b.left = b.head.ContentLength()
	}
}

// Trailers are the field lines after a chunked body, once Read has returned io.EOF: those that the Trailer field announced, of gRPC
// all, and that can do no harm.
func (b *Body) Trailers() []byte { return b.trailers }

// RefuseTrailers sets which trailer fields do not go on besides those that can do harm; nil is none. While the body is streamed another
// goroutine calls f.
func (b *Body) RefuseTrailers(f func(name []byte) bool) { b.refuses = f }

// Read implements io.Reader. It waits for at most the timeout of its side: BodyTimeout for requests, the idle time given to
// CopyBody (or TransportConfig.Idle) for responses. Errors but io.EOF come as ErrClient or ErrUpstream, except ErrCanceled.
func (b *Body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	view, err := b.next(p, len(p))
	if err != nil {
		return 0, err
	}
	if &view[0] != &p[0] {
		copy(p, view)
	}
	return len(view), nil
}

// ready gives at most limit bytes of payload that are at hand without reading: nil, nil when there are none. io.EOF once the
// body is complete.
func (b *Body) ready(limit int) ([]byte, error) {
	if b.err != nil {
		return nil, b.err
	}
	if b.eof {
		return nil, io.EOF
	}
	in := b.in
	if b.kind == bodyChunks {
		payload, n, err := b.chunks.next(in.unread(), limit)
		in.pos += n
		switch {
		case err == io.EOF:
			b.eof = true
			b.keepTrailers()
			return nil, io.EOF
		case err == ErrMore:
			return nil, nil
		case err != nil:
			return nil, b.fail(err)
		}
		return payload, b.took(len(payload))
	}
	view := in.unread()
	if len(view) == 0 {
		return nil, nil
	}
	if b.kind == bodyLength {
		limit = int(min(int64(limit), b.left))
	}
	view = view[:min(len(view), limit):len(view)]
	in.pos += len(view)
	return view, b.took(len(view))
}

// last tells, without reading, that the body ends with the payload that ready or next gave last. It may not know of the end of a
// chunked body, and does not of one that ends with its connection.
func (b *Body) last() bool {
	if b.kind == bodyChunks && b.chunks.state == chunkSize && b.chunks.digits == 0 && string(b.in.unread()) == "0\r\n\r\n" {
		_, _ = b.ready(maxInt) // io.EOF: takes the end
	}
	return b.eof
}

// took counts n payload bytes.
func (b *Body) took(n int) error {
	read := b.read.Add(int64(n))
	if b.limit >= 0 && read > b.limit {
		return b.fail(ErrBodyTooLarge)
	}
	if b.kind == bodyLength {
		b.left -= int64(n)
		b.eof = b.left == 0
	}
	return nil
}

// next gives the next payload, reading from the connection when none is at hand: never empty without an error. The bytes lie
// in the connection's buffer or in scratch (which may be nil) and are valid until the next call.
func (b *Body) next(scratch []byte, limit int) ([]byte, error) {
	for {
		view, err := b.ready(limit)
		if len(view) > 0 || err != nil {
			return view, err
		}
		if b.conn != nil && !b.lent && b.conn.expect {
			if err := b.conn.Continue(); err != nil {
				return nil, err
			}
		}
		if len(scratch) > 0 && !b.in.keep && b.kind == bodyLength && b.left >= int64(min(len(scratch), bulkFrom)) {
			scratch = scratch[:min(int64(len(scratch)), b.left)]
			n, err := b.in.readInto(scratch, b.timeout)
			if err == nil {
				return scratch[:n], b.took(n)
			}
			if err = b.readFailed(err); err != nil {
				return nil, err
			}
			continue
		}
		if b.lulls() {
			err = b.in.first(b.timeout)
		} else {
			err = b.in.read(b.timeout)
		}
		if err != nil {
			if err = b.readFailed(err); err != nil {
				return nil, err
			}
		}
	}
}

// readFailed says what a failed read means to the body. nil: its end, which ready tells.
func (b *Body) readFailed(err error) error {
	if b.up != nil {
		if why := b.up.ended(); why != nil {
			b.err = why
			return why
		}
	}
	switch {
	case err == errStopped:
		return err // not the body's fault, and it can be read on
	case err == io.EOF && b.kind == bodyUntilClose && !b.severed():
		b.eof = true
		return nil
	case err == io.EOF:
		return b.fail(ErrBodyCut)
	case err == errNoRoom:
		return b.fail(faultChunkTrailer)
	case isTimeout(err):
		return b.fail(ErrIdleTimeout)
	}
	return b.fail(errors.Join(ErrBodyCut, err))
}

// severed tells of a body that ends with its connection that it may have been cut: under TLS only the server's closure alert says that it
// was all (RFC 9112 §9.8).
func (b *Body) severed() bool {
	s, ok := b.in.nc.(*secureConn)
	return ok && s.severed()
}

func (b *Body) fail(err error) error {
	if b.conn != nil {
		if err != ErrBodyTooLarge {
			err = ErrClient{err}
		}
	} else {
		if _, bad := err.(*ProtocolError); bad {
			err = asResponse(err)
		}
		err = ErrUpstream{err}
	}
	b.err = err
	return err
}

// keepTrailers copies the trailer fields that may go on. gRPC does not announce them.
func (b *Body) keepTrailers() {
	k := &b.chunks
	grpc := IsGRPC(b.head)
	for _, f := range k.fields {
		name := k.section[f.line:f.nameEnd]
		switch {
		case !grpc && !b.head.announced(name), b.refuses != nil && b.refuses(name):
		case harmlessTrailer(name), grpc && b.up != nil && kindOf(name) == kindUnderscore: // which only servers take for its twin
			b.trailers = append(b.trailers, name...)
			b.trailers = append(b.trailers, ": "...)
			b.trailers = append(b.trailers, k.section[f.val:f.valEnd]...)
			b.trailers = append(b.trailers, "\r\n"...)
		}
	}
}

// IsGRPC tells a message of gRPC by its Content-Type: application/grpc, alone or followed by "+" or ";". gRPC-Web is another protocol.
func IsGRPC(h *Head) bool {
	const grpc = "application/grpc"
	value := h.Get("Content-Type")
	if !hasPrefixFold(value, grpc) {
		return false
	}
	return len(value) == len(grpc) || value[len(grpc)] == '+' || value[len(grpc)] == ';' || value[len(grpc)] == ' '
}
