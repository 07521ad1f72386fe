package http1

import (
	"sync"
	"time"
)

// carrierFresh is how long a connection of HTTP/2 is spared that has not had a request yet.
const carrierFresh = time.Second

// carrier is a connection of HTTP/2 as the engine knows it: by its requests, which are served apart from it.
type carrier struct {
	drain chan struct{} // closed when the connection is to end with the requests under way

	mu       sync.Mutex    // guards what follows
	open     int           // requests under way
	answered bool          // there was one
	since    time.Duration // reading of uptime: when it began
	told     bool          // drain is closed
}

func newCarrier() *carrier { return &carrier{drain: make(chan struct{}), since: uptime()} }

func (k *carrier) begun() {
	k.mu.Lock()
	k.open++
	k.mu.Unlock()
}

func (k *carrier) ended() {
	k.mu.Lock()
	k.open--
	k.answered = true
	k.mu.Unlock()
}

func (k *carrier) busy() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.open > 0
}

// end tells the connection to end. No request is lost: those on their way are still taken.
func (k *carrier) end() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.told {
		k.told = true
		close(k.drain)
	}
}

// shed ends a connection that waits for another request, or has taken too long over its first; false when it does not wait.
func (k *carrier) shed(now time.Duration) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.told || k.open > 0 || !k.answered && now-k.since < carrierFresh {
		return false
	}
	k.told = true
	close(k.drain)
	return true
}
