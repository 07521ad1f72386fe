package http2

import (
	"sync"
	"time"
)

// deadline bounds one direction of a stream. Its timer is armed only when somebody waits, and left running then: a fast exchange
// needs none. It is guarded by the mutex of the condition that is waited for.
type deadline struct {
	at     time.Time // zero: none
	trying bool      // the time of what waits is short
	tryEnd time.Time // when it is over; zero: nothing has waited yet
	armed  time.Time // when the timer will fire; zero: it will not
	timer  *time.Timer
}

// tryTime is how long a try waits: a quick client makes room within less.
const tryTime = 10 * time.Millisecond

func (d *deadline) passed() bool {
	end := d.end()
	return !end.IsZero() && !time.Now().Before(end)
}

// end is when waiting is over; zero: never.
func (d *deadline) end() time.Time {
	if d.at.IsZero() || !d.tryEnd.IsZero() && d.tryEnd.Before(d.at) {
		return d.tryEnd
	}
	return d.at
}

// wait waits for cond, at most until the deadline; the caller looks why it was woken.
func (d *deadline) wait(cond *sync.Cond) {
	if d.trying && d.tryEnd.IsZero() {
		d.tryEnd = time.Now().Add(tryTime)
	}
	if end := d.end(); !end.IsZero() && (d.armed.IsZero() || end.Before(d.armed)) {
		d.armed = end
		if d.timer == nil {
			d.timer = time.AfterFunc(time.Until(end), func() {
				cond.L.Lock()
				d.armed = time.Time{}
				cond.L.Unlock()
				cond.Broadcast()
			})
		} else {
			d.timer.Reset(time.Until(end))
		}
	}
	cond.Wait()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
