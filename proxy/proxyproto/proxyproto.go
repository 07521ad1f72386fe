// Package proxyproto reads and writes the header of the PROXY protocol, versions 1 and 2, with which a balancer that passes on bytes
// tells who its client is (https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt, "the specification" below).
//
// A reader takes exactly the header from the connection and leaves it as it is, so that all that follows comes by the fast way.
package proxyproto

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
)

// Header is what a header tells.
type Header struct {
	// Local: no client is told of. The proxy speaks for itself, as in a health check (LOCAL), or does not know its client
	// (UNKNOWN, AF_UNSPEC): the addresses of the socket stand.
	Local bool
	// Source is the client's address and Destination the one that it connected to; IPv4 is never in its IPv6 form. Not valid when
	// Local, and when the client came over a Unix socket.
	Source, Destination netip.AddrPort
}

// MaxSize is the longest header that is accepted, in bytes, TLVs included, as in nginx.
const MaxSize = 4096

// What is wrong with what was received. ErrNone: it is no header; ErrMalformed: it begins like one.
var (
	ErrNone      = errors.New("no PROXY protocol header")
	ErrMalformed = errors.New("malformed PROXY protocol header")
	errMore      = errors.New("proxyproto: more bytes are needed")
)

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrMalformed, what) }

const (
	start1 = "PROXY "
	start2 = "\r\n\r\n\x00\r\nQUIT\n"
)

// Parse reads the header at the start of b and returns its length in bytes. Errors are ErrNone, ErrMalformed, and another one when b
// holds only a part of a header.
func Parse(b []byte) (h Header, n int, err error) {
	more, err := missing(b)
	switch {
	case err != nil:
		return h, 0, err
	case more > 0:
		return h, 0, errMore
	case b[0] == start1[0]:
		return parse1(b)
	}
	return parse2(b)
}

// Read takes a header from nc, and not one byte beyond. It sets no deadline. Errors are those of Parse or of nc; io.EOF when nc ended
// before the first byte.
func Read(nc io.Reader) (Header, error) {
	b := make([]byte, 0, max1)
	for {
		more, err := missing(b)
		if err != nil {
			return Header{}, err
		}
		if more == 0 {
			h, _, err := Parse(b)
			return h, err
		}
		if need := len(b) + more; need > cap(b) {
			b = append(make([]byte, 0, need), b...)
		}
		n, err := nc.Read(b[len(b) : len(b)+more])
		if b = b[:len(b)+n]; err != nil && n < more {
			if err == io.EOF && len(b) > 0 {
				err = io.ErrUnexpectedEOF
			}
			return Header{}, err
		}
	}
}

// missing is how many more bytes are certainly part of the header that b begins with, 0 when it is whole. What is no header any more
// may be found late, but never a header's end.
func missing(b []byte) (int, error) {
	switch n := len(b); {
	case n == 0:
		return least, nil
	case string(b[:min(n, len(start1))]) == start1[:min(n, len(start1))]:
		return missing1(b)
	case string(b[:min(n, len(start2))]) == start2[:min(n, len(start2))]:
		return missing2(b)
	}
	return 0, ErrNone
}

// least is the length of the shortest header: PROXY UNKNOWN.
const least = len(start1 + "UNKNOWN\r\n")

// Append writes the header of a version, 1 or 2. A client of a Unix socket is one that version 1 does not know; where one address is
// IPv4 and the other is not, both are written as IPv6.
func Append(dst []byte, version int, h Header) []byte {
	src, to := h.Source, h.Destination
	if src.IsValid() {
		if !to.IsValid() {
			to = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
			if src.Addr().Is6() {
				to = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
			}
		}
		if src.Addr().Is4() != to.Addr().Is4() {
			src, to = as6(src), as6(to)
		}
	}
	if version == 1 {
		return append1(dst, h.Local, src, to)
	}
	return append2(dst, h.Local, src, to)
}

func as6(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }
