package docker

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/docker/docker/api/types/events"

	"sluice/balancer"
)

const (
	// listPeriod is how often all is listed without any event.
	listPeriod = 4 * time.Second
	// listGap lies between the end of one listing and the start of the next that an event asks for.
	listGap = 50 * time.Millisecond
	// listSoon is how long an event waits for others before its listing.
	listSoon = 5 * time.Millisecond
)

// Feed keeps a picture of an engine up to date for all who derive something from it: the picture is
// listed again after every event and every few seconds, so that one event stream and one listing at
// a time serve them all, and a lost event costs a few seconds at most. What the picture is, the
// functions say; they are set before Run. Take, Stream and what List returns are called by Run's
// goroutine only.
type Feed struct {
	// Events opens the event stream, as the engine's client does. since is the time of the last event
	// seen, "" at first: the engine repeats what came after.
	Events func(ctx context.Context, since string) (<-chan events.Message, <-chan error)
	// Take takes one event at once, before any listing tells the same.
	Take func(events.Message)
	// Stream takes what the event stream says of itself: nil when it is connected, else why it is not.
	Stream func(error)
	// List asks the engine, in a goroutine of its own, and returns what puts the answer into the picture.
	// That returns whether the engine answered, and when to list again; 0 is no sooner than usual.
	List func(ctx context.Context) (apply func() (ok bool, again time.Duration))

	log  *slog.Logger
	poke chan struct{} // capacity 1: list now
	mu   sync.Mutex    // guards subs
	subs map[chan struct{}]bool
}

// Poke asks for a listing now. Any goroutine may.
func (f *Feed) Poke() { tell(f.poke) }

// Publish tells all who joined that there is a new picture.
func (f *Feed) Publish() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.subs {
		tell(c)
	}
}

// NewFeed returns a feed without its functions. log gets what panics in them: that costs an event or a listing.
func NewFeed(log *slog.Logger) *Feed {
	return &Feed{log: log, poke: make(chan struct{}, 1), subs: make(map[chan struct{}]bool)}
}

// Join returns a channel of capacity 1 that is told of every new picture. leave ends that, and says
// whether it was the last.
func (f *Feed) Join() (changed chan struct{}, leave func() (last bool)) {
	changed = make(chan struct{}, 1)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.subs[changed] = true
	return changed, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.subs, changed)
		return len(f.subs) == 0
	}
}

func tell(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// list is List, or where that panics a listing without an answer.
func (f *Feed) list(ctx context.Context) (apply func() (bool, time.Duration)) {
	apply = func() (bool, time.Duration) { return false, 0 }
	_ = balancer.Guard(f.log, "listing of the engine", func() error { apply = f.List(ctx); return nil })
	return apply
}

// Run keeps the picture until ctx ends. Calls of the engine are made by others, so that an engine
// that hangs keeps no event waiting.
func (f *Feed) Run(ctx context.Context) {
	messages, streamState := make(chan events.Message), make(chan error)
	// The stream begins after the first good listing: the client's Events reads the API version that
	// another call of a new client may be negotiating at that moment, without a lock.
	streaming := false

	listings := make(chan func() (bool, time.Duration), 1)
	period := time.NewTicker(listPeriod)
	defer period.Stop()
	timer := time.NewTimer(0) // when it fires, a listing is due
	defer timer.Stop()
	var due time.Time // zero when no listing is planned
	var lastListing time.Time
	busy, again := false, false
	plan := func(in time.Duration) {
		if at := time.Now().Add(in); due.IsZero() || at.Before(due) {
			due = at
			timer.Reset(in)
		}
	}
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-messages:
			_ = balancer.Guard(f.log, "event of the engine", func() error { f.Take(m); return nil })
			if again = again || busy; !busy {
				plan(max(listSoon, listGap-time.Since(lastListing)))
			}
		case err := <-streamState:
			f.Stream(err)
			if err == nil {
				plan(0) // what happened while there were no events
			}
		case <-f.poke:
			plan(0)
		case <-period.C:
			plan(0)
		case <-timer.C:
			due = time.Time{}
			if busy {
				again = true
				continue
			}
			busy = true
			go func() { listings <- f.list(ctx) }()
		case apply := <-listings:
			busy, lastListing = false, time.Now()
			ok, soon := false, time.Duration(0)
			_ = balancer.Guard(f.log, "listing of the engine", func() error { ok, soon = apply(); return nil })
			if ok && !streaming {
				streaming = true
				go f.stream(ctx, messages, streamState)
			}
			if again {
				again = false
				plan(listGap)
			}
			if soon > 0 {
				plan(soon)
			}
		}
	}
}
