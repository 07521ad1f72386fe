package scaler

import (
	"context"
	"errors"
	"time"
)

// Driver starts and stops the replicas of one upstream. It holds no wishes of its own: the loop asks, the
// driver makes it so, and discovery tells the balancer what came of it. A driver must be safe for calls from
// several goroutines; the loop itself never has two calls under way.
type Driver interface {
	// Scale asks the engine for n replicas (0 and up) and returns when asked, not when they are ready. To go
	// down it stops the replicas of victims first, in that order: ids as List and discovery give them, already
	// drained. A victim that is not known counts as gone; when victims do not suffice the driver chooses the
	// rest itself, replicas that are not ready first. A victim is stopped even when n is not lower than what
	// runs, and another is started in its place: that is how the loop replaces a broken replica.
	// Asking again for what is already so does nothing, but it clears away what is left of failed replicas
	// (after they were listed), and the loop does so when it starts and when it sees one. After an error what was done stays done, and the
	// loop asks again.
	Scale(ctx context.Context, n int, victims []string) error
	// List returns every replica the driver answers for, those that are starting, stopping and failed included.
	List(ctx context.Context) ([]Replica, error)
}

// States of a replica as its engine sees them. Whether a running one is ready for requests only the probes know.
const (
	ReplicaStarting = "starting" // asked for, not yet running
	ReplicaRunning  = "running"
	ReplicaStopping = "stopping" // told to stop, not yet gone
	ReplicaFailed   = "failed"   // could not be started, or ended without being told to
)

// Replica is one replica as its engine knows it.
type Replica struct {
	// ID is the balancer.ServerSpec ID that discovery gives the same replica; unique per start, so that a
	// restarted replica is a new one.
	ID string
	// Addr is host:port, "" while it has none.
	Addr string
	// State is one of the Replica constants.
	State string
	// Asked is when its start was asked for; zero if that is not known (started before this gateway).
	Asked time.Time
	// Reason says in words why it is failed ("exit status 1", "image not found"), "" otherwise.
	Reason string
	// Index is the ordinal of the replica, from 1; 0 if it has none.
	Index int
	// Outdated says that it was started from an older declaration (command, image, environment). The loop
	// replaces such replicas, one more than wanted at a time: Scale(wanted+1, nil), and when the new one is
	// ready, Scale(wanted, [outdated]). A driver allows one more than max for that.
	Outdated bool
	// Fixed is true of a replica that is never stopped (the container that the others are clones of): it
	// counts in n and is never a victim.
	Fixed bool
}

// Changer is what a driver may also be: one that tells when its list has changed on its own, so that a crash
// is seen at once and not by the next listing.
type Changer interface {
	// Changed has capacity 1 and coalesces.
	Changed() <-chan struct{}
}

// Chooser is what a driver may also be: one whose engine decides itself which replicas go, as Swarm does. The
// loop then drains none and names no victims, as those might stay and others go: Scale(n, nil) is all it asks.
// What the engine tells to stop leaves the balancer when discovery sees that, and has the engine's grace to
// finish. Replacing what is broken is such an engine's own business too.
type Chooser interface {
	// Chooses only marks the driver.
	Chooses()
}

// ErrStart is wrapped by Scale when the engine answers but cannot start a replica (command not found, image
// missing). Such an error counts as a failed start; any other as an engine that does not answer.
var ErrStart = errors.New("replica cannot be started")

// ErrRefused is wrapped by List and Scale when the engine works and the call can still not be carried out until somebody
// changes something: a right is missing, somebody else scales the same thing. Nothing was changed.
var ErrRefused = errors.New("scaling is refused")
