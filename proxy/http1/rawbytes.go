package http1

import (
	"sync"
	"syscall"
)

// rawBytes reads from a connection and writes to it, for who does that by the methods of net.Conn, as TLS does. It waits in the poller as
// package net would, but does not tell the scheduler of the system calls (socket_linux.go), nor allocates. The plain version are Read
// and Write of the connection itself.
type rawBytes struct{ in, out rawPass }

func newRawBytes(raw syscall.RawConn) *rawBytes {
	r := new(rawBytes)
	r.in.wait, r.in.try = raw.Read, r.in.recv
	r.out.wait, r.out.try = raw.Write, r.out.send
	return r
}

// Read reads once.
func (r *rawBytes) Read(b []byte) (n int, err error) { return r.in.pass(b) }

// Write writes all of b.
func (r *rawBytes) Write(b []byte) (n int, err error) { return r.out.pass(b) }

// rawPass is one direction.
type rawPass struct {
	wait func(func(fd uintptr) bool) error // of the poller
	try  func(fd uintptr) bool             // recv or send, made once

	mu  sync.Mutex // guards what follows
	b   []byte     // to be filled or written
	n   int
	err error
}

func (p *rawPass) pass(b []byte) (n int, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.b, p.n, p.err = b, 0, nil
	if err = p.wait(p.try); err == nil {
		err = p.err
	}
	p.b = nil
	return p.n, err
}

// recv is a RawConn.Read callback: false waits until the descriptor is readable.
func (p *rawPass) recv(fd uintptr) bool {
	if len(p.b) > 0 {
		p.n, p.err = recv(fd, p.b)
	}
	return p.err != syscall.EAGAIN
}

// send is a RawConn.Write callback.
func (p *rawPass) send(fd uintptr) bool {
	for p.err = nil; p.n < len(p.b) && p.err == nil; {
		var took int
		took, p.err = send(fd, p.b[p.n:])
		p.n += took
	}
	return p.err != syscall.EAGAIN
}
