package http1

import (
	"bytes"
	"errors"
	"strconv"
)

// Lengths for WriteHead.
const (
	// BodyChunked: the length is not known; chunked for HTTP/1.1 clients, ended by the connection for HTTP/1.0.
	BodyChunked int64 = -1
	// BodyNone: no body follows, whatever the head says.
	BodyNone int64 = -2
)

var (
	errShortHead    = errors.New("http1: not a response head")
	continueHead    = []byte("HTTP/1.1 100 Continue\r\n\r\n")
	lengthField     = []byte("Content-Length: ")
	chunkedField    = []byte("Transfer-Encoding: chunked\r\n")
	closeField      = []byte("Connection: close\r\n")
	keepAliveField  = []byte("Connection: keep-alive\r\n")
	faultSlow       = &ProtocolError{Status: 408, Reason: reasonIdleTimeout, Detail: "the request head did not come in time"}
	statusLineStart = len("HTTP/1.1 200")
)

// Continue sends 100 Continue if the client waits for it. Reading the body and UpConn.Send do so by themselves.
func (c *Conn) Continue() error {
	if !c.expect || c.started {
		return nil
	}
	c.expect = false
	c.out.take()
	c.out.held = append(c.out.held, continueHead...)
	c.heads += int64(len(continueHead))
	return c.flush()
}

// WriteInterim forwards a 1xx response: its complete head, final empty line included. It is dropped for HTTP/1.0 clients, and
// when it is a 100, which is for Continue to say.
func (c *Conn) WriteInterim(head []byte) error {
	if c.started {
		return ErrHeadSent
	}
	if len(head) < statusLineStart+2 {
		return errShortHead
	}
	if c.head.Minor() == 0 || string(head[9:12]) == "100" {
		return nil
	}
	c.out.take()
	before := len(c.out.held)
	dst, rest := appendStatus(c.out.held, head)
	c.out.held = append(dst, rest...)
	c.heads += int64(len(c.out.held) - before)
	return c.flush()
}

// WriteHead gives the response head: status line and field lines, each with its CRLF, without the final empty line and without
// framing fields other than Content-Length. length is the number of body bytes that follow, BodyChunked or BodyNone; the
// framing fields and Connection are added as needed. Nothing is sent before the first Write, Flush or Finish.
func (c *Conn) WriteHead(head []byte, length int64) error {
	if c.started {
		return ErrHeadSent
	}
	if len(head) < statusLineStart+2 {
		return errShortHead
	}
	status := int(head[9]-'0')*100 + int(head[10]-'0')*10 + int(head[11]-'0')
	minor := c.head.Minor()
	if c.refused {
		minor = 1
	}
	isHead := string(c.head.Method()) == "HEAD"
	c.bodyless = isHead || status < 200 || status == 204 || status == 304
	c.closing = c.closing || !c.head.KeepAlive() || c.server.draining.Load() || c.bodyUnwanted(status)

	declared, from, to := findLength(head)
	keep := to > 0
	switch {
	case status < 200 || status == 204:
		keep, length = false, BodyNone
	case c.bodyless: // HEAD, 304: what the length would have been, if it is known
		if keep || status == 304 {
			length = BodyNone
		}
	case length == BodyNone:
		keep, length = keep && declared == 0, 0
	case length == BodyChunked:
		keep = false
		c.closing = c.closing || minor == 0
	case keep && declared != length:
		return ErrBodyLength
	}
	c.started = true
	c.sized, c.left = !c.bodyless && length >= 0, max(length, 0)

	c.out.take()
	dst, rest := appendStatus(c.out.held, head)
	cut := len(head) - len(rest)
	from, to, head = from-cut, to-cut, rest
	switch {
	case keep || from < 0 || to <= from:
		dst = append(dst, head...)
	default:
		dst = append(append(dst, head[:from]...), head[to:]...)
	}
	if length >= 0 && !keep {
		dst = strconv.AppendInt(append(dst, lengthField...), length, 10)
		dst = append(dst, crlf...)
	}
	if status != 101 {
		if length == BodyChunked && !c.bodyless && minor == 1 {
			c.out.chunked = true
			dst = append(dst, chunkedField...)
		}
		switch {
		case c.closing:
			dst = append(dst, closeField...)
		case minor == 0:
			dst = append(dst, keepAliveField...)
		}
	}
	dst = append(dst, crlf...)
	c.heads += int64(len(dst) - len(c.out.held))
	c.out.held = dst
	return nil
}

// appendStatus appends "HTTP/1.1 200 " when head has no reason and so left out the space before it, which is not optional, and gives what
// is to follow.
func appendStatus(dst, head []byte) (out, rest []byte) {
	if head[statusLineStart] != '\r' {
		return dst, head
	}
	return append(append(dst, head[:statusLineStart]...), ' '), head[statusLineStart:]
}

// bodyUnwanted tells that a request body was left alone, or is answered early, and is not worth reading: the connection closes after the
// response, which can still say so.
func (c *Conn) bodyUnwanted(status int) bool {
	b := &c.body
	if b.lent { // a server that answers before it has read all of it may still do so, unless it refuses the request
		return status >= 300 && !c.head.chunked && c.head.length-b.read.Load() > drainLimit
	}
	if b.eof {
		return false
	}
	if c.expect || b.err != nil {
		return true
	}
	return b.read.Load() == 0 && b.Remaining() > drainLimit
}

// findLength finds a Content-Length line: its value, where it starts and where the next line does; 0, -1, 0 without one.
func findLength(head []byte) (value int64, from, to int) {
	const name = "content-length:"
	for at := 0; at < len(head); {
		end := bytes.IndexByte(head[at:], '\n')
		if end < 0 {
			break
		}
		line := head[at : at+end+1]
		if (line[0] == 'C' || line[0] == 'c') && hasPrefixFold(line, name) {
			n, ok := parseLength(trimOWS(bytes.TrimRight(line[len(name):], "\r\n")))
			if !ok {
				n = -1
			}
			return n, at, at + len(line)
		}
		at += end + 1
	}
	return 0, -1, 0
}

// Write sends body bytes at once, together with the head if that is still held. Bytes of a response that has no body (HEAD, 204,
// 304) are dropped. ErrBodyLength when there are more than declared; else errors are ErrClient.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.put(p); err != nil {
		return 0, err
	}
	if err := c.flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// put is Write without the flush of what is short.
func (c *Conn) put(p []byte) error { return c.putBoth(p, nil) }

// putBoth puts p and q; q may be empty.
func (c *Conn) putBoth(p, q []byte) error {
	drop, err := c.account(len(p) + len(q))
	if drop || err != nil {
		return err
	}
	if len(q) == 0 || c.out.chunked {
		if err = c.out.put(p); err == nil {
			err = c.out.put(q)
		}
	} else {
		err = c.out.putBoth(p, q)
	}
	if err != nil {
		return c.writeFailed(err)
	}
	return nil
}

// account counts n body bytes that are to be written; drop tells that the response has no body.
func (c *Conn) account(n int) (drop bool, err error) {
	switch {
	case !c.started:
		return false, ErrNotStarted
	case c.ended || c.finished || c.broken:
		return false, ErrClosed
	case c.bodyless:
		return true, nil
	case c.sized && int64(n) > c.left:
		return false, ErrBodyLength
	case c.sized:
		c.left -= int64(n)
	}
	return false, nil
}

// Flush sends the head if it is still held.
func (c *Conn) Flush() error { return c.flush() }

func (c *Conn) flush() error {
	if err := c.out.flush(); err != nil {
		return c.writeFailed(err)
	}
	return nil
}

func (c *Conn) writeFailed(err error) error {
	c.broken = true
	if isTimeout(err) {
		err = ErrIdleTimeout
	}
	return ErrClient{err}
}

// Finish ends the response; trailers are complete field lines that follow a chunked body. When fewer bytes were written than
// declared the connection is aborted, so that the cut shows. What is left of the request body is read after Handle returns, up
// to 64 KiB, or the connection is closed.
func (c *Conn) Finish(trailers []byte) error {
	switch {
	case !c.started:
		return ErrNotStarted
	case c.ended || c.finished:
		return ErrClosed
	case c.broken:
		c.Abort()
		return ErrClosed
	case c.sized && c.left > 0:
		c.Abort()
		return ErrBodyLength
	}
	c.out.end(trailers)
	if err := c.flush(); err != nil {
		c.Abort()
		return err
	}
	c.finished = true
	return nil
}

// answer is a bare response of our own, for what never reaches the handler.
func (c *Conn) answer(status int, reason, detail string) {
	body := make([]byte, 0, 128)
	body = append(body, reason...)
	body = append(body, ": "...)
	body = append(body, detail...)
	body = append(body, '\n')
	head := append([]byte(nil), statusLine(status)...)
	head = append(head, "Content-Type: text/plain; charset=utf-8\r\nX-Sluice-Reason: "...)
	head = append(head, reason...)
	head = append(head, crlf...)
	if status == 405 {
		head = append(head, "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n"...)
	}
	if c.WriteHead(head, int64(len(body))) == nil {
		if err := c.put(body); err != nil {
			c.Abort()
			return
		}
		_ = c.Finish(nil) // a client that does not take the refusal is closed either way
	}
}

func statusLine(status int) string {
	switch status {
	case 400:
		return "HTTP/1.1 400 Bad Request\r\n"
	case 405:
		return "HTTP/1.1 405 Method Not Allowed\r\n"
	case 408:
		return "HTTP/1.1 408 Request Timeout\r\n"
	case 417:
		return "HTTP/1.1 417 Expectation Failed\r\n"
	case 431:
		return "HTTP/1.1 431 Request Header Fields Too Large\r\n"
	case 505:
		return "HTTP/1.1 505 HTTP Version Not Supported\r\n"
	}
	return "HTTP/1.1 500 Internal Server Error\r\n"
}
