package http1

import (
	"bytes"
	"net/netip"
)

var (
	faultRequestLine = badRequest("malformed request line")
	faultMethod      = badRequest("bad byte in the method")
	faultTarget      = badRequest("bad byte in the request target")
	faultFragment    = badRequest("fragment in the request target")
	faultForm        = badRequest("request target of no known form")
	faultScheme      = badRequest("scheme other than http or https")
	faultUserinfo    = badRequest("userinfo in the authority")
	faultAuthority   = badRequest("bad host")
	faultNoHost      = badRequest("no Host field")
	faultHosts       = badRequest("more than one Host field")
	faultVersion     = &ProtocolError{Status: 505, Reason: reasonBadRequest, Detail: "version other than HTTP/1.0 and HTTP/1.1"}
	faultConnect     = &ProtocolError{Status: 405, Reason: reasonMethodNotAllowed, Detail: "CONNECT"}
	faultExpect      = &ProtocolError{Status: 417, Reason: reasonBadRequest, Detail: "Expect other than 100-continue"}
)

// ParseRequest checks the request head at the start of buf and returns its length in bytes. ErrMore when buf does not hold
// all of it and nothing is wrong so far; else a *ProtocolError after which the connection cannot be used further. One empty
// line before the request line is skipped (RFC 9112 §2.2). h refers to buf; for an absolute-form target without a path, bytes
// of it are moved by one place.
func (h *Head) ParseRequest(buf []byte, lim Limits) (n int, err error) {
	h.reset()
	pos, absolute, err := h.requestLine(buf)
	if err == nil {
		h.fields, n, err = scanFields(buf, pos, h.fields, lim.maxFields())
	}
	if err != nil {
		h.refused(buf)
		return 0, tooLarge(err, len(buf), lim)
	}
	h.buf = buf[:n:n]
	if n > lim.maxHead() {
		return 0, faultTooLarge
	}
	if fault := h.framing(); fault != nil {
		return 0, fault
	}
	if fault := h.hostAndExpect(absolute); fault != nil {
		return 0, fault
	}
	h.websocket = h.websocket && h.minor == 1 && !h.HasBody() && string(h.Method()) == "GET"
	return n, nil
}

// refused leaves what was understood of a head, for the log.
func (h *Head) refused(buf []byte) {
	h.buf = buf
	if h.method.to < h.method.from {
		h.method = span{}
	}
	if h.target.to < h.target.from {
		h.target, h.query = span{}, -1
	}
}

// requestLine reads method SP target SP version CRLF (RFC 9112 §3) and returns the offset of the first field line.
func (h *Head) requestLine(b []byte) (pos int, absolute bool, err error) {
	i := 0
	if len(b) > 0 && b[0] == '\r' {
		if len(b) < 3 {
			if len(b) == 2 && b[1] != '\n' {
				return 0, false, faultBareCR
			}
			return 0, false, ErrMore
		}
		if b[1] != '\n' {
			return 0, false, faultBareCR
		}
		i = 2
	}
	h.method.from = i
	for i < len(b) && class[b[i]]&tokenByte != 0 {
		i++
	}
	if i == len(b) {
		return 0, false, ErrMore
	}
	if h.method.to = i; i == h.method.from || b[i] != ' ' {
		return 0, false, controlFault(b[i], faultMethod)
	}
	i++
	h.target.from = i
	for i < len(b) && class[b[i]]&targetByte != 0 {
		if b[i] == '?' && h.query < 0 {
			h.query = i
		}
		i++
	}
	if i == len(b) {
		return 0, false, ErrMore
	}
	if h.target.to = i; i == h.target.from || b[i] != ' ' {
		if b[i] == '#' {
			return 0, false, faultFragment
		}
		if b[i] == '\r' {
			return 0, false, faultRequestLine // HTTP/0.9, or a bare CR
		}
		return 0, false, controlFault(b[i], faultTarget)
	}
	i++
	const version = "HTTP/1.1\r\n"
	if len(b)-i < len(version) {
		return 0, false, shortVersion(b[i:])
	}
	switch v := b[i : i+8]; {
	case string(v) == "HTTP/1.1":
		h.minor = 1
	case string(v) == "HTTP/1.0":
		h.minor = 0
	case string(v[:5]) == "HTTP/" && isDigit(v[5]) && v[6] == '.' && isDigit(v[7]) && b[i+8] == '\r' && b[i+9] == '\n':
		return 0, false, faultVersion
	default:
		return 0, false, faultRequestLine
	}
	if b[i+8] != '\r' {
		return 0, false, controlFault(b[i+8], faultRequestLine)
	}
	if b[i+9] != '\n' {
		return 0, false, faultBareCR
	}
	pos = i + len(version)

	method := b[h.method.from:h.method.to]
	if string(method) == "CONNECT" {
		return 0, false, faultConnect
	}
	target := b[h.target.from:h.target.to]
	switch {
	case target[0] == '/':
	case len(target) == 1 && target[0] == '*' && string(method) == "OPTIONS":
	case hasPrefixFold(target, "http://"), hasPrefixFold(target, "https://"):
		if fault := h.authority(target); fault != nil {
			return 0, false, fault
		}
		absolute = true
	case bytes.Contains(target, []byte("://")):
		return 0, false, faultScheme
	default:
		return 0, false, faultForm
	}
	return pos, absolute, nil
}

// shortVersion tells a version that may still become valid from one that cannot.
func shortVersion(b []byte) error {
	for i, c := range b {
		switch {
		case c == '\n':
			return faultBareLF
		case i < 5 && c != "HTTP/"[i]:
			return faultRequestLine
		}
	}
	return ErrMore
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// authority checks the authority of an absolute-form target (RFC 9112 §3.2.2).
func (h *Head) authority(target []byte) *ProtocolError {
	start := bytes.IndexByte(target, ':') + 3
	end := start
	for end < len(target) && target[end] != '/' && target[end] != '?' {
		end++
	}
	if fault := checkHost(target[start:end]); fault != nil {
		return fault
	}
	h.host = span{h.target.from + start, h.target.from + end}
	return nil
}

// reduce makes origin form of an absolute-form target. Without a path one byte has to be made for it: the authority moves to
// the left over a slash of "://" and leaves its last place to '/' — or '*' for OPTIONS (RFC 9112 §3.2.4).
func (h *Head) reduce() {
	if h.host.to < h.target.to && h.buf[h.host.to] == '/' {
		h.target.from = h.host.to
		return
	}
	copy(h.buf[h.host.from-1:], h.buf[h.host.from:h.host.to])
	h.host.from--
	h.host.to--
	h.target.from = h.host.to
	h.buf[h.target.from] = '/'
	if h.query < 0 && string(h.Method()) == "OPTIONS" {
		h.buf[h.target.from] = '*'
	}
}

// hostAndExpect checks the fields that only requests have.
func (h *Head) hostAndExpect(absolute bool) *ProtocolError {
	for i := range h.fields {
		switch h.fields[i].kind {
		case kindHost:
			if h.hostField >= 0 {
				return faultHosts
			}
			h.hostField = i
			if fault := checkHost(h.Value(i)); fault != nil {
				return fault
			}
		case kindExpect:
			if !equalFold(h.Value(i), "100-continue") {
				return faultExpect
			}
			h.expect = true
		}
	}
	// HTTP/1.0 knows no 100 (RFC 9110 §10.1.1), and without a body there is nothing to wait for.
	h.expect = h.expect && h.minor == 1 && h.HasBody()
	if h.hostField < 0 && h.minor == 1 {
		return faultNoHost
	}
	if !absolute {
		if h.hostField >= 0 {
			f := &h.fields[h.hostField]
			h.host = span{int(f.val), int(f.valEnd)}
		}
		return nil
	}
	h.reduce()
	if h.hostField >= 0 {
		f := &h.fields[h.hostField]
		f.moved = !bytes.Equal(h.Value(h.hostField), h.Host())
		f.val, f.valEnd = int32(h.host.from), int32(h.host.to)
	}
	return nil
}

// checkHost accepts uri-host [ ":" port ] (RFC 3986 §3.2) with names of letters, digits, '-', '.' and '_', which is what DNS
// and container engines use, or an IPv6 address in brackets; what is left out of the RFC (sub-delims, percent-encoding) only serves confusion.
func checkHost(b []byte) *ProtocolError {
	i := 0
	if len(b) > 0 && b[0] == '[' {
		end := bytes.IndexByte(b, ']')
		if end < 0 {
			return hostFault(b)
		}
		if addr, err := netip.ParseAddr(string(b[1:end])); err != nil || !addr.Is6() || addr.Zone() != "" {
			return hostFault(b)
		}
		i = end + 1
	} else {
		for i < len(b) && class[b[i]]&hostByte != 0 {
			i++
		}
		if i == 0 || b[0] == '.' {
			return hostFault(b)
		}
	}
	if i == len(b) {
		return nil
	}
	if b[i] != ':' {
		return hostFault(b)
	}
	port := 0
	for _, c := range b[i+1:] {
		if !isDigit(c) {
			return hostFault(b)
		}
		if port = port*10 + int(c-'0'); port > 65535 {
			return hostFault(b)
		}
	}
	return nil
}

func hostFault(b []byte) *ProtocolError {
	if bytes.IndexByte(b, '@') >= 0 {
		return faultUserinfo
	}
	return faultAuthority
}
