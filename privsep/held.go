package privsep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"sluice/balancer"
	"sluice/discovery"
	"sluice/scaler"
)

// Bounds are what the scaler's configuration allows for one upstream.
type Bounds struct {
	// Max is the most replicas.
	Max int
	// Why says why nothing may be scaled at all; "" when it may.
	Why string
}

// Held is one upstream that the scaler holds: what its source last said, and its driver behind its bounds.
type Held struct {
	name   string
	source discovery.Source
	driver scaler.Driver // nil: nobody scales
	notes  func() []discovery.Note
	log    *slog.Logger
	gone   chan struct{} // closed when Run returns

	scaling sync.Mutex // held through one Scale; never waited for

	mu        sync.Mutex // guards all below
	bounds    Bounds
	known     bool
	servers   []balancer.ServerSpec
	trouble   error                // why the source ended; nil while it runs
	listed    map[string]time.Time // by id of a replica: when it was last listed
	followers map[chan struct{}]bool
}

const (
	sourcePause = time.Second      // before a source that ended is run again
	remembered  = 10 * time.Minute // how long a replica that is gone may still be named as a victim
)

// NewHeld makes the upstream of that name. driver and notes may be nil.
func NewHeld(name string, source discovery.Source, driver scaler.Driver, notes func() []discovery.Note, bounds Bounds, log *slog.Logger) *Held {
	return &Held{
		name: name, source: source, driver: driver, notes: notes, bounds: bounds, log: log.With("upstream", name),
		gone: make(chan struct{}), listed: map[string]time.Time{}, followers: map[chan struct{}]bool{},
	}
}

// Configure changes the bounds.
func (h *Held) Configure(b Bounds) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.bounds = b
}

// Run follows the source until ctx ends; once.
func (h *Held) Run(ctx context.Context) {
	defer close(h.gone)
	var all sync.WaitGroup
	defer all.Wait()
	sets := make(chan []balancer.ServerSpec)
	all.Go(func() { h.runSource(ctx, sets) })
	var changed <-chan struct{}
	if c, ok := h.driver.(scaler.Changer); ok {
		changed = c.Changed()
	}
	for {
		select {
		case set := <-sets:
			h.mu.Lock()
			h.known, h.servers, h.trouble = true, set, nil
			h.mu.Unlock()
		case <-changed:
		case <-ctx.Done():
			return
		}
		h.tell()
	}
}

func (h *Held) runSource(ctx context.Context, sets chan<- []balancer.ServerSpec) {
	for ctx.Err() == nil {
		err := h.source.Run(ctx, sets)
		if err == nil {
			err = errors.New("the source ended")
		}
		h.mu.Lock()
		again := h.trouble != nil && h.trouble.Error() == err.Error()
		h.trouble = err
		h.mu.Unlock()
		if ctx.Err() == nil && !again {
			h.log.Error("cannot learn the servers, keeping the last ones", "error", err)
		}
		select {
		case <-time.After(sourcePause):
		case <-ctx.Done():
		}
	}
}

// follow gives a channel that is sent to whenever the list may have changed.
func (h *Held) follow() (changed chan struct{}, leave func()) {
	changed = make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.followers[changed] = true
	return changed, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.followers, changed)
	}
}

func (h *Held) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.followers {
		select {
		case f <- struct{}{}:
		default:
		}
	}
}

// list is what the source says.
func (h *Held) list() listing {
	var l listing
	if s, ok := h.source.(interface{ Notes() []discovery.Note }); ok {
		l.Notes = slices.Clone(s.Notes())
	}
	if h.notes != nil {
		l.Notes = append(l.Notes, h.notes()...)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	l.Known, l.Servers = h.known, h.servers
	if h.trouble != nil {
		l.Notes = append(l.Notes, discovery.Note{Name: h.name, Why: "the servers cannot be learned: " + h.trouble.Error() + "; the last ones are kept"})
	}
	return l
}

// replicas asks the driver, and remembers whom it named.
func (h *Held) replicas(ctx context.Context, now time.Time) ([]scaler.Replica, error) {
	if h.driver == nil {
		return nil, refusal(h.why())
	}
	ctx, cancel := context.WithTimeout(ctx, listTime)
	defer cancel()
	list, err := h.driver.List(ctx)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, r := range list {
		h.listed[r.ID] = now
	}
	for id, at := range h.listed {
		if now.Sub(at) > remembered {
			delete(h.listed, id)
		}
	}
	return list, nil
}

// why says why nothing may be scaled; "" when it may.
func (h *Held) why() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.driver == nil && h.bounds.Why == "" {
		return fmt.Sprintf("the scaler's configuration scales no upstream %s", h.name)
	}
	return h.bounds.Why
}

// scale does what o asks for, if the bounds allow it.
func (h *Held) scale(ctx context.Context, o order, now time.Time) error {
	if why := h.why(); why != "" {
		return refusal(why)
	}
	if !h.scaling.TryLock() {
		return &failure{Message: fmt.Sprintf("upstream %s is being scaled already", h.name)}
	}
	defer h.scaling.Unlock()
	ctx, cancel := context.WithTimeout(ctx, scaleTime)
	defer cancel()
	list, err := h.replicas(ctx, now)
	if err != nil {
		return fmt.Errorf("list before scaling: %w", err)
	}
	victims, err := h.victims(o.Victims, list)
	if err != nil {
		return err
	}
	h.mu.Lock()
	most := mostOf(h.bounds.Max, list, len(victims))
	h.mu.Unlock()
	if o.N < 0 || o.N > most {
		return refusal(fmt.Sprintf("%d replicas of upstream %s are not within 0 to %d", o.N, h.name, most))
	}
	return h.driver.Scale(ctx, o.N, victims)
}

// mostOf is how many replicas may be asked for: max, one more while an outdated one is replaced, and what is left of
// those that run when max was lowered below them, so that they can go one after another.
func mostOf(most int, list []scaler.Replica, victims int) int {
	live, outdated := 0, false
	for _, r := range list {
		if r.State == scaler.ReplicaStarting || r.State == scaler.ReplicaRunning {
			live++
			outdated = outdated || r.Outdated && !r.Fixed
		}
	}
	if outdated && most > 0 {
		most++
	}
	return max(most, live-victims)
}

// victims are those of ids that are still there. One that was never a replica of this upstream, or that is
// never stopped, is refused.
func (h *Held) victims(ids []string, list []scaler.Replica) ([]string, error) {
	if _, chooses := h.driver.(scaler.Chooser); chooses && len(ids) > 0 {
		return nil, refusal("the engine itself chooses which replicas go: no victims may be named")
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	var victims []string
	for _, id := range ids {
		if _, ever := h.listed[id]; !ever {
			return nil, refusal(fmt.Sprintf("%q is no replica of upstream %s", id, h.name))
		}
		i := slices.IndexFunc(list, func(r scaler.Replica) bool { return r.ID == id })
		switch {
		case i < 0: // gone meanwhile
		case list[i].Fixed:
			return nil, refusal(fmt.Sprintf("the replica %q of upstream %s is never stopped", id, h.name))
		case !slices.Contains(victims, id):
			victims = append(victims, id)
		}
	}
	return victims, nil
}
