package proxy

import (
	"errors"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// acquire waits for a slot on a server of the route's upstream. A retry that finds no other server than
// the one that just failed gives it a moment to come back or to be replaced.
func (x *Exchange) acquire() error {
	err := x.takeSlot()
	if err == nil && x.ticket.Again() {
		x.release(balancer.Outcome{Neutral: true})
		if errors.Is(x.err, http1.ErrHandshake) { // it would fail in the same way
			x.server = nil
			return x.err
		}
		time.Sleep(retryPause << min(x.tries-1, 3))
		x.readClock()
		err = x.takeSlot()
	}
	return err
}

// retryPause is before the first retry on the same server; it doubles with each further one.
const retryPause = 25 * time.Millisecond

func (x *Exchange) takeSlot() error {
	u := x.route.upstream.Upstream
	if !u.TryAcquire(&x.ticket, x.now) {
		if err := x.waitForSlot(u); err != nil {
			return err
		}
	}
	x.slot, x.server = true, x.ticket.Server()
	x.serverID = x.server.ID()
	return nil
}

func (x *Exchange) waitForSlot(u *balancer.Upstream) error {
	if !x.front.wait(u) {
		return balancer.ErrCanceled
	}
	err := u.Acquire(&x.ticket, x.now)
	x.front.wait(nil)
	if waited := x.ticket.Waited(); waited > 0 {
		x.queued += waited
		x.readClock()
	}
	return err
}

// release gives the slot back, once.
func (x *Exchange) release(o balancer.Outcome) {
	if x.slot {
		x.slot = false
		if !x.prompt {
			x.readClock()
		}
		x.route.upstream.Release(&x.ticket, o, x.now)
	}
}
