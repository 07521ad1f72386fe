package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"syscall"
)

// secureConn is a connection to a server under TLS. It tells what lies on it between two exchanges, which neither a look at the
// socket can (a ticket for resuming the session is no answer, and what was decrypted already is not there any more) nor a read that
// waits.
type secureConn struct {
	*tls.Conn
	wire *recordWire
	base int64 // wire.written when the exchange under way began
}

// Secure shakes hands with the server that nc leads to and gives the connection for TransportConfig.Dial. nc is a TCP connection; it
// is closed when that fails, or with what is returned. ctx bounds the handshake only. Errors are ctx's, those of a connection that the
// server ended without a word, as one that restarts does, or wrapped in ErrHandshake.
func Secure(ctx context.Context, nc net.Conn, cfg *tls.Config) (net.Conn, error) {
	wire := &recordWire{Conn: nc, bytes: nc}
	if sc, ok := nc.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			wire.raw, wire.bytes = raw, newRawBytes(raw)
		}
	}
	s := &secureConn{Conn: tls.Client(wire, cfg), wire: wire}
	if err := s.HandshakeContext(ctx); err != nil {
		_ = nc.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if wordless(err) {
			return nil, fmt.Errorf("TLS handshake: %w", err)
		}
		return nil, fmt.Errorf("%w: %w", ErrHandshake, err)
	}
	s.base = wire.written.Load()
	return s, nil
}

// wordless tells a connection that was ended without a reason.
func wordless(err error) bool {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE} {
		if errors.Is(err, end) {
			return true
		}
	}
	return false
}

// RefusedHandshake tells an error of reading under TLS 1.3 that comes in place of the first answer and belongs to the handshake: only
// then does a client hear that the server does not want its certificate (RFC 8446 §4.4.2.4).
func RefusedHandshake(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && op.Op == "remote error" // as crypto/tls calls an alert
}

// Close closes the connection at once: the server is told (close_notify) as far as the socket takes that without waiting.
func (s *secureConn) Close() error {
	s.wire.closing.Store(true)
	return s.Conn.Close()
}

// WriteParts writes several pieces: short ones in one record (gatherer).
func (s *secureConn) WriteParts(parts [][]byte) (n int, err error) {
	size := 0
	for _, p := range parts {
		size += len(p)
	}
	if size <= inSize {
		both := takeBuffer(size)[:0]
		defer giveBuffer(both)
		for _, p := range parts {
			both = append(both, p...)
		}
		return s.Write(both)
	}
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		took, err := s.Write(p)
		if n += took; err != nil {
			return n, err
		}
	}
	return n, nil
}

// look tells what has come since the last exchange, without waiting, and begins the next one. Tickets and new keys are taken in
// (RFC 8446 §4.6). Bytes of an answer that nobody asked for, or a record that has not come whole and may become that, are peekData.
func (s *secureConn) look() peekResult {
	if s.wire.raw == nil {
		return peekData // nobody can tell
	}
	s.wire.rushed = true
	var one [1]byte
	n, err := s.Read(one[:])
	s.wire.rushed = false
	s.base = s.wire.written.Load()
	switch {
	case n > 0:
		return peekData
	case !errors.Is(err, errNothingYet):
		return peekEnd
	case s.wire.within():
		return peekData
	}
	return peekQuiet
}

// severed tells that the connection ended without close_notify: crypto/tls reads no further than that alert, and gives io.EOF also where
// the socket ends between two records. Only the goroutine that reads may ask.
func (s *secureConn) severed() bool { return s.wire.ended }

// errNothingYet is what a rushed read ends with. It is temporary (net.Error), so that tls.Conn can be read on.
var errNothingYet = nothingYet{os.ErrDeadlineExceeded}

type nothingYet struct{ error }

func (nothingYet) Timeout() bool   { return true }
func (nothingYet) Temporary() bool { return true }

// recordWire is the encrypted side. It counts what goes out and follows the records that come in (RFC 8446 §5.1).
type recordWire struct {
	net.Conn
	raw     syscall.RawConn
	bytes   io.ReadWriter // of raw, or of Conn
	written atomic.Int64
	closing atomic.Bool // nothing is waited for any more

	// of the reading goroutine
	rushed bool // reads do not wait
	header [5]byte
	have   int  // bytes of the header
	left   int  // bytes of the record behind it
	ended  bool // the server's side of the socket was read to its end
}

func (w *recordWire) Read(p []byte) (n int, err error) {
	if !w.rushed {
		n, err = w.bytes.Read(p)
	} else if failed := w.raw.Control(func(fd uintptr) { n, err = recv(fd, p) }); failed != nil {
		err = failed
	} else if err == syscall.EAGAIN {
		err = errNothingYet
	}
	w.ended = w.ended || err == io.EOF
	w.follow(p[:n])
	return n, err
}

func (w *recordWire) follow(p []byte) {
	for len(p) > 0 {
		if w.left > 0 {
			n := min(w.left, len(p))
			w.left -= n
			p = p[n:]
			continue
		}
		n := copy(w.header[w.have:], p)
		p = p[n:]
		if w.have += n; w.have == len(w.header) {
			w.have, w.left = 0, int(w.header[3])<<8|int(w.header[4])
		}
	}
}

// within tells that what was read ends inside of a record.
func (w *recordWire) within() bool { return w.have > 0 || w.left > 0 }

func (w *recordWire) Write(p []byte) (n int, err error) {
	if w.closing.Load() && w.raw != nil {
		if failed := w.raw.Control(func(fd uintptr) { n, err = send(fd, p) }); failed != nil {
			err = failed
		}
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
	} else {
		n, err = w.bytes.Write(p)
	}
	w.written.Add(int64(n))
	return n, err
}
