package http1

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Handler answers requests. Handle is called once per request by the connection's own goroutine and ends the exchange with
// Conn.Finish, Abort or Tunnel before it returns.
type Handler interface {
	Handle(c *Conn)
}

// Server is the front of a gateway; it serves any number of listeners. Its fields are set before the first Serve and not
// changed after; Configure changes what a reload may.
type Server struct {
	Handler Handler
	Limits  Limits
	// HeaderTimeout bounds the time from the first byte of a request head to its last, and the wait for the first byte of a
	// new connection. BodyTimeout bounds the silence of a client that sends a body or takes a response. KeepAlive is how
	// long an idle connection is kept. 0 = no bound.
	HeaderTimeout, BodyTimeout, KeepAlive time.Duration
	// MaxConns bounds the open connections; 0 = as many as the process's descriptors allow, which they always do (room.go).
	MaxConns int
	// Grace is how long a connection must have been silent during Shutdown before it is closed; 0 = 2s.
	Grace time.Duration
	// Log gets panics and failing listeners; nil = slog.Default().
	Log *slog.Logger
	// Refuse answers a request whose head was not accepted, as a Handler would; Connection: close is decided already and
	// Head holds only what was understood. nil = a bare answer with the reason code.
	Refuse func(c *Conn, err *ProtocolError)
	// HTTP2 serves a connection of HTTP/2 until its end: one on which TLS has agreed on it, or whose first bytes are the preface,
	// which nc gives once more. It gives each request to ServeStream; once drain is closed it takes no new ones and ends
	// when those under way have. nil = HTTP/2 is refused.
	HTTP2 func(nc net.Conn, o Origin, drain <-chan struct{})

	changed  atomic.Pointer[Settings] // by Configure; nil before
	draining atomic.Bool
	cutting  atomic.Bool // Shutdown cuts what is left
	active   atomic.Int64
	fresh    atomic.Int64 // connections that have not begun their first request
	slow     atomic.Int64 // active ones that wait for the rest of a head
	spare    chan *Conn   // to a goroutine that waits for another connection; made by the first Serve
	spares   atomic.Int64 // how many wait

	mu        sync.Mutex // guards what follows
	conns     map[*Conn]struct{}
	listeners map[net.Listener]struct{}
	empty     chan struct{} // closed when the last connection is gone; made by Shutdown
	accepted  recently
}

const defaultGrace = 2 * time.Second

// lastWords is how long Shutdown waits for the handlers of what it has cut: they count and log it.
const lastWords = time.Second

func (s *Server) grace() time.Duration {
	if s.Grace > 0 {
		return s.Grace
	}
	return defaultGrace
}

func (s *Server) log() *slog.Logger {
	if s.Log != nil {
		return s.Log
	}
	return slog.Default()
}

// Conns are the open connections and those of them that have a request or a tunnel under way.
func (s *Server) Conns() (open, active int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), int(s.active.Load())
}

func (s *Server) start(nc net.Conn, l NamedListener) {
	remote, local := endpoints(nc)
	c := newConn(s, nc, Origin{Listener: l.Name, Remote: remote, Local: local})
	c.opener, c.sealed = l.Open, l.Encrypted
	c.mayTurn = s.HTTP2 != nil
	c.startWatch()
	c.fresh = true
	s.fresh.Add(1)
	s.mu.Lock()
	if s.conns == nil {
		s.conns = map[*Conn]struct{}{}
	}
	s.conns[c] = struct{}{}
	s.accepted.add(uptime())
	s.mu.Unlock()
	select {
	case s.spare <- c:
	default:
		go s.serveConns(c)
	}
}

// A goroutine whose connection has ended waits a moment for another: where each request brings a new one, growing a stack each time
// costs more than all that is allocated.
const (
	maxSpare  = 64
	spareWait = time.Second
)

// serveConns serves connections, one after the other, as long as they come. The plain version: go c.serve().
func (s *Server) serveConns(c *Conn) {
	var wait *time.Timer
	for {
		c.serve()
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
		case c = <-s.spare:
			s.spares.Add(-1)
			wait.Stop()
		case <-wait.C:
			s.spares.Add(-1)
			return
		}
	}
}

func (s *Server) remove(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	if s.empty != nil && len(s.conns) == 0 && len(s.listeners) == 0 {
		close(s.empty)
		s.empty = nil
	}
}

// Shutdown is the lame duck: connections are still taken for a moment, every response from now on says Connection: close, an
// idle connection is closed once it has been silent for Grace, listeners are closed when their backlog is empty, tunnels and
// requests under way are waited for. When ctx ends first the rest is cut (WebSockets get close code 1001), its handlers have a second
// to return, and the error is a *CutError if anything was under way. It is called once.
func (s *Server) Shutdown(ctx context.Context) error {
	s.draining.Store(true)
	end := time.Now().Add(s.grace())
	s.mu.Lock()
	for c := range s.conns {
		c.lameDuck(end)
	}
	for l := range s.listeners {
		// With connections open, clients are at work, and new ones may be on their way.
		acceptAtOnce(l)
		if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
			at := time.Now().Add(lastAccept)
			if len(s.conns) > 0 {
				at = at.Add(s.grace())
			}
			_ = d.SetDeadline(at)
		} else {
			_ = l.Close()
		}
	}
	empty := make(chan struct{})
	if len(s.conns) == 0 && len(s.listeners) == 0 {
		close(empty)
	} else {
		s.empty = empty
	}
	s.mu.Unlock()

	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		err := s.cutAll()
		select {
		case <-empty:
		case <-time.After(lastWords):
		}
		return err
	}
}

func (s *Server) cutAll() error {
	s.cutting.Store(true) // before any handler hears of it
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		_ = l.Close()
	}
	cut, until := 0, time.Now().Add(10*time.Millisecond)
	for c := range s.conns {
		c.mu.Lock()
		busy, tunnel, down := c.busy(), c.tunnel, c.down
		c.mu.Unlock()
		if busy {
			cut++
		}
		if tunnel && c.sayGoingAway(down, until) {
			_ = c.nc.Close()
		} else {
			c.cutFromOutside()
		}
		c.clientLeft() // whatever the handler waits for is in vain
	}
	if cut == 0 {
		return nil
	}
	return &CutError{Conns: cut}
}

func isClosed(err error) bool { return errors.Is(err, net.ErrClosed) }
