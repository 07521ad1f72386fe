package http1

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"time"
)

// spill is the socket below an encrypted connection. A Write of crypto/tls that does not end in time breaks the connection, so that it
// cannot be tried; but what it makes of one can: of what is written eagerly spill keeps what the socket does not take, at most a record
// and its framing. That is sent before anything that is written later.
type spill struct {
	net.Conn // the socket
	raw      syscall.RawConn
	push     func(fd uintptr) bool // pushParts, made once
	moved    time.Duration         // of the goroutine that flushes: when, in a flush that waited, the socket last took something (uptime)

	mu      sync.Mutex // guards what follows, and writing: crypto/tls also writes when it reads
	eager   bool
	buffer  []byte // of bigSize, and reserved (takeAhead); nil while nothing is kept
	rest    []byte // in buffer: what the socket did not take
	parts   [3][]byte
	patient bool // push waits
	pushErr error
}

func newSpill(nc net.Conn, raw syscall.RawConn) *spill {
	s := &spill{Conn: nc, raw: raw}
	s.push = s.pushParts
	return s
}

// Write implements net.Conn: all of p is taken, unless there is an error.
func (s *spill) Write(p []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rest) > 0 && (!s.eager || len(s.rest)+len(p) > bigSize) {
		if _, err := s.send(); err != nil {
			return 0, err
		}
	}
	if s.eager && len(s.rest) == 0 {
		n, err = s.pass(p, false)
		if err != nil || n == len(p) {
			return n, err
		}
	}
	if s.eager && s.keep(p[n:]) {
		return len(p), nil
	}
	took, err := s.Conn.Write(p[n:])
	return n + took, err
}

// keep adds p to rest; false when there is no room. mu is held.
func (s *spill) keep(p []byte) bool {
	if s.buffer == nil {
		if len(p) > bigSize || !takeAhead(bigSize) {
			return false
		}
		s.buffer = takeBuffer(bigSize)
		s.rest = s.buffer[:0]
	}
	s.rest = append(s.rest, p...)
	return true
}

// send writes rest and waits until it is taken. n counts also with an error, after which it can be called again. mu is held.
func (s *spill) send() (n int, err error) {
	n, err = s.pass(s.rest, true)
	if s.rest = s.rest[n:]; len(s.rest) == 0 {
		s.drop()
	}
	return n, err
}

// pass writes p to the socket: all of it, or as much as is taken at once. n counts also with an error. mu is held.
func (s *spill) pass(p []byte, patient bool) (n int, err error) {
	s.parts[0], s.patient, s.pushErr = p, patient, nil
	if err = s.raw.Write(s.push); err == nil {
		err = s.pushErr
	}
	n = len(p) - len(s.parts[0])
	s.parts[0] = nil
	return n, err
}

// drop gives the memory back. mu is held.
func (s *spill) drop() {
	if s.buffer != nil {
		giveAhead(bigSize)
		giveBuffer(s.buffer)
	}
	s.buffer, s.rest = nil, nil
}

// pushParts is a RawConn.Write callback: false waits until the descriptor is writable.
func (s *spill) pushParts(fd uintptr) bool {
	for moved := false; len(s.parts[0]) > 0 && s.pushErr == nil; moved = true {
		n, err := sendParts(fd, &s.parts)
		if err == syscall.EAGAIN {
			if moved && s.patient {
				s.moved = uptime()
			}
			return !s.patient
		}
		s.pushErr = err
		takeOff(&s.parts, n)
	}
	return true
}

// CloseWrite closes our side of the socket.
func (s *spill) CloseWrite() error {
	if half, ok := s.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// The methods below may be called for nil.

func (s *spill) setEager(on bool) {
	if s != nil {
		s.mu.Lock()
		s.eager = on
		s.mu.Unlock()
	}
}

// kept tells that the socket has not taken all.
func (s *spill) kept() bool {
	if s == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rest) > 0
}

// flush is send.
func (s *spill) flush() (int, error) {
	if s == nil {
		return 0, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.rest) == 0 {
		return 0, nil
	}
	return s.send()
}

// release gives back what is kept; the connection is closed.
func (s *spill) release() {
	if s != nil {
		s.mu.Lock()
		s.drop()
		s.mu.Unlock()
	}
}
