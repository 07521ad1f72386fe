package http2

import (
	"errors"
	"io"
	"os"
	"time"

	h2 "golang.org/x/net/http2"
)

// readAll reads frames until the connection ends.
func (c *serverConn) readAll() (err error) {
	defer func() {
		if v := recover(); v != nil { // one connection is lost, the process lives
			c.server.panicked("HTTP/2 connection", v, c.nc)
			err = connError{h2.ErrCodeInternal, "internal fault"}
		}
	}()
	c.within()
	if err := c.readPreface(); err != nil {
		return err
	}
	c.inTime()
	for {
		f, err := c.readFrame()
		if err == nil {
			err = c.onFrame(f)
		}
		var fault streamError
		if errors.As(err, &fault) {
			err = c.refuseStream(fault)
		}
		if err != nil {
			return err
		}
	}
}

func (c *serverConn) readPreface() error {
	var got [len(preface)]byte
	if _, err := io.ReadFull(c.in, got[:]); err != nil {
		return c.readFailed(err)
	}
	if string(got[:]) != preface {
		return connError{h2.ErrCodeProtocol, "bad preface"}
	}
	f, err := c.readFrame()
	if err != nil {
		return err
	}
	settings, ok := f.(*h2.SettingsFrame)
	if !ok || settings.IsAck() {
		return connError{h2.ErrCodeProtocol, "no SETTINGS behind the preface"}
	}
	return c.onSettings(settings)
}

// within gives the client HandshakeTimeout for the frames that are read until inTime.
func (c *serverConn) within() {
	c.timed = true
	c.readDeadline(c.set.HandshakeTimeout)
}

func (c *serverConn) inTime() {
	c.timed = false
	c.readDeadline(0)
}

// readFrame reads one frame; errors are of this package. What has begun has to come within HandshakeTimeout, but for DATA: a large frame of
// a slow upload may take longer, and its stream has its own deadline.
func (c *serverConn) readFrame() (h2.Frame, error) {
	slow, err := false, error(nil)
	if !c.timed {
		slow, err = c.begunSlowly()
	}
	if err != nil {
		return nil, c.readFailed(err)
	}
	f, err := readFrame(c.framer)
	if slow {
		c.readDeadline(0)
	}
	return f, c.readFailed(err)
}

// begunSlowly waits for a frame to begin and tells, with the deadline set, that it is not there as a whole. Errors beyond the first byte are
// the framer's to find.
func (c *serverConn) begunSlowly() (slow bool, err error) {
	if _, err := c.in.Peek(1); err != nil {
		return false, err
	}
	if c.in.Buffered() < frameHeaderSize {
		slow = true
		c.readDeadline(c.set.HandshakeTimeout)
	}
	head, err := c.in.Peek(frameHeaderSize)
	if err != nil {
		return slow, nil
	}
	length := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
	switch {
	case h2.FrameType(head[3]) == h2.FrameData:
		if slow {
			c.readDeadline(0)
		}
		return false, nil
	case !slow && c.in.Buffered() < frameHeaderSize+length:
		slow = true
		c.readDeadline(c.set.HandshakeTimeout)
	}
	return slow, nil
}

// readFailed is what an error of reading, or nil, means.
func (c *serverConn) readFailed(err error) error {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF): // of the connection, or of what is in a frame
		return connError{h2.ErrCodeFrameSize, "frame too short"}
	case errors.Is(err, os.ErrDeadlineExceeded):
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.closing {
			return connError{h2.ErrCodeSettingsTimeout, "the client is too slow"}
		}
	}
	return err
}

// readDeadline moves the deadline of the goroutine that reads; zero for none.
func (c *serverConn) readDeadline(after time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closing {
		return
	}
	at := time.Time{}
	if after > 0 {
		at = time.Now().Add(after)
	}
	_ = c.nc.SetReadDeadline(at)
}
