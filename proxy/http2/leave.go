package http2

import (
	"time"

	h2 "golang.org/x/net/http2"
)

// How a connection ends when nothing is wrong with it (RFC 9113 §6.8): GOAWAY with the highest number, so that requests on their
// way are still taken; PING; and pongGrace after its answer has shown that the client has seen that, GOAWAY with the last number that was
// taken: a client's connection and its requests are often in different threads, so some are sent after the answer.

// drain begins it.
func (c *serverConn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining || c.over {
		return
	}
	c.draining = true
	c.control(8 + frameHeader + len(drainPing))
	c.out = appendGoAway(c.out, maxStreamID, h2.ErrCodeNo, "")
	c.out = appendPing(c.out, 0, drainPing)
	c.pinged = time.AfterFunc(pingWait, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.sayLast()
	})
}

func (c *serverConn) onPong(f *h2.PingFrame) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.draining && f.Data == drainPing {
		if c.lastID > 0 { // else it is new, and its first request may be on its way for pingWait
			c.pinged.Reset(pongGrace)
		}
		return nil
	}
	return c.spendNoise(1)
}

// sayLast sends the last GOAWAY. mu is held.
func (c *serverConn) sayLast() {
	if c.leaving || c.over {
		return
	}
	c.leaving = true
	c.control(8)
	c.out = appendGoAway(c.out, c.lastID, h2.ErrCodeNo, "")
	c.leaveIfDone()
}

// leaveIfDone ends a connection that takes no more streams with the last of them. mu is held.
func (c *serverConn) leaveIfDone() {
	if c.leaving && c.running == 0 && !c.over {
		c.finish()
		c.leave()
	}
}

// lookIdle is called when the connection may have been idle for long enough.
func (c *serverConn) lookIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	left := c.set.IdleTimeout
	if c.running == 0 {
		left = time.Until(c.idleFrom.Add(c.set.IdleTimeout))
	}
	if left > 0 {
		c.idling.Reset(left)
		return
	}
	c.sayLast()
}
