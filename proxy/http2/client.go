package http2

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// ErrUnprocessed is what a stream fails with of whose request the server said, or of which it is certain, that it was not looked at
// (RFC 9113 §8.7): whatever its method it can be sent again.
var ErrUnprocessed = errors.New("http2: request not processed")

// errRefused is the ErrUnprocessed of a stream that the server did not want though its connection goes on.
var errRefused = fmt.Errorf("%w: refused", ErrUnprocessed)

// ErrNotSpoken is Dial's for a server that was reached and does not speak HTTP/2.
var ErrNotSpoken = errors.New("http2: the server does not speak HTTP/2")

// errClientClosed is Dial's after Close.
var errClientClosed = errors.New("http2: client closed")

// ClientSettings bound the connections of a Client. Zero fields mean the defaults.
type ClientSettings struct {
	// Log gets panics; nil = slog.Default().
	Log *slog.Logger
	// Secure says that the connections are encrypted: the scheme is https.
	Secure bool
	// MaxStreams is how many requests are under way on one connection, if the server lets as many; 0 = 100.
	MaxStreams int
	// MaxConns is how many connections are open at once; beyond it Dial waits. 0 = 64.
	MaxConns int
	// StreamWindow is how many bytes of one response are held until they are read; 0 = 128 KiB. The connection's own window is as
	// large as those of all its streams, so that none waits for what another does not read.
	StreamWindow int
	// MaxHeaderList is the largest field list in bytes, 32 more for each field (RFC 9113 §6.5.2); 0 = 64 KiB.
	MaxHeaderList int
	// IdleTimeout is how long a connection without requests is kept; 0 = 4s, negative = not at all.
	IdleTimeout time.Duration
	// WriteTimeout bounds the silence of a server that takes nothing; 0 = 60s.
	WriteTimeout time.Duration
	// PingAfter is after how long of silence, while requests are under way, a server is asked whether it is there, and PingTimeout
	// how long it may take to say so; 0 = 15s and 5s. In one silence it is asked at once and then each five minutes: servers end
	// connections whose clients ask more often (gRPC's keepalive enforcement).
	PingAfter, PingTimeout time.Duration
}

func (s ClientSettings) filled() ClientSettings {
	orInt := func(v *int, def, least int) {
		if *v <= 0 {
			*v = def
		}
		*v = max(*v, least)
	}
	orTime := func(v *time.Duration, def time.Duration) {
		if *v == 0 {
			*v = def
		}
	}
	if s.Log == nil {
		s.Log = slog.Default()
	}
	orInt(&s.MaxStreams, 100, 1)
	orInt(&s.MaxConns, 64, 1)
	orInt(&s.StreamWindow, 128<<10, defaultWindow)
	orInt(&s.MaxHeaderList, 64<<10, 1<<10)
	orTime(&s.IdleTimeout, 4*time.Second)
	orTime(&s.WriteTimeout, time.Minute)
	orTime(&s.PingAfter, 15*time.Second)
	orTime(&s.PingTimeout, 5*time.Second)
	return s
}

// Client is the connections to one server. All methods may be called concurrently.
type Client struct {
	dial     func(ctx context.Context) (net.Conn, error)
	settings atomic.Pointer[ClientSettings]
	waiting  atomic.Int64 // for a stream

	mu       sync.Mutex // guards what follows
	conns    []*clientConn
	dialing  int
	expected int // of the last connection that was made: how many streams the server lets it have
	failures int
	failed   error         // of the last dial that failed
	changed  chan struct{} // closed and made anew when those who wait are to look again
	closed   bool
}

// NewClient makes a Client. dial makes a connection of which nothing was read or written, after TLS where that is wanted.
func NewClient(dial func(ctx context.Context) (net.Conn, error), set ClientSettings) *Client {
	c := &Client{dial: dial, changed: make(chan struct{})}
	c.Configure(set)
	c.expected = c.settings.Load().MaxStreams
	return c
}

// Configure sets what holds for the connections that are made from now on, and the time that all of them may be idle.
func (c *Client) Configure(set ClientSettings) {
	set = set.filled()
	c.settings.Store(&set)
}

// Conns is the number of open connections.
func (c *Client) Conns() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.conns)
}

// Dial gives a stream for one exchange, on a connection that has room for it or on a new one. It is a net.Conn to which a request is
// written, and from which its response is read, in the form of HTTP/1.1; the server hears of it with the first Write. Closing it before
// both are whole tells the server so (RST_STREAM). Its method Unprocessed tells that the server has not looked at the request, and Refused
// that this is no matter of the connection.
// Errors are those of the function that dials, or ctx's.
func (c *Client) Dial(ctx context.Context) (net.Conn, error) {
	if s, err := c.take(); s != nil || err != nil {
		return s.orNil(), err
	}
	c.waiting.Add(1) // before the next look: whoever makes room from here on tells
	defer c.waiting.Add(-1)
	seen := -1
	for {
		s, err := c.take()
		if s != nil || err != nil {
			return s.orNil(), err
		}
		c.mu.Lock()
		if seen < 0 {
			seen = c.failures
		} else if c.failures != seen {
			err := c.failed
			c.mu.Unlock()
			return nil, err
		}
		changed := c.changed
		c.dialMore(ctx)
		c.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// take gives a stream of a connection that has room.
func (c *Client) take() (*clientStream, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClientClosed
	}
	for _, conn := range c.conns {
		if s, err := conn.reserve(); err == nil {
			return s, nil
		}
	}
	return nil, nil
}

// dialMore begins a connection unless those begun already have room for all who wait. mu is held.
func (c *Client) dialMore(ctx context.Context) {
	set := c.settings.Load()
	if len(c.conns)+c.dialing >= set.MaxConns || c.dialing*max(c.expected, 1) >= int(c.waiting.Load()) {
		return
	}
	c.dialing++
	bound := context.WithoutCancel(ctx) // others may wait for it too
	cancel := context.CancelFunc(func() {})
	if at, ok := ctx.Deadline(); ok {
		bound, cancel = context.WithDeadline(bound, at)
	}
	go func() {
		defer cancel()
		var conn *clientConn
		err := guard(set.Log, "HTTP/2 dial", func() error {
			nc, err := c.dial(bound)
			if err == nil {
				conn, err = newClientConn(bound, nc, *set, c)
			}
			return err
		})
		c.dialed(conn, err)
	}()
}

// guard calls f, on a goroutine that is no request's, and makes of its panic an error: a connection is lost, the process lives.
func guard(log *slog.Logger, where string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			log.Error("panic", "in", where, "panic", v, "stack", string(debug.Stack()))
			err = fmt.Errorf("%w: internal fault: %v", ErrGone, v)
		}
	}()
	return f()
}

func (c *Client) dialed(conn *clientConn, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dialing--
	switch {
	case err != nil:
		c.failures++
		c.failed = err
	case c.closed:
		conn.leave()
	default:
		c.conns = append(c.conns, conn)
		c.expected = conn.most()
	}
	c.tell()
}

// tell wakes those who wait. mu is held.
func (c *Client) tell() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// room is called when a connection has room again, or takes no more requests and is gone.
func (c *Client) room(conn *clientConn, gone bool) {
	if !gone && c.waiting.Load() == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if gone {
		c.conns = slices.DeleteFunc(c.conns, func(o *clientConn) bool { return o == conn })
	}
	c.tell()
}

// Close ends the connections with the last of their streams. Dial fails from now on.
func (c *Client) Close() {
	c.mu.Lock()
	c.closed = true
	conns := slices.Clone(c.conns)
	c.tell()
	c.mu.Unlock()
	for _, conn := range conns {
		conn.leave()
	}
}

// Single makes of nc a connection for one request, which is closed with it: what a health check needs. It closes nc when it fails, as
// it does when the server lets no request come.
func Single(ctx context.Context, nc net.Conn, set ClientSettings) (net.Conn, error) {
	conn, err := newClientConn(ctx, nc, set.filled(), nil)
	if err != nil {
		return nil, err
	}
	s, err := conn.reserve()
	conn.leave() // with s, or now
	return s.orNil(), err
}
