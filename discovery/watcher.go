package discovery

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/balancer"
)

// Watcher keeps the set of one upstream as its source says and probes every server in it.
type Watcher struct {
	upstream *balancer.Upstream
	source   Source
	log      *slog.Logger
	check    atomic.Pointer[check]
	try      func(ctx context.Context, c *check, addr string, lim limits) error // one probe
	known    chan struct{}                                                      // closed with the first set
	once     sync.Once                                                          // closes known

	mu        sync.Mutex // guards what follows
	layer     Layer      // between TCP and HTTP/1.1; nil: none
	sourceErr error      // why the source ended; nil while it runs
	checkErr  error      // why the defaults are used in place of the configured check
}

// NewWatcher returns a watcher of src for u. A check that does not Validate is replaced by the
// default one, which Notes says.
func NewWatcher(u *balancer.Upstream, src Source, hc HealthConfig, log *slog.Logger) *Watcher {
	w := &Watcher{upstream: u, source: src, log: log.With("upstream", u.Name()), known: make(chan struct{})}
	w.try = func(ctx context.Context, c *check, addr string, lim limits) error { return c.run(ctx, addr, lim) }
	w.Configure(hc)
	return w
}

// Configure replaces the health check; the same one changes nothing. Every server is probed at once
// by the new one; its state stays until the results say otherwise.
func (w *Watcher) Configure(hc HealthConfig) {
	c, err := newCheck(hc)
	w.mu.Lock()
	w.checkErr = err
	w.replace(c)
	w.mu.Unlock()
}

// Reach says what lies between TCP and HTTP/1.1 on the way to the servers; nil (default) is nothing. Another one than before makes
// every server be probed at once, as Configure does.
func (w *Watcher) Reach(l Layer) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.layer = l
	c := *w.check.Load()
	c.replaced = make(chan struct{})
	w.replace(&c)
}

// replace makes c the check unless it is as the present one. The caller holds mu.
func (w *Watcher) replace(c *check) {
	c.layer = w.layer
	old := w.check.Load()
	if old != nil && old.HealthConfig == c.HealthConfig && old.layer == c.layer {
		return
	}
	w.check.Store(c)
	if old != nil {
		close(old.replaced)
	}
}

// Known is closed when the source has said for the first time which servers there are.
func (w *Watcher) Known() <-chan struct{} { return w.known }

// Run watches until ctx ends, and returns when all probes have ended. The upstream keeps the last
// set: the watcher that follows replaces it. Not to be called twice at once.
func (w *Watcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	sets := make(chan []balancer.ServerSpec)
	wg.Go(func() { w.runSource(ctx, sets) })

	probes := make(map[*balancer.Server]context.CancelFunc)
	for {
		select {
		case <-ctx.Done():
			return
		case specs := <-sets:
			w.noteSource(nil)
			w.upstream.Update(specs, time.Now())
			w.once.Do(func() { close(w.known) })
			w.follow(ctx, &wg, probes)
		}
	}
}

// follow starts probes for the servers that came and ends those of the servers that left. A server
// whose address changed is another server.
func (w *Watcher) follow(ctx context.Context, wg *sync.WaitGroup, probes map[*balancer.Server]context.CancelFunc) {
	servers := w.upstream.Servers()
	listed := make(map[*balancer.Server]bool, len(servers))
	for _, s := range servers {
		listed[s] = true
		if probes[s] != nil {
			continue
		}
		ctx, cancel := context.WithCancel(ctx)
		probes[s] = cancel
		wg.Go(func() { w.probe(ctx, s) })
	}
	for s, cancel := range probes {
		if !listed[s] {
			cancel()
			delete(probes, s)
		}
	}
}

var errSourceEnded = errors.New("the source ended")

// runSource runs the source, again after a pause when it ends before its time.
func (w *Watcher) runSource(ctx context.Context, sets chan<- []balancer.ServerSpec) {
	const shortest, longest = time.Second, 30 * time.Second
	pause := shortest
	for {
		begun := time.Now()
		err := balancer.Guard(w.log, "source of servers", func() error { return w.source.Run(ctx, sets) })
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			err = errSourceEnded
		}
		if time.Since(begun) > longest {
			pause = shortest
		}
		w.noteSource(err)
		w.log.Error("cannot learn the servers, keeping the last ones", "error", err, "again_in", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
		pause = min(2*pause, longest)
	}
}

func (w *Watcher) noteSource(err error) {
	w.mu.Lock()
	w.sourceErr = err
	w.mu.Unlock()
}

// Notes says what was found and is not routed, and why, and what ails the source and the check; nil
// when all is well. Why a server that is routed gets no requests is its State's to tell.
func (w *Watcher) Notes() []Note {
	var notes []Note
	if s, ok := w.source.(interface{ Notes() []Note }); ok {
		notes = s.Notes()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sourceErr != nil {
		notes = append(notes, Note{Name: w.upstream.Name(), Why: "the servers cannot be learned: " + w.sourceErr.Error() + "; the last ones are kept"})
	}
	if w.checkErr != nil {
		notes = append(notes, Note{Name: w.upstream.Name(), Why: "health_check: " + w.checkErr.Error() + "; the default check is used"})
	}
	return notes
}
