package kubernetes

import (
	"sync"
	"time"
)

// windows are those of all upstreams, by name.
type windows struct {
	mu     sync.Mutex // guards byName
	byName map[string]*window
}

func (w *windows) of(name string) *window {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byName == nil {
		w.byName = map[string]*window{}
	}
	one := w.byName[name]
	if one == nil {
		one = &window{}
		w.byName[name] = one
	}
	return one
}

func (w *windows) load(u Upstream, now time.Time) (load, bool) { return w.of(u.Name).load(u, now) }

// sample reads the meters of all and forgets upstreams that are not among them.
func (w *windows) sample(all []Upstream, now time.Time, length time.Duration) {
	names := make(map[string]bool, len(all))
	for _, u := range all {
		names[u.Name] = true
		w.of(u.Name).sample(u, now, length)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.byName {
		if !names[name] {
			delete(w.byName, name)
		}
	}
}
