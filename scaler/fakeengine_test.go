package scaler

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"sluice/balancer"
)

// fakeEngine is engine, driver and discovery in one: replicas become ready startTime after they are asked for.
type fakeEngine struct {
	u         *balancer.Upstream
	startTime time.Duration

	mu       sync.Mutex // guards all below
	replicas []Replica
	seq      int
	started  int
	stopped  []string
	most     int                // live at once
	dead     func(n int) string // why the nth start crashes after half its start time; nil or "": it does not
	never    bool               // replicas do not become ready
	refuse   error              // what Scale returns
	hang     bool               // no call returns before its context ends
	calls    int
	changed  chan struct{}
}

func (f *fakeEngine) Changed() <-chan struct{} { return f.changed }

func (f *fakeEngine) answer(ctx context.Context) error {
	f.mu.Lock()
	f.calls++
	hang := f.hang
	f.mu.Unlock()
	if hang {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

func (f *fakeEngine) List(ctx context.Context) ([]Replica, error) {
	if err := f.answer(ctx); err != nil {
		return nil, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.replicas), nil
}

func (f *fakeEngine) live() (n int) {
	for _, r := range f.replicas {
		if r.live() {
			n++
		}
	}
	return n
}

func (f *fakeEngine) Scale(ctx context.Context, n int, victims []string) error {
	if err := f.answer(ctx); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	f.replicas = slices.DeleteFunc(f.replicas, func(r Replica) bool {
		if slices.Contains(victims, r.ID) {
			f.stopped = append(f.stopped, r.ID)
			return true
		}
		return r.State == ReplicaFailed
	})
	for f.live() > n {
		f.stopped = append(f.stopped, "unasked "+f.replicas[0].ID)
		f.replicas = f.replicas[1:]
	}
	for f.live() < n {
		f.seq++
		f.started++
		r := Replica{ID: fmt.Sprintf("r%d", f.seq), Addr: fmt.Sprintf("127.0.0.1:%d", f.seq), State: ReplicaRunning, Asked: time.Now(), Index: f.seq}
		f.replicas = append(f.replicas, r)
		switch {
		case f.dead != nil && f.dead(f.seq) != "":
			time.AfterFunc(f.startTime/2, func() { f.crash(r.ID, f.dead(r.Index)) })
		case !f.never:
			time.AfterFunc(f.startTime, func() { f.probe(r.ID, nil) })
		}
	}
	f.most = max(f.most, f.live())
	f.update()
	return nil
}

func (f *fakeEngine) probe(id string, err error) {
	if s := f.u.Server(id); s != nil {
		s.Probe(err, 1, 1, time.Now())
	}
}

func (f *fakeEngine) crash(id, why string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.replicas {
		if f.replicas[i].ID == id {
			f.replicas[i].State, f.replicas[i].Reason = ReplicaFailed, why
		}
	}
	f.update()
	select {
	case f.changed <- struct{}{}:
	default:
	}
}

func (f *fakeEngine) update() {
	var specs []balancer.ServerSpec
	for _, r := range f.replicas {
		if r.live() {
			specs = append(specs, balancer.ServerSpec{ID: r.ID, Addr: r.Addr})
		}
	}
	f.u.Update(specs, time.Now())
}

func (f *fakeEngine) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// seen is what a test looks at.
type seen struct {
	calls, started, most int
	stopped              []string
	replicas             []Replica
}

func (f *fakeEngine) now() seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return seen{f.calls, f.started, f.most, slices.Clone(f.stopped), slices.Clone(f.replicas)}
}
