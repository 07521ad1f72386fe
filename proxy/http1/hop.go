package http1

import "bytes"

// fieldKind marks the fields that mean something to the connection itself.
type fieldKind uint8

const (
	kindOther fieldKind = iota
	kindHost
	kindContentLength
	kindTransferEncoding
	kindConnection
	kindExpect
	kindUpgrade
	kindTE
	kindTrailer
	kindKeepAlive
	kindProxy      // Proxy-* and Proxy (httpoxy)
	kindUnderscore // a name that CGI-like servers cannot tell from its twin with hyphens
)

func kindOf(name []byte) fieldKind {
	switch lower(name[0]) {
	case 'h':
		if equalFold(name, "host") {
			return kindHost
		}
	case 'c':
		switch len(name) {
		case 10:
			if equalFold(name, "connection") {
				return kindConnection
			}
		case 14:
			if equalFold(name, "content-length") {
				return kindContentLength
			}
		}
	case 't':
		switch len(name) {
		case 2:
			if equalFold(name, "te") {
				return kindTE
			}
		case 7:
			if equalFold(name, "trailer") {
				return kindTrailer
			}
		case 17:
			if equalFold(name, "transfer-encoding") {
				return kindTransferEncoding
			}
		}
	case 'e':
		if equalFold(name, "expect") {
			return kindExpect
		}
	case 'u':
		if equalFold(name, "upgrade") {
			return kindUpgrade
		}
	case 'k':
		if equalFold(name, "keep-alive") {
			return kindKeepAlive
		}
	case 'p':
		if hasPrefixFold(name, "proxy-") || equalFold(name, "proxy") {
			return kindProxy
		}
	}
	if bytes.IndexByte(name, '_') >= 0 {
		return kindUnderscore
	}
	return kindOther
}

// DropHopByHop leaves out what concerns this connection only (RFC 9110 §7.6.1): Connection and the fields it lists,
// Keep-Alive, Proxy-*, TE, Transfer-Encoding, Upgrade, a Trailer field that announces anything harmful; in a request also
// Expect (Conn answers it) and every name with an underscore, because CGI and WSGI servers read X_Forwarded_For as
// X-Forwarded-For. A sender cannot use Connection to take away fields that carry framing, routing or identity.
func (h *Head) DropHopByHop() {
	for i := range h.fields {
		f := &h.fields[i]
		switch f.kind {
		case kindConnection, kindKeepAlive, kindProxy, kindTE, kindTransferEncoding, kindUpgrade:
			f.dropped = true
		case kindExpect, kindUnderscore:
			f.dropped = f.dropped || !h.response
		case kindTrailer:
			f.dropped = f.dropped || !h.chunked || !announcesHarmless(h.buf[f.val:f.valEnd])
		case kindContentLength: // an interim response has no body that a client could wait for (RFC 9110 §8.6)
			f.dropped = f.dropped || h.response && h.status < 200
		}
	}
	if !h.listed {
		return
	}
	for i := range h.fields {
		if h.fields[i].kind == kindConnection {
			h.dropListed(h.Value(i))
		}
	}
}

func (h *Head) dropListed(value []byte) {
	for item, rest := nextItem(value); ; item, rest = nextItem(rest) {
		if len(item) > 0 && !endToEnd(item) {
			for i := range h.fields {
				if sameFold(h.Name(i), item) {
					h.fields[i].dropped = true
				}
			}
		}
		if rest == nil {
			return
		}
	}
}

// endToEnd tells the fields that Connection may not remove: framing, routing, identity, and those that are for all recipients.
func endToEnd(name []byte) bool {
	switch lower(name[0]) {
	case 'h':
		return equalFold(name, "host")
	case 'c':
		return hasPrefixFold(name, "content-") || equalFold(name, "cookie") || equalFold(name, "cache-control")
	case 'x':
		return hasPrefixFold(name, "x-forwarded-") || equalFold(name, "x-real-ip") || equalFold(name, "x-request-id")
	case 'f':
		return equalFold(name, "forwarded") || equalFold(name, "from")
	case 'a':
		return equalFold(name, "authorization") || equalFold(name, "accept-encoding")
	case 'v':
		return equalFold(name, "via") || equalFold(name, "vary")
	case 'o':
		return equalFold(name, "origin")
	case 'd':
		return equalFold(name, "date")
	case 'l':
		return equalFold(name, "location")
	case 's':
		return equalFold(name, "set-cookie") || hasPrefixFold(name, "sec-")
	case 'w':
		return equalFold(name, "www-authenticate")
	case 't':
		return equalFold(name, "traceparent") || equalFold(name, "tracestate")
	}
	return false
}

func announcesHarmless(value []byte) bool {
	for item, rest := nextItem(value); ; item, rest = nextItem(rest) {
		if len(item) > 0 && !harmlessTrailer(item) {
			return false
		}
		if rest == nil {
			return true
		}
	}
}

// harmlessTrailer tells the names that may stand in a trailer section: none that take part in framing, routing,
// authentication, identity, request conditions or how the content is read (RFC 9110 §6.5.1).
func harmlessTrailer(name []byte) bool {
	if kindOf(name) != kindOther || endToEnd(name) {
		return false
	}
	switch lower(name[0]) {
	case 'a':
		return !hasPrefixFold(name, "access-control-") && !equalFold(name, "age")
	case 'c':
		return !hasPrefixFold(name, "client-cert") && !hasPrefixFold(name, "cf-")
	case 'e':
		return !equalFold(name, "expires")
	case 'i':
		return !hasPrefixFold(name, "if-")
	case 'm':
		return !equalFold(name, "max-forwards")
	case 'p':
		return !equalFold(name, "pragma")
	case 'r':
		return !equalFold(name, "range") && !equalFold(name, "retry-after") && !equalFold(name, "referer") && !hasPrefixFold(name, "remote-")
	case 's':
		return !equalFold(name, "strict-transport-security") && !hasPrefixFold(name, "ssl-")
	case 't':
		return !hasPrefixFold(name, "true-client-")
	case 'w':
		return !equalFold(name, "warning")
	case 'x':
		for _, kind := range [...]string{
			"sluice-", "original-", "client-", "ssl-", "http-method", "method-override", "rewrite-url", "auth-", "user", "remote-", "webauth-",
		} {
			if hasPrefixFold(name[1:], "-"+kind) {
				return false
			}
		}
	}
	return true
}

// announced tells whether a Trailer field of this head lists name.
func (h *Head) announced(name []byte) bool {
	for i := h.trailerField; i >= 0 && i < len(h.fields); i++ {
		if h.fields[i].kind != kindTrailer {
			continue
		}
		for item, rest := nextItem(h.Value(i)); ; item, rest = nextItem(rest) {
			if sameFold(item, name) {
				return true
			}
			if rest == nil {
				break
			}
		}
	}
	return false
}
