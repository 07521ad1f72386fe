package http1

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// lookout looks at all kept connections at once while requests come thick and fast: one system call for several of them, where each would
// have one of its own (peek.go). Nobody waits for its epoll, so that what is received wakes nobody up; epoll_wait, given no time to wait,
// then asks each connection on which something was received since and tells of those that have something unread or have ended.
//
// The plain version is peekFD for every request.
type lookout struct {
	fd    int
	last  atomic.Int64 // uptime when it looked last, or began to count
	asked atomic.Int64 // requests since then
	busy  atomic.Bool  // it is looked for them

	mu     sync.Mutex // guards what follows
	slots  []*UpConn
	free   []int32
	events [256]unix.EpollEvent
}

const (
	// lookEvery is how old a look may be that is relied on. A proxy that waits for events and then goes through them in order learns of
	// them no sooner when it has as much to do.
	lookEvery = 500 * time.Microsecond
	// lookFrom is how many requests have to have come since the last look, which is no more than lookPause ago, as they come in bunches.
	// With fewer each looks for itself.
	lookFrom  = 4
	lookPause = 4 * lookEvery
	// inEdge comes with bytes and with the end of the connection.
	inEdge = unix.EPOLLIN | 1<<31 // EPOLLET
)

// theLookout serves the whole process; nil when the system gives no epoll.
var theLookout = sync.OnceValue(newLookout)

func newLookout() *lookout {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil
	}
	return &lookout{fd: fd}
}

// spot is where a connection stands with the lookout. The zero value is nowhere.
type spot struct {
	by    *lookout
	slot  int32
	noted atomic.Bool // something is unread, or was before it was read
}

// seen is called before what was received is read.
func (s *spot) seen() {
	if s.noted.Load() {
		s.noted.Store(false)
	}
}

// leave is called before the descriptor is closed, which ends the registration in the kernel.
func (s *spot) leave() {
	l := s.by
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.slots[s.slot] = nil
	l.free = append(l.free, s.slot)
	s.by = nil
}

// quiet tells that lookEvery before now, an uptime, or later nothing was unread on u and its server had not ended it; false when that is
// not known. fd is u's.
func (l *lookout) quiet(u *UpConn, fd uintptr, now time.Duration) bool {
	l.asked.Add(1)
	if now-time.Duration(l.last.Load()) >= lookEvery {
		if !l.mu.TryLock() {
			return false
		}
		l.look(now)
		l.mu.Unlock()
	}
	if !l.busy.Load() {
		return false
	}
	if u.spot.by == nil {
		l.enter(u, fd)
		return false
	}
	return !u.spot.noted.Load()
}

// look notes the connections that something lies on, if requests come often enough. mu is held.
func (l *lookout) look(now time.Duration) {
	since := now - time.Duration(l.last.Load())
	l.last.Store(int64(now))
	busy := l.asked.Swap(0) >= lookFrom && since < lookPause
	for n := len(l.events); busy && n == len(l.events); {
		r, _, errno := syscall.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.fd), uintptr(unsafe.Pointer(&l.events)), uintptr(len(l.events)), 0, 0, 0)
		if n = int(r); errno != 0 {
			n, busy = 0, false
		}
		for _, e := range l.events[:n] {
			if u := l.slots[e.Fd]; u != nil {
				u.spot.noted.Store(true)
			}
		}
	}
	l.busy.Store(busy)
}

// enter makes look see u from now on.
func (l *lookout) enter(u *UpConn, fd uintptr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) == 0 {
		l.slots = append(l.slots, nil)
		l.free = append(l.free, int32(len(l.slots)-1))
	}
	i := l.free[len(l.free)-1]
	event := unix.EpollEvent{Events: inEdge, Fd: i}
	if unix.EpollCtl(l.fd, unix.EPOLL_CTL_ADD, int(fd), &event) != nil {
		return
	}
	l.free = l.free[:len(l.free)-1]
	l.slots[i] = u
	u.spot.by, u.spot.slot = l, i
	u.spot.noted.Store(false)
}

// lookAt is peekFD, or what the lookout has seen.
func (u *UpConn) lookAt(fd uintptr) peekResult {
	if u.reused {
		if l := theLookout(); l != nil && l.quiet(u, fd, u.now) {
			return peekQuiet
		}
	}
	return peekFD(int(fd))
}
