package proxy

import (
	"bytes"
	"net/netip"
	"strconv"
	"unsafe"

	"sluice/proxy/http1"
)

// identify finds who the client is: the peer, or behind trusted proxies the last address that none of
// them is. The zero Addr is somebody who came over a Unix socket.
func (x *Exchange) identify() {
	x.peer = x.conn.RemoteAddr().Addr().Unmap().WithZone("")
	x.client = x.peer
	trusted := x.table.trusted
	if x.trusted = len(trusted) > 0 && http1.Within(trusted, x.peer); x.trusted {
		x.client = clientBehind(x.head, trusted, x.peer)
	}
}

// clientBehind reads X-Forwarded-For from right to left: each proxy appended the peer that it saw, so what
// stands left of an untrusted address was written by the client itself. Forwarded (RFC 7239) is passed on
// but not read: proxies that write it write X-Forwarded-For as well.
func clientBehind(head *http1.Head, trusted []netip.Prefix, peer netip.Addr) netip.Addr {
	client := peer
	for i := head.Len() - 1; i >= 0; i-- {
		if !bytes.EqualFold(head.Name(i), []byte("X-Forwarded-For")) {
			continue
		}
		rest := head.Value(i)
		for len(rest) > 0 {
			last := rest
			if at := bytes.LastIndexByte(rest, ','); at >= 0 {
				last, rest = rest[at+1:], rest[:at]
			} else {
				rest = nil
			}
			addr, ok := parseNode(bytes.TrimSpace(last))
			if !ok {
				return client
			}
			client = addr
			if !http1.Within(trusted, addr) {
				return client
			}
		}
	}
	return client
}

// unixNode stands where the address of a client on a Unix socket would, as with nginx.
const unixNode = "unix:"

// appendNode writes an address as it stands in X-Forwarded-For and in logs.
func appendNode(dst []byte, addr netip.Addr) []byte {
	if !addr.IsValid() {
		return append(dst, unixNode...)
	}
	return addr.AppendTo(dst)
}

// parseNode reads an address with or without port: 1.2.3.4, 1.2.3.4:56, ::1, [::1] or [::1]:56; or unixNode, the zero Addr.
func parseNode(b []byte) (netip.Addr, bool) {
	if string(b) == unixNode {
		return netip.Addr{}, true
	}
	if len(b) > 1 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return netip.Addr{}, false
		}
		b = b[1:end]
	} else if bytes.Count(b, []byte(":")) == 1 {
		b = b[:bytes.IndexByte(b, ':')]
	}
	if len(b) == 0 || len(b) > 45 || bytes.IndexByte(b, '%') >= 0 {
		return netip.Addr{}, false
	}
	// The address keeps nothing of the text and the error is dropped, so the string may alias the head.
	addr, err := netip.ParseAddr(unsafe.String(&b[0], len(b)))
	return addr.Unmap(), err == nil
}

// prepare makes the head for the server: the client's fields but for those of its own connection and
// those that say who it is, the edits of the route, and what sluice knows of the client. It is made once
// and sent as often as the request is tried.
func (x *Exchange) prepare() {
	h, r := x.head, x.route
	h.DropHopByHop()
	x.sift()
	out := x.out[:0]
	out = append(out, h.Method()...)
	out = append(out, ' ')
	out = r.target(out, h.Target(), h.Path(), x.subject.path)
	out = append(out, " HTTP/1.1\r\n"...)
	if host := edited(r.request, "Host"); host != nil && host.line != nil {
		out = append(out, host.line...)
	} else {
		out = append(out, "Host: "...)
		out = append(out, h.Host()...)
		out = append(out, "\r\n"...)
	}
	hop := x.takeHop()
	out = h.AppendKept(out)
	out = append(out, hop...)
	out = x.appendForwarded(out)
	out = x.appendClientCert(out)
	for i := range r.request {
		if e := &r.request[i]; e.line != nil && e.lower != "host" {
			out = append(out, e.line...)
		}
	}
	switch {
	case h.Websocket():
		out = append(out, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case h.TrailersAccepted():
		out = append(out, "Connection: TE\r\nTE: trailers\r\n"...)
	}
	if h.Chunked() {
		out = append(out, "Transfer-Encoding: chunked\r\n"...)
	}
	x.out = append(out, "\r\n"...)
}

// sift drops the fields that sluice writes itself or answers itself, and remembers where those of a
// trusted proxy stand.
func (x *Exchange) sift() {
	h, own := x.head, &x.own
	*own = ownFields{proto: -1, host: -1, port: -1, forwarded: -1}
	for i := range h.Len() {
		name := h.Name(i)
		drop := false
		switch len(name) {
		case len("Host"):
			drop = isName(name, "host")
		case len("Expect"):
			drop = isName(name, "expect")
		case len("Forwarded"): // X-Real-IP is as long
			if isName(name, "forwarded") {
				own.forwarded, drop = i, true
			} else {
				drop = isName(name, "x-real-ip")
			}
		case len("X-Request-ID"):
			drop = isName(name, "x-request-id")
		}
		drop = drop || tellsOfClient(name)
		if !drop && len(name) >= len("X-Forwarded-") && isName(name[:len("X-Forwarded-")], "x-forwarded-") {
			drop = x.siftForwarded(i, name[len("X-Forwarded-"):])
		}
		if drop || edited(x.route.request, name) != nil {
			h.Drop(i)
		}
	}
}

// siftForwarded tells whether field i, an X-Forwarded-kind, is replaced.
func (x *Exchange) siftForwarded(i int, kind []byte) bool {
	own := &x.own
	switch {
	case isName(kind, "for"):
		own.hasFor = true
	case isName(kind, "proto") && own.proto < 0:
		own.proto = i
	case isName(kind, "host") && own.host < 0:
		own.host = i
	case isName(kind, "port") && own.port < 0:
		own.port = i
	default: // a second one of those, or another such as X-Forwarded-Prefix
		return !x.trusted || isName(kind, "proto") || isName(kind, "host") || isName(kind, "port")
	}
	return true
}

// ownFields are the positions of fields that a trusted proxy may have set; -1 is none.
type ownFields struct {
	proto, host, port, forwarded int
	hasFor                       bool
}

// appendForwarded writes X-Forwarded-*, X-Real-IP, X-Request-Id and, when the client had one, Forwarded
// (RFC 7239).
func (x *Exchange) appendForwarded(out []byte) []byte {
	h, own := x.head, &x.own
	if x.writes("X-Forwarded-For") {
		out = append(out, "X-Forwarded-For: "...)
		if x.trusted && own.hasFor {
			for i := range h.Len() {
				if isName(h.Name(i), "x-forwarded-for") {
					out = append(append(out, h.Value(i)...), ", "...)
				}
			}
		}
		out = append(appendNode(out, x.peer), "\r\n"...)
	}
	if own.proto >= 0 && !isScheme(h.Value(own.proto)) {
		own.proto = -1 // even a trusted proxy may pass on what its client wrote
	}
	if own.host >= 0 && !plainHost(h.Value(own.host)) {
		own.host = -1
	}
	if own.port >= 0 && !plainPort(h.Value(own.port)) {
		own.port = -1
	}
	if x.writes("X-Forwarded-Proto") {
		out = x.appendOwn(out, "X-Forwarded-Proto: ", own.proto, []byte(x.scheme()))
	}
	if x.writes("X-Forwarded-Host") {
		out = x.appendOwn(out, "X-Forwarded-Host: ", own.host, h.Host())
	}
	if x.writes("X-Forwarded-Port") && (x.peer.IsValid() || x.trusted && own.port >= 0) { // a Unix socket has none
		var port [5]byte
		out = x.appendOwn(out, "X-Forwarded-Port: ", own.port, strconv.AppendUint(port[:0], uint64(x.conn.LocalAddr().Port()), 10))
	}
	if x.writes("X-Real-IP") {
		out = append(out, "X-Real-IP: "...)
		out = append(appendNode(out, x.client), "\r\n"...)
	}
	if own.forwarded >= 0 && x.writes("Forwarded") {
		out = append(out, "Forwarded: "...)
		if x.trusted {
			for i := range h.Len() {
				if isName(h.Name(i), "forwarded") {
					out = append(append(out, h.Value(i)...), ", "...)
				}
			}
		}
		out = append(out, `for="`...)
		switch {
		case x.peer.Is6():
			out = append(x.peer.AppendTo(append(out, '[')), ']')
		case x.peer.IsValid():
			out = x.peer.AppendTo(out)
		default:
			out = append(out, "unknown"...) // RFC 7239 §6.2
		}
		out = append(append(out, `";host="`...), h.Host()...)
		out = append(append(append(out, `";proto=`...), x.scheme()...), "\r\n"...)
	}
	if x.writes("X-Request-Id") {
		out = append(append(append(out, "X-Request-Id: "...), x.id...), "\r\n"...)
	}
	return out
}

// writes tells that the route does not set or remove that field itself.
func (x *Exchange) writes(name string) bool {
	return len(x.route.request) == 0 || edited(x.route.request, name) == nil
}

// appendOwn writes a field with the value of field i when a trusted proxy sent it, else with value.
func (x *Exchange) appendOwn(out []byte, name string, i int, value []byte) []byte {
	if x.trusted && i >= 0 {
		value = x.head.Value(i)
	}
	return append(append(append(out, name...), value...), "\r\n"...)
}

func (x *Exchange) scheme() string {
	if x.conn.TLS() {
		return "https"
	}
	return "http"
}

// isScheme accepts what X-Forwarded-Proto may say, a chain of proxies included ("https, http").
func isScheme(value []byte) bool {
	for one := range bytes.SplitSeq(value, []byte(",")) {
		one = bytes.TrimSpace(one)
		if !isName(one, "http") && !isName(one, "https") && !isName(one, "ws") && !isName(one, "wss") {
			return false
		}
	}
	return true
}

// plainHost accepts host[:port] or a list of them: no space inside, no control, nothing that ends a host.
func plainHost(value []byte) bool {
	for one := range bytes.SplitSeq(value, []byte(",")) {
		one = bytes.TrimSpace(one)
		if len(one) == 0 || bytes.ContainsAny(one, " \t/@\\\"<>") {
			return false
		}
	}
	return true
}

// plainPort accepts a port or a list of them.
func plainPort(value []byte) bool {
	for one := range bytes.SplitSeq(value, []byte(",")) {
		if _, err := strconv.ParseUint(string(bytes.TrimSpace(one)), 10, 16); err != nil {
			return false
		}
	}
	return true
}

// edited finds the edit of a field, or nil.
func edited[T string | []byte](edits []edit, name T) *edit {
	for i := range edits {
		if isName(name, edits[i].lower) {
			return &edits[i]
		}
	}
	return nil
}

// isName compares a field name with one in lower case.
func isName[T string | []byte](name T, is string) bool {
	if len(name) != len(is) {
		return false
	}
	for i := range len(is) {
		if lower(name[i]) != is[i] {
			return false
		}
	}
	return true
}
