package docker

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/container"
	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"
)

const (
	// callTimeout bounds every call of the engine.
	callTimeout = 5 * time.Second
	// addressWait is how long after an event addresses that are missing are listed again quickly.
	addressWait = 5 * time.Second
)

// hub keeps the view of one engine for all who derive something from it.
type hub struct {
	*Feed
	cli       Client
	log       *slog.Logger
	stop      context.CancelFunc
	view      atomic.Pointer[view] // written by the feed's goroutine only
	begun     atomic.Uint64        // number of listings that were begun
	lastEvent time.Time            // belongs to the feed's goroutine

	wantMu sync.Mutex // guards wants
	wants  map[*subscription]bool
}

// subscription is one user of a hub.
type subscription struct {
	matches func(*container.Summary) bool // whose details it needs; nil: nobody's
	changed chan struct{}                 // capacity 1: there is a new view
	after   uint64                        // listings up to this number may lack the details it needs
}

// hubs by client; a hub lives while someone is subscribed to it.
var (
	hubsMu sync.Mutex // guards hubs
	hubs   = make(map[Client]*hub)
)

// subscribe joins the hub of cli, which the first one starts. leave ends the subscription, and with
// the last one the hub.
func subscribe(cli Client, matches func(*container.Summary) bool, log *slog.Logger) (h *hub, sub *subscription, leave func()) {
	hubsMu.Lock()
	defer hubsMu.Unlock()
	h = hubs[cli]
	if h == nil {
		ctx, cancel := context.WithCancel(context.Background())
		log = log.With("engine", "docker")
		h = &hub{Feed: NewFeed(log), cli: cli, log: log, stop: cancel, wants: make(map[*subscription]bool)}
		h.view.Store(&view{})
		h.Feed.Events, h.Feed.Take, h.Feed.Stream, h.Feed.List = h.events, h.take, h.tookStream, h.listOnce
		hubs[cli] = h
		go h.Run(ctx)
	}
	changed, quit := h.Join()
	sub = &subscription{matches: matches, changed: changed}
	h.wantMu.Lock()
	h.wants[sub] = true
	h.wantMu.Unlock()
	sub.after = h.begun.Load()
	h.Poke() // the details it needs
	return h, sub, func() {
		hubsMu.Lock()
		defer hubsMu.Unlock()
		h.wantMu.Lock()
		delete(h.wants, sub)
		h.wantMu.Unlock()
		if quit() && hubs[cli] == h {
			delete(hubs, cli)
			h.stop()
		}
	}
}

// watched are the events that may change what is routed. The probes of a HEALTHCHECK (exec_*) are
// not among them: they would come every few seconds for every container.
var watched = []events.Action{
	events.ActionCreate, events.ActionStart, events.ActionRestart, events.ActionStop, events.ActionDie, events.ActionKill,
	events.ActionOOM, events.ActionPause, events.ActionUnPause, events.ActionDestroy, events.ActionRename, events.ActionUpdate,
	events.ActionHealthStatus, events.ActionConnect, events.ActionDisconnect,
}

// events opens the stream of what may change what is routed.
func (h *hub) events(ctx context.Context, since string) (<-chan events.Message, <-chan error) {
	filter := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("type", string(events.NetworkEventType)))
	for _, a := range watched {
		filter.Add("event", string(a))
	}
	return h.cli.Events(ctx, events.ListOptions{Since: since, Filters: filter})
}

// listOnce is Feed.List.
func (h *hub) listOnce(ctx context.Context) func() (bool, time.Duration) {
	number := h.begun.Add(1)
	l := h.list(ctx, h.view.Load())
	l.number = number
	return func() (bool, time.Duration) {
		h.tookListing(l)
		if l.err == nil && time.Since(h.lastEvent) < addressWait && h.view.Load().unsettled() {
			return true, 2 * listGap
		}
		return l.err == nil, 0
	}
}

// publish makes v the view and tells all.
func (h *hub) publish(v view) {
	h.view.Store(&v)
	h.Publish()
}

// wanted reports whether anyone needs the details of c.
func (h *hub) wanted(c *container.Summary) bool {
	h.wantMu.Lock()
	defer h.wantMu.Unlock()
	for sub := range h.wants {
		if sub.matches != nil && sub.matches(c) {
			return true
		}
	}
	return false
}

// take marks what an event takes out, before any listing says so.
func (h *hub) take(m events.Message) {
	h.lastEvent = time.Now()
	if m.Type != events.ContainerEventType {
		return
	}
	v := *h.view.Load()
	id := m.Actor.ID
	out := mark{at: time.Now(), engine: time.Unix(0, m.TimeNano)}
	switch m.Action {
	case events.ActionUnPause:
		v.marks = maps.Clone(v.marks)
		delete(v.marks, id)
		h.publish(v)
		return
	case events.ActionStart:
		// The address in the view is that of its last life, and may be another container's by now.
		out.why, out.fresh = "started this moment", true
	case events.ActionKill:
		signal := m.Actor.Attributes["signal"]
		if !Deadly(signal, v.details[id].stopSignal) {
			return
		}
		out.why, out.asked = "being stopped (signal "+signal+")", true
	case events.ActionStop, events.ActionDie:
		out.why = "stopped"
		if code := m.Actor.Attributes["exitCode"]; code != "" {
			out.why = "ended with exit code " + code
		}
	case events.ActionDestroy:
		out.why = "removed"
	case events.ActionPause:
		out.why = "paused"
	default:
		return
	}
	v.marks = maps.Clone(v.marks)
	if v.marks == nil {
		v.marks = make(map[string]mark)
	}
	v.marks[id] = out
	h.publish(v)
}

// tookStream takes what the event stream says of itself: nil when it is connected.
func (h *hub) tookStream(err error) {
	v := *h.view.Load()
	was := v.streamErr
	v.streamErr = err
	switch {
	case err != nil && was == nil:
		h.log.Warn("no events from the engine", "error", err)
	case err == nil && was != nil:
		h.log.Info("events from the engine again")
	}
	h.publish(v)
}

// tookListing makes a listing part of the view; one that failed leaves the last one.
func (h *hub) tookListing(l listing) {
	v := *h.view.Load()
	was := v.err
	v.err = l.err
	switch {
	case l.err != nil && was == nil:
		h.log.Warn("the engine does not list its containers, keeping the last list", "error", l.err)
	case l.err == nil && was != nil:
		h.log.Info("the engine lists its containers again", "after", time.Since(v.listed).Round(time.Second))
	}
	if l.err == nil {
		v.containers, v.networks, v.details, v.self = l.containers, l.networks, l.details, l.self
		v.listed, v.number = l.begun, l.number
		v.marks = settle(v.marks, &v, l.begun, l.restarted)
	}
	h.publish(v)
}
