package http1

// Lulls of streams.
//
// A response whose length is not known may be a stream of events, silent most of the time, and there may be thousands of them. So
// nothing but the goroutine and what it needs of the two heads is held while more of such a response is waited for:
//
//   - no buffer to write with;
//   - none to read from the server with: it is taken when something has come (input.first);
//   - of the response's head, which has been passed on, no more than Head.forget leaves;
//   - the request's head, which is still logged, in the smallest buffer that it fits.
//
// The plain version of lull is empty, and lulls is false.

// lull is called before each wait for more of such a response. Slices that Head gave before are not valid after it.
func (c *Conn) lull() {
	c.out.release()
	c.out.parts = [3][]byte{} // all was written; what is left of them points into buffers
	in := &c.in
	if c.body.lent || !c.body.eof || len(in.b) <= headSize { // more of the request is to come, or this was done
		return
	}
	in.dropBody()
	in.fit()
	c.head.buf = in.b[:in.head:in.head]
}

// lulls tells that what is read next can be waited for without a buffer, and lets go of the head that lies in it.
func (b *Body) lulls() bool {
	if b.up == nil || b.kind == bodyLength || b.in.raw == nil || len(b.in.unread()) > 0 {
		return false
	}
	h := b.head
	if h.trailerField >= 0 || IsGRPC(h) { // keepTrailers asks it again
		return false
	}
	h.forget()
	return true
}

// dropBody forgets what was used of the body behind the head.
func (in *input) dropBody() {
	in.keep = false
	in.end = in.head + copy(in.b[in.head:], in.b[in.pos:in.end])
	in.pos = in.head
}
