package balancer

import "time"

// Acquire gives the request a slot on a ready server, or lets it wait in the queue until one is
// free. It blocks at most queue.timeout, or what stands for it, and not beyond t.Deadline. On nil, t.Server() has one slot that Release must give back;
// any other result (ErrNoHealthyServer, ErrBreakerOpen, ErrQueueFull, ErrQueueTimeout, ErrCanceled,
// ErrDraining) leaves nothing to give back.
func (u *Upstream) Acquire(t *Ticket, now time.Time) error {
	if u.TryAcquire(t, now) {
		return nil
	}
	return u.wait(t, nanos(now))
}

// TryAcquire is Acquire for those who would not wait: false when there is no slot at once, or others wait for one.
func (u *Upstream) TryAcquire(t *Ticket, now time.Time) bool {
	at := nanos(now)
	t.waited, t.after, t.excess = 0, 0, false
	if u.queue.waiting.Load() > 0 { // nobody is passed over
		return false
	}
	s := u.set.Load().pick(t, u.cfg.Load(), at)
	if s == nil {
		return false
	}
	t.begin(s, at)
	u.meter.startedAtOnce(at)
	return true
}

// wait joins the queue and stays until a slot is handed over, time is up or the client has left.
func (u *Upstream) wait(t *Ticket, at int64) error {
	cfg := u.cfg.Load()
	t.patience = u.patience(cfg, at)
	if !t.Deadline.IsZero() {
		t.patience = max(min(t.patience, time.Duration(nanos(t.Deadline)-at)), 0)
	}
	if t.granted == nil {
		t.granted = make(chan struct{}, 1)
		t.timer = time.NewTimer(t.patience)
	} else {
		t.timer.Reset(t.patience)
	}
	defer t.timer.Stop()
	if err := u.enqueue(t, cfg, at); err != nil {
		u.meter.refusedAtOnce(at, t.excess)
		return err
	}
	select {
	case <-t.granted:
	case <-t.timer.C:
		u.leave(t, ErrQueueTimeout)
		<-t.granted
	}
	return t.err
}

// patience is how long a request that joins the queue now may wait.
func (u *Upstream) patience(cfg *Config, at int64) time.Duration {
	if !u.elastic.Load() || u.set.Load().serves(at) {
		return cfg.Queue.usual()
	}
	return cfg.Queue.cold(time.Duration(u.start.Load()))
}

// enqueue puts t into the queue and sees whether it can be served at once after all: a slot
// may have become free between the look without the mutex and this one.
func (u *Upstream) enqueue(t *Ticket, cfg *Config, at int64) error {
	q := &u.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if t.canceled {
		return ErrCanceled
	}
	if q.closed {
		return ErrDraining
	}
	why := u.set.Load().hopeless(at)
	if why != nil {
		if !u.elastic.Load() {
			if due := u.set.Load().comeback(at); due != 0 {
				t.after = time.Duration(due - at)
			}
			return why
		}
		select {
		case u.wake <- struct{}{}:
		default:
		}
	}
	if err := u.admit(t, cfg, at); err != nil {
		return err
	}
	q.push(t, at)
	u.meter.queued(at, q.crowd.excess())
	u.dispatch(at)
	if t.queued && cfg.Queue.Size == 0 { // a queue of size 0 still serves what finds a free slot
		u.settle(t, nil, ErrQueueFull, at)
	}
	return nil
}

// admit lets t join those that wait, or says why not: there is no place for it, or no slot would become free
// in the time it may wait, which is better said now than then. The first in the queue is never sent away by
// a prediction. The caller holds the queue's mutex.
func (u *Upstream) admit(t *Ticket, cfg *Config, at int64) error {
	q := &u.queue
	if q.waiting.Load() == 0 {
		return nil
	}
	wait, known := u.forecast(t, cfg, at)
	if t.after = wait; known {
		if wait > t.patience && q.ahead(t) > 0 {
			t.excess = q.crowd.greedy(t.FairKey, at)
			return ErrQueueTimeout
		}
	}
	evict, ok := q.room(t, cfg.Queue.Size)
	if !ok {
		t.excess = q.crowd.greedy(t.FairKey, at)
		return ErrQueueFull
	}
	if evict != nil {
		evict.after = wait
		u.settle(evict, nil, ErrQueueFull, at)
	}
	return nil
}

// leave takes a request that no longer waits out of the queue; nothing if it was just served.
func (u *Upstream) leave(t *Ticket, why error) {
	u.queue.mu.Lock()
	defer u.queue.mu.Unlock()
	if t.queued {
		at := nanos(time.Now())
		u.settle(t, nil, why, at)
		t.after, _ = u.forecast(t, u.cfg.Load(), at)
	}
}

// Cancel makes a waiting Acquire of t return ErrCanceled, and a later one that would have to wait,
// until the ticket's Reset. It may be called from any goroutine.
func (u *Upstream) Cancel(t *Ticket) {
	u.queue.mu.Lock()
	defer u.queue.mu.Unlock()
	t.canceled = true
	if t.queued {
		u.settle(t, nil, ErrCanceled, nanos(time.Now()))
	}
}

// Release gives the slot of a successful Acquire back, exactly once, with what the request says of its
// server. The slot goes to the request that waits and is next before it becomes free for any other.
func (u *Upstream) Release(t *Ticket, o Outcome, now time.Time) {
	at, s := nanos(now), t.server
	s.report(o, now)
	u.meter.finished(at, at-t.started)
	more := u.learnFrom(t, o, at)
	handed := u.queue.waiting.Load() > 0 && u.handOver(s, at)
	if !handed {
		s.give()
	}
	if (more || !handed) && u.queue.waiting.Load() > 0 { // one came between the look and the giving
		u.changed(now)
	}
}

// handOver gives the slot, still counted, to the next request in the queue that may have it.
func (u *Upstream) handOver(s *Server, at int64) bool {
	q := &u.queue
	q.mu.Lock()
	defer q.mu.Unlock()
	if limit := s.slots.Load(); !s.ready(at) || limit != 0 && s.inFlight.Load() > limit {
		return false
	}
	set := u.set.Load()
	w := q.walk(at, u.cfg.Load().Queue.usual())
	for t := w.next(); t != nil; t = w.next() {
		if t.avoids(s) {
			continue
		}
		if bound := set.sticky[t.Sticky]; t.Sticky != 0 && bound != nil && bound != s && bound.ready(at) {
			continue
		}
		u.settle(t, s, nil, at)
		return true
	}
	return false
}

// changed is called when something may have become possible, or impossible, for those who wait.
func (u *Upstream) changed(now time.Time) {
	if u.queue.waiting.Load() == 0 {
		return
	}
	u.queue.mu.Lock()
	defer u.queue.mu.Unlock()
	at := nanos(now)
	u.dispatch(at)
	if u.queue.waiting.Load() == 0 {
		return
	}
	why := u.set.Load().hopeless(at)
	if why == nil {
		return
	}
	if u.elastic.Load() {
		select {
		case u.wake <- struct{}{}:
		default:
		}
		return
	}
	for t := u.queue.any(); t != nil; t = u.queue.any() {
		u.settle(t, nil, why, at)
	}
}

// dispatch serves those who wait, in order, as long as there are slots. The caller holds the queue's
// mutex.
func (u *Upstream) dispatch(at int64) {
	set, cfg := u.set.Load(), u.cfg.Load()
	for u.queue.waiting.Load() > 0 {
		t, s := u.nextServed(set, cfg, at)
		if t == nil {
			u.askAgain(set.comeback(at), at)
			return
		}
		u.settle(t, s, nil, at)
	}
}

// nextServed takes a slot for the first of those who wait that there is one for.
func (u *Upstream) nextServed(set *Set, cfg *Config, at int64) (*Ticket, *Server) {
	w := u.queue.walk(at, cfg.Queue.usual())
	for t := w.next(); t != nil; t = w.next() {
		if s := set.pick(t, cfg, at); s != nil {
			return t, s
		}
		if t.Sticky == 0 && t.avoided == 0 {
			break // what it cannot have nobody behind it can, but one bound to a server
		}
	}
	return nil, nil
}

// askAgain looks at the queue again when an ejected server or an open breaker is due, which nobody
// else would tell. The caller holds the queue's mutex.
func (u *Upstream) askAgain(due, at int64) {
	if due == 0 || u.queue.closed {
		return
	}
	wait := time.Duration(due-at) + time.Millisecond
	if u.queue.comeback == nil {
		u.queue.comeback = time.AfterFunc(wait, func() { u.changed(time.Now()) })
		return
	}
	u.queue.comeback.Reset(wait)
}
