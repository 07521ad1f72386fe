// Package proxy is the request's way: it routes, limits and prepares a request, gets it a slot on a
// server, passes both messages on as they come, and says why when it cannot.
//
// The life of a request is Proxy.Handle, told in order. Table and Route hold the compiled
// configuration, Exchange is one request, Upstream joins a balancer.Upstream with the connections to its servers.
package proxy

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"sluice/balancer"
	"sluice/proxy/http1"
	"sluice/proxy/http2"
)

// Options are what a Proxy needs besides a Table.
type Options struct {
	// Log takes what goes wrong; nil is off.
	Log *slog.Logger
	// AccessLog takes one line a request; nil is off. SetAccessLog changes it.
	AccessLog *AccessLog
}

// Proxy serves requests by its Table. All methods may be called concurrently.
type Proxy struct {
	log      *slog.Logger
	table    atomic.Pointer[Table]
	access   atomic.Pointer[AccessLog]
	draining atomic.Bool
	came     protocols
	pool     sync.Pool // of *Exchange
}

// New makes a Proxy whose table is empty: every request gets 404 until Store.
func New(opts Options) *Proxy {
	if opts.Log == nil {
		opts.Log = slog.New(slog.DiscardHandler)
	}
	p := &Proxy{log: opts.Log}
	p.pool.New = func() any {
		x := new(Exchange)
		x.trip, x.first, x.whole = x.roundTrip, x.answering, x.answered
		return x
	}
	p.access.Store(opts.AccessLog)
	empty, _ := NewTable(TableConfig{}, nil)
	p.table.Store(empty)
	return p
}

// Store makes t the table of all requests that come from now on; those under way keep theirs.
func (p *Proxy) Store(t *Table) { p.table.Store(t) }

// Table is the present one.
func (p *Proxy) Table() *Table { return p.table.Load() }

// SetAccessLog changes the access log; nil is off. Requests under way may still write to the old one.
func (p *Proxy) SetAccessLog(l *AccessLog) { p.access.Store(l) }

// SetDraining refuses, while on, every new request with 503 draining.
func (p *Proxy) SetDraining(on bool) { p.draining.Store(on) }

// Stats reads all counters.
func (p *Proxy) Stats() Stats {
	t := p.table.Load()
	s := Stats{Routes: []RouteStats{t.unmatched.read()}, Protocols: p.came.read()}
	for _, r := range t.routes {
		s.Routes = append(s.Routes, r.stats.read())
	}
	for _, u := range t.upstreams {
		s.Upstreams = append(s.Upstreams, UpstreamStats{u.Name(), u.retries.Load()})
	}
	return s
}

// Handle is the life of a request (http1.Handler).
func (p *Proxy) Handle(c *http1.Conn) {
	x := p.begin(c)
	defer x.end()

	if x.toAuthority() || x.toHTTPS() {
		return
	}
	err := x.match()
	if err == nil {
		err = x.limit()
	}
	if err != nil {
		x.fail(err)
		return
	}
	if x.route.upstream == nil {
		x.answer()
		return
	}
	x.prepare()
	x.aim()
	x.introduce()
	x.route.upstream.budget.request(x.begun)
	for {
		if err = x.acquire(); err == nil {
			if err = x.exchange(); err == nil {
				x.finish()
				x.done = true
				return
			}
			x.release(x.outcome(err))
		}
		if !x.retry(err) {
			if x.hasLeft() { // whatever broke meanwhile, nobody waits for the answer
				err = http1.ErrCanceled
			} else if x.canceledLate(err) {
				err = errOverdue
			}
			x.fail(err)
			return
		}
	}
}

// match finds the route.
func (x *Exchange) match() error {
	if x.proxy.draining.Load() {
		return errDraining
	}
	if string(x.head.Target()) == "*" { // OPTIONS is the only method that may ask so
		x.route = serverWide
		return nil
	}
	if x.route = x.endsHere(); x.route != nil {
		return nil
	}
	if err := x.lookup(x.conn.Listener()); err != nil {
		return err
	}
	x.stats = x.route.stats
	return nil
}

// serverWide answers a question about the gateway as a whole (RFC 9110 §9.3.7).
var serverWide = &Route{
	respond:  &RespondConfig{Status: 204},
	response: []edit{{"allow", []byte("Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n")}},
}

// lookup finds the route for a request on a listener.
func (x *Exchange) lookup(listener string) error {
	h, s := x.head, &x.subject
	x.host = appendHost(x.host[:0], h.Host())
	*s = subject{listener: listener, method: h.Method(), host: x.host, path: h.Path(), query: h.Query(), head: h}
	if !plainPath(s.path) {
		return x.lookupOdd()
	}
	if x.route = x.table.lookup(s); x.route == nil {
		return errNoRoute
	}
	return nil
}

// lookupOdd finds the route of a path that is not plain. It refuses one that a server could read
// as another route's.
func (x *Exchange) lookupOdd() error {
	s, raw := &x.subject, x.head.Path()
	if len(raw) == 0 || raw[0] != '/' {
		return errNoRoute
	}
	path, odd, err := appendReading(x.path[:0], raw, routed)
	if x.path = path; err != nil {
		return err
	}
	s.path = path
	route := x.table.lookup(s)
	if odd {
		if name := beforeSession(raw); name != nil {
			return x.lookupSession(route, name)
		}
		if tangled(raw) {
			return errPathDiffer
		}
		for _, how := range others {
			if x.other, _, err = appendReading(x.other[:0], raw, how); err != nil {
				return err
			}
			s.path = x.other
			if x.table.lookup(s) != route {
				return errPathDiffer
			}
		}
		s.path = path
	}
	if x.route = route; route == nil {
		return errNoRoute
	}
	return nil
}

// lookupSession finds the route of a path with a Servlet's session. Servers read it in two ways, with the session (literal
// is the route of that, perhaps nil) and without it (name): where routes differ it takes that of the name, if a server
// that reads it literally gives nothing away by that.
func (x *Exchange) lookupSession(literal *Route, name []byte) error {
	s := &x.subject
	s.path = name
	route := x.table.lookup(s)
	if route == literal {
		s.path = x.path
	} else if route == nil || literal == nil || !route.covers(literal) {
		return errPathDiffer
	}
	if x.route = route; route == nil {
		return errNoRoute
	}
	return nil
}

// limit refuses what the route does not let through, before the client is told to send its body.
func (x *Exchange) limit() error {
	r := x.route
	if len(r.deny) > 0 && http1.Within(r.deny, x.client) || len(r.allow) > 0 && !http1.Within(r.allow, x.client) {
		return errDenied
	}
	var key uint64
	if r.rate != nil {
		key = r.rate.source.hash(x.client, x.head)
		if ok, wait := r.rate.allow(key, x.begun); !ok {
			return &limited{errRateLimited, r.rate.cfg.Status, wait}
		}
	}
	if r.conns != nil {
		if r.rate == nil || r.conns.source != r.rate.source {
			key = r.conns.source.hash(x.client, x.head)
		}
		x.countKey = key
		if !r.conns.take(key) {
			return &limited{errConnLimited, r.conns.cfg.Status, 0}
		}
		x.counted = true
	}
	if r.maxBody > 0 && x.head.HasBody() {
		if x.head.ContentLength() > r.maxBody {
			return http1.ErrBodyTooLarge
		}
		return x.conn.Body().Limit(r.maxBody)
	}
	return nil
}

// limited is a refusal by a limit with a status of its own.
type limited struct {
	err    error
	status int
	wait   time.Duration
}

func (l *limited) Error() string { return l.err.Error() }
func (l *limited) Unwrap() error { return l.err }

// note remembers why sluice ended the request. What is cut at the end of the drain looks like a client that left.
func (x *Exchange) note(failed int) {
	if failed == clientClosed && x.conn.CutByShutdown() {
		failed = draining
	}
	x.failed = failed
	if x.status == 0 {
		x.status = failures[failed].Status
	}
}

// reason is the reason code of a request that sluice ended, "" of any other.
func (x *Exchange) reason() string {
	if x.failed < 0 {
		return ""
	}
	return failures[x.failed].Reason
}

// count adds the request to its route's counters and writes its line.
func (x *Exchange) count(end time.Time) {
	x.stats.finished(x.status, end.Sub(x.begun))
	x.proxy.came.add(x.conn.Origin())
	if x.failed >= 0 {
		x.stats.rejected[x.failed].Add(1)
	}
	if log := x.proxy.access.Load(); log != nil {
		x.record = x.appendLine(x.record[:0], log.format, end)
		log.add(x.record)
	}
}

// cut ends a response that cannot be finished so that the client sees it is not whole.
func (x *Exchange) cut(err error) {
	x.prompt = false
	failed, o := reasonOf(err), x.outcome(err)
	if x.hasLeft() {
		failed, o = clientClosed, balancer.Outcome{Neutral: true}
	}
	x.note(failed)
	if http2.Canceled(err) || x.canceledLate(err) {
		x.conn.AbortCanceled()
	} else {
		x.conn.Abort()
	}
	if x.up != nil {
		x.up.Close()
		x.up = nil
	}
	o.Status = x.status
	x.release(o)
}
