package http2

import (
	"errors"
	"time"

	h2 "golang.org/x/net/http2"
)

// Which streams a connection to a server gives out, and when it ends for want of them or of a sign of life.

// pingAgain is the time between two PINGs in one silence, see ClientSettings.PingAfter.
const pingAgain = 5*time.Minute + 10*time.Second

var errNoPong = errors.New("http2: the server does not answer")

// Why a connection gives out no stream though it lives.
var (
	errLeaving = errors.New("http2: the connection takes no more requests (GOAWAY)")
	errFull    = errors.New("http2: the connection takes no more requests at once (SETTINGS_MAX_CONCURRENT_STREAMS)")
)

// reserve gives out a stream, or says why there is no room for one.
func (c *clientConn) reserve() (*clientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil, c.err
	case c.leaving:
		return nil, errLeaving
	case c.held >= c.limit:
		return nil, errFull
	}
	if c.held++; c.held == 1 {
		c.busy()
	}
	return &clientStream{Stream: c.newStream(0), conn: c}, nil
}

// most is how many streams there may be at once.
func (c *clientConn) most() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit
}

// busy is called when there is a stream again. mu is held.
func (c *clientConn) busy() {
	if c.idling != nil {
		c.idling.Stop()
	}
	c.pinged = time.Time{}
	c.told.Store(time.Now().UnixNano())
	if c.pinging == nil {
		c.pinging = time.AfterFunc(c.set.PingAfter, c.lookSilent)
	} else {
		c.pinging.Reset(c.set.PingAfter)
	}
}

// release counts a stream that was closed.
func (c *clientConn) release() {
	c.mu.Lock()
	if c.held--; c.held == 0 && c.err == nil {
		idle := c.idleTimeout()
		switch {
		case c.leaving || idle < 0:
			c.goodbye()
		case c.idling == nil:
			c.idling = time.AfterFunc(idle, c.lookIdle)
		default:
			c.idling.Reset(idle)
		}
	}
	gone := c.leaving
	c.mu.Unlock()
	if c.pool != nil {
		c.pool.room(c, gone)
	}
}

func (c *clientConn) idleTimeout() time.Duration {
	if c.pool != nil {
		return c.pool.settings.Load().IdleTimeout
	}
	return -1
}

func (c *clientConn) lookIdle() {
	c.mu.Lock()
	gone := c.held == 0 && c.err == nil
	if gone {
		c.goodbye()
	}
	c.mu.Unlock()
	if gone && c.pool != nil {
		c.pool.room(c, true)
	}
}

// leave ends the connection with the last of its streams.
func (c *clientConn) leave() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	if c.held == 0 && c.err == nil {
		c.goodbye()
	}
}

// goodbye ends a connection without streams. mu is held.
func (c *clientConn) goodbye() {
	c.leaving = true
	if c.over {
		return
	}
	c.control(8)
	c.out = appendGoAway(c.out, 0, h2.ErrCodeNo, "")
	c.finish()
	go func() {
		<-c.written
		_ = c.nc.Close() // the reader ends with it
	}()
	_ = c.nc.SetWriteDeadline(time.Now().Add(lastWrite))
}

// lookSilent asks a server that says nothing whether it is there.
func (c *clientConn) lookSilent() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held == 0 || c.err != nil || c.over {
		return
	}
	now := time.Now()
	told := time.Unix(0, c.told.Load())
	if !c.pinged.IsZero() && told.After(c.pinged) {
		c.pinged = time.Time{}
	}
	switch {
	case c.pinged.IsZero():
		if left := c.set.PingAfter - now.Sub(told); left > 0 {
			c.pinging.Reset(left)
			return
		}
	case c.heard.Load() < c.pinged.UnixNano(): // not even an answer
		go c.fail(errors.Join(ErrGone, errNoPong))
		return
	default:
		if left := pingAgain - now.Sub(c.pinged); left > 0 {
			c.pinging.Reset(min(left, c.set.PingAfter))
			return
		}
	}
	c.pinged = now
	c.control(8)
	c.out = appendPing(c.out, 0, [8]byte{'a', 'l', 'i', 'v', 'e', '?'})
	c.pinging.Reset(c.set.PingTimeout)
}
