package scaler

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/balancer"
	"sluice/scaler/vertical"
)

const (
	listTimeout  = 10 * time.Second // for one listing
	scaleTimeout = 30 * time.Second // for one call of Scale
	listSettled  = 5 * time.Second  // between listings while nothing is to do
	listBusy     = 900 * time.Millisecond
	engineMost   = 15 * time.Second // the longest pause after failed calls: a restarted engine is soon found
)

// engine is the loop's side of the driver: at most one call at a time, in a goroutine of its own.
type engine struct {
	results chan call // capacity 1
	calling string    // "" when no call is under way
	since   time.Time // of that call
	fails   int       // calls in a row without an answer
	failing string    // the kind of those calls
	until   time.Time // pause after them
	why     string
	refused bool // the last of them wrapped ErrRefused
	errors  uint64
	last    call // the last Scale
}

// call is one call of the driver and its result.
type call struct {
	kind    string // list, scale, allow or resize
	n       int
	victims []string
	at      time.Time
	list    []Replica
	allowed Allowances
	to      vertical.Resources // of resize, for the one victim
	why     string             // the same in words
	err     error
}

// launch starts a call. The context ends it; a driver that does not heed that keeps scaling frozen, and
// nothing else.
func (l *Loop) launch(ctx context.Context, c call) {
	l.engine.calling, l.engine.since = c.kind, c.at
	limit := listTimeout
	switch c.kind {
	case "scale":
		l.engine.last = c
		limit = scaleTimeout
	case "resize":
		limit = scaleTimeout
	}
	go func() {
		ctx, cancel := context.WithTimeout(ctx, limit)
		defer cancel()
		c.err = balancer.Guard(l.log, "call of the engine: "+c.kind, func() (err error) {
			switch c.kind {
			case "scale":
				return l.driver.Scale(ctx, c.n, c.victims)
			case "allow":
				c.allowed, err = l.resizer.Allowances(ctx)
			case "resize":
				return l.resizer.Resize(ctx, c.victims[0], c.to)
			default:
				c.list, err = l.driver.List(ctx)
			}
			return err
		})
		l.engine.results <- c
	}()
}

// took takes the result of a call.
func (l *Loop) took(c call, now time.Time) {
	e := &l.engine
	e.calling = ""
	if c.kind == "allow" || c.kind == "resize" { // the number of replicas does not depend on it
		l.fitted(c, now)
		return
	}
	if c.kind == "scale" {
		l.listed = time.Time{}
	}
	if c.err != nil && !errors.Is(c.err, ErrStart) {
		e.errors++
		e.fails++
		e.until = now.Add(pause(e.fails, engineMost))
		why := c.err.Error()
		if errors.Is(c.err, context.DeadlineExceeded) {
			why = "no answer within " + words(now.Sub(c.at))
		}
		if e.fails == 1 || why != e.why {
			l.tell(Event{At: now, Kind: "engine", Reason: "the engine does not " + c.kind + ": " + why})
		}
		e.why, e.failing = why, c.kind
		if e.refused = errors.Is(c.err, ErrRefused); e.refused {
			for id := range l.drains { // nothing goes: what was to go serves on
				l.cancelDrain(id)
			}
		}
		return
	}
	if c.kind == e.failing { // that a listing works says nothing of Scale
		l.recovered(now)
	}
	if c.err != nil {
		e.errors++
		l.failed(c.at, c.err.Error(), now)
		return
	}
	if c.kind == "list" {
		l.replicas, l.listed, l.everListed = c.list, now, true
	}
}

// recovered ends the count of failed calls.
func (l *Loop) recovered(now time.Time) {
	if e := &l.engine; e.fails > 0 {
		e.fails, e.why, e.failing = 0, "", ""
		l.tell(Event{At: now, Kind: "engine", Reason: "the engine answers again"})
	}
}

// repeats reports whether the same was asked less than a second ago: the engine has yet to show it.
func (e *engine) repeats(c call) bool {
	return !e.last.at.IsZero() && c.n == e.last.n && slices.Equal(c.victims, e.last.victims) && c.at.Sub(e.last.at) < time.Second
}

// pause is 1 s after the first failure in a row, doubling up to most.
func pause(fails int, most time.Duration) time.Duration {
	return min(time.Second<<min(fails-1, 20), most)
}

// trouble is Status.Failure.
func (l *Loop) trouble(now time.Time) string {
	e := &l.engine
	switch {
	case l.failures.n > 0:
		return l.failures.words()
	case e.fails > 0 && e.refused:
		return e.why
	case e.fails > 0:
		return fmt.Sprintf("the engine does not answer (%d calls failed): %s", e.fails, e.why)
	case e.calling != "" && now.Sub(e.since) > scaleTimeout:
		return fmt.Sprintf("the engine has not answered for %s (%s)", words(now.Sub(e.since)), e.calling)
	case l.failures.crashes >= startFailsMost:
		return fmt.Sprintf("%d replicas in a row crashed soon after they were ready, the last: %s", l.failures.crashes, l.failures.crashWhy)
	}
	return ""
}
