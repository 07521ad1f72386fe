package proxy

import (
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/proxy/http1"
)

// answer serves a route that has no upstream: a redirect or a fixed response.
func (x *Exchange) answer() {
	x.done = true
	if r := x.route.redirect; r != nil {
		x.status = r.status
		in := append(appendStatus(x.in[:0], r.status), "Location: "...)
		in = r.append(in, x.head.Host(), x.head.Target(), x.head.Path())
		x.in = append(in, "\r\n"...)
		x.respond(nil)
		return
	}
	r := x.route.respond
	x.status = r.Status
	in := appendStatus(x.in[:0], r.Status)
	if edited(x.route.response, "Content-Type") == nil && r.Body != "" {
		in = append(append(append(in, "Content-Type: "...), r.ContentType...), "\r\n"...)
	}
	x.in = in
	x.line = append(x.line[:0], r.Body...)
	x.respond(x.line)
}

// respond sends the head in x.in with sluice's own fields and the route's edits, and body.
func (x *Exchange) respond(body []byte) {
	x.in = append(time.Now().UTC().AppendFormat(append(x.in, "Date: "...), "Mon, 02 Jan 2006 15:04:05 GMT"), "\r\n"...)
	x.in = x.appendHSTS(x.in)
	if x.route != nil {
		x.in = appendEdits(x.in, x.route.response)
	}
	length := int64(len(body))
	if x.isHead() || x.status == 204 || x.status == 304 {
		if x.isHead() {
			x.in = append(strconv.AppendInt(append(x.in, "Content-Length: "...), length, 10), "\r\n"...)
		}
		length = http1.BodyNone
	}
	err := x.conn.WriteHead(x.in, length)
	if err == nil && length > 0 {
		_, err = x.conn.Write(body)
	}
	if err == nil {
		err = x.conn.Finish(nil)
	}
	if err != nil {
		x.note(clientClosed)
		x.conn.Abort()
	}
}

// appendStatus writes a status line (RFC 9112 §4).
func appendStatus(dst []byte, status int) []byte {
	dst = strconv.AppendInt(append(dst, "HTTP/1.1 "...), int64(status), 10)
	return append(append(append(dst, ' '), fasthttp.StatusMessage(status)...), "\r\n"...)
}

// appendEdits writes the fields that edits set.
func appendEdits(dst []byte, edits []edit) []byte {
	for i := range edits {
		dst = append(dst, edits[i].line...)
	}
	return dst
}

// appendStickyCookie binds the client to the server that answers (RFC 6265).
func (x *Exchange) appendStickyCookie(dst []byte) []byte {
	dst = append(append(append(dst, "Set-Cookie: "...), x.sticky.Cookie...), '=')
	dst = strconv.AppendUint(dst, x.server.StickyID(), 36)
	dst = append(dst, "; Path=/; HttpOnly; SameSite=Lax"...)
	if x.sticky.TTL > 0 {
		dst = strconv.AppendInt(append(dst, "; Max-Age="...), int64(x.sticky.TTL/time.Second), 10)
	}
	if x.conn.TLS() {
		dst = append(dst, "; Secure"...)
	}
	return append(dst, "\r\n"...)
}
