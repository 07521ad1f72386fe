package main

import (
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net"

	"golang.org/x/sys/unix"
)

// loaderSocket is the descriptor of a loaderConn as crypto/tls wants it. A read that finds nothing returns EAGAIN, which
// crypto/tls passes on and forgets. A handshake would end by that: within it pause lets the loop go on with others until
// epoll tells of more.
type loaderSocket struct {
	net.Conn // nil: crypto/tls only reads and writes
	fd       int
	drained  bool        // nothing to read until epoll says so
	pause    func() bool // within the handshake; false: it is given up
}

func (s *loaderSocket) Read(b []byte) (int, error) {
	for {
		if s.drained {
			if s.pause == nil {
				return 0, unix.EAGAIN
			}
			if !s.pause() {
				return 0, net.ErrClosed
			}
			continue
		}
		n, err := unix.Read(s.fd, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			s.drained = true
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			// A read less for each answer. Handshakes do not rely on it: what closed them came with their last bytes, maybe.
			s.drained = n < len(b) && s.pause == nil
			return n, nil
		}
	}
}

// Write waits for room, as crypto/tls ends with the first write that fails. Requests are small, so there is room.
func (s *loaderSocket) Write(b []byte) (sent int, err error) {
	for sent < len(b) {
		n, err := unix.Write(s.fd, b[sent:])
		switch {
		case err == nil:
			sent += n
		case errors.Is(err, unix.EAGAIN):
			ready, err := unix.Poll([]unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLOUT}}, int(answerTimeout.Milliseconds()))
			if err != nil && !errors.Is(err, unix.EINTR) || err == nil && ready == 0 {
				return sent, errors.Join(errors.New("no room for a request"), err)
			}
		case errors.Is(err, unix.EINTR):
		default:
			return sent, err
		}
	}
	return sent, nil
}

// secure begins the handshake, a coroutine that the loop resumes when there is something to read. All of it is within one
// run: a coroutine stays on the thread that made it.
func (c *loaderConn) secure(config *tls.Config) {
	s := &loaderSocket{fd: c.fd}
	c.socket, c.tls = s, tls.Client(s, config)
	conn := c.tls
	c.resume, c.giveUp = iter.Pull(func(pause func(struct{}) bool) {
		s.pause = func() bool { return pause(struct{}{}) }
		c.refusal = conn.Handshake()
		s.pause = nil
	})
}

// shake goes on with the handshake and is true when it is complete. Where it failed, c is closed.
func (l *loader) shake(c *loaderConn) bool {
	if c.tls == nil {
		c.secure(l.tls)
	}
	if c.resume == nil {
		return true
	}
	if _, more := c.resume(); more {
		return false
	}
	c.resume, c.giveUp = nil, nil
	if c.refusal != nil {
		l.fail(c, "handshake: "+c.refusal.Error())
		return false
	}
	return true
}

// receive reads from the connection, or what TLS makes of it.
func (c *loaderConn) receive(b []byte) (int, error) {
	if c.tls == nil {
		return unix.Read(c.fd, b)
	}
	if c.closing {
		c.socket.drained = false // the end may have come with the last bytes, and epoll does not tell twice
	}
	n, err := c.tls.Read(b)
	if errors.Is(err, io.EOF) {
		return 0, nil // as read(2)
	}
	return n, err
}

// drop closes c, whatever goes on there.
func (c *loaderConn) drop() {
	if c.giveUp != nil {
		c.giveUp()
	}
	c.resume, c.giveUp, c.tls, c.socket = nil, nil, nil, nil
	if c.fd >= 0 {
		unix.Close(c.fd)
		c.fd = -1
	}
}
