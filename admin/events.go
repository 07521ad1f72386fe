package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"sluice/scaler"
)

const (
	eventPeriod = 250 * time.Millisecond // between two looks at the status
	heartbeat   = 15 * time.Second       // so that a client which is gone is noticed
	maxStreams  = 32
	eventBuffer = 256 // events that a slow client may be behind
)

// Event is one change, as /api/v1/events tells it: the SSE event is named Kind and its data is this as JSON.
type Event struct {
	// Kind is "decision" (What the scaler did: a scaler.Event), "server" (a server came, went or changed its state),
	// "reload" (succeeded, or failed with Error) or "lost" (this client was too slow for Count events).
	Kind     string    `json:"kind"`
	What     string    `json:"what,omitempty"`
	At       time.Time `json:"at"`
	Upstream string    `json:"upstream,omitempty"`
	Server   string    `json:"server,omitempty"`
	Addr     string    `json:"addr,omitempty"`
	// From and To are states of a server ("" before it came, "gone" after it went) or numbers of wanted replicas.
	From       any    `json:"from,omitempty"`
	To         any    `json:"to,omitempty"`
	Reason     string `json:"reason,omitempty"`
	Code       string `json:"code,omitempty"`
	Generation uint64 `json:"generation,omitempty"`
	Error      string `json:"error,omitempty"`
	Count      int    `json:"count,omitempty"`
}

// changes lists what is different in next.
func changes(prev, next Status, at time.Time) []Event {
	var events []Event
	if p, n := prev.Config, next.Config; p.Generation != n.Generation || p.Error != n.Error || !p.TriedAt.Equal(n.TriedAt) {
		events = append(events, Event{Kind: "reload", At: at, Generation: n.Generation, Error: n.Error})
	}
	before := make(map[string]*UpstreamStatus, len(prev.Upstreams))
	for i := range prev.Upstreams {
		before[prev.Upstreams[i].Name] = &prev.Upstreams[i]
	}
	for i := range next.Upstreams {
		n := &next.Upstreams[i]
		p := before[n.Name]
		delete(before, n.Name)
		if p == nil {
			p = &UpstreamStatus{}
		}
		for _, d := range n.recent {
			if !slices.Contains(p.recent, d) {
				events = append(events, decisionEvent(n.Name, d))
			}
		}
		events = append(events, serverChanges(n.Name, p.Servers, n.Servers, at)...)
	}
	for i := range prev.Upstreams {
		if p := &prev.Upstreams[i]; before[p.Name] != nil {
			events = append(events, serverChanges(p.Name, p.Servers, nil, at)...)
		}
	}
	return events
}

func decisionEvent(upstream string, d scaler.Event) Event {
	e := Event{Kind: "decision", What: d.Kind, At: d.At, Upstream: upstream, Reason: d.Reason, Code: d.Code}
	if d.From != d.To {
		e.From, e.To = d.From, d.To
	}
	return e
}

func serverChanges(upstream string, prev, next []ServerStatus, at time.Time) []Event {
	var events []Event
	before := make(map[string]*ServerStatus, len(prev))
	for i := range prev {
		before[prev[i].ID] = &prev[i]
	}
	for _, n := range next {
		from := ""
		if p := before[n.ID]; p != nil {
			from = p.State
			delete(before, n.ID)
		}
		if from != n.State {
			events = append(events, Event{Kind: "server", At: at, Upstream: upstream, Server: n.ID, Addr: n.Addr, From: from, To: n.State, Reason: n.Reason})
		}
	}
	for _, p := range prev {
		if before[p.ID] != nil {
			events = append(events, Event{Kind: "server", At: at, Upstream: upstream, Server: p.ID, Addr: p.Addr, From: p.State, To: "gone"})
		}
	}
	return events
}

// hub looks at the status while anybody listens, and tells what changed. What came and went between
// two looks is not told.
type hub struct {
	status func() Status
	period time.Duration

	mu      sync.Mutex // guards all below, and the order of what streams are sent
	streams map[*stream]struct{}
	looking bool
	prev    Status
	closed  bool
	done    chan struct{} // closed by close
}

func newHub(status func() Status, period time.Duration) *hub {
	return &hub{status: status, period: period, streams: map[*stream]struct{}{}, done: make(chan struct{})}
}

// subscribe returns a stream that begins with the whole status; nil when there are too many, or none any more.
func (h *hub) subscribe() *stream {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.streams) >= maxStreams {
		return nil
	}
	now := h.status()
	if !h.looking {
		h.looking, h.prev = true, now
		go h.look()
	}
	st := &stream{hub: h, events: make(chan Event, eventBuffer), beat: time.NewTicker(heartbeat)}
	st.pending = sse("status", now)
	h.streams[st] = struct{}{}
	return st
}

// look ends itself when nobody listens any more.
func (h *hub) look() {
	tick := time.NewTicker(h.period)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-h.done:
		}
		if !h.tell() {
			return
		}
	}
}

func (h *hub) tell() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed || len(h.streams) == 0 {
		h.looking = false
		return false
	}
	next := h.status()
	for _, e := range changes(h.prev, next, time.Now()) {
		for st := range h.streams {
			st.put(e)
		}
	}
	h.prev = next
	return true
}

func (h *hub) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.closed {
		h.closed = true
		close(h.done)
	}
}

// stream is the body of one client's response: its Read waits for the next event.
type stream struct {
	hub     *hub
	events  chan Event
	beat    *time.Ticker
	lost    int // guarded by hub.mu
	pending []byte
}

// put never waits. The caller holds hub.mu.
func (st *stream) put(e Event) {
	if st.lost > 0 {
		select {
		case st.events <- Event{Kind: "lost", At: e.At, Count: st.lost}:
			st.lost = 0
		default:
		}
	}
	if st.lost == 0 {
		select {
		case st.events <- e:
			return
		default:
		}
	}
	st.lost++
}

// Read returns at least one byte, or io.EOF once the hub is closed.
func (st *stream) Read(p []byte) (int, error) {
	if len(st.pending) == 0 {
		select {
		case e := <-st.events:
			st.pending = sse(e.Kind, e)
		case <-st.beat.C:
			st.pending = []byte(": still here\n\n")
		case <-st.hub.done:
			return 0, io.EOF
		}
	}
	n := copy(p, st.pending)
	st.pending = st.pending[n:]
	return n, nil
}

// Close is called by the server when the response is over, however it ended.
func (st *stream) Close() error {
	st.beat.Stop()
	st.hub.mu.Lock()
	defer st.hub.mu.Unlock()
	delete(st.hub.streams, st)
	return nil
}

// sse frames one server-sent event. JSON has no line breaks, so the data is one line.
func sse(name string, v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		data = fmt.Appendf(nil, "{\"error\": %q}", err.Error())
	}
	return fmt.Appendf(nil, "event: %s\ndata: %s\n\n", name, data)
}

func (s *Server) stream(ctx *fasthttp.RequestCtx, _ target) *failure {
	if ctx.IsHead() {
		ctx.SetContentType("text/event-stream")
		return nil
	}
	st := s.events.subscribe()
	if st == nil {
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, "5")
		return fail(fasthttp.StatusServiceUnavailable, "too_many_streams", "at most %d clients can listen, and none while sluice ends", maxStreams)
	}
	ctx.SetContentType("text/event-stream")
	ctx.Response.Header.Set("X-Accel-Buffering", "no")
	ctx.SetBodyStream(st, -1)
	return nil
}
