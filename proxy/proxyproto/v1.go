package proxyproto

import (
	"bytes"
	"net/netip"
	"strconv"
)

// max1 is the longest header of version 1 (the specification, 2.1).
const max1 = 107

// fields1 are those of a line with addresses: PROXY, TCP4 or TCP6, source, destination and both ports.
const fields1 = 6

// missing1 knows how long a line is at least that begins with b.
func missing1(b []byte) (int, error) {
	n := len(b)
	if end := bytes.IndexByte(b, '\n'); end >= 0 {
		return 0, nil
	}
	if n < least {
		return least - n, nil
	}
	if n >= max1 {
		return 0, malformed("the line is longer than 107 bytes")
	}
	if b[n-1] == '\r' {
		return 1, nil
	}
	more := len("\r\n")
	if blanks := bytes.Count(b, []byte(" ")); bytes.HasPrefix(b, []byte("PROXY TCP")) {
		for field := blanks + 1; field < fields1; field++ {
			more += len(" 0")
			if field == 3 {
				more += len("::") - len("0") // the shortest address
			}
		}
	}
	return min(more, max1-n), nil
}

func parse1(b []byte) (h Header, n int, err error) {
	n = bytes.IndexByte(b, '\n') + 1
	if n > max1 {
		return h, 0, malformed("the line is longer than 107 bytes")
	}
	line, ok := bytes.CutSuffix(b[:n], []byte("\r\n"))
	if !ok || bytes.IndexByte(line, '\r') >= 0 {
		return h, 0, malformed("the line does not end with CR LF")
	}
	if rest, ok := bytes.CutPrefix(line, []byte("PROXY UNKNOWN")); ok && (len(rest) == 0 || rest[0] == ' ') {
		return Header{Local: true}, n, nil // whatever follows is to be ignored
	}
	part := bytes.Split(line, []byte(" "))
	if len(part) != fields1 {
		return h, 0, malformed("the line does not have six fields")
	}
	kind := string(part[1])
	if kind != "TCP4" && kind != "TCP6" {
		return h, 0, malformed("neither TCP4 nor TCP6 nor UNKNOWN")
	}
	var ends [2]netip.AddrPort
	for i := range ends {
		addr, err := netip.ParseAddr(string(part[2+i]))
		if err != nil || addr.Zone() != "" || addr.Is4() != (kind == "TCP4") {
			return h, 0, malformed("an address is not one of " + kind)
		}
		port, ok := parsePort(part[4+i])
		if !ok {
			return h, 0, malformed("a port is not one")
		}
		ends[i] = unmapped(netip.AddrPortFrom(addr, port))
	}
	return Header{Source: ends[0], Destination: ends[1]}, n, nil
}

// parsePort reads decimal digits without a leading zero.
func parsePort(b []byte) (uint16, bool) {
	if len(b) == 0 || len(b) > 5 || b[0] == '0' && len(b) > 1 {
		return 0, false
	}
	n := 0
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return uint16(n), n <= 65535
}

func append1(dst []byte, local bool, src, to netip.AddrPort) []byte {
	if local || !src.IsValid() {
		return append(dst, "PROXY UNKNOWN\r\n"...)
	}
	kind := "TCP4 "
	if src.Addr().Is6() {
		kind = "TCP6 "
	}
	dst = append(append(dst, start1...), kind...)
	dst = append(src.Addr().WithZone("").AppendTo(dst), ' ')
	dst = append(to.Addr().WithZone("").AppendTo(dst), ' ')
	dst = append(strconv.AppendUint(dst, uint64(src.Port()), 10), ' ')
	return append(strconv.AppendUint(dst, uint64(to.Port()), 10), "\r\n"...)
}
