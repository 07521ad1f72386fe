package http1

import "sync"

const (
	headSize  = 1 << 10  // a head that is done with, but for the log
	slowSize  = 4 << 10  // a head that comes in pieces waits in this
	outSize   = 8 << 10  // a response head and a short body
	inSize    = 18 << 10 // one read of a small message: a head and a body of 16 KiB, as buffers of clients and servers go; a size that Go has
	bigSize   = 64 << 10 // heads near the limit, and bodies copied in bulk
	bodyRoom  = 4 << 10  // least room behind a head, so that its slices stay where they are while the body is read
	bulkFrom  = 32 << 10 // bodies with more than this left are copied in bulk
	smallCopy = 4 << 10  // payloads up to this are copied behind the head, longer ones are written from where they lie
)

// messageFields are as many as most messages have. A message has a table of its own for them; the size tells it from those of the pool.
const messageFields = 24

// Buffers are held while bytes are under way. An idle connection has none, a silent stream next to none (lull.go), and a request that waits
// for its answer one of its own size (input.fit): so those that all connections read into and write from are few, and in the processor's cache.
var (
	headPool  = sync.Pool{New: func() any { return new([headSize]byte) }}
	slowPool  = sync.Pool{New: func() any { return new([slowSize]byte) }}
	outPool   = sync.Pool{New: func() any { return new([outSize]byte) }}
	inPool    = sync.Pool{New: func() any { return new([inSize]byte) }}
	bigPool   = sync.Pool{New: func() any { return new([bigSize]byte) }}
	fieldPool = sync.Pool{New: func() any { return new([defaultMaxFields]field) }}
)

// takeBuffer gives a buffer of at least n bytes.
func takeBuffer(n int) []byte {
	switch {
	case n <= headSize:
		return headPool.Get().(*[headSize]byte)[:]
	case n <= slowSize:
		return slowPool.Get().(*[slowSize]byte)[:]
	case n <= outSize:
		return outPool.Get().(*[outSize]byte)[:]
	case n <= inSize:
		return inPool.Get().(*[inSize]byte)[:]
	case n <= bigSize:
		return bigPool.Get().(*[bigSize]byte)[:]
	}
	return make([]byte, n)
}

// giveBuffer takes back what takeBuffer gave, whatever became of its length; others go to the collector.
func giveBuffer(b []byte) {
	switch cap(b) {
	case headSize:
		headPool.Put((*[headSize]byte)(b[:headSize]))
	case slowSize:
		slowPool.Put((*[slowSize]byte)(b[:slowSize]))
	case outSize:
		outPool.Put((*[outSize]byte)(b[:outSize]))
	case inSize:
		inPool.Put((*[inSize]byte)(b[:inSize]))
	case bigSize:
		bigPool.Put((*[bigSize]byte)(b[:bigSize]))
	}
}

func takeFields() []field { return fieldPool.Get().(*[defaultMaxFields]field)[:0] }

// moreFields gives the largest table in place of a message's own one that is full. Other tables, as those of trailers, grow as any slice does.
func moreFields(f []field) []field {
	if cap(f) != messageFields {
		return f
	}
	return append(takeFields(), f...)
}

// giveFields takes back what takeFields gave; other tables are not its.
func giveFields(f []field) {
	if cap(f) == defaultMaxFields {
		fieldPool.Put((*[defaultMaxFields]field)(f[:defaultMaxFields]))
	}
}
