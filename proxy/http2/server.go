package http2

import (
	"log/slog"
	"net"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Settings bound a connection of a Server. Zero fields mean the defaults.
type Settings struct {
	// MaxStreams is how many requests a client may have under way; 0 = 250.
	MaxStreams int
	// StreamWindow and ConnWindow are how many bytes of request bodies are held until they are read, of one stream and of all
	// of a connection; 0 = 64 KiB and 1 MiB. Less than 64 KiB - 1 is not possible.
	StreamWindow, ConnWindow int
	// MaxHeaderList is the largest field list in bytes, 32 more for each field (RFC 9113 §6.5.2); 0 = 32 KiB. A request with
	// more is answered 431.
	MaxHeaderList int
	// HandshakeTimeout bounds the wait for the preface and the first SETTINGS, for the rest of a frame, but DATA, and of a header block; 0 = 10s.
	HandshakeTimeout time.Duration
	// IdleTimeout is how long a connection without requests is kept; 0 = 75s.
	IdleTimeout time.Duration
	// WriteTimeout bounds the silence of a client that takes nothing; 0 = 60s.
	WriteTimeout time.Duration
}

func (s Settings) filled() Settings {
	orInt := func(v *int, def, least int) {
		if *v <= 0 {
			*v = def
		}
		*v = max(*v, least)
	}
	orTime := func(v *time.Duration, def time.Duration) {
		if *v <= 0 {
			*v = def
		}
	}
	orInt(&s.MaxStreams, 250, 1)
	orInt(&s.StreamWindow, 64<<10, defaultWindow)
	orInt(&s.ConnWindow, 1<<20, defaultWindow)
	orInt(&s.MaxHeaderList, 32<<10, 1<<10)
	orTime(&s.HandshakeTimeout, 10*time.Second)
	orTime(&s.IdleTimeout, 75*time.Second)
	orTime(&s.WriteTimeout, time.Minute)
	return s
}

// Server is the receiving end of HTTP/2 connections. The zero value is ready.
type Server struct {
	// Log gets panics of handlers, and at its debug level why connections were ended; nil = slog.Default().
	Log *slog.Logger

	settings atomic.Pointer[Settings] // nil: the defaults
	once     sync.Once
	spare    chan job // to a goroutine that waits for another stream; made by the first Serve
	spares   atomic.Int64
}

// Configure sets what holds for the connections that come from now on.
func (s *Server) Configure(set Settings) {
	set = set.filled()
	s.settings.Store(&set)
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

// panicked logs what was recovered from.
func (s *Server) panicked(where string, what any, nc net.Conn) {
	s.log().Error("panic", "in", where, "panic", what, "client", nc.RemoteAddr().String(), "stack", string(debug.Stack()))
}

// Serve serves nc, whose first bytes are to be the client's preface, until it is over, and closes it. Each request is a Stream
// that handle gets in a goroutine of its own; it ends when handle returns, after which nobody may use it. When drain, which may be
// nil, is closed the client is told to go elsewhere, and the connection ends with the last of its streams. Serve returns when
// all its handlers have.
func (s *Server) Serve(nc net.Conn, drain <-chan struct{}, handle func(*Stream)) {
	s.once.Do(func() { s.spare = make(chan job) })
	set := s.settings.Load()
	if set == nil {
		defaults := Settings{}.filled()
		set = &defaults
	}
	newServerConn(s, nc, *set, handle).serve(drain)
}

// job is a stream for a goroutine that handles streams.
type job struct {
	conn   *serverConn
	stream *Stream
}

// A goroutine whose stream has ended waits a moment for another, of whatever connection: growing a stack each time costs more than
// all that is allocated.
const (
	maxSpare  = 64
	spareWait = time.Second
)

// start handles a stream in a goroutine of its own. The plain version: go s.run(j).
func (s *Server) start(j job) {
	select {
	case s.spare <- j:
	default:
		go s.run(j)
	}
}

// run handles streams, one after the other, as long as they come.
func (s *Server) run(j job) {
	var wait *time.Timer
	for {
		for next := j.stream; next != nil; next = j.conn.handled(next) {
			j.conn.handleStream(next)
		}
		j.conn.handlers.Done()
		j = job{} //nolint:wastedassign // what it holds is let go of for as long as this waits
		if s.spares.Add(1) > maxSpare {
			s.spares.Add(-1)
			return
		}
		if wait == nil {
			wait = time.NewTimer(spareWait)
		} else {
			wait.Reset(spareWait)
		}
		select {
		case j = <-s.spare:
			s.spares.Add(-1)
			wait.Stop()
		case <-wait.C:
			s.spares.Add(-1)
			return
		}
	}
}

func (c *serverConn) handleStream(s *Stream) {
	defer func() {
		if v := recover(); v != nil {
			c.server.panicked("HTTP/2 handler", v, c.nc)
		}
		_ = s.Close() // a second time is no fault
	}()
	c.handle(s)
}
