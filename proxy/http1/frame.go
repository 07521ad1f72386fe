package http1

import "encoding/binary"

// frames follows one direction of a WebSocket frame by frame (RFC 6455 §5.2), without looking into them, so that a
// frame of ours can be put between two of them and never into one.
type frames struct {
	head   [14]byte // of the frame that is about to begin
	have   int      // bytes of it so far
	left   uint64   // payload of the frame under way that is still to come
	closed bool     // a close frame was passed: nothing may follow it
}

const opClose = 0x8

// pass takes bytes that were passed on.
func (f *frames) pass(p []byte) {
	for len(p) > 0 {
		if f.left > 0 {
			n := min(f.left, uint64(len(p)))
			f.left -= n
			p = p[n:]
			continue
		}
		n := copy(f.head[f.have:f.headSize()], p)
		f.have += n
		p = p[n:]
		if f.have < f.headSize() {
			continue // the size itself may be known only now
		}
		f.closed = f.closed || f.head[0]&0x0f == opClose
		f.left, f.have = f.payload(), 0
	}
}

// headSize is how long the head is, as far as its first two bytes tell.
func (f *frames) headSize() int {
	if f.have < 2 {
		return 2
	}
	n := 2
	switch f.head[1] & 0x7f {
	case 126:
		n += 2
	case 127:
		n += 8
	}
	if f.head[1]&0x80 != 0 {
		n += 4 // the masking key
	}
	return n
}

// payload is the length that a whole head tells.
func (f *frames) payload() uint64 {
	switch n := f.head[1] & 0x7f; n {
	case 126:
		return uint64(binary.BigEndian.Uint16(f.head[2:]))
	case 127:
		return binary.BigEndian.Uint64(f.head[2:])
	default:
		return uint64(n)
	}
}

// between tells that no frame is half passed.
func (f *frames) between() bool { return f.left == 0 && f.have == 0 }
