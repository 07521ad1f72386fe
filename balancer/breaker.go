package balancer

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/sony/gobreaker/v2"
)

// breaker is the circuit breaker of one server: gobreaker, with what picking needs to know of it in
// atomics. gobreaker turns half-open only when it is asked, so readiness compares openUntil with now.
// While it is closed it hears of failures alone: it takes its lock twice for a request, and all requests of a server
// would meet there. What went well is counted beside it, over the same time, for the ratio.
// A nil breaker is off.
type breaker struct {
	cfg       BreakerConfig
	circuit   *gobreaker.CircuitBreaker[struct{}]
	openUntil atomic.Int64 // 0 = closed; once passed, one request may try
	trial     atomic.Bool  // that request is under way
	halfOpen  atomic.Bool
	changes   atomic.Uint32 // of state: the last to be told of one, and the first to be asked
	successes Recent        // while closed
}

// newBreaker returns nil when cfg is nil. changed is called after each change of state.
func newBreaker(cfg *BreakerConfig, changed func()) *breaker {
	if cfg == nil {
		return nil
	}
	b := &breaker{cfg: *cfg}
	b.circuit = gobreaker.NewCircuitBreaker[struct{}](gobreaker.Settings{
		MaxRequests:  1,
		Interval:     RecentWindow,
		BucketPeriod: time.Second,
		Timeout:      cfg.OpenFor,
		ReadyToTrip: func(c gobreaker.Counts) bool {
			n := int(c.TotalFailures) + b.successes.Count(time.Now())
			return n >= max(cfg.MinRequests, 1) && float64(c.TotalFailures) >= cfg.FailureRatio*float64(n)
		},
		IsExcluded: func(err error) bool { return errors.Is(err, ErrCanceled) },
		OnStateChange: func(_ string, _, to gobreaker.State) {
			b.successes.Clear()
			switch to {
			case gobreaker.StateOpen:
				b.openUntil.Store(nanos(time.Now().Add(cfg.OpenFor)) + 1) // gobreaker lets through strictly after
			case gobreaker.StateClosed:
				b.openUntil.Store(0)
			}
			b.halfOpen.Store(to == gobreaker.StateHalfOpen)
			b.changes.Add(1)
			if changed != nil {
				go changed() // gobreaker holds its mutex here
			}
		},
	})
	return b
}

// lets reports whether the breaker would let a request through at now.
func (b *breaker) lets(now int64) bool {
	if b == nil {
		return true
	}
	until := b.openUntil.Load()
	return until == 0 || until <= now && !b.trial.Load()
}

func (b *breaker) execute(fn func() (time.Time, error)) error {
	if b == nil {
		_, err := fn()
		return err
	}
	changes := b.changes.Load()
	if b.openUntil.Load() != 0 {
		return b.try(fn)
	}
	ended, err := fn()
	switch {
	case b.changes.Load() != changes: // it was sent to a server of before
	case err == nil:
		b.successes.Add(ended)
	case !errors.Is(err, ErrCanceled):
		_, _ = b.circuit.Execute(func() (struct{}, error) { return struct{}{}, err })
	}
	return err
}

// try runs fn as the one request that is let through to a server whose breaker is not closed, once it is time.
func (b *breaker) try(fn func() (time.Time, error)) error {
	if !b.trial.CompareAndSwap(false, true) {
		return ErrBreakerOpen
	}
	defer b.trial.Store(false)
	_, err := b.circuit.Execute(func() (struct{}, error) {
		_, err := fn()
		return struct{}{}, err
	})
	if err == gobreaker.ErrOpenState || err == gobreaker.ErrTooManyRequests {
		return ErrBreakerOpen
	}
	return err
}

// state names what the breaker is in; "" for none.
func (b *breaker) state() string {
	switch {
	case b == nil:
		return ""
	case b.openUntil.Load() == 0:
		return "closed"
	case b.halfOpen.Load():
		return "half-open"
	}
	return "open"
}

func (b *breaker) why(now time.Time) string {
	if left := instant(b.openUntil.Load()).Sub(now); left > 0 {
		return fmt.Sprintf("circuit breaker open, %s left", left.Round(100*time.Millisecond))
	}
	return "circuit breaker half-open: one request tries"
}

// opensAt is when the breaker next lets a request try; 0 when it is closed or there is none.
func (b *breaker) opensAt() int64 {
	if b == nil {
		return 0
	}
	return b.openUntil.Load()
}
