package demobackend

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"math"
	"net"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// server is the running backend.
type server struct {
	opts     options
	http     *fasthttp.Server
	conns    *tracker
	places   places // one for each request that is worked on
	sockets  sockets
	faults   faults
	dice     *dice
	ledger   *os.File // nil = none
	started  time.Time
	stopping chan struct{} // closed when draining begins
	cut      chan struct{} // closed when draining is given up

	received, served, refused, abandoned atomic.Uint64
	inFlight, waiting, peak              atomic.Int64
}

func newServer(o options, ln net.Listener) (*server, error) {
	s := &server{opts: o, conns: newTracker(ln), dice: newDice(o.seed), started: time.Now(), stopping: make(chan struct{}), cut: make(chan struct{})}
	s.places.resize(o.concurrency)
	s.faults.rates, s.faults.service = o.faults, o.service
	if o.ledger != "" {
		f, err := os.OpenFile(o.ledger, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, err
		}
		s.ledger = f
	}
	s.http = &fasthttp.Server{
		Handler:                      s.handle,
		Name:                         "demo-backend",
		ReadBufferSize:               48 << 10, // heads as large as the gateway lets through
		StreamRequestBody:            true,
		MaxRequestBodySize:           1, // with streaming: how much is read before the handler runs, not a limit
		DisablePreParseMultipartForm: true,
		ConnState: func(nc net.Conn, state fasthttp.ConnState) {
			if c, ok := nc.(*conn); ok {
				switch state {
				case fasthttp.StateActive, fasthttp.StateHijacked:
					c.busy.Store(true)
				case fasthttp.StateIdle:
					c.t.idle(c)
				}
			}
		},
		Logger: log.New(io.Discard, "", 0), // clients that leave are not worth a line
	}
	return s, nil
}

// serve blocks until the listener fails or drain closes it.
func (s *server) serve() error { return s.http.Serve(s.conns) }

// drain finishes what runs: it says 503 to health checks and "Connection: close" to clients, takes new
// connections for the lame-duck time, then closes each connection as it becomes idle. It returns how many
// connections were left when ctx ended.
func (s *server) drain(ctx context.Context) int {
	close(s.stopping)
	select {
	case <-time.After(s.opts.lameDuck):
	case <-ctx.Done():
	}
	s.conns.drain()
	s.sockets.goAway()
	for s.conns.open() > 0 {
		select {
		case <-s.conns.changed:
		case <-ctx.Done():
			close(s.cut)
			return s.conns.open()
		}
	}
	return 0
}

func (s *server) draining() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// starting tells whether the start delay is not over. With start mode "closed" it was waited for before listening.
func (s *server) starting() bool {
	return s.opts.startMode == "503" && time.Since(s.started) < s.opts.startDelay
}

// idFields identify a request; the first that is there goes into the ledger, and all are answered back. A gateway
// may set X-Request-Id itself, X-Ledger-Id is the client's alone.
var idFields = []string{"X-Ledger-Id", "X-Request-Id"}

func (s *server) handle(ctx *fasthttp.RequestCtx) {
	ctx.Response.Header.Set("X-Backend", s.opts.id)
	for _, name := range idFields {
		if id := ctx.Request.Header.Peek(name); len(id) > 0 {
			ctx.Response.Header.SetBytesV(name, id)
		}
	}
	if s.draining() {
		ctx.SetConnectionClose()
	}
	path := string(ctx.Path())
	if path == s.opts.healthPath {
		path = "/healthz"
	}
	switch path {
	case "/healthz":
		s.health(ctx)
	case "/stats":
		s.stats(ctx)
	case "/fault":
		s.fault(ctx)
	case "/v1/models":
		s.models(ctx)
	default:
		if s.starting() {
			ctx.Error("starting\n", fasthttp.StatusServiceUnavailable)
			ctx.Response.Header.Set("Retry-After", "1")
			return
		}
		s.receive(ctx)
		switch path {
		case "/ws":
			s.webSocket(ctx)
		case "/echo":
			s.work(ctx, 0, s.echo)
		case "/headers":
			s.work(ctx, 0, s.headers)
		case "/v1/chat/completions":
			s.chat(ctx)
		default:
			s.work(ctx, s.serviceTime(), s.text)
		}
	}
}

// receive counts a request as delivered and writes it to the ledger before anything is done for it.
func (s *server) receive(ctx *fasthttp.RequestCtx) {
	n := s.received.Add(1)
	if s.ledger != nil {
		for _, name := range idFields {
			if id := ctx.Request.Header.Peek(name); len(id) > 0 {
				// One write per line: appends of several processes do not mix.
				fmt.Fprintf(s.ledger, "%s %s %s\n", id, ctx.Method(), s.opts.id)
				break
			}
		}
	}
	rates, _, _ := s.faults.now()
	if rates.crashAfter > 0 && n >= rates.crashAfter {
		os.Exit(1)
	}
}

// serviceTime draws the working time of one request.
func (s *server) serviceTime() time.Duration {
	_, _, dist := s.faults.now()
	d := dist.sample(s.dice)
	if s.opts.warmup > 0 {
		d = time.Duration(float64(d) * warm(time.Since(s.started)-s.opts.startDelay, s.opts.warmup, s.opts.warmupBy))
	}
	return d
}

// work takes a slot, works for d (or what the query says), and lets answer write the response. answer returns
// true when it keeps the slot and will call s.release itself, as streams do. A client that leaves frees its slot.
func (s *server) work(ctx *fasthttp.RequestCtx, d time.Duration, answer func(*fasthttp.RequestCtx) (kept bool)) {
	if w := ctx.QueryArgs().Peek("work"); len(w) > 0 {
		asked, err := time.ParseDuration(string(w))
		if err != nil || asked < 0 {
			ctx.Error("work: want a duration\n", fasthttp.StatusBadRequest)
			return
		}
		d = asked
	}
	rates, _, _ := s.faults.now()
	fate := rates.draw(s.dice)
	switch fate {
	case closed:
		hangUp(ctx)
		return
	case hung:
		d = forever
	}
	if !s.acquire(ctx) {
		return
	}
	if !s.wait(ctx, d) {
		s.release(false)
		hangUp(ctx)
		return
	}
	if fate == failed {
		ctx.Error("told to fail\n", rates.status)
		s.release(true)
		return
	}
	if !answer(ctx) {
		s.release(true)
	}
}

// acquire takes a slot, waiting for one as a model server's own queue does. False: the request is answered.
func (s *server) acquire(ctx *fasthttp.RequestCtx) bool {
	if !s.places.try() {
		if s.opts.overflow == "503" {
			s.refused.Add(1)
			ctx.Error("busy\n", fasthttp.StatusServiceUnavailable)
			ctx.Response.Header.Set("Retry-After", "1")
			return false
		}
		if !s.queue(ctx) {
			s.abandoned.Add(1)
			hangUp(ctx)
			return false
		}
	}
	n := s.inFlight.Add(1)
	for {
		p := s.peak.Load()
		if n <= p || s.peak.CompareAndSwap(p, n) {
			return true
		}
	}
}

// queue waits for a slot; false when the client left or draining was given up.
func (s *server) queue(ctx *fasthttp.RequestCtx) bool {
	s.waiting.Add(1)
	defer s.waiting.Add(-1)
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	given := s.places.join()
	for {
		select {
		case <-given:
			return true
		case <-watch.C:
			if clientLeft(ctx) {
				s.places.leave(given)
				return false
			}
		case <-s.cut:
			s.places.leave(given)
			return false
		}
	}
}

func (s *server) release(answered bool) {
	if answered {
		s.served.Add(1)
	} else {
		s.abandoned.Add(1)
	}
	s.inFlight.Add(-1)
	s.places.release()
}

const forever = time.Duration(math.MaxInt64)

// watchEvery is how often a waiting request looks whether its client has left.
const watchEvery = 50 * time.Millisecond

// wait lets d pass; false when the client left or draining was given up.
func (s *server) wait(ctx *fasthttp.RequestCtx, d time.Duration) bool {
	if d <= 0 {
		return true
	}
	done := time.NewTimer(d)
	defer done.Stop()
	watch := time.NewTicker(watchEvery)
	defer watch.Stop()
	for {
		select {
		case <-done.C:
			return true
		case <-watch.C:
			if clientLeft(ctx) {
				return false
			}
		case <-s.cut:
			return false
		}
	}
}

func clientLeft(ctx *fasthttp.RequestCtx) bool {
	c, ok := ctx.Conn().(*conn)
	return ok && c.left()
}

// hangUp closes the connection without an answer.
func hangUp(ctx *fasthttp.RequestCtx) {
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) { c.Close() })
}

// text is the answer of every path that is nothing special.
func (s *server) text(ctx *fasthttp.RequestCtx) bool {
	args := ctx.QueryArgs()
	if v := args.Peek("status"); len(v) > 0 {
		status, err := strconv.Atoi(string(v))
		if err != nil || status < 200 || status > 599 {
			ctx.Error("status: want 200 to 599\n", fasthttp.StatusBadRequest)
			return false
		}
		ctx.SetStatusCode(status)
	}
	if v := args.Peek("bytes"); len(v) > 0 {
		n, err := strconv.ParseInt(string(v), 10, 64)
		if err != nil || n < 0 {
			ctx.Error("bytes: want a size\n", fasthttp.StatusBadRequest)
			return false
		}
		ctx.SetContentType("application/octet-stream")
		ctx.SetBodyStream(io.LimitReader(filler{}, n), int(n))
		return false
	}
	fmt.Fprintf(ctx, "demo-backend %s pid %d\n", s.opts.id, os.Getpid())
	return false
}

// filler is an endless body.
type filler struct{}

func (filler) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

func (s *server) health(ctx *fasthttp.RequestCtx) {
	_, sick, _ := s.faults.now()
	switch {
	case s.starting():
		ctx.Error("starting\n", fasthttp.StatusServiceUnavailable)
	case s.draining():
		ctx.Error("draining\n", fasthttp.StatusServiceUnavailable)
	case sick:
		ctx.Error("told to be unhealthy\n", fasthttp.StatusServiceUnavailable)
	default:
		ctx.SetBodyString("ok\n")
	}
}

func (s *server) fault(ctx *fasthttp.RequestCtx) {
	crash, err := s.faults.set(ctx.QueryArgs(), s.places.resize)
	if err != nil {
		ctx.Error(err.Error()+"\n", fasthttp.StatusBadRequest)
		return
	}
	if crash {
		os.Exit(1)
	}
	ctx.SetBodyString("ok\n")
}

// Stats is the answer of /stats.
type Stats struct {
	ID          string  `json:"id"`
	PID         int     `json:"pid"`
	Received    uint64  `json:"received"`  // requests of the working paths
	Served      uint64  `json:"served"`    // of these, worked on to the end
	Refused     uint64  `json:"refused"`   // 503 because all slots were taken
	Abandoned   uint64  `json:"abandoned"` // the client left before its answer
	InFlight    int64   `json:"in_flight"` // being worked on
	Waiting     int64   `json:"waiting"`   // waiting inside for a slot
	Peak        int64   `json:"peak"`      // highest in_flight ever
	Concurrency int     `json:"concurrency"`
	Connections int     `json:"connections"`
	UptimeS     float64 `json:"uptime_s"`
}

func (s *server) stats(ctx *fasthttp.RequestCtx) {
	answerJSON(ctx, Stats{
		ID: s.opts.id, PID: os.Getpid(),
		Received: s.received.Load(), Served: s.served.Load(), Refused: s.refused.Load(), Abandoned: s.abandoned.Load(),
		InFlight: s.inFlight.Load(), Waiting: s.waiting.Load(), Peak: s.peak.Load(),
		Concurrency: s.places.number(), Connections: s.conns.open(), UptimeS: time.Since(s.started).Seconds(),
	})
}

func answerJSON(ctx *fasthttp.RequestCtx, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		ctx.Error(err.Error(), fasthttp.StatusInternalServerError)
		return
	}
	ctx.SetContentType("application/json")
	ctx.SetBody(append(b, '\n'))
}
