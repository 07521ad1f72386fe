package scaler

import (
	"context"
	"time"
)

// GaugeIdle is how long after the last call of Usage a driver may stop to listen.
const GaugeIdle = time.Minute

// Listening is whether a Gauge listens to its engine: from when it is asked until nobody has asked for GaugeIdle. The
// zero value does not. Its methods are called with the lock held that guards what is heard.
type Listening struct {
	asked time.Time
	stop  context.CancelFunc // nil while nobody listens
}

// Asked notes that somebody asks at now. Where nobody listens, listen begins in a goroutine of its own and begun is true:
// what was heard before is no longer true. Once its context ends or GoesOn says false, listen returns.
func (l *Listening) Asked(now time.Time, listen func(context.Context)) (begun bool) {
	l.asked = now
	if l.stop != nil {
		return false
	}
	ctx, stop := context.WithCancel(context.Background())
	l.stop = stop
	go listen(ctx)
	return true
}

// GoesOn reports whether the listening that ctx was given to goes on. It ends here when nobody has asked for GaugeIdle.
func (l *Listening) GoesOn(ctx context.Context, now time.Time) bool {
	if ctx.Err() != nil { // ended, and perhaps begun anew
		return false
	}
	if now.Sub(l.asked) > GaugeIdle {
		l.End()
		return false
	}
	return true
}

// End ends it, where somebody listens. It begins again when somebody asks.
func (l *Listening) End() {
	if l.stop != nil {
		l.stop()
		l.stop = nil
	}
}
