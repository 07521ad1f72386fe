package http1

import (
	"encoding/binary"
	"math/bits"
)

// Classes of bytes; RFC 9110 §5.6.2 (token), §5.5 (field-vchar), RFC 3986 (host, target).
const (
	tokenByte  uint8 = 1 << iota // part of a method or a field name
	valueByte                    // part of a field value or reason phrase: HTAB, SP, VCHAR, obs-text
	targetByte                   // part of a request target: no space, control or '#'
	hostByte                     // part of a registered name or IPv4 address
)

var class = func() (t [256]uint8) {
	for c := range t {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
			t[c] = tokenByte | hostByte
		}
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= valueByte
		}
		if c > ' ' && c != 0x7f && c != '#' {
			t[c] |= targetByte
		}
	}
	for _, c := range "!#$%&'*+-.^_`|~" {
		t[c] |= tokenByte
	}
	for _, c := range "-._" {
		t[c] |= hostByte
	}
	return t
}()

// valueEnd is the offset of the first byte at or after i that may not be part of a field value, or len(b).
// It looks at eight bytes at a time: a byte below 0x20 or equal to 0x7f sets its high bit in one of the two terms.
func valueEnd(b []byte, i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(b) {
		x := binary.LittleEndian.Uint64(b[i:])
		del := x ^ ones*0x7f
		hits := ((x-ones*0x20)&^x | (del-ones)&^del) & highs
		if hits == 0 {
			i += 8
			continue
		}
		i += bits.TrailingZeros64(hits) / 8 // the first is one for certain
		if class[b[i]]&valueByte == 0 {
			return i
		}
		i++ // a tab
	}
	for i < len(b) && class[b[i]]&valueByte != 0 {
		i++
	}
	return i
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// equalFold compares with a name that is already in lower case.
func equalFold(b []byte, low string) bool {
	if len(b) != len(low) {
		return false
	}
	for i, c := range b {
		if c != low[i] && lower(c) != low[i] {
			return false
		}
	}
	return true
}

func hasPrefixFold(b []byte, low string) bool {
	return len(b) >= len(low) && equalFold(b[:len(low)], low)
}

// sameFold compares two names as received.
func sameFold(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i, c := range a {
		if c != b[i] && lower(c) != lower(b[i]) {
			return false
		}
	}
	return true
}

// trimOWS takes optional white space off both ends (RFC 9110 §5.6.3).
func trimOWS(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}

// nextItem cuts the first element off a comma-separated list (RFC 9110 §5.6.1); it may be empty.
func nextItem(list []byte) (item, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trimOWS(list[:i]), list[i+1:]
		}
	}
	return trimOWS(list), nil
}

// parseLength reads 1*DIGIT that fits an int64.
func parseLength(b []byte) (n int64, ok bool) {
	if len(b) == 0 || len(b) > 18 {
		return 0, false
	}
	for _, c := range b {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, true
}
