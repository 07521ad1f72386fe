package http1

import (
	"os"
	"sync"
	"syscall"
)

// watcher tells connections that their client has left. Each connection is registered once, for EPOLLRDHUP edges only, so that
// it costs nothing per request and no wake-up for data, and a FIN is seen behind unread bytes. It is one epoll of our own,
// whose descriptor waits in the runtime's poller.
type watcher struct {
	epoll *os.File
	fd    int // of epoll; File.Fd would make it blocking

	mu    sync.Mutex // guards what follows
	slots []watchSlot
	free  []int32
}

// watchSlot: an event carries the slot's index and generation, so that one fetched before its connection was closed cannot
// reach the next connection with the same descriptor or slot.
type watchSlot struct {
	conn       *Conn
	generation int32
}

// watch identifies a registration.
type watch struct{ slot, generation int32 }

// watches tells that clientLeft will be called.
func (w watch) watches() bool { return w.slot >= 0 }

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

func startWatch(c *Conn) watch {
	w := theWatcher()
	if w == nil || c.raw == nil {
		return watch{-1, 0}
	}
	w.mu.Lock()
	if len(w.free) == 0 {
		w.slots = append(w.slots, watchSlot{})
		w.free = append(w.free, int32(len(w.slots)-1))
	}
	i := w.free[len(w.free)-1]
	w.free = w.free[:len(w.free)-1]
	s := &w.slots[i]
	s.conn = c
	id := watch{i, s.generation}
	w.mu.Unlock()

	added := false
	_ = c.raw.Control(func(fd uintptr) {
		event := syscall.EpollEvent{Events: rdhupEdge, Fd: id.slot, Pad: id.generation}
		added = syscall.EpollCtl(w.fd, syscall.EPOLL_CTL_ADD, int(fd), &event) == nil
	})
	if !added {
		stopWatch(id)
		return watch{-1, 0}
	}
	return id
}

// stopWatch is called before the descriptor is closed; closing it ends the registration in the kernel.
func stopWatch(id watch) {
	if id.slot < 0 {
		return
	}
	w := theWatcher()
	w.mu.Lock()
	defer w.mu.Unlock()
	s := &w.slots[id.slot]
	s.conn = nil
	s.generation++
	w.free = append(w.free, id.slot)
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
			if c := w.lookup(watch{e.Fd, e.Pad}); c != nil {
				c.clientLeft()
			}
		}
	}
}

func (w *watcher) lookup(id watch) *Conn {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := &w.slots[id.slot]; s.generation == id.generation {
		return s.conn
	}
	return nil
}
