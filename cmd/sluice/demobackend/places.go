package demobackend

import (
	"slices"
	"sync"
)

// places are what requests are worked on in: a number of them that can be changed while requests run and wait,
// first come first served.
type places struct {
	mu      sync.Mutex // guards all below
	most    int        // 0 = no bound
	taken   int
	waiting []chan struct{} // closed when the place is given
}

// try takes a place if one is free and nobody waits.
func (p *places) try() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full() || len(p.waiting) > 0 {
		return false
	}
	p.taken++
	return true
}

func (p *places) full() bool { return p.most > 0 && p.taken >= p.most }

// join waits in line for a place, which is taken when the channel is closed; leave ends the waiting.
func (p *places) join() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	given := make(chan struct{})
	p.waiting = append(p.waiting, given)
	p.serve()
	return given
}

// leave gives up what join began, also a place that was given meanwhile.
func (p *places) leave(given chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := slices.Index(p.waiting, given); i >= 0 {
		p.waiting = slices.Delete(p.waiting, i, i+1)
		return
	}
	p.taken--
	p.serve()
}

func (p *places) release() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.taken--
	p.serve()
}

// resize changes the number of places. Requests that are beyond it are worked on to their end.
func (p *places) resize(most int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.most = most
	p.serve()
}

func (p *places) number() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.most
}

// serve gives free places to those who wait. The caller holds the mutex.
func (p *places) serve() {
	for len(p.waiting) > 0 && !p.full() {
		p.taken++
		close(p.waiting[0])
		p.waiting = slices.Delete(p.waiting, 0, 1)
	}
}
