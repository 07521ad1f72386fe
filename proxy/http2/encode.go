package http2

import (
	"hash/maphash"
	"unsafe"

	"golang.org/x/net/http2/hpack"
)

// fieldEncoder encodes header blocks; the blocks go out in the order in which they are made.
type fieldEncoder struct {
	block []byte
	enc   *hpack.Encoder
	known *[knownSets][4]string // by hash, each set the latest first
	name  [64]byte              // scratch
}

// Strings that the encoder may keep in its table have to be strings of their own. Those seen lately are used again, so that a
// server's recurring fields allocate nothing.
const (
	knownSets = 32
	maxKnown  = 256 // bytes of a string
)

var seed = maphash.MakeSeed()

func newFieldEncoder() *fieldEncoder {
	e := &fieldEncoder{known: new([knownSets][4]string)}
	e.enc = hpack.NewEncoder(e)
	return e
}

// Write takes what the hpack.Encoder has encoded.
func (e *fieldEncoder) Write(p []byte) (int, error) {
	e.block = append(e.block, p...)
	return len(p), nil
}

func (e *fieldEncoder) begin() {
	if cap(e.block) > frameSize {
		e.block = nil // one huge head must not stay
	}
	e.block = e.block[:0]
}

// fieldLines encodes checked field lines, without those that do not exist in HTTP/2, and returns how many.
func (e *fieldEncoder) fieldLines(section []byte) (n int) {
	for {
		name, value, rest, ok, _ := nextField(section)
		if !ok {
			return n
		}
		section = rest
		if low := e.fieldName(name); !ofConnection(low) {
			e.add(low, value)
			n++
		}
	}
}

// fieldName is the name in lower case.
func (e *fieldEncoder) fieldName(name []byte) string {
	low := e.name[:0]
	for _, c := range name {
		low = append(low, lower(c))
	}
	return e.stringOf(low)
}

func (e *fieldEncoder) add(name string, value []byte) {
	f := hpack.HeaderField{Name: name}
	if passing(name) || len(value) > maxKnown {
		f.Sensitive = true // never indexed, so that the value need not outlive this call
		f.Value = unsafe.String(unsafe.SliceData(value), len(value))
	} else {
		f.Value = e.stringOf(value)
	}
	_ = e.enc.WriteField(f) // fails only when Write does
}

// passing tells the fields whose values hardly ever come again, or are secret: in the table they would only displace others.
func passing(name string) bool {
	switch name {
	case "content-length", "etag", "last-modified", "set-cookie", "location", "age", "content-range", "x-request-id",
		"authorization", "cookie", "traceparent", ":path", "if-none-match", "if-modified-since":
		return true
	}
	return false
}

func (e *fieldEncoder) stringOf(b []byte) string {
	set := &e.known[maphash.Bytes(seed, b)%uint64(len(e.known))]
	for _, known := range set {
		if known == string(b) {
			return known
		}
	}
	s := string(b)
	if len(s) <= maxKnown {
		copy(set[1:], set[:])
		set[0] = s
	}
	return s
}
