package http1

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// frame writes one, masked when a client sends it.
func frame(opcode byte, size int, masked bool) []byte {
	b := []byte{0x80 | opcode, 0}
	switch {
	case size > 0xffff:
		b[1] = 127
		b = binary.BigEndian.AppendUint64(b, uint64(size)) //nolint:gosec // it is positive
	case size > 125:
		b[1] = 126
		b = binary.BigEndian.AppendUint16(b, uint16(size)) //nolint:gosec // it fits
	default:
		b[1] = byte(size)
	}
	if masked {
		b[1] |= 0x80
		b = append(b, 1, 2, 3, 4)
	}
	return append(b, bytes.Repeat([]byte{0x88}, size)...)
}

// Frames are told apart wherever their bytes are cut.
func TestFramesAtEveryCut(t *testing.T) {
	for _, masked := range []bool{false, true} {
		var all []byte
		ends := map[int]bool{0: true}
		for _, size := range []int{0, 1, 125, 126, 300, 0xffff, 0x10000} {
			all = append(all, frame(2, size, masked)...)
			ends[len(all)] = true
		}
		for _, step := range []int{1, 2, 3, 7, 1000} {
			var f frames
			for at := 0; at < len(all); {
				if f.between() != ends[at] {
					t.Fatalf("masked %v, by %d: between %v at %d", masked, step, f.between(), at)
				}
				n := min(step, len(all)-at)
				f.pass(all[at : at+n])
				at += n
			}
			if !f.between() || f.closed {
				t.Errorf("masked %v, by %d: %+v at the end", masked, step, f)
			}
			f.pass(frame(opClose, 2, masked))
			if !f.between() || !f.closed {
				t.Errorf("masked %v, by %d: %+v after a close frame", masked, step, f)
			}
		}
	}
}
