package http2

import "strconv"

type framing uint8

const (
	noBody  framing = iota
	sized           // Content-Length was declared
	chunked         // Transfer-Encoding: chunked is ours
)

// text is the HTTP/1.1 form of the message that a Stream receives, as it is read: the head, then the payload out of the pipe in
// the framing that the head declares.
type text struct {
	head     []byte // not read yet
	buffer   []byte // in which head lies; nil when it is not pooled
	framing  framing
	left     int64  // sized: payload not read yet; chunked: of the chunk at hand
	inChunk  bool   // the chunk's end is owed
	over     bool   // the last chunk was made
	line     []byte // framing not read yet
	lineIn   [24]byte
	trailers []byte // field lines
}

// setHead gives the head, which lies at the start of a pooled buffer.
func (t *text) setHead(head []byte) { t.head, t.buffer = head, head }

// read fills p; payload is how many of the n bytes came out of in. A body of known length is not complete before the stream
// has ended: until then its last byte is held back, because one too many may still come (RFC 9113 §8.1.1).
func (t *text) read(p []byte, in *pipe, ended bool) (n, payload int) {
	if len(t.head) > 0 {
		n = copy(p, t.head)
		if t.head = t.head[n:]; len(t.head) == 0 {
			t.drop()
		}
	}
	for n < len(p) {
		if len(t.line) > 0 {
			took := copy(p[n:], t.line)
			t.line = t.line[took:]
			n += took
			continue
		}
		var took int
		switch t.framing {
		case sized:
			most := t.left
			if !ended {
				most--
			}
			took = in.read(p[n : n+int(min(int64(len(p)-n), max(most, 0)))])
			t.left -= int64(took)
		case chunked:
			if t.left == 0 {
				if !t.nextChunk(in.size, ended) {
					return n, payload
				}
				continue
			}
			took = in.read(p[n : n+int(min(int64(len(p)-n), t.left))])
			t.left -= int64(took)
		}
		n += took
		if payload += took; took == 0 {
			break
		}
	}
	return n, payload
}

// nextChunk makes the framing between two chunks; false when there is nothing to be said yet.
func (t *text) nextChunk(have int, ended bool) bool {
	line := t.lineIn[:0]
	switch {
	case t.over:
		return false
	case t.inChunk:
		t.inChunk = false
		t.line = append(line, "\r\n"...)
	case have > 0:
		t.inChunk, t.left = true, int64(have)
		t.line = append(strconv.AppendInt(line, t.left, 16), "\r\n"...)
	case ended:
		t.over = true
		if t.line = append(line, "0\r\n\r\n"...); len(t.trailers) > 0 {
			t.line = append(append([]byte("0\r\n"), t.trailers...), "\r\n"...)
		}
	default:
		return false
	}
	return true
}

func (t *text) drop() {
	giveBuffer(t.buffer)
	t.head, t.buffer = nil, nil
}
