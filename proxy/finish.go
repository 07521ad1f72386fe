package proxy

import (
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// finish passes the response on. Its head is sent with the first bytes of the body.
func (x *Exchange) finish() {
	h, idle := x.response, x.route.upstream.Timeouts().Idle
	x.status = h.Status()
	length := http1.BodyChunked
	switch {
	case x.isHead() || x.status == 101 || x.status == 204 || x.status == 304:
		length = http1.BodyNone
	case h.ContentLength() >= 0:
		length = h.ContentLength()
	}
	x.buildResponse()
	if err := x.conn.WriteHead(x.in, length); err != nil {
		x.cut(err)
		return
	}
	if x.status == 101 {
		x.tunnel(idle)
		return
	}
	var first func()
	if x.server.Learns() {
		first = x.first
	}
	x.subject = subject{} // lies in a buffer that CopyBody may give back
	x.prompt = x.up.Body().Received()
	x.up.WhenWhole(x.whole)
	x.up.Body().RefuseTrailers(x.route.inResponse)
	if _, err := x.conn.CopyBody(x.up, idle, first); err != nil {
		x.cut(err)
		return
	}
	var trailers []byte
	if x.up != nil {
		trailers = x.up.Body().Trailers()
		x.answered()
	}
	if err := x.conn.Finish(trailers); err != nil {
		x.note(clientClosed)
	}
}

// answered lets go of the server, which has given all of its response. The client may still have to take the last bytes.
func (x *Exchange) answered() {
	if !x.prompt {
		x.readClock()
		x.prompt = true
	}
	x.up.Release(x.now)
	x.up = nil
	x.release(balancer.Outcome{Status: x.status})
}

// answering tells the balancer that the first bytes of a body have come.
func (x *Exchange) answering() { x.route.upstream.FirstByte(&x.ticket, time.Now()) }

// dropFromResponse leaves out of a head, also an interim one, what concerns the server's connection or is for the route to say.
func (x *Exchange) dropFromResponse(h *http1.Head) {
	edits, hsts := x.route.response, x.hasHSTS()
	h.DropHopByHop()
	for i := range h.Len() {
		// Only sluice says why sluice answers.
		if name := h.Name(i); isName(name, "x-sluice-reason") || len(edits) > 0 && edited(edits, name) != nil ||
			hsts && isName(name, "strict-transport-security") {
			h.Drop(i)
		}
	}
}

// buildResponse makes the head for the client.
func (x *Exchange) buildResponse() {
	h, edits := x.response, x.route.response
	x.dropFromResponse(h)
	in := append(append(x.in[:0], h.StatusLine()...), "\r\n"...)
	in = h.AppendKept(in)
	in = x.appendHSTS(appendEdits(in, edits))
	if x.sticky != nil && x.ticket.Sticky != x.server.StickyID() {
		in = x.appendStickyCookie(in)
	}
	if x.status == 101 {
		in = append(in, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	x.in = in
}

// tunnel passes a WebSocket's bytes both ways until one end closes. The slot stays taken.
func (x *Exchange) tunnel(idle time.Duration) {
	if err := x.conn.Flush(); err != nil {
		x.cut(err)
		return
	}
	x.conn.Tunnel(x.up, idle)
	x.up.Close()
	x.up = nil
	x.release(balancer.Outcome{Status: 101})
}

func (x *Exchange) isHead() bool { return string(x.head.Method()) == "HEAD" }
