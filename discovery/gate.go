package discovery

import "context"

// gate bounds how many probes connect at once. Thousands that begin together, after a start or a change of the check, would wait for
// this machine's processors longer than their limits allow: servers that answer would pass for silent and be asked again at once, and
// what that costs is taken from requests.
type gate chan struct{}

// Servers that were never ready have a gate of their own: many that swallow connections do not keep the others from being probed.
var (
	starting = make(gate, 128)
	started  = make(gate, 512)
)

// enter waits for a place, which leave gives back.
func (g gate) enter(ctx context.Context) error {
	select {
	case g <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (g gate) leave() { <-g }
