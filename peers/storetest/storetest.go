// Package storetest checks what a lease relies on in a store, for the tests of those that are an engine's.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"sluice/peers"
)

// Check uses the store that open gives views of; there is no record yet. Others may use the engine meanwhile.
func Check(t *testing.T, open func() peers.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	a, b := open(), open()
	if _, _, err := a.Get(ctx); !errors.Is(err, peers.ErrNoRecord) {
		t.Fatalf("no record yet: %v", err)
	}
	first := peers.Record{Holder: "a", Term: 1, Beat: 1<<63 + 1, Renewed: time.Now().Truncate(time.Microsecond)}
	v1, err := a.Create(ctx, first)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Create(ctx, peers.Record{Holder: "b", Term: 1}); !errors.Is(err, peers.ErrConflict) {
		t.Errorf("a second record: %v", err)
	}
	seen, vb, err := b.Get(ctx)
	if err != nil || !same(seen, first) || vb != v1 {
		t.Errorf("read %+v of %s, %v; written %+v of %s", seen, vb, err, first, v1)
	}
	second := peers.Record{Holder: "a", Term: 1, Beat: 2, Renewed: first.Renewed.Add(time.Second)}
	v2, err := a.Update(ctx, second, v1)
	if err != nil || v2 == v1 {
		t.Fatalf("version %s after %s, %v", v2, v1, err)
	}
	if _, err := b.Update(ctx, peers.Record{Holder: "b", Term: 2}, vb); !errors.Is(err, peers.ErrConflict) {
		t.Errorf("an old version: %v", err)
	}
	if seen, _, err := b.Get(ctx); err != nil || !same(seen, second) {
		t.Errorf("read %+v, %v; want %+v", seen, err, second)
	}
	free := peers.Record{Term: 1, Beat: 3, Renewed: second.Renewed}
	if _, err := a.Update(ctx, free, v2); err != nil {
		t.Errorf("given up: %v", err)
	}
	if seen, _, err := b.Get(ctx); err != nil || !same(seen, free) {
		t.Errorf("read %+v, %v; want %+v", seen, err, free)
	}
	over, end := context.WithCancel(ctx)
	end()
	if _, _, err := a.Get(over); err == nil || errors.Is(err, peers.ErrNoRecord) || errors.Is(err, peers.ErrConflict) {
		t.Errorf("a call that was given up: %v", err)
	}
	onlyOneWins(ctx, t, open)
}

// onlyOneWins lets many swap the same version, several times.
func onlyOneWins(ctx context.Context, t *testing.T, open func() peers.Store) {
	t.Helper()
	for round := range uint64(5) {
		var mu sync.Mutex
		var won []string
		var all sync.WaitGroup
		ready := make(chan struct{})
		for i := range 5 {
			s, name := open(), fmt.Sprint("g", i)
			_, version, err := s.Get(ctx)
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				<-ready
				_, err := s.Update(ctx, peers.Record{Holder: name, Term: round + 2, Renewed: time.Now()}, version)
				switch {
				case err == nil:
					mu.Lock()
					defer mu.Unlock()
					won = append(won, name)
				case !errors.Is(err, peers.ErrConflict):
					t.Errorf("%s: %v", name, err)
				}
			})
		}
		close(ready)
		all.Wait()
		if seen, _, err := open().Get(ctx); err != nil || len(won) != 1 || seen.Holder != won[0] {
			t.Errorf("won: %v, the record says %+v, %v", won, seen, err)
		}
	}
}

func same(a, b peers.Record) bool {
	return a.Holder == b.Holder && a.Term == b.Term && a.Beat == b.Beat && a.Renewed.Equal(b.Renewed)
}
