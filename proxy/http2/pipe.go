package http2

// pipe holds what has come of a body and was not read yet, in pooled blocks. The flow-control window bounds it: bytes of
// small frames lie close together. It is guarded by the connection's mutex.
type pipe struct {
	blocks [][]byte // all but the last are full
	off    int      // of the first, already read
	size   int      // bytes to be read
}

func (b *pipe) write(p []byte) {
	b.size += len(p)
	for len(p) > 0 {
		last := len(b.blocks) - 1
		if last < 0 || len(b.blocks[last]) == cap(b.blocks[last]) {
			n := smallSize
			if last >= 0 || len(p) > smallSize {
				n = frameSize
			}
			b.blocks = append(b.blocks, takeBuffer(n)[:0])
			last++
		}
		block := b.blocks[last]
		n := min(len(p), cap(block)-len(block))
		b.blocks[last] = append(block, p[:n]...)
		p = p[n:]
	}
}

func (b *pipe) read(p []byte) (n int) {
	for n < len(p) && b.size > 0 {
		block := b.blocks[0]
		took := copy(p[n:], block[b.off:])
		n += took
		b.size -= took
		if b.off += took; b.off == len(block) {
			b.off = 0
			giveBuffer(block)
			last := copy(b.blocks, b.blocks[1:])
			b.blocks[last] = nil
			b.blocks = b.blocks[:last]
		}
	}
	return n
}

// drop gives all blocks back and returns how many bytes nobody will read.
func (b *pipe) drop() (unread int) {
	unread = b.size
	for _, block := range b.blocks {
		giveBuffer(block)
	}
	*b = pipe{}
	return unread
}
