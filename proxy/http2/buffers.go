package http2

import "sync"

const (
	smallSize = 2 << 10
	frameSize = 16 << 10
	wireSize  = 64 << 10
)

// Buffers are held while there are bytes in them.
var (
	smallPool = sync.Pool{New: func() any { return new([smallSize]byte) }}
	framePool = sync.Pool{New: func() any { return new([frameSize]byte) }}
	wirePool  = sync.Pool{New: func() any { return new([wireSize]byte) }}
)

// takeBuffer gives a buffer of at least n bytes.
func takeBuffer(n int) []byte {
	switch {
	case n <= smallSize:
		return smallPool.Get().(*[smallSize]byte)[:]
	case n <= frameSize:
		return framePool.Get().(*[frameSize]byte)[:]
	case n <= wireSize:
		return wirePool.Get().(*[wireSize]byte)[:]
	}
	return make([]byte, n)
}

// giveBuffer takes back what takeBuffer gave, whatever became of its length; others go to the collector.
func giveBuffer(b []byte) {
	switch cap(b) {
	case smallSize:
		smallPool.Put((*[smallSize]byte)(b[:smallSize]))
	case frameSize:
		framePool.Put((*[frameSize]byte)(b[:frameSize]))
	case wireSize:
		wirePool.Put((*[wireSize]byte)(b[:wireSize]))
	}
}

// roomFor makes sure that n bytes fit behind those of b, which it gives back when it has to go over to a larger buffer.
func roomFor(b []byte, n int) []byte {
	if cap(b)-len(b) >= n {
		return b
	}
	larger := takeBuffer(len(b) + n)[:len(b)]
	copy(larger, b)
	giveBuffer(b)
	return larger
}
