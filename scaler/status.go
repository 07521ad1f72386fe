package scaler

import (
	"sync"
	"time"

	"sluice/balancer"
)

// Status is what a loop shows of itself.
type Status struct {
	// Wanted is the last decision; Ready, Starting and Draining count servers as they are.
	Wanted, Ready, Starting, Draining int
	Min, Max                          int
	// Coming are the IDs of those that Starting counts, as of the last turn: discovery may have found some since. nil
	// where nobody starts any.
	Coming []string
	// Schedule says which rule holds Min up; "" is none.
	Schedule string
	// Mode is apply, observe or off.
	Mode string
	// Pinned holds the count until Until; zero is until it is taken back.
	Pinned bool
	Until  time.Time
	// Follows says that another gateway acts: what is wanted here is what this one would do.
	Follows bool
	// Reason is the last decision in words, Code its label and At its time.
	Reason, Code string
	At           time.Time
	// Failure says why replicas do not start or the engine does not answer; "" when nothing is wrong.
	Failure string
	// Alarm says what an operator should look at though sluice does nothing about it; "" is nothing.
	Alarm string
	// Decisions counts those that changed the number, by direction ("up", "down") and code.
	Decisions map[[2]string]uint64
	// Errors counts calls of the driver that failed, FailedStarts replicas that never got ready or crashed young.
	Errors, FailedStarts uint64
	// StartTime is the decayed 90th percentile of asked → ready, StartSeconds every start so far.
	StartTime    time.Duration
	StartSeconds balancer.HistogramReading
	// Signal is what the last decision was made on.
	Signal Signal
	// External is what was last heard of a query and of the servers; zero where nothing is asked.
	External External
	// Usage is what was last heard of each replica where cpu or memory is an objective, or vertical is on;
	// not to be changed.
	Usage []Usage
	// Vertical is what replicas should have; nil: that is off.
	Vertical *VerticalStatus
}

// Event is one change, in words.
type Event struct {
	At       time.Time `json:"at"`
	Upstream string    `json:"upstream"`
	// Kind is scale, pin, unpin, failure, crash, replace, cut, alarm, engine, resize or unfit (a resize that failed,
	// or a replica that ran out of memory).
	Kind string `json:"kind"`
	// From and To are replicas wanted, for scale.
	From   int    `json:"from"`
	To     int    `json:"to"`
	Reason string `json:"reason"`
	Code   string `json:"code,omitempty"`
}

// journal keeps the recent events and passes new ones on. Safe for concurrent use.
type journal struct {
	mu     sync.Mutex // guards all below
	recent []Event
	subs   map[chan<- Event]struct{}
}

// journalSize is how many events are kept.
const journalSize = 100

func (j *journal) add(e Event) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.recent = append(j.recent, e); len(j.recent) > journalSize {
		j.recent = append([]Event(nil), j.recent[1:]...)
	}
	for c := range j.subs {
		select {
		case c <- e:
		default: // a reader that is too slow misses events; it has Recent
		}
	}
}

// Recent are the last events, oldest first.
func (l *Loop) Recent() []Event {
	l.journal.mu.Lock()
	defer l.journal.mu.Unlock()
	return append([]Event(nil), l.journal.recent...)
}

// Subscribe sends every further event to c, without waiting when c is full. The function it returns ends
// that; c is never closed.
func (l *Loop) Subscribe(c chan<- Event) (cancel func()) {
	j := &l.journal
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.subs == nil {
		j.subs = map[chan<- Event]struct{}{}
	}
	j.subs[c] = struct{}{}
	return func() {
		j.mu.Lock()
		defer j.mu.Unlock()
		delete(j.subs, c)
	}
}
