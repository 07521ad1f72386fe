package http2

import (
	"strings"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// request is what the fields of a request say (RFC 9113 §8.3.1).
type request struct {
	method, scheme, authority, path, host string

	pseudo  uint8 // which were there
	hosts   int
	length  int64 // -1: none
	cookies bool
}

const (
	hasMethod = 1 << iota
	hasScheme
	hasAuthority
	hasPath
)

// malformed is why a message is refused (RFC 9113 §8.1.1).
type malformed string

func (m malformed) Error() string { return string(m) }

// parseRequest checks the fields of a request. Nothing of one that is malformed may go on.
func parseRequest(fields []hpack.HeaderField) (r request, err error) {
	r.length = -1
	regular := false
	for i := range fields {
		f := &fields[i]
		if !validValue(f.Value) {
			return r, malformed("bad byte in a field value")
		}
		if f.IsPseudo() {
			if regular {
				return r, malformed("pseudo field behind others")
			}
			if err := r.takePseudo(f); err != nil {
				return r, err
			}
			continue
		}
		regular = true
		if err := r.takeField(f); err != nil {
			return r, err
		}
	}
	return r, r.check()
}

func (r *request) takePseudo(f *hpack.HeaderField) error {
	var which uint8
	switch f.Name {
	case ":method":
		r.method, which = f.Value, hasMethod
	case ":scheme":
		r.scheme, which = f.Value, hasScheme
	case ":authority":
		r.authority, which = f.Value, hasAuthority
	case ":path":
		r.path, which = f.Value, hasPath
	default:
		return malformed("unknown pseudo field")
	}
	if r.pseudo&which != 0 {
		return malformed("pseudo field twice")
	}
	r.pseudo |= which
	return nil
}

func (r *request) takeField(f *hpack.HeaderField) error {
	if !validName(f.Name) {
		return malformed("bad field name")
	}
	switch f.Name {
	case "host":
		r.host = f.Value
		if r.hosts++; r.hosts > 1 {
			return malformed("host twice")
		}
	case "content-length":
		n, ok := parseLength(f.Value)
		if !ok || r.length >= 0 && r.length != n {
			return malformed("bad content-length")
		}
		r.length = n
	case "te":
		if !foldedTo(f.Value, "trailers") {
			return malformed("te other than trailers")
		}
	case "cookie":
		r.cookies = true
	default:
		if ofConnection(f.Name) {
			return malformed("field of a connection")
		}
	}
	return nil
}

// check looks at the pseudo fields together.
func (r *request) check() error {
	if r.pseudo&hasMethod == 0 || r.method == "" || !allOf(r.method, tokenByte) {
		return malformed("bad :method")
	}
	if r.pseudo&hasAuthority != 0 && (r.authority == "" || !allOf(r.authority, hostByte)) {
		return malformed("bad :authority")
	}
	if r.hosts > 0 && !allOf(r.host, hostByte) {
		return malformed("bad host")
	}
	if r.hosts > 0 && r.pseudo&hasAuthority != 0 && !sameHost(r.host, r.authority) {
		return malformed("host other than :authority")
	}
	if r.method == "CONNECT" { // its target is the authority
		if r.pseudo != hasMethod|hasAuthority {
			return malformed("bad CONNECT")
		}
		return nil
	}
	if r.scheme != "http" && r.scheme != "https" {
		return malformed("bad :scheme")
	}
	if r.path == "*" && r.method == "OPTIONS" {
		return nil
	}
	if r.path == "" || r.path[0] != '/' || !allOf(r.path, targetByte) {
		return malformed("bad :path")
	}
	return nil
}

// textSize is enough for what appendText appends.
func textSize(fields []hpack.HeaderField) int {
	n := 128
	for i := range fields {
		n += len(fields[i].Name) + len(fields[i].Value) + 4
	}
	return n
}

// appendText appends the head of the request in HTTP/1.1; chunked tells that a body of unknown length follows.
func (r *request) appendText(dst []byte, fields []hpack.HeaderField, chunked bool) []byte {
	target, host := r.path, r.authority
	if r.method == "CONNECT" {
		target = r.authority
	}
	if r.pseudo&hasAuthority == 0 {
		host = r.host
	}
	dst = append(append(dst, r.method...), ' ')
	dst = append(append(dst, target...), " HTTP/1.1\r\n"...)
	if r.hosts > 0 || r.pseudo&hasAuthority != 0 {
		dst = appendField(dst, "host", host)
	}
	length := false
	for i := range fields {
		switch f := &fields[i]; f.Name {
		case "host", "cookie":
		case "content-length":
			if !length {
				dst = appendField(dst, f.Name, f.Value)
			}
			length = true
		default:
			if !f.IsPseudo() {
				dst = appendField(dst, f.Name, f.Value)
			}
		}
	}
	if r.cookies { // which may come in pieces (RFC 9113 §8.2.3)
		dst = append(dst, "cookie: "...)
		pieces := 0
		for i := range fields {
			if fields[i].Name == "cookie" {
				if pieces++; pieces > 1 {
					dst = append(dst, "; "...)
				}
				dst = append(dst, fields[i].Value...)
			}
		}
		dst = append(dst, "\r\n"...)
	}
	if chunked {
		dst = append(dst, "transfer-encoding: chunked\r\n"...)
	}
	return append(dst, "\r\n"...)
}

func appendField(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), "\r\n"...)
}

// appendTrailers appends the field lines of a trailer section.
func appendTrailers(dst []byte, fields []hpack.HeaderField) ([]byte, error) {
	for i := range fields {
		f := &fields[i]
		if strings.HasPrefix(f.Name, ":") || !validName(f.Name) || !validValue(f.Value) || ofConnection(f.Name) {
			return dst, malformed("bad trailer")
		}
		dst = appendField(dst, f.Name, f.Value)
	}
	return dst, nil
}

// malformedStream is the stream error for err.
func malformedStream(id uint32, err error) error {
	return streamError{id, h2.ErrCodeProtocol, err.Error()}
}
