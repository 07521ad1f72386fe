package kubernetes

import (
	"fmt"
	"sync"
	"time"

	discoveryv1 "k8s.io/api/discovery/v1"
)

// cache holds the slices of one Service as the API server last listed and changed them: what a reflector writes to
// (cache.ReflectorStore). Safe for concurrent use.
type cache struct {
	changed chan struct{} // capacity 1

	mu     sync.Mutex // guards all below
	slices map[string]*discoveryv1.EndpointSlice
	listed bool      // the first full set has come
	err    error     // why the API server does not tell; nil while it does
	since  time.Time // of err
}

func newCache() *cache {
	return &cache{changed: make(chan struct{}, 1), slices: make(map[string]*discoveryv1.EndpointSlice)}
}

// read returns all slices, which are not to be changed, and whether they are the full set.
func (c *cache) read() (all []*discoveryv1.EndpointSlice, listed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, slice := range c.slices {
		all = append(all, slice)
	}
	return all, c.listed
}

// answered notes whether the API server answered a call.
func (c *cache) answered(err error) (before error) {
	c.mu.Lock()
	before = c.err
	if c.err = err; err != nil && before == nil {
		c.since = time.Now()
	}
	c.mu.Unlock()
	c.tell()
	return before
}

// trouble is since when and why the API server does not tell; err is nil while it does.
func (c *cache) trouble() (since time.Time, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.since, c.err
}

func (c *cache) tell() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

func (c *cache) put(obj any) error {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return fmt.Errorf("%T is no EndpointSlice", obj)
	}
	c.mu.Lock()
	c.slices[slice.Name] = slice
	c.mu.Unlock()
	c.tell()
	return nil
}

// Add is the reflector's.
func (c *cache) Add(obj any) error { return c.put(obj) }

// Update is the reflector's.
func (c *cache) Update(obj any) error { return c.put(obj) }

// Delete is the reflector's.
func (c *cache) Delete(obj any) error {
	slice, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return fmt.Errorf("%T is no EndpointSlice", obj)
	}
	c.mu.Lock()
	delete(c.slices, slice.Name)
	c.mu.Unlock()
	c.tell()
	return nil
}

// Replace is the reflector's: the full set, after a listing.
func (c *cache) Replace(list []any, _ string) error {
	all := make(map[string]*discoveryv1.EndpointSlice, len(list))
	for _, obj := range list {
		slice, ok := obj.(*discoveryv1.EndpointSlice)
		if !ok {
			return fmt.Errorf("%T is no EndpointSlice", obj)
		}
		all[slice.Name] = slice
	}
	c.mu.Lock()
	c.slices, c.listed = all, true
	c.mu.Unlock()
	c.tell()
	return nil
}

// Resync is the reflector's; there is nothing to repeat.
func (c *cache) Resync() error { return nil }
