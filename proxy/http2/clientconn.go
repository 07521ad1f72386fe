package http2

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	h2 "golang.org/x/net/http2"
)

// lastOpened is the number of the last stream that is opened on a connection: there are none behind 2^31-1.
const lastOpened = maxStreamID - 1<<10

// clientConn is a connection to a server. One goroutine reads, another writes (link.write).
type clientConn struct {
	link
	pool *Client // nil: of Single
	set  ClientSettings

	// Of the goroutine that reads.
	in     *bufio.Reader
	framer *h2.Framer
	fields *fieldDecoder

	heard atomic.Int64 // Unix ns: when a frame came
	told  atomic.Int64 // Unix ns: when one came that belongs to a message

	// Guarded by link.mu.
	held    int  // streams that were given out and not closed
	limit   int  // how many there may be
	leaving bool // no more are given out
	idling  *time.Timer
	pinging *time.Timer
	pinged  time.Time // zero: not since the last frame of a message
}

// newClientConn shakes hands on nc: it returns when the server's SETTINGS have come. It closes nc when it fails.
func newClientConn(ctx context.Context, nc net.Conn, set ClientSettings, pool *Client) (*clientConn, error) {
	c := &clientConn{pool: pool, set: set, limit: set.MaxStreams}
	c.link.init(nc, set.StreamWindow, set.StreamWindow*set.MaxStreams)
	c.timeout = set.WriteTimeout
	c.encodeHead = c.encodeRequest
	c.client = true
	now := time.Now()
	// Large uploads make a server say much about windows.
	c.noise, c.breaks = newAllowance(100*noiseBurst, 100*noiseRate, now), newAllowance(10*breakBurst, 10*breakRate, now)
	c.in = bufio.NewReaderSize(nc, inputSize)
	c.framer = h2.NewFramer(nil, c.in)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.fields = newFieldDecoder(set.MaxHeaderList)
	c.note(true)

	stop := context.AfterFunc(ctx, func() { _ = nc.SetReadDeadline(time.Unix(1, 0)) })
	c.greet()
	go func() {
		if err := guard(set.Log, "HTTP/2 writer to a server", c.writeAll); err != nil {
			_ = nc.Close() // the reader ends with it
		}
	}()
	err := guard(set.Log, "HTTP/2 handshake", c.readFirst)
	if !stop() || err != nil {
		c.fail(errors.Join(ErrGone, err))
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if _, understood := errors.AsType[connError](err); understood {
			return nil, fmt.Errorf("%w: %w", ErrNotSpoken, err)
		}
		return nil, fmt.Errorf("HTTP/2 handshake: %w", err)
	}
	go func() { c.fail(guard(set.Log, "HTTP/2 reader from a server", c.readAll)) }()
	return c, nil
}

// greet is our preface (RFC 9113 §3.4).
func (c *clientConn) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control(256)
	c.out = append(c.out, preface...)
	c.out = appendSettings(c.out,
		h2.Setting{ID: h2.SettingEnablePush, Val: 0},
		h2.Setting{ID: h2.SettingInitialWindowSize, Val: uint32(c.set.StreamWindow)},
		h2.Setting{ID: h2.SettingMaxHeaderListSize, Val: uint32(c.set.MaxHeaderList)})
	if more := c.recv.size - defaultWindow; more > 0 {
		c.out = appendWindowUpdate(c.out, 0, uint32(more))
	}
}

func (c *clientConn) readFirst() error {
	f, err := c.readFrame()
	if err != nil {
		return err
	}
	settings, ok := f.(*h2.SettingsFrame)
	if !ok || settings.IsAck() {
		return connError{h2.ErrCodeProtocol, "no SETTINGS to begin with"}
	}
	return c.onServerSettings(settings)
}

func (c *clientConn) writeAll() error {
	c.write(nil, nil)
	return nil
}

// readAll reads frames until the connection ends.
func (c *clientConn) readAll() error {
	for {
		f, err := c.readFrame()
		if err == nil {
			err = c.onFrame(f)
		}
		var fault streamError
		if errors.As(err, &fault) {
			err = c.refuse(fault)
		}
		if err != nil {
			return err
		}
	}
}

// note remembers that a frame came; message tells that it belongs to a message.
func (c *clientConn) note(message bool) {
	now := time.Now().UnixNano()
	c.heard.Store(now)
	if message {
		c.told.Store(now)
	}
}

// fail ends the connection. Responses that have come whole can still be read.
func (c *clientConn) fail(err error) {
	var fault connError
	c.mu.Lock()
	if !c.over && errors.As(err, &fault) {
		c.control(8 + len(fault.why))
		c.out = appendGoAway(c.out, 0, fault.code, fault.why)
	}
	if errors.As(err, &fault) {
		err = &BadResponse{fault.why}
	}
	for _, s := range c.streams {
		if s.whole() {
			c.stop(s)
		}
	}
	c.leaving = true
	for _, t := range []*time.Timer{c.idling, c.pinging} {
		if t != nil {
			t.Stop()
		}
	}
	c.mu.Unlock()
	c.end(err)
	<-c.written
	_ = c.nc.Close()
	if c.pool != nil {
		c.pool.room(c, true)
	}
}

// BadResponse is what a stream fails with when its server breaks the protocol: nothing of what it has sent is to be believed.
type BadResponse struct {
	// Why says in words what was wrong; it holds no bytes of the message.
	Why string
}

// Error implements error.
func (e *BadResponse) Error() string { return "http2: bad response: " + e.Why }

// Malformed is Why.
func (e *BadResponse) Malformed() string { return e.Why }

// stop ends what is written to a stream whose response has come whole. mu is held.
func (l *link) stop(s *Stream) {
	s.stopped = true
	l.remove(s)
	s.writable.Broadcast()
}

// readFrame reads one frame; errors are of this package or of the connection.
func (c *clientConn) readFrame() (h2.Frame, error) {
	f, err := readFrame(c.framer)
	var fault connError
	switch {
	case err == nil:
		is := f.Header().Type
		c.note(is == h2.FrameData || is == h2.FrameHeaders)
		return f, nil
	case err == io.EOF:
		return nil, ErrGone
	case errors.As(err, &fault), errors.As(err, new(streamError)):
		return nil, err
	}
	return nil, errors.Join(ErrGone, err)
}

func (c *clientConn) onFrame(f h2.Frame) error {
	switch f := f.(type) {
	case *h2.DataFrame:
		return c.onData(f)
	case *h2.HeadersFrame:
		return c.onHeaders(f)
	case *h2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *h2.RSTStreamFrame:
		return c.onServerReset(f)
	case *h2.SettingsFrame:
		return c.onServerSettings(f)
	case *h2.GoAwayFrame:
		return c.onGoAway(f)
	case *h2.PingFrame:
		if !f.IsAck() {
			return c.onPing(f)
		}
	case *h2.PushPromiseFrame:
		return connError{h2.ErrCodeProtocol, "PUSH_PROMISE, which was switched off"}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spendNoise(1)
}

func (c *clientConn) onServerSettings(f *h2.SettingsFrame) error {
	if err := c.onSettings(f); err != nil || f.IsAck() {
		return err
	}
	most, ok := f.Value(h2.SettingMaxConcurrentStreams)
	if !ok {
		return nil
	}
	c.mu.Lock()
	more := int(min(most, uint32(c.set.MaxStreams))) > c.limit
	c.limit = int(min(most, uint32(c.set.MaxStreams)))
	c.mu.Unlock()
	if more && c.pool != nil {
		c.pool.room(c, false)
	}
	return nil
}

// onServerReset ends a stream (RFC 9113 §7, §8.1): REFUSED_STREAM says that the request was not processed, unless an answer to it has
// begun, and any code behind a whole response that the rest of the request is not wanted.
func (c *clientConn) onServerReset(f *h2.RSTStreamFrame) error {
	c.mu.Lock()
	defer c.unlock()
	if c.idle(f.StreamID) {
		return connError{h2.ErrCodeProtocol, "RST_STREAM on an idle stream"}
	}
	s := c.streams[f.StreamID]
	switch {
	case s == nil:
		return c.spendNoise(1)
	case s.whole():
		c.stop(s)
	case f.ErrCode == h2.ErrCodeRefusedStream && !s.answered() && c.leaving: // as a part of its leaving
		c.lose(s, ErrUnprocessed)
	case f.ErrCode == h2.ErrCodeRefusedStream && !s.answered():
		c.lose(s, errRefused)
	default:
		c.lose(s, reset{f.ErrCode})
	}
	return nil
}

// onGoAway takes the server's word for it that streams above the last one were not processed (RFC 9113 §6.8), but of those that it has
// begun to answer.
func (c *clientConn) onGoAway(f *h2.GoAwayFrame) error {
	c.mu.Lock()
	c.leaving = true
	for id, s := range c.streams {
		if id > f.LastStreamID && !s.answered() {
			c.lose(s, ErrUnprocessed)
		}
	}
	if c.held == 0 && c.err == nil {
		c.goodbye()
	}
	c.unlock()
	if c.pool != nil {
		c.pool.room(c, true)
	}
	return nil
}

// refuse resets a stream because of what the server has sent on it. From a response that is whole that takes nothing away, and it is no
// break: it would be up to who comes first, the reader of the response or the surplus.
func (c *clientConn) refuse(fault streamError) error {
	c.mu.Lock()
	defer c.unlock()
	if c.controls++; c.controls > maxControls {
		return connError{h2.ErrCodeEnhanceYourCalm, "resets are not taken"}
	}
	s := c.streams[fault.id]
	if s != nil && s.whole() {
		c.resetStream(fault.id, nil, fault.code, nil)
		c.stop(s)
		return nil
	}
	if err := c.spendBreak(); err != nil {
		return err
	}
	switch {
	case s != nil:
		c.resetStream(fault.id, s, fault.code, &BadResponse{fault.why})
	case !c.wasReset(fault.id):
		c.resetStream(fault.id, nil, fault.code, nil)
	}
	return nil
}
