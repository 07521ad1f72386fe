package proxy

import (
	"errors"
	"sync"
	"time"

	"sluice/proxy/http1"
)

// overdue ends the exchange of a call with its server at the end of the call's time. Its timer is kept with the exchange, and may fire when
// that serves another call already.
type overdue struct {
	mu     sync.Mutex // guards what follows
	cancel *http1.Cancel
	at     time.Time // zero: not armed
	passed bool
	timer  *time.Timer
}

// arm makes fire cancel c at that time.
func (o *overdue) arm(c *http1.Cancel, at time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.cancel, o.at, o.passed = c, at, false
	if o.timer == nil {
		o.timer = time.AfterFunc(time.Until(at), o.fire)
	} else {
		o.timer.Reset(time.Until(at))
	}
}

func (o *overdue) fire() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.at.IsZero() {
		return
	}
	if left := time.Until(o.at); left > 0 { // it was for the call before
		o.timer.Reset(left)
		return
	}
	o.passed = true
	o.cancel.Cancel()
}

// disarm ends what arm began: nothing is canceled after it.
func (o *overdue) disarm() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.at = time.Time{}
	o.timer.Stop()
}

// canceled tells that the time is over, and the exchange canceled because of that.
func (o *overdue) canceled() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.passed
}

// canceledLate tells that err is that of an exchange whose call had no more time.
func (x *Exchange) canceledLate(err error) bool {
	return !x.ticket.Deadline.IsZero() && errors.Is(err, http1.ErrCanceled) && x.overdue.canceled()
}
