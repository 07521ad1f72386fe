package peers

import (
	"context"

	"sluice/scaler"
	"sluice/scaler/vertical"
)

// Fence makes d a driver whose Scale is an act of the group: refused with ErrLost unless this gateway has
// the lease at that moment, ended with the lease, and waited for before the lease is given up. Listing is
// free for all.
func (g *Group) Fence(d scaler.Driver) scaler.Driver {
	f := fenced{d, g}
	changer, changes := d.(scaler.Changer)
	chooser, chooses := d.(scaler.Chooser)
	switch {
	case changes && chooses:
		return struct {
			fenced
			scaler.Changer
			scaler.Chooser
		}{f, changer, chooser}
	case changes:
		return struct {
			fenced
			scaler.Changer
		}{f, changer}
	case chooses:
		return struct {
			fenced
			scaler.Chooser
		}{f, chooser}
	}
	return f
}

type fenced struct {
	scaler.Driver
	group *Group
}

// Unwrap is the driver itself, for what needs no lease: what its replicas use.
func (f fenced) Unwrap() scaler.Driver { return f.Driver }

// Scale is the driver's, within the lease.
func (f fenced) Scale(ctx context.Context, n int, victims []string) error {
	ctx, done, err := f.group.Act(ctx)
	if err != nil {
		return err
	}
	defer done()
	return f.Driver.Scale(ctx, n, victims)
}

// Allowances is the driver's, and free for all.
func (f fenced) Allowances(ctx context.Context) (scaler.Allowances, error) {
	r, ok := f.Driver.(scaler.Resizer)
	if !ok {
		return scaler.Allowances{}, scaler.ErrNoResize
	}
	return r.Allowances(ctx)
}

// Resize is the driver's, within the lease.
func (f fenced) Resize(ctx context.Context, replica string, to vertical.Resources) error {
	r, ok := f.Driver.(scaler.Resizer)
	if !ok {
		return scaler.ErrNoResize
	}
	ctx, done, err := f.group.Act(ctx)
	if err != nil {
		return err
	}
	defer done()
	return r.Resize(ctx, replica, to)
}

// StartWith is the driver's.
func (f fenced) StartWith(to vertical.Recommendation) {
	if r, ok := f.Driver.(scaler.Resizer); ok {
		r.StartWith(to)
	}
}
