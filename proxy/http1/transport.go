package http1

import (
	"bytes"
	"context"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// TransportConfig says how one server is reached.
type TransportConfig struct {
	// Dial makes a connection; nil is TCP to the server's address. What it gives carries HTTP/1.1 and has deadlines that can be moved.
	// It returns what it failed with as it is, wrapped in ErrHandshake when the server could be reached.
	Dial func(ctx context.Context) (net.Conn, error)
	// Connect bounds the dial, handshakes included; 0 = no bound.
	Connect time.Duration
	// FirstByte bounds the time from the request's last byte to the response's head; 0 = no bound.
	FirstByte time.Duration
	// Idle bounds the silence of the server while it takes a request or sends a body; 0 = no bound. CopyBody and Tunnel
	// have their own.
	Idle time.Duration
	// KeepAlive is how long an unused connection is kept; 0 = 4s, negative = not at all. A server's own
	// `Keep-Alive: timeout=` makes it shorter, and so does its closing of a connection that was idle for less.
	KeepAlive time.Duration
	// MaxIdle is the largest number of unused connections kept; 0 = 256.
	MaxIdle int
	// Limits bound response heads.
	Limits Limits
}

const (
	defaultKeepAlive = 4 * time.Second
	defaultMaxIdle   = 256
	// minLearned is the shortest keep-alive time that is learned from observed closes: a restart closes connections of any age.
	minLearned = time.Second
	// learnedFor is how long a shorter keep-alive time holds that nothing has confirmed: one odd answer must not speak for a server for good.
	learnedFor = 5 * time.Minute
)

func (c *TransportConfig) setDefaults() {
	if c.KeepAlive == 0 {
		c.KeepAlive = defaultKeepAlive
	}
	if c.MaxIdle <= 0 {
		c.MaxIdle = defaultMaxIdle
	}
}

// Transport holds the kept connections to one server and makes new ones. All methods may be called concurrently.
type Transport struct {
	addr    string
	cfg     atomic.Pointer[TransportConfig]
	learned atomic.Int64 // ns
	until   atomic.Int64 // uptime when that is forgotten; 0 = nothing learned
	brief   brevity
	live    atomic.Int64 // connections made and not closed yet
	era     atomic.Int64 // see Renew
	tunnels tunnels

	mu     sync.Mutex // guards what follows
	idle   []*UpConn  // the one used last is at the end
	timer  *time.Timer
	armed  bool
	closed bool
}

// NewTransport makes a Transport for the server at addr, "host:port" or "unix:/path". Nothing is dialed yet.
func NewTransport(addr string, cfg TransportConfig) *Transport {
	t := &Transport{addr: addr}
	t.SetConfig(cfg)
	t.register()
	return t
}

// SetConfig changes the configuration for connections got from now on and forgets what was learned.
func (t *Transport) SetConfig(cfg TransportConfig) {
	cfg.setDefaults()
	t.cfg.Store(&cfg)
	t.until.Store(0)
}

// Idle is the number of unused connections that are kept.
func (t *Transport) Idle() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.idle)
}

// Live is the number of open connections, used and unused.
func (t *Transport) Live() int { return int(t.live.Load()) }

// keepFor is how long a connection may be unused; now is a reading of uptime.
func (t *Transport) keepFor(now time.Duration) time.Duration {
	keep := t.cfg.Load().KeepAlive
	if l := time.Duration(t.learned.Load()); l < keep && int64(now) < t.until.Load() {
		return l
	}
	return keep
}

// learn takes a shorter keep-alive time over, or confirms the one that was learned; now is a reading of uptime. A server may say the same
// with every answer: only once in a while is that written down.
func (t *Transport) learn(d, now time.Duration) {
	for {
		old, left := t.learned.Load(), t.until.Load()-int64(now)
		if left > int64(learnedFor/2) && old == int64(d) || left > 0 && old < int64(d) {
			return
		}
		if t.learned.CompareAndSwap(old, int64(d)) {
			t.until.Store(int64(now + learnedFor))
			return
		}
	}
}

// endedAfter is told of a kept connection that its server ended when it was unused for at most that long: it keeps them for less.
func (t *Transport) endedAfter(unused time.Duration) {
	if d := unused / 2; d > minLearned {
		t.learn(d, uptime())
	}
}

// Get gives a connection for one exchange: the kept one that was used last, or a new one. Whether the server has ended the kept one, or
// sent something that must not become the answer to the next request (RFC 9112 §9.2), is found out before the first byte is sent on
// it: Send or ReadHead fails with ErrServerClosed then, Delivered is false, and after Close the next Get gives another one.
// Errors: ErrConnectRefused, ErrConnectTimeout, ErrConnect, ErrHandshake, ErrCanceled, ErrClosed; with each of them nothing was sent. The
// connection is given up with Release, Close or Conn.Tunnel. at is the time.
func (t *Transport) Get(c *Cancel, at time.Time) (*UpConn, error) {
	now := uptimeAt(at)
	for {
		u := t.pop(c.prologue())
		if u == nil {
			return t.Dial(c)
		}
		if now-u.since > t.keepFor(now) {
			u.shut()
			continue
		}
		if !c.bind(u) {
			t.push(u)
			return nil, ErrCanceled
		}
		u.begin(c, true, now)
		return u, nil
	}
}

// pop takes the newest connection that began with prologue.
func (t *Transport) pop(prologue []byte) *UpConn {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := len(t.idle) - 1; i >= 0; i-- {
		if u := t.idle[i]; bytes.Equal(u.prologue, prologue) {
			if last := len(t.idle) - 1; i == last {
				t.idle[i] = nil
				t.idle = t.idle[:i]
			} else {
				t.idle = slices.Delete(t.idle, i, i+1)
			}
			return u
		}
	}
	return nil
}

// push keeps u, or closes it when there are enough.
func (t *Transport) push(u *UpConn) {
	cfg := t.cfg.Load()
	t.mu.Lock()
	if len(t.idle) > 0 && u.tells() && (len(t.idle) >= cfg.MaxIdle || serversOpen.Load() > bindable()) {
		oldest := t.idle[0]
		t.idle = slices.Delete(t.idle, 0, 1)
		defer oldest.shut()
	}
	if t.closed || cfg.KeepAlive < 0 || u.era != t.era.Load() || len(t.idle) >= cfg.MaxIdle || t.brief.pointless() {
		t.mu.Unlock()
		u.shut()
		return
	}
	t.idle = append(t.idle, u)
	if !t.armed {
		t.armed = true
		t.arm(t.keepFor(uptime()))
	}
	t.mu.Unlock()
}

func (t *Transport) arm(d time.Duration) {
	if t.timer == nil {
		t.timer = time.AfterFunc(d, t.expire)
	} else {
		t.timer.Reset(d)
	}
}

// expire closes what was unused for too long; the oldest stand first.
func (t *Transport) expire() {
	now := uptime()
	keep := t.keepFor(now)
	t.mu.Lock()
	n := 0
	for n < len(t.idle) && now-t.idle[n].since >= keep {
		n++
	}
	old := append([]*UpConn(nil), t.idle[:n]...)
	rest := copy(t.idle, t.idle[n:])
	clear(t.idle[rest:])
	t.idle = t.idle[:rest]
	if t.armed = rest > 0; t.armed {
		t.arm(keep - (now - t.idle[0].since))
	}
	t.mu.Unlock()
	for _, u := range old {
		u.shut()
	}
}

// CloseIdle closes the unused connections.
func (t *Transport) CloseIdle() {
	t.mu.Lock()
	old := t.idle
	t.idle = nil
	t.mu.Unlock()
	for _, u := range old {
		u.shut()
	}
}

// Close closes the unused connections and lets those in use close when they are released. Get fails with ErrClosed.
func (t *Transport) Close() {
	t.unregister()
	t.mu.Lock()
	t.closed = true
	if t.timer != nil {
		t.timer.Stop()
	}
	t.mu.Unlock()
	t.CloseIdle()
}

// Dial is Get with a new connection in any case.
func (t *Transport) Dial(c *Cancel) (*UpConn, error) {
	t.mu.Lock()
	closed := t.closed
	t.mu.Unlock()
	if closed {
		return nil, ErrClosed
	}
	era := t.era.Load() // before the configuration, which Renew comes behind
	cfg := t.cfg.Load()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	if !c.dialing(stop) {
		return nil, ErrCanceled
	}
	nc, err := t.connect(WithPrologue(ctx, c.prologue()), cfg)
	c.dialing(nil)
	if err != nil {
		return nil, dialError(err, c)
	}
	u := newUpConn(t, nc)
	u.era = era
	u.prologue = bytes.Clone(c.prologue())
	t.live.Add(1)
	if !u.once {
		serversOpen.Add(1)
	}
	if !c.bind(u) {
		u.shut()
		return nil, ErrCanceled
	}
	u.begin(c, false, uptime())
	return u, nil
}
