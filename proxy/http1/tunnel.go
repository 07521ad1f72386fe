package http1

import (
	"io"
	"sync"
	"sync/atomic"
	"time"
)

// tunnelGrace is how long the other direction of a tunnel may go on after one has ended.
const tunnelGrace = 5 * time.Second

// frameGrace is how long the end of a frame that is half passed is waited for when the server is to be left.
const frameGrace = 500 * time.Millisecond

// goingAway is a WebSocket close frame with code 1001 (RFC 6455 §7.4.1).
var goingAway = []byte{0x88, 0x02, 0x03, 0xe9}

// relay copies one direction of a tunnel. Between two messages it holds no buffer of its own.
type relay struct {
	src, dst *relayEnd
	idle     time.Duration
	last     *atomic.Int64 // when either direction moved, ns since the epoch
	ending   *atomic.Bool  // the other direction has ended
	mu       sync.Mutex    // held while dst is written to; guards frames.closed, and the rest of frames for others
	frames   frames        // that were passed
	leaveBy  atomic.Int64  // ns since the epoch: src is to be left by then; 0 = it is not
	n        int64
}

// relayEnd is one of the two connections.
type relayEnd struct {
	in    input
	out   *output
	abort func()
}

// Tunnel passes bytes both ways between the client and u, beginning with those that were read already, until one side has closed
// and the other had a moment to finish, or neither sent anything for idle (0 = no bound). It is called after WriteHead of a 101;
// both connections are closed when it returns. in is what came from the client, out what went to it. The gone function is not called
// any more: the end of the client's side is part of the stream.
func (c *Conn) Tunnel(u *UpConn, idle time.Duration) (in, out int64) {
	if c.within { // the request did not ask for an upgrade
		u.Close()
		c.Abort()
		return 0, 0
	}
	c.mu.Lock()
	c.handling = false
	c.tunnel = true
	c.mu.Unlock()
	c.ended, c.closing = true, true
	defer u.Close()
	defer c.cut()

	if c.flush() != nil {
		return 0, 0
	}
	c.out.timeout, u.out.timeout = idle, idle
	c.out.chunked, u.out.chunked = false, false

	var last atomic.Int64
	var ending atomic.Bool
	last.Store(time.Now().UnixNano())
	client := &relayEnd{out: &c.out, abort: func() { _ = c.nc.Close() }}
	server := &relayEnd{out: &u.out, abort: func() { _ = u.nc.Close() }}
	client.in.init(c.nc)
	server.in.init(u.nc)
	up := relay{src: client, dst: server, idle: idle, last: &last, ending: &ending}
	down := relay{src: server, dst: client, idle: idle, last: &last, ending: &ending}
	c.mu.Lock()
	c.down = &down
	c.mu.Unlock()
	u.t.tunnels.add(&down)
	defer u.t.tunnels.remove(&down)

	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if v := recover(); v != nil {
				c.panicked("tunnel", v)
				down.fail()
			}
		}()
		down.run(u.in.unread())
	}()
	up.run(c.in.unread())
	<-done
	c.body.read.Add(up.n)
	return up.n, down.n
}

func (r *relay) run(first []byte) {
	defer r.src.in.release()
	if err := r.pass(first); err != nil {
		r.fail()
		return
	}
	for {
		err := r.wait()
		if err == nil {
			err = r.pass(r.src.in.unread())
			r.src.in.pos, r.src.in.end = 0, 0
			if err != nil {
				r.fail()
				return
			}
			continue
		}
		if isTimeout(err) && r.leaveBy.Load() != 0 && !r.ending.Load() {
			if r.leaves() {
				return
			}
			continue
		}
		if isTimeout(err) && !r.ending.Load() && r.lively() {
			continue
		}
		if err != io.EOF {
			r.fail()
			return
		}
		r.end()
		return
	}
}

func (r *relay) pass(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	r.last.Store(time.Now().UnixNano())
	r.n += int64(len(p))
	r.mu.Lock()
	defer r.mu.Unlock()
	r.frames.pass(p)
	return r.dst.out.write(p)
}

// wait waits for bytes; the deadline is armed before ending and leaveBy are looked at and end and leave set it after, so that one of
// the two sees the other.
func (r *relay) wait() error {
	in := &r.src.in
	in.deadline.read(in.nc, r.idle)
	if r.ending.Load() {
		_ = in.nc.SetReadDeadline(time.Now().Add(tunnelGrace))
	}
	if by := r.leaveBy.Load(); by != 0 && !r.ending.Load() {
		at := longAgo
		if !r.frames.between() {
			at = time.Unix(0, by)
		}
		_ = in.nc.SetReadDeadline(at)
		in.deadline.unknown()
	}
	return in.first(keepDeadline)
}

// lively tells that the other direction moved lately.
func (r *relay) lively() bool {
	return time.Since(time.Unix(0, r.last.Load())) < r.idle
}

// end passes the end of one direction on and gives the other a moment.
func (r *relay) end() {
	if half, ok := r.dst.in.nc.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		r.fail()
		return
	}
	r.ending.Store(true)
	_ = r.dst.in.nc.SetReadDeadline(time.Now().Add(tunnelGrace))
}

// leave makes the relay from the server end: the client is told to go as soon as no frame is half passed.
func (r *relay) leave() {
	if r.leaveBy.CompareAndSwap(0, time.Now().Add(frameGrace).UnixNano()) {
		_ = r.src.in.nc.SetReadDeadline(longAgo)
	}
}

// leaves tells the client to go, if it can be told now; false when a frame is half passed.
func (r *relay) leaves() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case !r.frames.between():
		if time.Now().UnixNano() < r.leaveBy.Load() {
			return false
		}
		r.fail()
	case !r.frames.closed && r.dst.out.write(goingAway) != nil:
		r.fail()
	default:
		r.end() // the client's answer still reaches the server
	}
	return true
}

func (r *relay) fail() {
	r.ending.Store(true)
	r.src.abort()
	r.dst.abort()
}

// sayGoingAway tells a WebSocket client that we leave; not one in the middle of a frame, whose end our bytes could pass for, and not
// one that takes no bytes until then.
func (c *Conn) sayGoingAway(down *relay, until time.Time) (said bool) {
	for down != nil && !down.mu.TryLock() {
		if time.Now().After(until) {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	if down == nil {
		return false
	}
	defer down.mu.Unlock()
	if !down.frames.between() || down.frames.closed {
		return down.frames.closed
	}
	down.frames.closed = true
	_ = c.nc.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
	if _, err := c.nc.Write(goingAway); err != nil {
		return false
	}
	if half, ok := c.nc.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	return true
}

// tunnels are the WebSockets to one server.
type tunnels struct {
	mu  sync.Mutex
	all map[*relay]struct{} // guarded by mu: from the server
}

func (t *tunnels) add(r *relay) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.all == nil {
		t.all = map[*relay]struct{}{}
	}
	t.all[r] = struct{}{}
}

func (t *tunnels) remove(r *relay) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.all, r)
}

// EndTunnels tells the client of every WebSocket to this server to go, by close code 1001, and gives it a moment to answer. It
// returns at once, with how many there were: their servers do not end them as requests end, and would be stopped in the middle.
func (t *Transport) EndTunnels() int {
	t.tunnels.mu.Lock()
	defer t.tunnels.mu.Unlock()
	for r := range t.tunnels.all {
		r.leave()
	}
	return len(t.tunnels.all)
}
