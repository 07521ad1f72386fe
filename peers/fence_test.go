package peers

import (
	"context"
	"errors"
	"testing"
	"time"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

// plain is a driver that only scales; sized one that also changes what replicas may use.
type plain struct{}

func (plain) Scale(context.Context, int, []string) error     { return nil }
func (plain) List(context.Context) ([]scaler.Replica, error) { return nil, nil }

type sized struct {
	plain
	resized *int
}

func (s sized) Allowances(context.Context) (scaler.Allowances, error) {
	return scaler.Allowances{Replicas: []scaler.Allowance{{Replica: "a"}}}, nil
}
func (s sized) Resize(context.Context, string, vertical.Resources) error { *s.resized++; return nil }
func (s sized) StartWith(vertical.Recommendation)                        { *s.resized += 100 }

// What replicas may use is told to all, and changed only within the lease.
func TestFenceOfResizes(t *testing.T) {
	n := 0
	group := &Group{}
	r, ok := group.Fence(sized{resized: &n}).(scaler.Resizer)
	if !ok {
		t.Fatal("a fenced driver does not resize any more")
	}
	if all, err := r.Allowances(t.Context()); err != nil || len(all.Replicas) != 1 {
		t.Errorf("without the lease: %+v, %v", all, err)
	}
	if err := r.Resize(t.Context(), "a", vertical.Resources{CPUs: 1}); !errors.Is(err, ErrLost) || n != 0 {
		t.Errorf("resized without the lease: %v", err)
	}
	group.term.Store(newTerm(1, time.Now()))
	if err := r.Resize(t.Context(), "a", vertical.Resources{CPUs: 1}); err != nil || n != 1 {
		t.Errorf("with it: %v, %d", err, n)
	}
	if r.StartWith(vertical.Recommendation{}); n != 101 {
		t.Errorf("what new ones start with is not passed on: %d", n)
	}
	r = group.Fence(plain{}).(scaler.Resizer)
	if _, err := r.Allowances(t.Context()); !errors.Is(err, scaler.ErrNoResize) {
		t.Errorf("one that cannot: %v", err)
	}
	if err := r.Resize(t.Context(), "a", vertical.Resources{}); !errors.Is(err, scaler.ErrNoResize) {
		t.Errorf("one that cannot: %v", err)
	}
	r.StartWith(vertical.Recommendation{})
}
