package peers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"
)

// Record is what a store keeps of a lease.
type Record struct {
	// Holder is the gateway that has the lease; "" after it was given up.
	Holder string
	// Term is the number of its term; it never gets smaller.
	Term uint64
	// Beat is another at every renewal. That, and nothing else, tells the others that the holder lives.
	Beat uint64
	// Renewed is the holder's time of day, for people who look at the record. Nobody compares it.
	Renewed time.Time
}

// Store keeps one Record and swaps it only for one who knows its version: a Lease of Kubernetes with its
// resourceVersion, a config object of Swarm with its version index. Calls end with ctx. An error that is
// neither of the two below leaves open whether the change was made.
type Store interface {
	// Get returns the record and its version, or ErrNoRecord.
	Get(ctx context.Context) (Record, string, error)
	// Create makes the first record, or returns ErrConflict when there is one.
	Create(ctx context.Context, r Record) (version string, err error)
	// Update replaces the record of that version, or returns ErrConflict when it is not the present one.
	Update(ctx context.Context, r Record, version string) (next string, err error)
}

// What a Store says.
var (
	ErrNoRecord = errors.New("no record")
	ErrConflict = errors.New("the record was changed by another")
)

const (
	// storeTimeout bounds one call of a store while nothing is held.
	storeTimeout = 2 * time.Second
	storePoll    = time.Second
)

// StoreLease is a Lease in a Store.
type StoreLease struct {
	store  Store
	holder string
	log    *slog.Logger

	mu     sync.Mutex // guards ailing
	ailing error
}

// NewStoreLease makes the lease of the gateway holder, a name that no other gateway and no earlier process
// has.
func NewStoreLease(s Store, holder string, log *slog.Logger) *StoreLease {
	return &StoreLease{store: s, holder: holder, log: log}
}

// Hold takes the lease when there has been no record for staleAfter, when it was given up, or when its beat has been the same
// for staleAfter. The swap by version lets only one of several succeed, and none when the holder has
// renewed meanwhile.
func (l *StoreLease) Hold(ctx context.Context) (*Term, error) {
	var seen Record
	var since time.Time // of seen, on our clock: after the renewal that made it was begun
	var gone time.Time  // since when there is no record
	for ; ; _ = pause(ctx, storePoll) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		r, version, err := l.get(ctx)
		none := errors.Is(err, ErrNoRecord)
		if err != nil && !none {
			gone = time.Time{}
			if ctx.Err() == nil && l.trouble(err) {
				l.log.Warn("the lease cannot be read", "error", err)
			}
			continue
		}
		if !none {
			gone = time.Time{}
		} else if r = seen; gone.IsZero() { // terms go on from what is known
			gone = time.Now()
		}
		switch now := time.Now(); {
		case none && now.Sub(gone) < staleAfter: // somebody may have removed it while its holder acts
			l.trouble(nil)
			continue
		case none, r.Holder == "", r.Holder == l.holder: // ours: the answer to an earlier take was lost
		case r.Holder != seen.Holder || r.Term != seen.Term || r.Beat != seen.Beat:
			seen, since = r, now
			l.trouble(nil)
			continue
		case now.Sub(since) < staleAfter:
			continue
		}
		if term := l.take(ctx, r, version, none); term != nil {
			return term, nil
		}
	}
}

// Trouble is why the lease could not be read or taken when that was last tried; nil: it could.
func (l *StoreLease) Trouble() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ailing
}

// trouble notes how that went and reports whether it is new.
func (l *StoreLease) trouble(err error) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	fresh := err != nil && (l.ailing == nil || l.ailing.Error() != err.Error())
	l.ailing = err
	return fresh
}

func (l *StoreLease) get(ctx context.Context) (Record, string, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return l.store.Get(ctx)
}

// take swaps old for a record of ours; nil when that did not succeed.
func (l *StoreLease) take(ctx context.Context, old Record, version string, none bool) *Term {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	start := time.Now()
	mine := Record{Holder: l.holder, Term: old.Term + 1, Beat: old.Beat + 1, Renewed: start}
	var err error
	if none {
		version, err = l.store.Create(ctx, mine)
	} else {
		version, err = l.store.Update(ctx, mine, version)
	}
	if err != nil {
		if !errors.Is(err, ErrConflict) && l.trouble(err) {
			l.log.Warn("the lease cannot be taken", "error", err)
		}
		return nil
	}
	l.trouble(nil)
	t := newTerm(mine.Term, start)
	h := &holding{lease: l, record: mine, version: version}
	go t.keep(h.renew, h.giveUp)
	return t
}

// holding is the record of a term. It belongs to the term's goroutine.
type holding struct {
	lease   *StoreLease
	record  Record
	version string
}

func (h *holding) renew(ctx context.Context) error {
	next := h.record
	next.Beat++
	next.Renewed = time.Now()
	err := h.swap(ctx, next)
	if !errors.Is(err, ErrConflict) {
		return err
	}
	// Somebody else changed the object but not the lease, or the answer to our last renewal was lost.
	now, version, err := h.lease.store.Get(ctx)
	switch {
	case errors.Is(err, ErrNoRecord):
		return ErrLost
	case err != nil:
		return err
	case now.Holder != h.record.Holder || now.Term != h.record.Term:
		return ErrLost
	}
	h.version, next.Beat = version, now.Beat+1
	return h.swap(ctx, next)
}

func (h *holding) swap(ctx context.Context, next Record) error {
	version, err := h.lease.store.Update(ctx, next, h.version)
	switch {
	case errors.Is(err, ErrNoRecord):
		return ErrLost
	case err == nil:
		h.record, h.version = next, version
	}
	return err
}

// giveUp leaves the record without a holder, if it is still ours: the next one need not wait.
func (h *holding) giveUp() {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	free := Record{Term: h.record.Term, Beat: h.record.Beat + 1, Renewed: time.Now()}
	if _, err := h.lease.store.Update(ctx, free, h.version); err != nil && !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNoRecord) {
		h.lease.log.Warn("the lease was not given up, others wait until it is stale", "error", err)
	}
}
