package admin

import (
	"container/list"
	"net"

	"github.com/valyala/fasthttp"
)

// Room for connections. Who connects and asks for nothing, or does not take the answer, costs nobody else theirs: where
// there are too many, the one that has waited longest makes room. A request that is under way is never cut for another.
const (
	maxRequests = 256              // under way at once on one listener
	maxConns    = maxRequests + 64 // so that the request that is one too many can be told
)

// makeRoom ends the connection that has waited longest for its client: for a request, or where nobody waits for one, for
// an answer to be taken. mu is held.
func (l *listener) makeRoom() {
	for _, waiting := range []*list.List{&l.asked, &l.answered} {
		if first := waiting.Front(); first != nil {
			c := first.Value.(*conn)
			l.forget(c)
			_ = c.Conn.Close()
			return
		}
	}
}

// forget ends the bookkeeping of a connection. mu is held.
func (l *listener) forget(c *conn) {
	if _, known := l.conns[c]; !known {
		return
	}
	delete(l.conns, c)
	c.move(nil)
}

// move puts a connection at the end of a list, nil while a request of it is under way. of.mu is held.
func (c *conn) move(to *list.List) {
	if c.in != nil {
		c.in.Remove(c.place)
	}
	c.in, c.place = to, nil
	if to != nil {
		c.place = to.PushBack(c)
	}
}

// begin is called when a whole request was read. ended: its connection has made room meanwhile, so nobody would hear
// the answer. busy: too many are under way.
func (c *conn) begin() (ended, busy bool) {
	l := c.of
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, known := l.conns[c]; !known {
		return true, false
	}
	if len(l.conns)-l.asked.Len()-l.answered.Len() >= maxRequests {
		c.move(&l.answered)
		return false, true
	}
	c.move(nil)
	return false, false
}

// await says what the connection waits for from now on: asked or answered.
func (c *conn) await(what *list.List) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if _, known := c.of.conns[c]; known {
		c.move(what)
	}
}

// stateOf is fasthttp's hook: an answer was taken.
func stateOf(nc net.Conn, state fasthttp.ConnState) {
	if state == fasthttp.StateIdle {
		c := nc.(*conn)
		c.await(&c.of.asked)
	}
}

// admit serves a request that there is room for.
func (s *Server) admit(ctx *fasthttp.RequestCtx, g *guard) {
	c := ctx.Conn().(*conn)
	switch ended, busy := c.begin(); {
	case ended:
		ctx.SetConnectionClose()
		return
	case busy:
		ctx.SetConnectionClose()
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "1")
		fail(fasthttp.StatusServiceUnavailable, "busy", "%d requests are under way here", maxRequests).write(ctx)
		return
	}
	s.serve(ctx, g)
	if !ctx.Response.IsBodyStream() { // the streams of events, of which there are few, stay under way to their end
		c.await(&c.of.answered)
	}
}
