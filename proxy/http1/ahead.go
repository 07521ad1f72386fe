package http1

import (
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Reading ahead of a slow client.
//
// When a client's socket takes no more (below TLS, see spill; or its stream of HTTP/2 for a moment), the rest of its response is read into memory while a goroutine writes to the
// client, so that the connection to the server, and what the handler holds with it, are free (WhenWhole) before the
// client has taken all. Of a response whose length is known that begins when no more than aheadMax is left, and only if
// there is room for all of it; of another one up to aheadStream is read ahead, as it comes. Where the room of the
// process is used up the server waits for the client.
//
// The plain version of CopyBody reads and writes by turns.
const (
	aheadMax    = 1<<20 + bigSize // a body of 1 MiB and its head
	aheadStream = 256 << 10
	aheadTotal  = 32 << 20
)

// aheadUsed is how many bytes all connections of the process hold or have reserved.
var aheadUsed atomic.Int64

// takeAhead reserves n bytes, if there is room for them.
func takeAhead(n int) bool {
	if aheadUsed.Add(int64(n)) <= aheadTotal {
		return true
	}
	giveAhead(n)
	return false
}

func giveAhead(n int) { aheadUsed.Add(-int64(n)) }

// ahead is what was read of a response and is still to be written. One goroutine adds, another writes.
type ahead struct {
	out *output
	u   *UpConn

	mu      sync.Mutex // guards what follows
	moved   sync.Cond  // the writer has written something or has ended
	blocks  [][]byte   // all but the last are full; never none once there was one
	off     int        // of the first, already written
	size    int        // bytes of all blocks
	granted int        // reserved and not in blocks yet
	want    int        // known bytes to come
	spilled bool       // out.spill is to be sent first
	writing bool       // the goroutine runs
	let     bool       // u is no longer ours
	err     error      // of the writer
}

// readsAhead makes room to keep have bytes that out did not take, and the left ones of a body of known length. nil when
// that is too much.
func readsAhead(out *output, u *UpConn, have int, left int64) *ahead {
	if left > aheadMax || have+int(left) > aheadMax {
		return nil
	}
	want := have + int(left)
	granted := want / bigSize * bigSize
	if rest := want % bigSize; rest > 0 {
		granted += aheadBlock(rest)
	}
	if !takeAhead(granted) {
		return nil
	}
	a := &ahead{out: out, u: u, granted: granted, want: want}
	a.moved.L = &a.mu
	return a
}

// aheadBlock is the size of the block that the next n bytes are put into.
func aheadBlock(n int) int {
	if n <= inSize {
		return inSize
	}
	return bigSize
}

// space gives a block with room at its end, nil when there is no room. a.mu is held.
func (a *ahead) space() *[]byte {
	if last := len(a.blocks) - 1; last >= 0 && len(a.blocks[last]) < cap(a.blocks[last]) {
		return &a.blocks[last]
	}
	n := aheadBlock(a.want)
	switch {
	case n <= a.granted:
		a.granted -= n
	case a.size+n > aheadStream || !takeAhead(n):
		return nil
	}
	a.size += n
	a.blocks = append(a.blocks, takeBuffer(n)[:0])
	return &a.blocks[len(a.blocks)-1]
}

// add keeps p, to be written behind what is there. When there is no room it waits for the client. An error is the
// writer's.
func (a *ahead) add(p []byte) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(p) > 0 && a.err == nil {
		b := a.space()
		if b == nil {
			a.start()
			a.moved.Wait()
			continue
		}
		n := min(len(p), cap(*b)-len(*b))
		*b = append(*b, p[:n]...)
		p = p[n:]
		a.want -= n
	}
	a.start()
	return a.err
}

// begin runs the writer.
func (a *ahead) begin() {
	a.mu.Lock()
	a.start()
	a.mu.Unlock()
}

// start runs the writer if there is something to be written. a.mu is held.
func (a *ahead) start() {
	if !a.writing && a.err == nil && a.unwritten() {
		a.writing = true
		go a.write()
	}
}

// unwritten tells that there is something to be written. a.mu is held.
func (a *ahead) unwritten() bool {
	return a.spilled || len(a.blocks) > 0 && a.off < len(a.blocks[0])
}

// write writes until there is nothing left.
func (a *ahead) write() {
	defer func() {
		if v := recover(); v != nil {
			a.wrote(0, fmt.Errorf("http1: panic while writing to a client: %v", v))
		}
	}()
	for p, more := a.next(); more; p, more = a.next() {
		a.wrote(len(p), a.out.write(p))
	}
}

// next is what is to be written next, nothing but what out has kept at first if there is that; false ends the writer.
func (a *ahead) next() (p []byte, more bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.writing = a.err == nil && a.unwritten(); !a.writing {
		a.moved.Signal()
		return nil, false
	}
	if a.spilled {
		a.spilled = false
		return nil, true
	}
	return a.blocks[0][a.off:], true
}

// wrote takes n bytes off. When the client fails, whoever reads ahead for it need not wait for the server.
func (a *ahead) wrote(n int, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err = err; err != nil {
		if a.writing = false; !a.let {
			a.u.Cancel()
		}
	} else if a.off += n; n > 0 && a.off == len(a.blocks[0]) {
		a.off = 0
		if len(a.blocks) == 1 {
			a.blocks[0] = a.blocks[0][:0]
		} else {
			a.drop()
		}
	}
	a.moved.Signal()
}

// drop gives the first block back. a.mu is held.
func (a *ahead) drop() {
	b := a.blocks[0]
	a.blocks[0] = nil
	a.blocks = a.blocks[1:]
	a.size -= cap(b)
	giveAhead(cap(b))
	giveBuffer(b)
}

// drained tells that all was written and the writer has ended.
func (a *ahead) drained() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.writing && a.err == nil
}

// failed is why the writer has ended.
func (a *ahead) failed() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

// letGo tells that u is given up.
func (a *ahead) letGo() {
	a.mu.Lock()
	a.let = true
	a.mu.Unlock()
}

// join waits until all is written.
func (a *ahead) join() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.writing {
		a.moved.Wait()
	}
	return a.err
}

// close gives the memory back. The writer has ended.
func (a *ahead) close() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.blocks) > 0 {
		a.drop()
	}
	giveAhead(a.granted)
	a.granted = 0
}

// readAhead goes on with the body of u after the client's socket took no more. n counts body bytes; whole tells that
// these were the last. When it is false and there is no error the client has caught up, or it has to be waited for and
// was.
func (c *Conn) readAhead(u *UpConn, first func()) (n int64, whole bool, err error) {
	if !c.setStalled(true) {
		return 0, false, ErrCanceled
	}
	defer c.setStalled(false)
	o, b := &c.out, &u.body
	a := o.ahead
	if a == nil {
		left := int64(0)
		if b.kind == bodyLength {
			left = b.left
		}
		if a = readsAhead(o, u, partsLen(&o.parts), left); a == nil {
			o.eager = false
			if err := o.writeParts(); err != nil {
				return 0, false, c.writeFailed(err)
			}
			o.eager = true
			return 0, false, nil
		}
	}
	parts := o.parts
	o.ahead, o.parts, o.eager = nil, [3][]byte{}, false
	a.spilled = o.spill.kept()
	defer func() {
		if a.failed() == nil && !a.drained() { // the server failed, or a panic
			c.Abort()
			_ = a.join()
		}
		a.close()
	}()
	for _, p := range parts {
		_ = a.add(p) // there is room for it; errors stay
	}
	a.begin()
	for {
		view, err := b.next(nil, maxInt)
		if failed := a.failed(); failed != nil {
			return n, false, c.writeFailed(failed)
		}
		if err == io.EOF {
			if u.whole != nil && len(b.trailers) == 0 {
				c.setStalled(false)
				a.letGo()
				u.whole()
			}
			if err := a.join(); err != nil {
				return n, true, c.writeFailed(err)
			}
			return n, true, nil
		}
		if err != nil {
			return n, false, err
		}
		if n == 0 && first != nil {
			first()
		}
		n += int64(len(view))
		if a.drained() {
			o.eager = true
			return n, false, c.putBoth(view, nil)
		}
		if drop, err := c.account(len(view)); drop || err != nil {
			return n, false, err
		}
		if err := a.addFramed(view, o.chunked); err != nil {
			return n, false, c.writeFailed(err)
		}
	}
}

// addFramed adds p, as a chunk when chunked.
func (a *ahead) addFramed(p []byte, chunked bool) error {
	if !chunked {
		return a.add(p)
	}
	var size [20]byte
	_ = a.add(appendChunkSize(size[:0], len(p)))
	_ = a.add(p)
	return a.add(crlf)
}

// setStalled makes clientLeft end writes that wait while the server has more to say: nobody will get the rest. False
// when it was called before.
func (c *Conn) setStalled(on bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stalled = on
	return c.goneFunc == nil || !c.gone.Load()
}
