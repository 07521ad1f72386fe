package simulator

import (
	"cmp"
	"slices"
	"time"
)

// replica is one simulated replica.
type replica struct {
	asked    time.Duration
	busy     int // slots taken
	ready    bool
	draining bool
	gone     bool
	place    int // in fleet.free[busy], while it may be picked
}

// fleet is the replicas, with those that may be picked sorted by how many slots they have taken: picking the least
// busy takes as long with thousands as with one.
type fleet struct {
	slots int
	all   []*replica   // not gone
	free  [][]*replica // ready, not draining and with a slot free; by slots taken
	ready int          // not draining
}

func newFleet(slots int) *fleet { return &fleet{slots: slots, free: make([][]*replica, slots)} }

// pick is the least busy replica with a free slot, or nil.
func (f *fleet) pick() *replica {
	for _, list := range f.free {
		if len(list) > 0 {
			return list[len(list)-1]
		}
	}
	return nil
}

func (f *fleet) shelve(r *replica) {
	if r.ready && !r.draining && !r.gone && r.busy < f.slots {
		r.place = len(f.free[r.busy])
		f.free[r.busy] = append(f.free[r.busy], r)
	}
}

func (f *fleet) unshelve(r *replica) {
	if r.ready && !r.draining && !r.gone && r.busy < f.slots {
		list := f.free[r.busy]
		last := list[len(list)-1]
		list[r.place], last.place = last, r.place
		f.free[r.busy] = list[:len(list)-1]
	}
}

// take and give change the slots taken of a replica.
func (f *fleet) take(r *replica, n int) {
	f.unshelve(r)
	r.busy += n
	f.shelve(r)
}

func (f *fleet) becomeReady(r *replica) {
	r.ready = true
	if !r.draining {
		f.ready++
	}
	f.shelve(r)
}

func (f *fleet) drain(r *replica) {
	f.unshelve(r)
	r.draining = true
	if r.ready {
		f.ready--
	}
}

func (f *fleet) undrain(r *replica) {
	r.draining = false
	if r.ready {
		f.ready++
	}
	f.shelve(r)
}

// remove takes away a replica that drains and has nothing in flight.
func (f *fleet) remove(r *replica) {
	r.gone = true
	f.all = slices.DeleteFunc(f.all, func(o *replica) bool { return o == r })
}

// active counts the replicas that are not on their way out, starting those of them that are not ready.
func (f *fleet) active() (active, starting, draining int) {
	for _, r := range f.all {
		switch {
		case r.draining:
			draining++
		case !r.ready:
			starting++
			active++
		default:
			active++
		}
	}
	return active, starting, draining
}

// victims are the active replicas in the order in which they go, as in the product: starting ones first, then the
// least busy, then the youngest.
func (f *fleet) victims() []*replica {
	var list []*replica
	for _, r := range f.all {
		if !r.draining {
			list = append(list, r)
		}
	}
	rank := func(r *replica) int {
		if !r.ready {
			return -1
		}
		return r.busy
	}
	slices.SortStableFunc(list, func(a, b *replica) int {
		return cmp.Or(cmp.Compare(rank(a), rank(b)), cmp.Compare(b.asked, a.asked))
	})
	return list
}
