package http2

import (
	"bytes"
	"errors"
)

// errMessage is a fault of whoever writes HTTP/1.1 to a Stream.
var errMessage = errors.New("http2: malformed HTTP/1.1 message")

// maxSection bounds the heads and trailer sections that are written to a Stream.
const maxSection = 256 << 10

// part is what message.next has found.
type part uint8

const (
	partNone     part = iota // more is needed
	partHead                 // section is a head: start line and field lines
	partData                 // the bytes are payload; took tells how many were sent
	partTrailers             // section is the trailer section, perhaps empty: the message ends
)

type messageState uint8

const (
	inHead messageState = iota
	inData
	inChunkSize
	inChunk
	afterChunk
	inTrailers
	atEnd
)

// message takes an HTTP/1.1 message apart as it is written, piece by piece: RFC 9112 as proxy/http1 writes it, no more. The zero
// value stands before the start line.
type message struct {
	section []byte // of the last partHead or partTrailers; valid until the next call
	state   messageState
	left    int64  // of the body, or of the chunk
	digits  int    // of the chunk's size
	kept    []byte // of a section or line that has not come whole
}

// next looks at the start of p. n bytes are used up, but for partData: those are n bytes of payload, used up by took. After
// partHead the caller says what follows, by expect.
func (m *message) next(p []byte) (what part, n int, err error) {
	for n < len(p) {
		switch m.state {
		case inHead, inTrailers:
			used, whole, err := m.gather(p[n:])
			n += used
			if err != nil || !whole {
				return partNone, n, err
			}
			if m.state == inHead {
				return partHead, n, nil
			}
			m.state = atEnd
			return partTrailers, n, nil
		case inChunkSize:
			c := p[n]
			n++
			v, ok := hexValue(c)
			switch {
			case ok && m.digits < 15:
				m.digits++
				m.left = m.left<<4 | int64(v)
			case c == '\r' && m.digits > 0:
			case c == '\n' && m.digits > 0:
				m.digits = 0
				if m.state = inChunk; m.left == 0 {
					m.state = inTrailers
				}
			default:
				return partNone, n, errMessage
			}
		case inData, inChunk:
			if n > 0 {
				return partNone, n, nil // the next call gives the payload
			}
			return partData, int(min(int64(len(p)), m.left)), nil
		case afterChunk:
			if m.digits++; p[n] != "\r\n"[m.digits-1] {
				return partNone, n, errMessage
			}
			n++
			if m.digits == 2 {
				m.state, m.digits = inChunkSize, 0
			}
		case atEnd:
			return partNone, n, errMessage
		}
	}
	return partNone, n, nil
}

// expect says what follows a head: another head (interim responses), length bytes, or chunks when length is negative.
func (m *message) expect(another bool, length int64) {
	switch {
	case another:
		m.state = inHead
	case length < 0:
		m.state = inChunkSize
	case length == 0:
		m.state = atEnd
	default:
		m.state, m.left = inData, length
	}
}

// took counts n bytes of payload that were sent.
func (m *message) took(n int) {
	if m.left -= int64(n); m.left > 0 {
		return
	}
	if m.state == inData {
		m.state = atEnd
	} else {
		m.state = afterChunk
	}
}

// ends tells that the message is over with the next n bytes of payload, rest being what was written behind them.
func (m *message) ends(n int, rest []byte) bool {
	switch m.state {
	case atEnd:
		return true
	case inData:
		return m.left == int64(n)
	case inChunk:
		return m.left == int64(n) && string(rest) == "\r\n0\r\n\r\n"
	case inChunkSize:
		return n == 0 && m.digits == 0 && string(rest) == "0\r\n\r\n"
	}
	return false
}

// gather collects a section up to its empty line.
func (m *message) gather(p []byte) (used int, whole bool, err error) {
	if len(m.kept) == 0 {
		if end := sectionEnd(p, 0); end > 0 {
			m.section = p[:end]
			return end, true, nil
		}
		if len(p) > maxSection {
			return 0, false, errMessage
		}
		m.kept = append(m.kept, p...)
		return len(p), false, nil
	}
	before := len(m.kept)
	if before+len(p) > maxSection {
		return 0, false, errMessage
	}
	m.kept = append(m.kept, p...)
	end := sectionEnd(m.kept, max(before-3, 0))
	if end == 0 {
		return len(p), false, nil
	}
	m.section = m.kept[:end]
	m.kept = nil
	return end - before, true, nil
}

// sectionEnd is the offset behind the empty line that ends the field lines in b, 0 when it is not there.
func sectionEnd(b []byte, from int) int {
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		return 2
	}
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return 0
}

// nextLine cuts the first line off a section; it is empty at the section's end.
func nextLine(section []byte) (line, rest []byte) {
	line, rest, _ = bytes.Cut(section, []byte("\r\n"))
	return line, rest
}

// nextField cuts the first field line off a section; ok is false at its end.
func nextField(section []byte) (name, value, rest []byte, ok bool, err error) {
	line, rest := nextLine(section)
	if len(line) == 0 {
		return nil, nil, nil, false, nil
	}
	i := bytes.IndexByte(line, ':')
	if i <= 0 || !allOf(line[:i], tokenByte) {
		return nil, nil, nil, false, errMessage
	}
	value = trimBlank(line[i+1:])
	if !allOf(value, valueByte) {
		return nil, nil, nil, false, errMessage
	}
	return line[:i], value, rest, true, nil
}

func hexValue(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
