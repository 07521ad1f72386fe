package http1

import (
	"context"
	"sync"
)

// Cancel ends what one request waits for at its server: the dial, or the I/O of the UpConn that Transport.Get gave for it. A
// connection is bound from Get until its Release, Close or Tunnel, so that a late Cancel cannot hit the next request on it.
// One is kept per exchange and reused; the zero value is ready. All methods but Reset may be called concurrently.
type Cancel struct {
	// Prologue is what a connection to the server begins with, before anything else: a PROXY protocol's header. Only a connection
	// that began so is kept for an exchange that has it. It belongs to the goroutine that calls Get and Dial; nil is none.
	Prologue []byte

	mu       sync.Mutex // guards what follows
	canceled bool
	dial     context.CancelFunc
	conn     *UpConn
}

// Cancel makes pending and later waits fail with ErrCanceled until Reset. It does not block.
func (c *Cancel) Cancel() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.canceled = true
	if c.dial != nil {
		c.dial()
	}
	if c.conn != nil {
		c.conn.Cancel()
	}
}

// Canceled tells that Cancel was called since the last Reset.
func (c *Cancel) Canceled() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.canceled
}

// Reset makes c ready for the next request. Unlike the others it must not be called while another one is.
func (c *Cancel) Reset() {
	c.canceled, c.dial, c.conn, c.Prologue = false, nil, nil, nil
}

func (c *Cancel) prologue() []byte {
	if c == nil {
		return nil
	}
	return c.Prologue
}

// dialing sets or clears (nil) what ends the dial; false when it is not to be begun.
func (c *Cancel) dialing(stop context.CancelFunc) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dial = stop
	return !c.canceled
}

func (c *Cancel) bind(u *UpConn) bool {
	if c == nil {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.canceled {
		return false
	}
	c.conn = u
	return true
}

func (c *Cancel) unbind(u *UpConn) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.conn == u {
		c.conn = nil
	}
}
