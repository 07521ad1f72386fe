package balancer

import "time"

// Ticket is one request's way to a slot: what it asks for, its place in the queue and what it got.
// A ticket belongs to one request at a time and is used again after Reset; the zero value is ready.
// All but Upstream.Cancel is for the goroutine that serves the request.
type Ticket struct {
	// Key is what the hash policy hashes, from HashString or HashBytes.
	Key uint64
	// Sticky is the StickyID of the server the client is bound to; 0 is none. While that server is
	// ready the request goes nowhere else; when it is busy it waits for it.
	Sticky uint64
	// Priority orders it among those that wait.
	Priority Priority
	// FairKey is whom the request is for, among those that share the queue fairly; 0 is nobody in particular.
	FairKey uint64
	// Deadline is when the request is of no use any more: it waits no longer, and gets ErrQueueTimeout; zero is no deadline.
	Deadline time.Time

	server  *Server
	avoid   [4]*Server // the latest servers that failed this request
	avoided int
	waited  time.Duration
	started int64 // when the slot was taken
	load    int   // in flight on the server then, this one included
	choice  choice
	// excess: refused while its key had as many waiting as all others together.
	excess bool
	// answered: FirstByte was called.
	answered bool

	// While it waits, guarded by the queue's mutex.
	links    [listKinds]links
	queued   bool
	canceled bool          // by Cancel, also before it waits
	since    int64         // joined the queue
	patience time.Duration // how long it may wait
	err      error
	after    time.Duration // see RetryAfter
	granted  chan struct{} // capacity 1
	timer    *time.Timer
}

// begin notes the slot that was just taken on s.
func (t *Ticket) begin(s *Server, at int64) {
	t.server, t.started, t.load, t.answered, t.after = s, at, s.InFlight(), false, 0
}

// Server is the one that Acquire chose; nil before.
func (t *Ticket) Server() *Server { return t.server }

// Waited is the time spent in the queue by the last Acquire.
func (t *Ticket) Waited() time.Duration { return t.waited }

// RetryAfter is how long the last Acquire, which failed, would have had to wait as far as can be told: for its turn in
// the queue, or until an ejected server or one with an open breaker is tried again; 0 when nothing is known.
func (t *Ticket) RetryAfter() time.Duration { return t.after }

// Avoid asks the next Acquire for another server than s, if there is one.
func (t *Ticket) Avoid(s *Server) {
	if t.avoided == len(t.avoid) {
		copy(t.avoid[:], t.avoid[1:])
		t.avoided--
	}
	t.avoid[t.avoided] = s
	t.avoided++
}

// Again reports whether the server that Acquire chose is one that was to be avoided: there was no other.
func (t *Ticket) Again() bool { return t.server != nil && t.avoids(t.server) }

func (t *Ticket) avoids(s *Server) bool {
	for _, a := range t.avoid[:t.avoided] {
		if a == s {
			return true
		}
	}
	return false
}

// Reset makes the ticket ready for the next request. It keeps its channel and timer. Nobody may call
// Cancel meanwhile.
func (t *Ticket) Reset() {
	t.Key, t.Sticky, t.Priority, t.FairKey = 0, 0, PriorityNormal, 0
	t.server, t.waited, t.after, t.canceled, t.Deadline = nil, 0, 0, false, time.Time{}
	clear(t.avoid[:])
	t.avoided = 0
}
