package http1

import (
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Room for connections to servers.
//
// A client that is accepted and then refused, because no descriptor is left to reach a server, gains nothing. So
// clients are refused, or idle ones make room, while there still are some: a connection counts as one descriptor, as
// two when it has just been accepted and while a request of it is under way whose head has been read, and a share is
// left for all else that the process has open. Idle connections, or slow ones, that all wake at once may still use up
// the rest: then Conn.MakeRoom.
const (
	spareDescriptors = 16 // and one in spareShare
	spareShare       = 8
	pipeShare        = 16 // one pipe for so many descriptors
	bindShare        = 8
)

// bindable is how many connections to servers may be open before one that is kept for a single client makes the oldest of its kind
// give way: most of those clients have left, and nobody else can use them.
var bindable = sync.OnceValue(func() int64 { return descriptorLimit() / bindShare })

var (
	serversOpen atomic.Int64 // connections to servers
	pipesOpen   atomic.Int64 // of two descriptors each
)

// descriptorLimit is how many the process may have open.
func descriptorLimit() int64 {
	var limit syscall.Rlimit
	const most = 1 << 30
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur > most {
		return most
	}
	return int64(limit.Cur)
}

// full tells that one more client would leave no descriptor for the servers, or be more than Settings.MaxConns; limit
// is descriptorLimit.
func (s *Server) full(limit int64) bool {
	s.mu.Lock()
	open, asking := len(s.conns), s.asking(uptime())
	s.mu.Unlock()
	if most := s.settings().MaxConns; most > 0 && open >= most {
		return true
	}
	return !roomForOne(limit, int64(open), asking, serversOpen.Load(), pipesOpen.Load())
}

// asking is how many connections have a request or are about to. s.mu is held.
func (s *Server) asking(now time.Duration) int64 {
	return s.active.Load() - s.slow.Load() + min(s.fresh.Load(), s.accepted.count(now))
}

// recently counts what happened in the last recentTime, or up to twice as long.
type recently struct {
	since   time.Duration // reading of uptime
	n, last int64         // since then, and in the recentTime before
}

const recentTime = 100 * time.Millisecond

func (r *recently) add(now time.Duration) {
	r.turn(now)
	r.n++
}

func (r *recently) count(now time.Duration) int64 {
	r.turn(now)
	return r.n + r.last
}

func (r *recently) turn(now time.Duration) {
	switch passed := now - r.since; {
	case passed >= 2*recentTime:
		*r = recently{since: now}
	case passed >= recentTime:
		*r = recently{since: r.since + recentTime, last: r.n}
	}
}

// roomForOne tells that one more client can be taken, when of the open ones so many ask, or are about to.
func roomForOne(limit, open, ask, servers, pipes int64) bool {
	used := open + max(ask, servers) + 2*pipes
	return used+2 <= limit-limit/spareShare-spareDescriptors
}

// transports are all that are not closed.
var transports struct {
	mu   sync.Mutex
	open map[*Transport]struct{} // guarded by mu
}

func (t *Transport) register() {
	transports.mu.Lock()
	defer transports.mu.Unlock()
	if transports.open == nil {
		transports.open = map[*Transport]struct{}{}
	}
	transports.open[t] = struct{}{}
}

func (t *Transport) unregister() {
	transports.mu.Lock()
	defer transports.mu.Unlock()
	delete(transports.open, t)
}

// MakeRoom is for when a dial fails because no descriptor is left: it closes the unused connections to all servers and
// some of the clients' idle ones. Any goroutine may call it.
func (c *Conn) MakeRoom() {
	transports.mu.Lock()
	for t := range transports.open {
		t.CloseIdle()
	}
	transports.mu.Unlock()
	c.server.shedIdle(shedAtOnce)
}
