package http1

import (
	"bytes"
	"crypto/tls"
	"net"
	"net/netip"
	"time"
)

// Origin says who is at the other end of a connection, and how it came.
type Origin struct {
	// Listener is the name of the listener: NamedListener.Name or else its address.
	Listener string
	// Remote is the client's address and Local the one that it connected to; IPv4 is never in its IPv6 form. They are those
	// of the socket unless an Opener knows better (PROXY protocol). Not valid where the socket has none (Unix sockets).
	Remote, Local netip.AddrPort
	// TLS is the state after the handshake; nil without encryption.
	TLS *tls.ConnectionState
	// HTTP2 tells that the request comes from a stream of HTTP/2, in the form of HTTP/1.1.
	HTTP2 bool

	carrier *carrier // of the stream; nil when Server.HTTP2 was not given it
}

// Opener makes of an accepted connection what requests are read from: it reads a PROXY protocol's header, or shakes hands. It is called
// once, in the connection's own goroutine, with an Origin to be corrected, and sets the deadlines that it needs itself. An error closes
// the connection; nobody else logs it. What it returns must close nc when it is closed.
// With NamedListener.Encrypted nc stands before the accepted connection, and what is written must be so to nc when Write returns.
type Opener func(nc net.Conn, o *Origin) (net.Conn, error)

// stream is what ServeStream may be given: a connection that knows when its client has left.
type stream interface {
	// WhenGone sets what is called, once and from any goroutine, when the client has left.
	WhenGone(f func())
}

// preface is how a connection of HTTP/2 begins (RFC 9113 §3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// open makes the connection ready for its first request; false when it is to be closed. Connections whose listener has no Opener
// are ready as they come.
func (c *Conn) open() bool {
	if c.opener == nil {
		return true
	}
	accepted := c.nc
	if c.sealed && c.raw != nil {
		c.out.spill = newSpill(c.nc, c.raw)
		accepted = c.out.spill
	}
	nc, err := c.opener(accepted, &c.origin)
	if err != nil {
		return false
	}
	if nc == accepted {
		nc, c.out.spill = c.nc, nil
	}
	c.mayTurn = c.mayTurn && c.origin.TLS == nil
	if nc != c.nc {
		c.mu.Lock() // cutFromOutside may look at it
		c.nc = nc
		c.mu.Unlock()
		c.in.init(nc)
		c.out.init(nc, c.in.raw)
	}
	c.in.deadline.unknown()
	if t := c.origin.TLS; t != nil && t.NegotiatedProtocol == "h2" && c.server.HTTP2 != nil {
		c.serveHTTP2(nc)
		return false
	}
	return true
}

// asksHTTP2 tells that the first bytes received can only become a client's preface.
func asksHTTP2(b []byte) bool {
	n := min(len(b), len(preface))
	return n >= len("PRI") && string(b[:n]) == preface[:n]
}

// serveHTTP2 gives the connection, of which nothing was read that nc does not give, to Server.HTTP2.
func (c *Conn) serveHTTP2(nc net.Conn) {
	c.agree()
	c.server.active.Add(1)
	defer c.server.active.Add(-1)
	_ = nc.SetDeadline(time.Time{})
	k := newCarrier()
	c.mu.Lock()
	c.carrier = k
	c.mu.Unlock()
	if c.server.draining.Load() { // Shutdown may have looked before
		k.end()
	}
	o := c.origin
	o.carrier = k
	c.server.HTTP2(nc, o, k.drain)
}

// unreadConn gives what was read of a connection already once more.
type unreadConn struct {
	net.Conn
	unread *bytes.Reader
}

func (c unreadConn) Read(p []byte) (int, error) {
	if c.unread.Len() > 0 {
		return c.unread.Read(p)
	}
	return c.Conn.Read(p)
}

// ServeStream serves one request, whose form in HTTP/1.1 is read from nc, and returns when it has ended and nc is closed. The stream's
// connection is the one that Server.HTTP2 was given; it alone is counted and waited for.
func (s *Server) ServeStream(nc net.Conn, o Origin) {
	if k := o.carrier; k != nil {
		k.begun()
		defer k.ended()
	}
	c := newConn(s, nc, o)
	c.stream = true
	c.startWatch()
	if w, ok := nc.(stream); ok {
		w.WhenGone(c.clientLeft)
	}
	defer c.close()
	defer c.recovered("stream")
	if c.await(true) {
		c.request()
	}
}
