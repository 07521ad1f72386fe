package scaler

import (
	"math"
	"time"
)

// Usage is what one replica used, as its engine measured it last.
type Usage struct {
	// Replica is Replica.ID.
	Replica string
	// At is when it was measured, on this machine's clock; zero: never, and the rest but Why says nothing.
	At time.Time
	// CPU is in cores: the mean since the measurement before.
	CPU float64
	// Memory is in bytes, without what the kernel would give back at once (cache of files not in use).
	Memory int64
	// CPUShare and MemoryShare are the same as shares of what the replica may have: its limit, on Kubernetes what it
	// requests. NaN where there is none.
	CPUShare, MemoryShare float64
	// Of says in words what the shares are of, as "limit"; "" where there are none.
	Of string
	// Every is about how far apart measurements are; 0 is a second.
	Every time.Duration
	// Why is why it could not be measured when that was tried last; "" when it could.
	Why string
}

// Unmeasured is the usage of a replica of which nothing was measured yet.
func Unmeasured(replica string) Usage {
	nan := math.NaN()
	return Usage{Replica: replica, CPU: nan, CPUShare: nan, MemoryShare: nan}
}

// Gauge is what a driver may also be: one whose engine measures what replicas use.
type Gauge interface {
	// Usage is what was last heard of each replica, old or not; it returns at once. The first call makes the driver
	// begin to listen, and one that nobody has called for a minute may stop. It may be called concurrently.
	Usage() []Usage
}

// Fresh reports whether it may still be used: not older than three measurements, or 15 s where those are closer.
func (u Usage) Fresh(now time.Time) bool {
	return !u.At.IsZero() && now.Sub(u.At) <= max(usageFresh, freshIntervals*u.Every)
}

const usageFresh = 15 * time.Second

// gaugeOf is what d measures with, whatever it is wrapped in; nil when it does not.
func gaugeOf(d Driver) Gauge {
	for {
		if g, ok := d.(Gauge); ok {
			return g
		}
		wrapped, ok := d.(interface{ Unwrap() Driver })
		if !ok {
			return nil
		}
		d = wrapped.Unwrap()
	}
}
