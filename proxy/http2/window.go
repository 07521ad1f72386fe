package http2

// sendWindow is how many bytes the peer lets us send (RFC 9113 §6.9); a change of SETTINGS_INITIAL_WINDOW_SIZE may make it
// negative (§6.9.2).
type sendWindow int64

// add is false when the window would grow beyond what is legal.
func (w *sendWindow) add(n int64) bool {
	if int64(*w)+n > maxWindow {
		return false
	}
	*w += sendWindow(n)
	return true
}

// recvWindow is how many bytes we let the peer send. What it has sent and nobody has taken yet is what a buffer must hold:
// never more than size.
type recvWindow struct {
	size int64
	left int64 // may still come
	owed int64 // taken, and not granted again yet
}

func newRecvWindow(size int) recvWindow { return recvWindow{size: int64(size), left: int64(size)} }

// receive counts n bytes that have come; false when they are more than was granted.
func (w *recvWindow) receive(n int) bool {
	if int64(n) > w.left {
		return false
	}
	w.left -= int64(n)
	return true
}

// taken counts n bytes that need no room any more. It returns by how much the window is to be opened again: 0 until that
// is worth a frame.
func (w *recvWindow) taken(n int) uint32 {
	w.owed += int64(n)
	if w.owed < w.size/2 {
		return 0
	}
	grant := w.owed
	w.owed = 0
	w.left += grant
	return uint32(grant)
}
