package http2

import (
	"sync"
	"time"
)

// deadline bounds one direction of a stream. Its timer is armed only when somebody waits, and left running then: a fast exchange
// needs none. It is guarded by the mutex of the condition that is waited for.
type deadline struct {
	at    time.Time // zero: none
	armed time.Time // when the timer will fire; zero: it will not
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// wait waits for cond, at most until the deadline; the caller looks why it was woken.
func (d *deadline) wait(cond *sync.Cond) {
	if !d.at.IsZero() && (d.armed.IsZero() || d.at.Before(d.armed)) {
		d.armed = d.at
		if d.timer == nil {
			d.timer = time.AfterFunc(time.Until(d.at), func() {
				cond.L.Lock()
				d.armed = time.Time{}
				cond.L.Unlock()
				cond.Broadcast()
			})
		} else {
			d.timer.Reset(time.Until(d.at))
		}
	}
	cond.Wait()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
	}
}
