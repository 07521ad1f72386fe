package http1

import (
	"errors"
	"net"
	"os"
	"syscall"
	"time"
)

// NamedListener gives a listener the name that Conn.Listener reports, such as the text it was configured with.
type NamedListener struct {
	net.Listener
	Name string
	// Open makes its connections ready; nil: they are as they come.
	Open Opener
	// Encrypted tells that what Open makes of them is encrypted: a connection that is refused is told nothing then, and a slow client
	// is noticed below it (spill).
	Encrypted bool
}

const (
	acceptPauseMin = 5 * time.Millisecond
	acceptPauseMax = time.Second
	warnPause      = 10 * time.Second
	// lastAccept is how long a listener that is to be closed waits for what lies in its backlog.
	lastAccept = 10 * time.Millisecond
)

var refusal = []byte("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 13\r\nContent-Type: text/plain; charset=utf-8\r\n" +
	"Connection: close\r\nRetry-After: 1\r\nX-Sluice-Reason: " + reasonConnLimited + "\r\n\r\n" + reasonConnLimited + "\n")

// Serve accepts connections until l is closed, by Shutdown or otherwise, and then returns nil. When there are too many,
// idle ones make room, or new ones are answered 503, encrypted ones closed. Running out of descriptors or memory does not end it: it answers
// 503 with a descriptor kept for that, pauses and goes on. Other errors are returned.
func (s *Server) Serve(l net.Listener) error {
	named, ok := l.(NamedListener)
	if !ok {
		named = NamedListener{Listener: l, Name: l.Addr().String()}
	}
	l = named.Listener
	s.mu.Lock()
	if s.draining.Load() {
		s.mu.Unlock()
		return l.Close()
	}
	if s.listeners == nil {
		s.listeners = map[net.Listener]struct{}{}
	}
	s.listeners[l] = struct{}{}
	if s.spare == nil {
		s.spare = make(chan *Conn)
	}
	s.mu.Unlock()
	defer s.listenerDone(l)

	spare, _ := os.Open(os.DevNull) // without it refusals are not said
	defer func() {
		if spare != nil {
			_ = spare.Close()
		}
	}()
	pause, last := time.Duration(0), false
	limit := descriptorLimit()
	var warned, looked time.Time // when it was last told that there are too many, and last found that none is idle
	for {
		nc, err := l.Accept()
		if err == nil {
			pause = 0
			if !s.full(limit) {
				s.start(nc, named)
				continue
			}
			now := time.Now()
			if now.Sub(looked) > acceptPauseMin && s.shedIdle(1) {
				s.start(nc, named)
				continue
			}
			looked = now
			if now.Sub(warned) > warnPause {
				warned = now
				open, active := s.Conns()
				s.log().Warn("too many connections", "listener", named.Name, "open", open, "active", active, "descriptors", limit)
			}
			refuse(nc, named.Encrypted)
			continue
		}
		switch {
		case isClosed(err), last && isTimeout(err):
			return nil
		case s.draining.Load() && isTimeout(err):
			// Shutdown's deadline has passed. Once more, for what came into the backlog meanwhile.
			last = true
			if d, ok := l.(interface{ SetDeadline(time.Time) error }); ok {
				_ = d.SetDeadline(time.Now().Add(lastAccept))
			}
			continue
		case errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EPROTO):
			continue
		case !outOfResources(err):
			return err
		}
		if pause == 0 {
			s.log().Warn("cannot accept connections", "listener", named.Name, "error", err)
		}
		pause = min(max(2*pause, acceptPauseMin), acceptPauseMax)
		if spare != nil {
			_ = spare.Close()
			if s.refuseOne(named) {
				pause = acceptPauseMin // there may be more of them, and nobody should wait long to be told
			}
			spare, _ = os.Open(os.DevNull)
		} else if s.shedIdle(shedAtOnce) {
			pause = acceptPauseMin
		}
		time.Sleep(pause)
		if spare == nil {
			spare, _ = os.Open(os.DevNull)
		}
	}
}

// shedAtOnce is how many idle connections make room at once.
const shedAtOnce = 8

// shedIdle closes at most n of the connections that were answered and wait for their next request, as nginx does when
// it has none left for new ones: the descriptor that was kept for refusals went to a connection to a server. False when
// there are none.
func (s *Server) shedIdle(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	shed := 0
	for c := range s.conns {
		if shed == n {
			break
		}
		if c.shed() {
			shed++
		}
	}
	return shed > 0
}

func outOfResources(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// refuseOne takes one connection with the descriptor that was just freed and tells it to come back later.
// It reports whether there was one to be told.
func (s *Server) refuseOne(l NamedListener) bool {
	start := time.Now()
	nc, err := l.Accept()
	if err != nil {
		return false // another took the descriptor, or l is closed: the next Accept tells
	}
	if time.Since(start) > acceptPauseMax {
		s.start(nc, l) // nobody had waited any more; this one came later
		return false
	}
	refuse(nc, l.Encrypted)
	return true
}

// refuse answers 503 and closes. On an encrypted connection the client would take the answer for a fault of ours.
func refuse(nc net.Conn, encrypted bool) {
	if encrypted {
		_ = nc.Close()
		return
	}
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second)) // a new connection takes that much at once: a shorter time only runs out where it is busy here
	_, _ = nc.Write(refusal)
	_ = nc.SetReadDeadline(time.Now().Add(acceptPauseMin))
	if half, ok := nc.(interface{ CloseWrite() error }); ok && half.CloseWrite() == nil {
		var request [2048]byte
		_, _ = nc.Read(request[:]) // unread bytes would turn the close into a reset that takes the answer away
	}
	_ = nc.Close()
}

func (s *Server) listenerDone(l net.Listener) {
	_ = l.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
	if s.empty != nil && len(s.conns) == 0 && len(s.listeners) == 0 {
		close(s.empty)
		s.empty = nil
	}
}
