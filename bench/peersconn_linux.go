package main

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// loaderConn is one connection, or the place of one.
type loaderConn struct {
	index   int // in conns, what epoll knows it by
	fd      int // -1: none
	at      time.Time
	sent    int    // bytes of the request
	head    []byte // of the answer, until it is complete
	left    int64  // of the answer's body; -1: the head is not complete
	closing bool   // answered; the peer closes
	busy    bool

	tls     *tls.Conn               // nil: cleartext, or not connected
	socket  *loaderSocket           // below tls
	resume  func() (struct{}, bool) // goes on with the handshake; nil: there is none under way
	giveUp  func()
	refusal error // of the handshake
}

// connect begins a connection; the first write finds out what became of it.
func (l *loader) connect(c *loaderConn) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, &l.addr); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		unix.Close(fd)
		return err
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(c.index)}
	if err := unix.EpollCtl(l.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		unix.Close(fd)
		return err
	}
	c.fd = fd
	return nil
}

// event goes on with what a connection is ready for.
func (l *loader) event(c *loaderConn) {
	if l.tls != nil {
		if c.socket != nil {
			c.socket.drained = false
		}
		if !l.shake(c) {
			return
		}
	}
	if c.busy && c.sent < len(l.request) {
		l.write(c)
	}
	if c.fd >= 0 {
		l.read(c)
	}
}

func (l *loader) write(c *loaderConn) {
	if c.tls != nil {
		n, err := c.tls.Write(l.request)
		if c.sent = n; err != nil {
			l.fail(c, "write: "+err.Error())
		}
		return
	}
	for c.sent < len(l.request) {
		n, err := unix.Write(c.fd, l.request[c.sent:])
		switch {
		case err == nil:
			c.sent += n
		case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ENOTCONN):
			return
		case errors.Is(err, unix.EINTR):
		default:
			l.fail(c, "write: "+err.Error())
			return
		}
	}
}

func (l *loader) read(c *loaderConn) {
	for c.fd >= 0 {
		n, err := c.receive(l.buf)
		switch {
		case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.ENOTCONN):
			return
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			l.fail(c, "read: "+err.Error())
			return
		case n == 0:
			l.ended(c)
			return
		}
		if !c.busy || c.closing {
			l.fail(c, "bytes that nobody asked for")
			return
		}
		if problem := l.take(c, l.buf[:n]); problem != "" {
			l.fail(c, problem)
			return
		}
		if n < len(l.buf) && !c.closing && c.tls == nil {
			return // drained; edge-triggered epoll tells of more
		}
	}
}

// take reads a piece of the answer and finishes it when it is complete.
func (l *loader) take(c *loaderConn, b []byte) (problem string) {
	if c.left < 0 {
		if len(c.head) > 0 {
			c.head = append(c.head, b...)
			b = c.head
		}
		end := bytes.Index(b, []byte("\r\n\r\n"))
		if end < 0 {
			if len(c.head) == 0 {
				c.head = append(c.head, b...)
			}
			if len(c.head) > 64<<10 {
				return "an answer without an end of its head"
			}
			return ""
		}
		length, err := readAnswerHead(b[:end+2])
		if err != nil {
			return err.Error()
		}
		if length != l.length {
			return fmt.Sprintf("a body of %d instead of %d bytes", length, l.length)
		}
		c.left = length
		b = b[end+4:]
	}
	if int64(len(b)) > c.left {
		return "bytes beyond the answer"
	}
	c.left -= int64(len(b))
	if c.left > 0 {
		return ""
	}
	if c.sent < len(l.request) {
		return "an answer before the request was sent"
	}
	now := time.Now()
	l.figures.requests++
	_ = l.figures.latency.RecordValue(max(1, min(now.Sub(c.at), maxLatency).Microseconds()))
	if l.closes {
		c.closing = true
		return ""
	}
	l.done(c)
	return ""
}

// ended: the peer has closed.
func (l *loader) ended(c *loaderConn) {
	c.drop()
	switch {
	case c.closing:
		l.done(c)
	case c.busy:
		l.fail(c, "closed before the answer was complete")
	}
}

func (l *loader) done(c *loaderConn) {
	c.busy = false
	l.running--
	l.idle = append(l.idle, c)
}

func (l *loader) fail(c *loaderConn, problem string) {
	l.figures.errors[problem]++
	c.drop()
	if c.busy {
		l.done(c)
	}
}

// abandon closes what is still under way.
func (l *loader) abandon() {
	for _, c := range l.conns {
		if c.busy {
			c.drop()
			l.done(c)
		}
	}
}

// readAnswerHead wants a 200 with a length; head has its lines with CRLF.
func readAnswerHead(head []byte) (int64, error) {
	if len(head) < 12 || !bytes.HasPrefix(head, []byte("HTTP/1.1 ")) {
		return 0, errors.New("no HTTP/1.1 answer")
	}
	if string(head[9:12]) != "200" {
		return 0, fmt.Errorf("status %s", head[9:12])
	}
	for line := range bytes.SplitSeq(head, []byte("\r\n")) {
		name, value, _ := bytes.Cut(line, []byte(":"))
		if len(name) == len("Content-Length") && bytes.EqualFold(name, []byte("Content-Length")) {
			n, err := strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64)
			return n, err
		}
	}
	return 0, errors.New("an answer without a length")
}
