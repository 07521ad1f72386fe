package proxy

import (
	"bytes"
	"errors"
	"hash/maphash"
	"net/netip"
	"strings"
)

// fields gives the header fields of a request: *http1.Head does.
type fields interface {
	// Index is the position of the first field called name (case-insensitive) at from or later, or -1.
	Index(name string, from int) int
	// Value is the value of field i.
	Value(i int) []byte
}

// keySource says what of a request makes its key, for limits and for the hash policy.
type keySource struct {
	kind keyKind
	name string // of the header field or the cookie
}

type keyKind uint8

const (
	keyClientIP keyKind = iota
	keyRoute
	keyURI
	keyHeader
	keyCookie
)

// seed keeps limiter keys from being computed outside this process.
var seed = maphash.MakeSeed()

// parseLimitKey reads the key of rate_limit and limit_conn; "" is client_ip.
func parseLimitKey(s string) (keySource, error) {
	k, ok := parseKey(s)
	if !ok || k.kind == keyURI {
		return k, errors.New(`must be "client_ip", "route", "header:NAME" or "cookie:NAME"`)
	}
	return k, nil
}

// parseHashKey reads an upstream's hash_key; "" is client_ip. The balancer's own check refuses what is wrong.
func parseHashKey(s string) keySource {
	k, ok := parseKey(s)
	if !ok {
		return keySource{}
	}
	return k
}

func parseKey(s string) (k keySource, ok bool) {
	switch s {
	case "", "client_ip":
		return keySource{}, true
	case "route":
		return keySource{kind: keyRoute}, true
	case "uri":
		return keySource{kind: keyURI}, true
	}
	kind, name, _ := strings.Cut(s, ":")
	switch {
	case !isToken(name):
		return k, false
	case kind == "header":
		return keySource{keyHeader, name}, true
	case kind == "cookie":
		return keySource{keyCookie, name}, true
	}
	return k, false
}

// value is the bytes that make the key. A request without the header or the cookie is known by its
// client's address, so that one client cannot use up what all such requests share.
func (k keySource) value(scratch *[16]byte, client netip.Addr, head fields, target []byte) []byte {
	switch k.kind {
	case keyRoute:
		return nil
	case keyURI:
		return target
	case keyHeader:
		if i := head.Index(k.name, 0); i >= 0 {
			return head.Value(i)
		}
	case keyCookie:
		if v := cookie(head, k.name); v != nil {
			return v
		}
	}
	if !client.IsValid() { // all who come over Unix sockets are one
		return scratch[:copy(scratch[:], unixNode)]
	}
	*scratch = client.As16()
	if client.Is4() || client.Is4In6() {
		return scratch[12:]
	}
	return scratch[:8] // a /64 is what one IPv6 client has
}

// hash is the key of a limit.
func (k keySource) hash(client netip.Addr, head fields) uint64 {
	var scratch [16]byte
	return maphash.Bytes(seed, k.value(&scratch, client, head, nil))
}

// fairKey is whom a request is for when an upstream's queue is shared. Equal values of different kinds of
// key are different keys.
type fairKey struct {
	source keySource
	kind   uint64
}

// newFairKey is the key of a route; with the source "route" its requests are one key.
func newFairKey(source keySource, route string) *fairKey {
	kind := source.String()
	switch source.kind {
	case keyRoute:
		kind += " " + route
	case keyHeader:
		kind = strings.ToLower(kind)
	}
	return &fairKey{source, maphash.String(seed, kind)}
}

// of is never 0.
func (k *fairKey) of(client netip.Addr, head fields) uint64 {
	return max(k.source.hash(client, head)^k.kind, 1)
}

// String is the key as it is written in the configuration.
func (k keySource) String() string {
	switch k.kind {
	case keyRoute:
		return "route"
	case keyURI:
		return "uri"
	case keyHeader:
		return "header:" + k.name
	case keyCookie:
		return "cookie:" + k.name
	}
	return "client_ip"
}

// cookie is the value of the first cookie called name (case-sensitive), nil if there is none (RFC 6265 §5.4).
func cookie(head fields, name string) []byte {
	for i := head.Index("Cookie", 0); i >= 0; i = head.Index("Cookie", i+1) {
		rest := head.Value(i)
		for len(rest) > 0 {
			var pair []byte
			if end := bytes.IndexByte(rest, ';'); end >= 0 {
				pair, rest = rest[:end], rest[end+1:]
			} else {
				pair, rest = rest, nil
			}
			for len(pair) > 0 && pair[0] == ' ' {
				pair = pair[1:]
			}
			if len(pair) > len(name) && pair[len(name)] == '=' && string(pair[:len(name)]) == name {
				return pair[len(name)+1:]
			}
		}
	}
	return nil
}

// isToken tells a field name, a method or a cookie name (RFC 9110 §5.6.2).
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}
