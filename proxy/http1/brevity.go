package http1

import "sync/atomic"

// brevity notices a server that closes each connection after one exchange without saying so. Keeping those gains nothing, and
// each request that is sent on one just as it closes is lost if it may not be repeated.
type brevity struct {
	short atomic.Int32  // connections in a row that the server closed before their second exchange
	kept  atomic.Uint32 // since then, to try one again now and then
}

const (
	briefAfter  = 3
	briefSample = 64 // one in so many is kept all the same, to see whether the server has changed its ways
)

// closed is told of a kept connection that the server ended.
func (b *brevity) closed(u *UpConn) {
	if u.served <= 2 { // the second exchange found it closed
		b.short.Add(1)
	}
}

// lasted is told of a connection that served a second exchange.
func (b *brevity) lasted() {
	if b.short.Load() != 0 {
		b.short.Store(0)
	}
}

// pointless reports that this connection need not be kept.
func (b *brevity) pointless() bool {
	return b.short.Load() >= briefAfter && b.kept.Add(1)%briefSample != 0
}
