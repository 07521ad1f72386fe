//go:build !linux

package http1

import (
	"sync"
	"syscall"
	"time"
)

// watchEvery is how often connections are looked at where no epoll tells that the client has left.
const watchEvery = 250 * time.Millisecond

type watch struct{ on bool }

// watched are all open connections; the goroutine that looks at them lives while there are any.
var watched struct {
	mu    sync.Mutex // guards conns
	conns map[*watch]*Conn
}

// possible tells that clientLeft will be called.
func (w *watch) possible() bool { return w.on }

func (c *Conn) watchNow() bool { return c.watch.on }

func (c *Conn) startWatch() {
	if c.raw == nil {
		return
	}
	watched.mu.Lock()
	defer watched.mu.Unlock()
	if watched.conns == nil {
		watched.conns = map[*watch]*Conn{}
	}
	if len(watched.conns) == 0 {
		go lookAround()
	}
	watched.conns[&c.watch] = c
	c.watch.on = true
}

func (w *watch) stop() {
	if !w.on {
		return
	}
	watched.mu.Lock()
	defer watched.mu.Unlock()
	delete(watched.conns, w)
}

// watchEnd is not known here.
func (u *UpConn) watchEnd() bool { return false }

// lookAround peeks at each connection; a FIN behind unread bytes stays unseen.
func lookAround() {
	for {
		time.Sleep(watchEvery)
		watched.mu.Lock()
		if len(watched.conns) == 0 {
			watched.mu.Unlock()
			return
		}
		var left []*Conn
		for _, c := range watched.conns {
			if !c.Gone() && peek(c.raw) == peekEnd {
				left = append(left, c)
			}
		}
		watched.mu.Unlock()
		for _, c := range left {
			c.clientLeft()
		}
	}
}

// bytesAcked is not known here.
func bytesAcked(syscall.RawConn) (int64, bool) { return 0, false }
