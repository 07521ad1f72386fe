package http2

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"time"

	h2 "golang.org/x/net/http2"
)

const (
	inputSize = 4 << 10 // payloads that are larger are read past it
	// What a client is given to take the connection's last words, and to say its own.
	lingerTime = 250 * time.Millisecond
	lingerMost = 1 << 20
	// pingWait is how long the last stream of a connection that drains is waited for, when the client does not answer PING.
	// pongGrace is how long after its answer.
	pingWait  = time.Second
	pongGrace = 250 * time.Millisecond
)

// drainPing is the payload of the PING between the two GOAWAYs of a connection that drains.
var drainPing = [8]byte{'d', 'r', 'a', 'i', 'n'}

// serverConn is a client's connection. The goroutine that called Serve reads; another writes (link.write); each request has one.
type serverConn struct {
	link
	server *Server
	set    Settings
	handle func(*Stream)

	// Of the goroutine that reads.
	in     *bufio.Reader
	framer *h2.Framer
	fields *fieldDecoder
	timed  bool // a deadline is set for several frames

	handlers sync.WaitGroup // goroutines

	// Guarded by link.mu.
	running  int       // handlers
	pending  []*Stream // begun when one of those ends
	idleFrom time.Time // since when there is no request
	idling   *time.Timer
	draining bool // the first GOAWAY was sent
	leaving  bool // the last was: no stream after lastID is taken
	pinged   *time.Timer
	closing  bool // the reader is to return
}

func newServerConn(s *Server, nc net.Conn, set Settings, handle func(*Stream)) *serverConn {
	c := &serverConn{server: s, set: set, handle: handle}
	c.link.init(nc, set.StreamWindow, set.ConnWindow)
	c.timeout = set.WriteTimeout
	c.encodeHead = c.encodeResponse
	now := time.Now()
	c.noise, c.breaks = newAllowance(noiseBurst, noiseRate, now), newAllowance(max(breakBurst, 2*float64(set.MaxStreams)), breakRate, now)
	c.in = bufio.NewReaderSize(nc, inputSize)
	c.framer = h2.NewFramer(nil, c.in)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(maxFrame)
	c.fields = newFieldDecoder(set.MaxHeaderList)
	c.idleFrom = now
	return c
}

// serve is the life of the connection.
func (c *serverConn) serve(drain <-chan struct{}) {
	c.greet()
	go func() {
		defer func() {
			if v := recover(); v != nil {
				c.server.panicked("HTTP/2 writer", v, c.nc)
				_ = c.nc.Close()
			}
		}()
		c.write(drain, c.drain)
	}()
	err := c.readAll()
	if !c.hasLeft() {
		c.say(err)
		c.end(errors.Join(ErrGone, err))
	}
	<-c.written
	c.lastWords()
	_ = c.nc.Close()
	c.end(ErrGone)
	c.mu.Lock()
	for _, t := range []*time.Timer{c.idling, c.pinged} {
		if t != nil {
			t.Stop()
		}
	}
	c.mu.Unlock()
	c.handlers.Wait()
	c.server.log().Debug("HTTP/2 connection ended", "client", c.nc.RemoteAddr().String(), "why", err)
}

// greet is our preface (RFC 9113 §3.4).
func (c *serverConn) greet() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.control(256)
	c.out = appendSettings(c.out,
		h2.Setting{ID: h2.SettingMaxConcurrentStreams, Val: uint32(c.set.MaxStreams)},
		h2.Setting{ID: h2.SettingInitialWindowSize, Val: uint32(c.set.StreamWindow)},
		h2.Setting{ID: h2.SettingMaxHeaderListSize, Val: uint32(c.set.MaxHeaderList)})
	if more := c.set.ConnWindow - defaultWindow; more > 0 {
		c.out = appendWindowUpdate(c.out, 0, uint32(more))
	}
	c.idling = time.AfterFunc(c.set.IdleTimeout, c.lookIdle)
}

// say tells the client why the connection ends, if it is not the client that has ended it.
func (c *serverConn) say(err error) {
	code, why := h2.ErrCodeNo, ""
	var fault connError
	if errors.As(err, &fault) {
		code, why = fault.code, fault.why
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		return
	}
	c.control(8 + len(why))
	c.out = appendGoAway(c.out, c.lastID, code, why)
}

// lastWords gives the client a moment to read the last words: unread bytes would turn our close into a reset that takes them away.
func (c *serverConn) lastWords() {
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() != nil {
		return
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(lingerTime))
	_, _ = io.CopyN(io.Discard, c.nc, lingerMost)
}

// leave makes the goroutine that reads return once all is written. mu is held.
func (c *serverConn) leave() {
	c.closing = true
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
}

// hasLeft tells that leave has ended the connection.
func (c *serverConn) hasLeft() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closing
}

func (c *serverConn) onFrame(f h2.Frame) error {
	switch f := f.(type) {
	case *h2.DataFrame:
		return c.onData(f)
	case *h2.HeadersFrame:
		return c.onHeaders(f)
	case *h2.WindowUpdateFrame:
		return c.onWindowUpdate(f)
	case *h2.RSTStreamFrame:
		return c.onReset(f)
	case *h2.SettingsFrame:
		return c.onSettings(f)
	case *h2.PingFrame:
		if f.IsAck() {
			return c.onPong(f)
		}
		return c.onPing(f)
	case *h2.PushPromiseFrame:
		return connError{h2.ErrCodeProtocol, "PUSH_PROMISE from a client"}
	case *h2.PriorityFrame:
		if f.StreamDep == f.StreamID {
			return streamError{f.StreamID, h2.ErrCodeProtocol, "stream depends on itself"}
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.spendNoise(1)
}

// refuseStream resets a stream because of what the client has sent on it, or refuses to open it.
func (c *serverConn) refuseStream(fault streamError) error {
	c.mu.Lock()
	defer c.unlock()
	if err := c.spendBreak(); err != nil {
		return err
	}
	if c.controls++; c.controls > maxControls {
		return connError{h2.ErrCodeEnhanceYourCalm, "resets are not taken"}
	}
	c.resetStream(fault.id, c.streams[fault.id], fault.code, fault)
	return nil
}
