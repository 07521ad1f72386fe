package peers

import (
	"context"
	"errors"
	"sync"
	"time"
)

// Lease is the right to act for all gateways, held by one at a time.
//
// A holder renews it every second and acts no longer than termValid after it began its last successful
// renewal; others take it over only when that time is certainly over. Only durations on the monotonic
// clock count, on both sides: no time of day is ever compared, so clocks may differ and jump.
type Lease interface {
	// Hold waits until this gateway has the lease and begins a term, which renews itself. It returns an
	// error only when ctx ends. One call at a time, and none while a term lasts. ctx bounds the wait and
	// not the term.
	Hold(ctx context.Context) (*Term, error)
}

const (
	renewEvery = time.Second
	// termValid is how long a holder may act after the start of a renewal.
	termValid = 3 * time.Second
	// staleAfter is how long others must have seen no renewal before they take over. A renewal is seen
	// after it was begun, so the difference is a margin; together with the polls a new holder begins
	// within 10 s, also where it has to wait termValid first.
	staleAfter = 4 * time.Second
)

// ErrLost is why an act is refused or ended: the lease is not held, or not held any more.
var ErrLost = errors.New("the lease that lets this gateway act is not held")

// Term is one time of holding a lease. All methods may be called concurrently; those of a nil Term say
// that nothing is held.
type Term struct {
	number uint64
	ended  chan struct{}

	mu    sync.Mutex // guards all below
	until time.Time
	over  bool
	timer *time.Timer // ends the term at until
	acts  sync.WaitGroup

	stop chan struct{} // closed by Release
	gone chan struct{} // closed when the lease is given up
}

// newTerm begins a term whose first renewal, the acquisition, began at start.
func newTerm(number uint64, start time.Time) *Term {
	t := &Term{number: number, ended: make(chan struct{}), stop: make(chan struct{}), gone: make(chan struct{})}
	t.until = start.Add(termValid)
	t.timer = time.AfterFunc(time.Until(t.until), t.end)
	return t
}

// Number grows with every term, whoever holds it: of two that claim to act, the higher is right.
func (t *Term) Number() uint64 {
	if t == nil {
		return 0
	}
	return t.number
}

// Valid reports whether the holder may act now. A process that was stopped and goes on finds it false at
// once, before it has heard of anything.
func (t *Term) Valid() bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.valid(time.Now())
}

func (t *Term) valid(now time.Time) bool { return !t.over && now.Before(t.until) }

// Done is closed when the term is over.
func (t *Term) Done() <-chan struct{} { return t.ended }

// Act begins something that only the holder may do: to be done within ctx, which ends with the term, and
// told when it is done. ErrLost when the term is over. The lease is not given up while an act lasts.
func (t *Term) Act(parent context.Context) (ctx context.Context, done func(), err error) {
	if t == nil {
		return nil, nil, ErrLost
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.valid(time.Now()) {
		return nil, nil, ErrLost
	}
	t.acts.Add(1)
	ctx, cancel := context.WithCancelCause(parent)
	over := make(chan struct{})
	go func() {
		select {
		case <-t.ended:
			cancel(ErrLost)
		case <-over:
		}
	}()
	return ctx, sync.OnceFunc(func() {
		close(over)
		cancel(nil)
		t.acts.Done()
	}), nil
}

// Release ends the term and gives the lease up, so that another may begin at once; it waits for the acts
// under way and until that is done.
func (t *Term) Release() {
	if t == nil {
		return
	}
	t.mu.Lock()
	select {
	case <-t.stop:
	default:
		close(t.stop)
	}
	t.mu.Unlock()
	t.end()
	<-t.gone
}

func (t *Term) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.over {
		t.over = true
		t.timer.Stop()
		close(t.ended)
	}
}

// extend takes a renewal that began at start. False: it came too late, the term was over before.
func (t *Term) extend(start time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); !t.valid(now) {
		return false
	}
	t.until = start.Add(termValid)
	t.timer.Reset(time.Until(t.until))
	return true
}

// keep renews the term until it is over, then gives the lease up when nothing acts any more. renew
// returns ErrLost when another has the lease; any other error is tried again while the term lasts.
func (t *Term) keep(renew func(ctx context.Context) error, giveUp func()) {
	defer close(t.gone)
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for lasts := true; lasts; {
		select {
		case <-t.ended:
			lasts = false
		case <-tick.C:
			lasts = t.renew(renew)
		}
	}
	t.end()
	t.acts.Wait()
	giveUp()
}

func (t *Term) renew(renew func(ctx context.Context) error) bool {
	start := time.Now()
	t.mu.Lock()
	valid, until := t.valid(start), t.until
	t.mu.Unlock()
	if !valid {
		return false
	}
	ctx, cancel := context.WithDeadline(context.Background(), until)
	err := renew(ctx)
	cancel()
	switch {
	case err == nil:
		return t.extend(start)
	case errors.Is(err, ErrLost):
		return false
	}
	return t.Valid()
}

// pause waits for d or until ctx ends.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
