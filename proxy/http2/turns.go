package http2

// turns is the queue of the streams that wait for the connection to send payload: each sends one frame and goes to the end. It
// is guarded by the link's mutex.
type turns struct{ first, last *Stream }

// place is a stream's place in turns.
type place struct {
	before, behind *Stream
	in             bool
}

func (t *turns) add(s *Stream) {
	if s.turn.in {
		return
	}
	s.turn = place{before: t.last, in: true}
	if t.last != nil {
		t.last.turn.behind = s
	} else {
		t.first = s
	}
	t.last = s
}

// remove is false when s was not in the queue.
func (t *turns) remove(s *Stream) bool {
	if !s.turn.in {
		return false
	}
	if s.turn.before != nil {
		s.turn.before.turn.behind = s.turn.behind
	} else {
		t.first = s.turn.behind
	}
	if s.turn.behind != nil {
		s.turn.behind.turn.before = s.turn.before
	} else {
		t.last = s.turn.before
	}
	s.turn = place{}
	return true
}
