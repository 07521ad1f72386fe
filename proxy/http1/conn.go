package http1

import (
	"bytes"
	"net"
	"net/netip"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Conn is one client connection, at one request at a time. All methods but Gone and BytesOut belong to the goroutine
// that called Handler.Handle, and to the time until Handle returns.
type Conn struct {
	// Data is the handler's own state of this connection; it stays from request to request.
	Data any

	server  *Server
	nc      net.Conn
	socket  net.Conn        // as it was accepted: what nc, encrypted or not, ends in
	raw     syscall.RawConn // of socket; nil where there is none
	origin  Origin
	opener  Opener // nil: ready as it comes
	sealed  bool   // what it makes is encrypted
	stream  bool   // one request of a connection that another Conn counts
	mayTurn bool   // to HTTP/2: no request was received yet
	turned  bool   // it has

	in       input
	out      output
	*message // of the request; nil while the connection waits for one

	// of the request under way
	started  bool          // WriteHead was called
	finished bool          // Finish was called and all went well
	ended    bool          // Abort or Tunnel: nothing more can be written
	bodyless bool          // the response has no body, whatever is written
	sized    bool          // left counts
	left     int64         // of the declared length
	closing  bool          // the connection does not live on
	broken   bool          // a write failed
	refused  bool          // the request's head was not accepted
	expect   bool          // 100 Continue is owed before the body is read
	mark     int64         // out.written when the request began
	heads    int64         // bytes of the response's heads, interim ones included
	now      time.Duration // uptime as the handler told it last, unless something was waited for since; 0: it did not

	// Requests that need no further read are served inside of the wait for them, see inside.
	inside   func(fd uintptr) bool // insideFD, made once
	within   bool                  // in that callback: nothing may read from nc or close it
	short    bool                  // the last read took all there was
	received bool                  // the request at hand has been received within, and is served without
	over     bool                  // the connection is to be closed
	lingers  bool                  // and before that to be read on

	watch watch
	fresh bool // counted in server.fresh
	gone  atomic.Bool

	mu       sync.Mutex // guards what follows
	idle     bool       // waits for a request; its read deadline may be moved by lameDuck and shed
	kept     bool       // waits for another request
	moved    bool       // by shed
	drained  bool       // waits for an edge alone: clientLeft must wake it
	handling bool       // a request is under way: goneFunc may be called
	stalled  bool       // the client does not take what the server sends
	tunnel   bool
	down     *relay   // from the server, once a tunnel passes bytes
	carrier  *carrier // once it speaks HTTP/2
	goneFunc func()
}

func newConn(s *Server, nc net.Conn, o Origin) *Conn {
	c := &Conn{server: s, nc: nc, socket: nc, origin: o}
	c.in.init(nc)
	c.raw = c.in.raw
	c.out.init(nc, c.in.raw)
	c.out.timeout = s.settings().BodyTimeout
	c.inside = c.insideFD
	return c
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}

func endpoints(nc net.Conn) (remote, local netip.AddrPort) {
	if known, ok := nc.(interface {
		endpoints() (remote, local netip.AddrPort)
	}); ok {
		return known.endpoints()
	}
	return addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
}

// Head is the request's head, valid until Handle returns; slices that it gave before CopyBody are not valid after it.
func (c *Conn) Head() *Head { return &c.head }

// Body is the request's body.
func (c *Conn) Body() *Body { return &c.body }

// Origin says who the client is and how its connection came. It does not change between requests.
func (c *Conn) Origin() *Origin { return &c.origin }

// RemoteAddr is the client's address; IPv4 is never in its IPv6 form.
func (c *Conn) RemoteAddr() netip.AddrPort { return c.origin.Remote }

// LocalAddr is the address that the client connected to.
func (c *Conn) LocalAddr() netip.AddrPort { return c.origin.Local }

// Listener is the name of the listener.
func (c *Conn) Listener() string { return c.origin.Listener }

// TLS tells that the client's bytes come encrypted.
func (c *Conn) TLS() bool { return c.origin.TLS != nil }

// Started tells that the response head was given to WriteHead.
func (c *Conn) Started() bool { return c.started }

// CloseAfter ends the connection after this response and says so in it when it has not begun.
func (c *Conn) CloseAfter() { c.closing = true }

// BytesIn is the number of bytes received of the current request, head and body payload, also while its body is sent on by a goroutine.
func (c *Conn) BytesIn() int64 { return int64(len(c.head.buf)) + c.body.read.Load() }

// BytesOut is the number of bytes of the current response, interim ones and framing included, that were handed to the kernel.
func (c *Conn) BytesOut() int64 { return c.out.written.Load() - c.mark }

// BodyOut is the part of BytesOut that follows the heads: the body with its framing, as nginx counts it.
func (c *Conn) BodyOut() int64 { return max(0, c.BytesOut()-c.heads) }

// SetNow tells the connection what time it is at the end of Handle, which it need not find out then.
func (c *Conn) SetNow(t time.Time) { c.now = uptimeAt(t) }

// SetGone sets the function that is called, from another goroutine, when the client has left while one of its requests is under way,
// which begins a little before Handle is called and ends a little after it has returned. It must not block, and stays set for the
// connection's life.
func (c *Conn) SetGone(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.goneFunc = f
}

// Gone tells that the client has closed its side or the connection broke. Any goroutine may ask.
func (c *Conn) Gone() bool { return c.gone.Load() }

// CutByShutdown tells that Shutdown cuts what is under way: the client need not have left. Any goroutine may ask.
func (c *Conn) CutByShutdown() bool { return c.server.cutting.Load() }

// clientLeft is called by the watcher.
func (c *Conn) clientLeft() {
	c.gone.Store(true)
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.recovered("client watch")
	if c.drained {
		_ = c.nc.SetReadDeadline(longAgo)
	}
	if c.handling && c.goneFunc != nil {
		c.goneFunc()
		if c.stalled {
			c.out.stop()
		}
	}
}

// serve is the life of the connection.
func (c *Conn) serve() {
	defer c.close()
	defer c.recovered("connection")
	if !c.open() {
		return
	}
	for first := true; c.await(first) && c.request(); first = false {
	}
	if c.turned {
		c.serveHTTP2(unreadConn{c.nc, bytes.NewReader(bytes.Clone(c.in.b[:c.in.end]))})
	}
}

// request serves one request whose first bytes are there; false when the connection is to be closed.
func (c *Conn) request() bool {
	c.server.active.Add(1)
	defer c.server.active.Add(-1)
	received := c.received
	c.received = false
	return (received || c.receive()) && c.handle() && c.settle()
}

// await waits for the first byte of a request; false when none will come. It holds no buffers meanwhile. Where the system allows it,
// the requests that come are served inside of the wait, as long as they need no further read.
func (c *Conn) await(first bool) bool {
	in := &c.in
	if c.rest(first) {
		return true
	}
	var err error
	if edges && in.raw != nil && c.watch.possible() {
		err = c.serveInside()
	} else {
		if in.raw == nil { // it holds a buffer while it waits: a small one
			in.b = takeBuffer(slowSize)
		}
		err = in.first(keepDeadline)
	}
	if c.over {
		if c.lingers {
			c.linger()
		}
		return false
	}
	if err != nil && (!isTimeout(err) || !in.poll()) {
		return false
	}
	c.wake()
	return true
}

// rest makes the connection ready to wait for a request; true when the next one has been read already (pipelined).
func (c *Conn) rest(first bool) bool {
	in := &c.in
	if in.b != nil {
		in.recycle()
		if in.end > 0 {
			return true
		}
	}
	c.forget()
	c.out.release()
	in.release()

	now := c.now
	if c.now = 0; now == 0 {
		now = uptime()
	}
	timeout := c.server.settings().KeepAlive
	if first {
		timeout = c.server.settings().HeaderTimeout
	}
	c.mu.Lock()
	c.idle, c.kept, c.handling = true, !first, false
	c.drained = edges && in.raw != nil
	if draining := c.server.draining.Load(); draining {
		in.deadline.unknown()
		timeout = c.server.grace()
	}
	in.deadline.readFrom(now, c.nc, timeout)
	c.mu.Unlock()
	return false
}

// forget lets go of the request. Nobody may use its head or body any more.
func (c *Conn) forget() {
	giveMessage(c.message)
	c.message = nil
}

// wake ends rest, if that was begun: a request is under way.
func (c *Conn) wake() {
	c.mu.Lock()
	moved := c.moved
	c.idle, c.kept, c.moved, c.drained, c.handling = false, false, false, false, true
	c.mu.Unlock()
	if moved || c.server.draining.Load() || c.gone.Load() {
		c.in.deadline.unknown() // lameDuck or clientLeft may have moved it
	}
}

// busy tells that a request or a tunnel is under way; of a connection of HTTP/2 its requests are. mu is held.
func (c *Conn) busy() bool {
	if c.carrier != nil {
		return c.carrier.busy()
	}
	return !c.idle && (c.handling || c.tunnel)
}

// lameDuck gives an idle connection until at; a request that comes by then is answered with Connection: close. One of HTTP/2 is told.
func (c *Conn) lameDuck(at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.idle {
		_ = c.nc.SetReadDeadline(at)
	}
	if c.carrier != nil {
		c.carrier.end()
	}
}

// shed ends a connection that waits for another request, unless that has come; false when it does not wait.
func (c *Conn) shed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.carrier != nil {
		return c.carrier.shed(uptime())
	}
	if !c.kept || c.moved {
		return false
	}
	c.moved = true
	_ = c.nc.SetReadDeadline(longAgo)
	return true
}

// agree ends the time that a connection is fresh.
func (c *Conn) agree() {
	if c.fresh {
		c.fresh = false
		c.server.fresh.Add(-1)
	}
}

// handle gives the request to the handler; false when it panicked.
func (c *Conn) handle() (returned bool) {
	defer c.recovered("handler")
	c.server.Handler.Handle(c)
	return true
}

// recovered ends the connection when its goroutine panics: that request is lost, the process lives.
func (c *Conn) recovered(where string) {
	if v := recover(); v != nil {
		c.panicked(where, v)
		c.cut()
	}
}

// panicked logs what was recovered from.
func (c *Conn) panicked(where string, what any) {
	c.server.log().Error("panic", "in", where, "panic", what, "client", c.origin.Remote.String(), "stack", string(debug.Stack()))
}
