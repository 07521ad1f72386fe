package proxy

import (
	"net/netip"
	"sync"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
)

// Exchange is one request on its way. It belongs to the goroutine that serves it, is pooled, and keeps
// its buffers and function values from request to request, so that a request allocates nothing.
type Exchange struct {
	proxy *Proxy
	front *front
	conn  *http1.Conn
	head  *http1.Head
	table *Table
	route *Route
	stats *routeStats // of the route, or of requests without one

	// Who asks.
	peer, client netip.Addr
	trusted      bool
	id           []byte
	subject      subject
	host, path   []byte // buffers of subject
	other        []byte // other readings of the path

	// What is held and must be given back.
	counted  bool // in the route's limit_conn
	countKey uint64
	slot     bool // of ticket.Server()
	up       *http1.UpConn

	// The exchange with a server.
	ticket   balancer.Ticket
	cancel   http1.Cancel
	overdue  overdue // armed if ticket.Deadline is set
	sticky   *balancer.StickyConfig
	server   *balancer.Server
	own      ownFields
	out      []byte // the head for the server
	in       []byte // the head for the client
	prologue []byte // what its connection begins with
	response *http1.Head
	trip     func() (time.Time, error) // roundTrip, made once
	first    func()                    // answering, made once
	whole    func()                    // answered, made once
	ran      bool                      // the breaker let roundTrip run
	err      error                     // what it ended with
	written  bool                      // a byte of the request may have reached a server
	interim  bool                      // an interim response was passed on

	// What is logged.
	begun                      time.Time
	now                        time.Time // the clock, as it was read after the last wait
	queued, connect, firstByte time.Duration
	status, failed             int // failed is the position in failures, or -1
	serverID                   string
	tries                      int
	line, record               []byte // buffers
	done                       bool   // the handler came to its end
	prompt                     bool   // now holds: nothing of the response was waited for since
}

// front is what a connection keeps between its requests. Its watcher may call gone at any time, also
// while one request ends and the next begins, so the exchange is reached under a mutex.
type front struct {
	mu      sync.Mutex
	x       *Exchange          // guarded by mu; nil between requests
	waiting *balancer.Upstream // guarded by mu; where x is about to wait or waits for a slot
	left    bool               // guarded by mu; the client has left
}

// begin takes an Exchange for the request at hand.
func (p *Proxy) begin(c *http1.Conn) *Exchange {
	f, ok := c.Data.(*front)
	if !ok {
		f = new(front)
		c.Data = f
		c.SetGone(f.gone)
	}
	x := p.pool.Get().(*Exchange)
	x.proxy, x.front, x.conn, x.head, x.table = p, f, c, c.Head(), p.table.Load()
	x.stats, x.failed, x.begun = x.table.unmatched, -1, time.Now()
	x.now = x.begun
	f.mu.Lock()
	f.x = x
	if f.left = f.left || c.Gone(); f.left { // before anybody could be told
		x.cancel.Cancel()
	}
	f.mu.Unlock()
	x.identify()
	x.name()
	return x
}

// end gives back whatever the request still holds, also when the handler panics, counts it and logs it.
func (x *Exchange) end() {
	if x.up != nil {
		x.up.Close()
		x.up = nil
	}
	x.release(balancer.Outcome{Neutral: true})
	if !x.ticket.Deadline.IsZero() {
		x.overdue.disarm()
	}
	if x.counted {
		x.route.conns.give(x.countKey)
	}
	f := x.front
	f.mu.Lock()
	f.x = nil
	f.mu.Unlock()
	if !x.done {
		x.note(internal)
	}
	x.readClock()
	x.conn.SetNow(x.now)
	x.count(x.now)
	if x.done { // after a panic somebody may still hold it
		pool := &x.proxy.pool
		x.reset()
		pool.Put(x)
	}
}

// reset makes the Exchange ready for the pool: it lets go of everything but its buffers.
func (x *Exchange) reset() {
	x.ticket.Reset()
	x.cancel.Reset()
	x.proxy, x.front, x.conn, x.head, x.table, x.route, x.stats = nil, nil, nil, nil, nil, nil, nil
	x.subject = subject{}
	x.counted, x.sticky, x.server, x.response = false, nil, nil, nil
	x.ran, x.err, x.written, x.interim = false, nil, false, false
	x.queued, x.connect, x.firstByte = 0, 0, 0
	x.status, x.serverID, x.tries, x.done, x.prompt = 0, "", 0, false, false
	for _, b := range []*[]byte{&x.id, &x.host, &x.path, &x.other, &x.out, &x.in, &x.line, &x.record} {
		if cap(*b) > 16<<10 { // one huge head must not stay in the pool
			*b = nil
		}
	}
}

// gone is called by the connection's watcher when the client has left: the request leaves the queue, or
// its exchange with the server is cut.
func (f *front) gone() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.left = true
	if f.x == nil {
		return
	}
	f.x.cancel.Cancel()
	if f.waiting != nil {
		f.waiting.Cancel(&f.x.ticket)
	}
}

// wait tells gone where the request waits; it is false when the client has left already.
func (f *front) wait(u *balancer.Upstream) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting = u
	return !f.left
}

// hasLeft tells that the client is known to have gone.
func (x *Exchange) hasLeft() bool {
	x.front.mu.Lock()
	defer x.front.mu.Unlock()
	return x.front.left
}

// readClock is called where something may have been waited for. It spares the look at the wall clock, which costs as much again.
func (x *Exchange) readClock() { x.now = x.begun.Add(time.Since(x.begun)) }

// exchange sends the request and reads the response's head, through the server's circuit breaker.
func (x *Exchange) exchange() error {
	x.tries++
	x.ran, x.err = false, nil
	if err := x.server.Execute(x.trip); !x.ran {
		return err
	}
	return x.err
}

// roundTrip is what the breaker judges: the time up to the response's head and its status.
func (x *Exchange) roundTrip() (ended time.Time, err error) {
	x.ran = true
	x.err = x.send()
	switch {
	case x.err == nil && x.response.Status() >= 500:
		return x.now, balancer.ErrServerStatus
	case x.err != nil && x.outcome(x.err).Neutral:
		return x.now, balancer.ErrCanceled
	}
	return x.now, x.err
}

// send writes the request on a connection to the server and reads until the final response's head. A kept
// connection that turns out to be closed before anything reached the server is not a try: the next one
// is taken.
func (x *Exchange) send() error {
	transport := x.server.Attached().(*server).Transport
	for fresh := 0; ; {
		up, err := x.connection(transport)
		if err != nil {
			return err
		}
		sent := x.now
		if !up.Reused() {
			before := x.now
			x.readClock()
			sent = x.now
			x.connect += sent.Sub(before)
		}
		x.up = up
		if x.head.Websocket() {
			up.AllowUpgrade()
		}
		body := x.conn.Body()
		body.RefuseTrailers(x.route.inRequest)
		if !x.head.HasBody() {
			body = nil
		}
		if err = up.Send(x.out, body); err == nil {
			err = x.readHead()
		}
		x.readClock()
		if err == nil {
			x.firstByte = x.now.Sub(sent)
			return nil
		}
		if cause := up.BodyErr(); cause != nil {
			err = cause
		}
		delivered, stale := up.Delivered(), up.Stale()
		if !up.Reused() { // a server that ends every connection is one that fails
			fresh++
		}
		up.Close()
		x.up = nil
		if stale && !x.interim && fresh < maxFresh && x.rewind() {
			continue
		}
		x.written = x.written || delivered
		return err
	}
}

// maxFresh is how many new connections, or streams, that turn out to be unusable are one try.
const maxFresh = 3

// connection is a kept one, or for a retry a new one: another kept connection may be closing too.
func (x *Exchange) connection(t *http1.Transport) (*http1.UpConn, error) {
	for pause := firstRoomPause; ; pause *= 2 {
		var up *http1.UpConn
		var err error
		if x.tries > 1 {
			up, err = t.Dial(&x.cancel)
		} else {
			up, err = t.Get(&x.cancel, x.now)
		}
		if err == nil || !noDescriptor(err) || pause > lastRoomPause {
			return up, err
		}
		x.conn.MakeRoom()
		time.Sleep(pause)
		x.readClock()
	}
}

// How long a request waits for a descriptor, altogether less than twice the last pause. A client that leaves meanwhile
// is seen after a pause.
const (
	firstRoomPause = 2 * time.Millisecond
	lastRoomPause  = 128 * time.Millisecond
)

// readHead reads the response's head and passes interim responses on (RFC 9110 §15.2), at most ten.
func (x *Exchange) readHead() error {
	for n := 0; ; n++ {
		h, err := x.up.ReadHead(x.head.Method())
		if err != nil {
			return err
		}
		status := h.Status()
		switch {
		case status == 101 && !(x.head.Websocket() && h.Websocket()):
			return errUnasked101
		case status >= 200 || status == 101:
			x.response = h
			return nil
		case n == 10:
			return errManyInterims
		case status == 100: // the client got its own when the body was wanted
			continue
		}
		x.dropFromResponse(h)
		x.in = append(append(x.in[:0], h.StatusLine()...), "\r\n"...)
		x.in = append(h.AppendKept(x.in), "\r\n"...)
		x.interim = true
		if err := x.conn.WriteInterim(x.in); err != nil {
			return err
		}
	}
}
