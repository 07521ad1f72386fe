package http1

import (
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// watcher tells connections that their other end has left: a client, or a server whose stream is followed. Each connection is registered
// once, for EPOLLRDHUP edges only, so that it costs nothing per request and no wake-up for data, and a FIN is seen behind unread bytes. It
// is one epoll of our own, whose descriptor waits in the runtime's poller.
type watcher struct {
	epoll *os.File
	fd    int // of epoll; File.Fd would make it blocking

	mu      sync.Mutex // guards what follows
	slots   []watchSlot
	free    []int32
	pending []*Conn // of which those that still live are registered when sweep comes
	sweep   *time.Timer
}

// watchLater is when a connection is registered that has not waited for its client before: most live shorter where each request has its own.
const watchLater = 50 * time.Millisecond

// watchSlot: an event carries the slot's index and generation, so that one fetched before its connection was closed cannot
// reach the next connection with the same descriptor or slot.
type watchSlot struct {
	whose      leaver
	generation int32
}

// leaver is who is told, once.
type leaver interface{ peerLeft() }

func (c *Conn) peerLeft() { c.clientLeft() }

// watchID is a slot at the time of one generation.
type watchID struct{ slot, generation int32 }

// watch is where a connection stands with the watcher.
type watch struct {
	state atomic.Int32
	id    watchID // guarded by the watcher's mutex
}

// The states of a watch.
const (
	unwatched    = iota // it cannot be, or is no more
	watchPending        // it will be
	watched
)

// possible tells that clientLeft will be called, now or after watchNow.
func (w *watch) possible() bool { return w.state.Load() != unwatched }

// rdhupEdge is EPOLLRDHUP|EPOLLET; EPOLLHUP and EPOLLERR always come.
const rdhupEdge = syscall.EPOLLRDHUP | 1<<31

// theWatcher serves the whole process; nil when the system gives no epoll, then clients that leave are seen when written to.
var theWatcher = sync.OnceValue(func() *watcher {
	fd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	if err := syscall.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil
	}
	w := &watcher{epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd}
	go w.run()
	return w
})

// startWatch begins to watch c, soon if it is one that may be over before.
func (c *Conn) startWatch() {
	w := theWatcher()
	if w == nil || c.raw == nil {
		return
	}
	c.watch.state.Store(watchPending)
	if _, soon := c.socket.(*acceptedConn); !soon {
		c.watchNow()
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending) == 0 {
		if w.sweep == nil {
			w.sweep = time.AfterFunc(watchLater, w.watchPending)
		} else {
			w.sweep.Reset(watchLater)
		}
	}
	w.pending = append(w.pending, c)
}

func (w *watcher) watchPending() {
	w.mu.Lock()
	pending := w.pending
	w.pending = nil
	w.mu.Unlock()
	for _, c := range pending {
		c.watchNow()
	}
}

// watchNow ends the time that a watch is pending: a client that has left already is told of too. False when c is not watched then.
func (c *Conn) watchNow() bool { return c.watch.now(c.raw, c) }

// watchEnd makes peerLeft be called when the server has ended the connection, now or later; false when that cannot be.
func (u *UpConn) watchEnd() bool {
	if theWatcher() == nil {
		return false
	}
	u.watch.state.CompareAndSwap(unwatched, watchPending)
	return u.watch.now(u.in.raw, u)
}

// now registers one that is pending.
func (w *watch) now(raw syscall.RawConn, whose leaver) bool {
	if w.state.Load() == watched {
		return true
	}
	by := theWatcher()
	id, ok := by.take(w, whose)
	if !ok {
		return false
	}
	added := false
	_ = raw.Control(func(fd uintptr) {
		event := syscall.EpollEvent{Events: rdhupEdge, Fd: id.slot, Pad: id.generation}
		added = syscall.EpollCtl(by.fd, syscall.EPOLL_CTL_ADD, int(fd), &event) == nil
	})
	if !added {
		w.stop()
	}
	return added
}

// take gives a pending one a slot.
func (w *watcher) take(watch *watch, whose leaver) (watchID, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !watch.state.CompareAndSwap(watchPending, watched) {
		return watchID{}, false
	}
	if len(w.free) == 0 {
		w.slots = append(w.slots, watchSlot{})
		w.free = append(w.free, int32(len(w.slots)-1))
	}
	i := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	s := &w.slots[i]
	s.whose = whose
	watch.id = watchID{i, s.generation}
	return watch.id, true
}

// stop is called before the descriptor is closed; closing it ends the registration in the kernel.
func (w *watch) stop() {
	if !w.possible() {
		return
	}
	by := theWatcher()
	by.mu.Lock()
	defer by.mu.Unlock()
	if w.state.Swap(unwatched) != watched {
		return
	}
	s := &by.slots[w.id.slot]
	s.whose = nil
	s.generation++
	by.free = append(by.free, w.id.slot)
}

func (w *watcher) run() {
	raw, err := w.epoll.SyscallConn()
	if err != nil {
		return
	}
	var events [64]syscall.EpollEvent
	for {
		n := 0
		var waitErr error
		err := raw.Read(func(fd uintptr) bool {
			n, waitErr = syscall.EpollWait(int(fd), events[:], 0)
			return n != 0 || waitErr != nil && waitErr != syscall.EINTR
		})
		if err != nil || waitErr != nil && waitErr != syscall.EINTR {
			return
		}
		for _, e := range events[:max(n, 0)] {
			if l := w.lookup(watchID{e.Fd, e.Pad}); l != nil {
				l.peerLeft()
			}
		}
	}
}

func (w *watcher) lookup(id watchID) leaver {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := &w.slots[id.slot]; s.generation == id.generation {
		return s.whose
	}
	return nil
}
