package http1

import (
	"errors"
	"net"
	"os"
	"time"
)

// deadline is a read or write deadline that is armed coarsely: never early, late by at most an eighth of its time or one
// second, so that a busy connection moves its timer about once a second and not at each read.
type deadline struct {
	armed time.Duration // a reading of uptime; 0: none
}

var start = time.Now()

// uptime is a clock for what is not told to anybody: time.Now reads the wall clock too, which costs as much again. A request looks at
// it, or at its handler's clock, only where it may have waited since.
func uptime() time.Duration { return time.Since(start) }

// uptimeAt is what uptime was at t.
func uptimeAt(t time.Time) time.Duration { return t.Sub(start) }

func (d *deadline) read(nc net.Conn, timeout time.Duration) { d.readFrom(uptime(), nc, timeout) }

// readFrom is read by whoever has looked at the clock: now is a reading of uptime.
func (d *deadline) readFrom(now time.Duration, nc net.Conn, timeout time.Duration) {
	if at, change := d.next(now, timeout); change {
		_ = nc.SetReadDeadline(at) // fails only on a closed connection, which the read then tells
	}
}

func (d *deadline) write(nc net.Conn, timeout time.Duration) {
	if at, change := d.next(uptime(), timeout); change {
		_ = nc.SetWriteDeadline(at)
	}
}

func (d *deadline) next(now, timeout time.Duration) (at time.Time, change bool) {
	if timeout <= 0 {
		change = d.armed != 0
		d.armed = 0
		return time.Time{}, change
	}
	slack := min(timeout/8, time.Second)
	want := now + timeout
	latest := want + slack
	if want <= d.armed && d.armed <= latest {
		return start.Add(d.armed), false
	}
	d.armed = latest
	return start.Add(latest), true
}

// moveWrite moves a write deadline that has passed to where it belongs when the peer took something at moved, a reading of uptime; false
// when it has been silent for long enough since.
func (d *deadline) moveWrite(nc net.Conn, moved, timeout time.Duration) bool {
	at, change := d.next(moved, timeout)
	if change {
		_ = nc.SetWriteDeadline(at)
	}
	return change
}

// unknown tells that somebody else moved the deadline: the next use arms it.
func (d *deadline) unknown() { d.armed = -1 }

// longAgo is a deadline that has passed: it wakes whoever reads.
var longAgo = time.Unix(1, 0)

func isTimeout(err error) bool { return errors.Is(err, os.ErrDeadlineExceeded) }
