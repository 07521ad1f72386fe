package balancer

import (
	"sync"
	"sync/atomic"
	"time"
)

// queue is the requests that wait for a slot. Which is next is said by Priority, among those of one
// priority by class, and within one key by the arrival.
type queue struct {
	waiting atomic.Int64 // length, readable without the mutex

	mu       sync.Mutex // guards all below and the queue fields of the tickets in it
	classes  [3]class   // by rank
	turns    uint64     // so many requests were served
	crowd    crowd
	closed   bool
	comeback *time.Timer // asks again when an ejected server is due; nil until first needed
}

func (q *queue) start() {
	for rank := range q.classes {
		q.classes[rank].start(rank)
	}
}

func (q *queue) class(t *Ticket) *class { return &q.classes[t.Priority.rank()] }

func (q *queue) push(t *Ticket, now int64) {
	t.queued, t.since, t.err = true, now, nil
	q.class(t).push(t)
	q.crowd.add(t.FairKey, now)
	q.waiting.Add(1)
}

func (q *queue) remove(t *Ticket, served bool) {
	c := q.class(t)
	c.remove(t, served)
	if served {
		q.turns++
		c.turn = q.turns
	}
	t.queued = false
	q.waiting.Add(-1)
}

// settle takes t out of the queue and wakes its request, with a slot on s or with an error.
func (u *Upstream) settle(t *Ticket, s *Server, err error, at int64) {
	u.queue.remove(t, err == nil)
	u.queue.crowd.drop(t.FairKey, at)
	waited, e := max(at-t.since, 0), u.queue.crowd.excess()
	t.server, t.err, t.waited = s, err, time.Duration(waited)
	if err == nil {
		t.begin(s, at)
		u.meter.startedAfter(at, waited, e)
	} else {
		u.meter.left(at, e)
	}
	t.granted <- struct{}{}
}

// any is one of those that wait, nil when nobody does.
func (q *queue) any() *Ticket {
	for i := range q.classes {
		if t := q.classes[i].all.first; t != nil {
			return t
		}
	}
	return nil
}

// read is since when the one that came first waits, 0 when nobody does, and how many wait by rank.
func (q *queue) read() (oldest int64, waiting [3]int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for rank := range q.classes {
		all := &q.classes[rank].all
		waiting[rank] = all.n
		if t := all.first; t != nil && (oldest == 0 || t.since < oldest) {
			oldest = t.since
		}
	}
	return oldest, waiting
}

// room makes sure that t may join a queue of size places, or reports that it may not. A full queue sends
// the last that came of the lowest priority away for one of a higher, and a key gets at most four times
// as many places as are left free, so that no key, and no n of them, can fill the queue against others
// (Choudhury and Hahne, "Dynamic Queue Length Thresholds", 1998).
func (q *queue) room(t *Ticket, size int) (evict *Ticket, ok bool) {
	free := size - int(q.waiting.Load())
	if t.FairKey != 0 {
		if n := q.class(t).line(t.FairKey).n; n > 0 && n >= greed*max(free, 0) {
			return nil, false
		}
	}
	if free > 0 {
		return nil, true
	}
	for rank := len(q.classes) - 1; rank > t.Priority.rank(); rank-- {
		if last := q.classes[rank].all.last; last != nil {
			return last, true
		}
	}
	return nil, false
}

const greed = 4

// ahead is how many of those that wait are served before t, if it joined now and nobody came after it.
func (q *queue) ahead(t *Ticket) int {
	rank := t.Priority.rank()
	n := q.classes[rank].ahead(t.FairKey)
	for i := range rank {
		n += q.classes[i].all.n
	}
	return n
}

// walk gives those that wait in the order in which they would be served at a time, the followers of a line
// right after its first. The queue must not change meanwhile.
type walk struct {
	order [3]*class
	n     int // how many classes are left, from the end of order
	head  *Ticket
	t     *Ticket
}

func (q *queue) walk(now int64, timeout time.Duration) (w walk) {
	step := ageStep(timeout)
	var height [3]int
	for i := range q.classes {
		c := &q.classes[i]
		if c.all.n == 0 {
			continue
		}
		h, at := c.height(now, step), w.n
		for ; at > 0; at-- { // sorted with the next one last
			o := w.order[at-1]
			if height[o.rank] > h || height[o.rank] == h && o.turn > c.turn {
				break
			}
			w.order[at] = o
		}
		w.order[at], height[c.rank] = c, h
		w.n++
	}
	return w
}

func (w *walk) next() *Ticket {
	if w.t != nil {
		if w.t = w.t.links[inLine].next; w.t == nil {
			w.head = w.head.links[byTurn].next
			w.t = w.head
		}
	}
	if w.t == nil && w.n > 0 {
		w.n--
		w.head = w.order[w.n].turns.first
		w.t = w.head
	}
	return w.t
}
