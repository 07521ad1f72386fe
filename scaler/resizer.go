package scaler

import (
	"context"
	"errors"
	"time"

	"sluice/scaler/vertical"
)

// Resizer is what a driver may also be: one whose engine can change what a replica may use while it runs. The loop
// calls Allowances and Resize one at a time and never beside List and Scale.
type Resizer interface {
	// Allowances is what each replica may use now.
	Allowances(ctx context.Context) (Allowances, error)
	// Resize changes what one replica may use, in place: it is not restarted. Zero fields stay as they are. It may
	// return before the engine has done it; then Allowance.Waits says so. A replica that is gone is no error.
	Resize(ctx context.Context, replica string, to vertical.Resources) error
	// StartWith says what replicas that are started from now on should have; the zero value takes that back. It
	// returns at once. An engine that starts replicas from a declaration of its own does nothing with it.
	StartWith(r vertical.Recommendation)
}

// Allowances are what a Resizer tells.
type Allowances struct {
	Replicas []Allowance
	// Most is the most that the engine could give to one; zero fields are not known.
	Most vertical.Resources
}

// Allowance is what one replica may use. One that ran out of memory and is gone may be among them for a while.
type Allowance struct {
	// Replica is Replica.ID.
	Replica string
	// Has is what is sized: what it may use, on Kubernetes what it requests. Zero fields are none, and stay so.
	Has vertical.Resources
	// Limit is what it cannot use more than; zero fields are no limit.
	Limit vertical.Resources
	// RanOut is when it last was killed for want of memory; zero: it was not.
	RanOut time.Time
	// Waits says why a change that was asked for is not done yet, or cannot be; "" when there is none.
	Waits string
}

// ErrNoResize is wrapped by a Resizer's calls when its engine cannot do that at all.
var ErrNoResize = errors.New("what a replica may use cannot be changed while it runs")

// VerticalStatus is vertical sizing as the status shows it.
type VerticalStatus struct {
	// Mode is recommend or apply.
	Mode string
	// Known says that there is a Recommendation.
	Known          bool
	Recommendation vertical.Recommendation
	// Replicas are what replicas may use, as last told; not to be changed.
	Replicas []Allowance
	// Reason says what was done last and what is not done, or why nothing is known, in words.
	Reason string
	// Trouble is why replicas are not changed though they should be; "" when nothing is wrong.
	Trouble string
}

// resizerOf is d if it changes what replicas may use, whatever it is wrapped in; else nil.
func resizerOf(d Driver) Resizer {
	for inner := d; ; {
		wrapped, ok := inner.(interface{ Unwrap() Driver })
		if ok {
			inner = wrapped.Unwrap()
			continue
		}
		if _, can := inner.(Resizer); !can {
			return nil
		}
		r, _ := d.(Resizer)
		return r
	}
}
