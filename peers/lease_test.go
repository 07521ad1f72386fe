package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// memStore is a store that swaps by version, with the faults of a real one.
type memStore struct {
	mu      sync.Mutex // guards all below
	record  Record
	version int // 0: no record
	updates int
}

// link is one gateway's way to the store.
type link struct {
	*memStore
	mu    sync.Mutex // guards fault
	fault string
	skew  func() time.Duration // of the gateway's time of day; nil is none
}

var errDown = errors.New("the store cannot be reached")

func (l *link) set(fault string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fault = fault
}

func (l *link) now() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.fault
}

// call does f as the fault allows.
func (l *link) call(ctx context.Context, f func() error) error {
	switch l.now() {
	case "down":
		return errDown
	case "hang": // does nothing, and does not heed ctx for a while
		<-ctx.Done()
		time.Sleep(time.Second)
		return ctx.Err()
	case "late": // does it after the caller has given up
		<-ctx.Done()
		time.Sleep(20 * time.Millisecond)
		l.memStore.mu.Lock()
		defer l.memStore.mu.Unlock()
		_ = f()
		return ctx.Err()
	case "unheard":
		l.memStore.mu.Lock()
		defer l.memStore.mu.Unlock()
		_ = f()
		return errDown
	case "slow":
		time.Sleep(800 * time.Millisecond)
	}
	l.memStore.mu.Lock()
	defer l.memStore.mu.Unlock()
	return f()
}

func (l *link) Get(ctx context.Context) (r Record, version string, err error) {
	err = l.call(ctx, func() error {
		if l.version == 0 {
			return ErrNoRecord
		}
		r, version = l.record, strconv.Itoa(l.version)
		return nil
	})
	return r, version, err
}

func (l *link) Create(ctx context.Context, r Record) (version string, err error) {
	err = l.call(ctx, func() error {
		if l.version != 0 {
			return ErrConflict
		}
		version = l.write(r)
		return nil
	})
	return version, err
}

func (l *link) Update(ctx context.Context, r Record, old string) (version string, err error) {
	err = l.call(ctx, func() error {
		if l.version == 0 {
			return ErrNoRecord
		}
		if old != strconv.Itoa(l.version) {
			return ErrConflict
		}
		version = l.write(r)
		return nil
	})
	return version, err
}

func (l *link) write(r Record) string {
	if l.skew != nil {
		r.Renewed = r.Renewed.Add(l.skew())
	}
	l.record = r
	l.version++
	l.updates++
	return strconv.Itoa(l.version)
}

// candidate is a gateway that stands for election all the time.
type candidate struct {
	mu   sync.Mutex // guards term
	term *Term
}

func (c *candidate) now() *Term {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.term
}

// stand begins; the function it returns waits for the end, after ctx.
func (c *candidate) stand(ctx context.Context, l Lease) (wait func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			t, err := l.Hold(ctx)
			if err != nil {
				return
			}
			c.mu.Lock()
			c.term = t
			c.mu.Unlock()
			select {
			case <-t.Done():
			case <-ctx.Done():
			}
			t.Release()
		}
	}()
	return func() { <-done }
}

// watch looks every 10 ms at who acts, and fails the test when two do or a term repeats.
func watch(t *testing.T, all []*candidate, d time.Duration, each func(holder int)) {
	t.Helper()
	owner := map[uint64]int{}
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		holder := -1
		for i, c := range all {
			term := c.now()
			if !term.Valid() {
				continue
			}
			if holder >= 0 {
				t.Fatalf("%d and %d act at once", holder, i)
			}
			holder = i
			if was, known := owner[term.Number()]; known && was != i {
				t.Fatalf("term %d of %d and of %d", term.Number(), was, i)
			}
			owner[term.Number()] = i
		}
		each(holder)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func TestStoreLeaseUnderFaults(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				store := &memStore{}
				ctx, cancel := context.WithCancel(t.Context())
				var all []*candidate
				var links []*link
				for i := range 3 {
					l := &link{memStore: store, skew: func() time.Duration { return time.Duration(rand.IntN(7200)-3600) * time.Second }}
					c := &candidate{}
					defer c.stand(ctx, NewStoreLease(l, fmt.Sprint("g", i), quiet()))()
					all, links = append(all, c), append(links, l)
				}
				defer cancel()
				healthy := time.Now() // since when at least one link has no fault and none changed
				terms := map[uint64]bool{}
				next := time.Now()
				watch(t, all, 20*time.Minute, func(holder int) {
					now := time.Now()
					if holder >= 0 {
						terms[all[holder].now().Number()] = true
					}
					if holder < 0 && now.Sub(healthy) > 10*time.Second {
						t.Fatalf("nobody acts for %s", now.Sub(healthy))
					}
					if holder >= 0 {
						healthy = now
					}
					if now.Before(next) {
						return
					}
					next = now.Add(time.Duration(8+rnd.IntN(30)) * time.Second)
					sick := rnd.IntN(3)
					if holder >= 0 && rnd.IntN(2) == 0 {
						sick = holder
					}
					for i, l := range links {
						l.set("")
						if i == sick {
							l.set([]string{"down", "hang", "late", "unheard", "slow"}[rnd.IntN(5)])
						}
					}
				})
				for _, l := range links { // so that giving up does not hang
					l.set("")
				}
				if len(terms) < 5 {
					t.Errorf("only %d terms: the faults do nothing", len(terms))
				}
			})
		})
	}
}

// The holder keeps the lease whatever its own and the others' times of day do, and while somebody else
// writes to the same object.
func TestStoreLeaseOutlivesClockJumpsAndStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memStore{}
		ctx, cancel := context.WithCancel(t.Context())
		jump := time.Hour
		skew := func() time.Duration { jump = -jump; return jump }
		a, b := &candidate{}, &candidate{}
		la, lb := &link{memStore: store, skew: skew}, &link{memStore: store, skew: skew}
		defer a.stand(ctx, NewStoreLease(la, "a", quiet()))()
		time.Sleep(staleAfter + 2*storePoll)
		defer b.stand(ctx, NewStoreLease(lb, "b", quiet()))()
		defer cancel()
		first := a.now()
		watch(t, []*candidate{a, b}, 5*time.Minute, func(holder int) {
			if holder != 0 || a.now() != first {
				t.Fatalf("the lease moved to %d", holder)
			}
			if time.Now().UnixMilli()%700 == 0 { // a stranger touches the object
				store.mu.Lock()
				store.version++
				store.mu.Unlock()
			}
		})
		store.mu.Lock()
		defer store.mu.Unlock()
		if store.updates < 250 {
			t.Errorf("%d renewals in 300 s", store.updates)
		}
	})
}

// Whoever removes the record makes nobody act beside its holder, which stops.
func TestStoreLeaseRecordRemoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memStore{}
		ctx, cancel := context.WithCancel(t.Context())
		a, b := &candidate{}, &candidate{}
		la := &link{memStore: store}
		defer a.stand(ctx, NewStoreLease(la, "a", quiet()))()
		time.Sleep(staleAfter + 2*storePoll)
		defer b.stand(ctx, NewStoreLease(&link{memStore: store}, "b", quiet()))()
		defer cancel()
		time.Sleep(2 * storePoll) // it has read the record
		if !a.now().Valid() {
			t.Fatal("nobody holds a lease that has no record")
		}
		la.set("down")
		store.mu.Lock()
		store.version = 0
		store.mu.Unlock()
		again := false
		watch(t, []*candidate{a, b}, 10*time.Second, func(holder int) { again = again || holder == 1 })
		if !again {
			t.Error("nobody began anew")
		}
		la.set("")
	})
}

// A holder that cannot renew has stopped before another begins, and that one begins within 10 s. One that
// gives up lets another begin within the poll.
func TestStoreLeaseHandover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &memStore{}
		ctx, cancel := context.WithCancel(t.Context())
		actx, aend := context.WithCancel(ctx)
		a, b := &candidate{}, &candidate{}
		la := &link{memStore: store}
		waitA := a.stand(actx, NewStoreLease(la, "a", quiet()))
		time.Sleep(5500 * time.Millisecond)
		defer b.stand(ctx, NewStoreLease(&link{memStore: store}, "b", quiet()))()
		defer cancel()
		time.Sleep(5 * time.Second)
		cut := time.Now()
		la.set("hang")
		var ended, began time.Duration
		watch(t, []*candidate{a, b}, 12*time.Second, func(holder int) {
			switch at := time.Since(cut); {
			case holder != 0 && ended == 0:
				ended = at
			case holder == 1 && began == 0:
				began = at
			}
		})
		if ended == 0 || ended > termValid || began == 0 || began > 10*time.Second {
			t.Errorf("the old one stopped after %s, the new one began after %s", ended, began)
		}
		la.set("")
		aend()
		waitA()
		cancel()
		time.Sleep(time.Millisecond)
		synctest.Wait()
		if store.record.Holder != "" {
			t.Errorf("the record after the release: %+v", store.record)
		}
	})
}

func TestTermActs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var none *Term
		if _, _, err := none.Act(t.Context()); !errors.Is(err, ErrLost) || none.Valid() || none.Number() != 0 {
			t.Errorf("a nil term acts: %v", err)
		}
		store := &memStore{}
		l := &link{memStore: store}
		term, err := NewStoreLease(l, "a", quiet()).Hold(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		ctx, done, err := term.Act(t.Context())
		if err != nil || ctx.Err() != nil {
			t.Fatal(err, ctx.Err())
		}
		l.set("down")
		time.Sleep(termValid + time.Millisecond)
		synctest.Wait()
		if term.Valid() || !errors.Is(context.Cause(ctx), ErrLost) {
			t.Errorf("valid %v, cause %v", term.Valid(), context.Cause(ctx))
		}
		if _, _, err := term.Act(t.Context()); !errors.Is(err, ErrLost) {
			t.Errorf("a lost term acts: %v", err)
		}
		released := make(chan struct{})
		go func() { term.Release(); close(released) }()
		synctest.Wait()
		select {
		case <-released:
			t.Error("given up while an act was under way")
		default:
		}
		l.set("")
		done()
		done()
		<-released
	})
}

// Among goroutines of one process the locks work as among processes: each opens the file anew.
func TestFileLease(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scaler.lease")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var all []*candidate
		var ends []context.CancelFunc
		for range 3 {
			c := &candidate{}
			one, end := context.WithCancel(ctx)
			defer c.stand(one, NewFileLease(path, quiet()))()
			all, ends = append(all, c), append(ends, end)
		}
		defer cancel()
		time.Sleep(time.Second)
		for left := 3; left > 0; left-- {
			holder := -1
			watch(t, all, 30*time.Second, func(now int) {
				if holder >= 0 && now != holder {
					t.Fatalf("the lease moved from %d to %d", holder, now)
				}
				holder = now
			})
			if holder < 0 {
				t.Fatal("nobody acts")
			}
			ends[holder]()
			time.Sleep(time.Second) // a lock that is free is found by the next poll
		}
	})
}

// A holder whose file was overtaken stops before the one who did it begins.
func TestFileLeaseOvertaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "scaler.lease")
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		a, b := &candidate{}, &candidate{}
		defer a.stand(ctx, NewFileLease(path, quiet()))()
		defer cancel()
		time.Sleep(1700 * time.Millisecond)
		// What a candidate does that has seen no beat for too long.
		l := NewFileLease(path, quiet())
		f, err := l.open()
		if err != nil {
			t.Fatal(err)
		}
		m, ok := readMark(f)
		info, err := f.Stat()
		if !ok || err != nil || lock(f) == nil {
			t.Fatal(m, err)
		}
		_ = f.Close()
		own, err := l.overtake(info, mark{term: m.term + 1})
		if err != nil || own == nil {
			t.Fatal(own, err)
		}
		if again, err := l.overtake(info, mark{term: 9}); again != nil || err != nil {
			t.Fatalf("overtaken twice: %v %v", again, err)
		}
		go func() {
			term, err := l.begin(ctx, own, mark{term: m.term + 1})
			if term == nil || err != nil {
				t.Errorf("not begun: %v", err)
				return
			}
			b.mu.Lock()
			b.term = term
			b.mu.Unlock()
		}()
		var last, first time.Duration
		from := time.Now()
		watch(t, []*candidate{a, b}, 6*time.Second, func(holder int) {
			switch holder {
			case 0:
				last = time.Since(from)
			case 1:
				if first == 0 {
					first = time.Since(from)
				}
			}
		})
		if last == 0 || first < termValid || first < last {
			t.Errorf("the old one acted until %s, the new one from %s", last, first)
		}
		b.now().Release()
	})
}

// What keeps the lease from being had is told as long as it does.
func TestStoreLeaseTellsItsTrouble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &link{memStore: &memStore{}}
		l.set("down")
		lease, a := NewStoreLease(l, "a", quiet()), &candidate{}
		ctx, cancel := context.WithCancel(t.Context())
		defer a.stand(ctx, lease)()
		defer cancel()
		time.Sleep(2 * storePoll)
		if err := lease.Trouble(); !errors.Is(err, errDown) {
			t.Errorf("down: %v", err)
		}
		l.set("")
		time.Sleep(staleAfter + 2*storePoll)
		if err := lease.Trouble(); err != nil || !a.now().Valid() {
			t.Errorf("up: %v, held %v", err, a.now().Valid())
		}
	})
}
