package swarm

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"sluice/discovery/docker"
)

const (
	// callTimeout bounds every call of the engine.
	callTimeout = 5 * time.Second
	// listQuiet is how often all is listed while nothing is on its way.
	listQuiet = 2 * time.Second
	// listBusy is how often while something is, and eventBusy how long an event makes one expect that.
	listBusy  = 250 * time.Millisecond
	eventBusy = 3 * time.Second
)

// hub keeps the view of one manager for all who derive something from it.
type hub struct {
	*docker.Feed
	cli       Client
	log       *slog.Logger
	stop      context.CancelFunc
	view      atomic.Pointer[view] // written by the feed's goroutine only
	begun     atomic.Uint64        // number of listings that were begun
	lastEvent time.Time            // belongs to the feed's goroutine

	mu      sync.Mutex // guards members
	members map[*member]bool
}

// member is one user of a hub.
type member struct {
	query   *Query          // what it follows: only the tasks of such services are listed
	changed <-chan struct{} // there is a new view
	after   uint64          // listings up to this number may lack its tasks
}

// hubs by client; a hub lives while someone has joined it.
var (
	hubsMu sync.Mutex // guards hubs
	hubs   = make(map[Client]*hub)
)

// join joins the hub of cli, which the first one starts. leave ends that, and with the last one the
// hub.
func join(cli Client, query *Query, log *slog.Logger) (h *hub, m *member, leave func()) {
	hubsMu.Lock()
	defer hubsMu.Unlock()
	h = hubs[cli]
	if h == nil {
		ctx, cancel := context.WithCancel(context.Background())
		log = log.With("engine", "swarm")
		h = &hub{Feed: docker.NewFeed(log), cli: cli, log: log, stop: cancel, members: make(map[*member]bool)}
		h.view.Store(&view{})
		h.Feed.Events, h.Feed.Take, h.Feed.Stream, h.Feed.List = h.events, h.take, h.tookStream, h.list
		hubs[cli] = h
		go h.Run(ctx)
	}
	changed, quit := h.Join()
	m = &member{query: query, changed: changed}
	h.mu.Lock()
	h.members[m] = true
	h.mu.Unlock()
	m.after = h.begun.Load()
	h.Poke() // its tasks
	return h, m, func() {
		hubsMu.Lock()
		defer hubsMu.Unlock()
		h.mu.Lock()
		delete(h.members, m)
		h.mu.Unlock()
		if quit() && hubs[cli] == h {
			delete(hubs, cli)
			h.stop()
		}
	}
}

// queries are what the members follow.
func (h *hub) queries() []*Query {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []*Query
	for m := range h.members {
		all = append(all, m.query)
	}
	return all
}

// events opens the stream of what may change which tasks there are.
func (h *hub) events(ctx context.Context, since string) (<-chan events.Message, <-chan error) {
	filter := filters.NewArgs()
	for _, kind := range []events.Type{events.ContainerEventType, events.ServiceEventType, events.NodeEventType} {
		filter.Add("type", string(kind))
	}
	for _, action := range []events.Action{
		events.ActionCreate, events.ActionUpdate, events.ActionRemove, events.ActionStart,
		events.ActionKill, events.ActionStop, events.ActionDie, events.ActionDestroy,
	} {
		filter.Add("event", string(action))
	}
	return h.cli.Events(ctx, events.ListOptions{Since: since, Filters: filter})
}

// take marks the task whose container an event of this node takes out, before any listing says so.
func (h *hub) take(m events.Message) {
	h.lastEvent = time.Now()
	if m.Type != events.ContainerEventType {
		return
	}
	task := m.Actor.Attributes[labelTaskID]
	if task == "" {
		return
	}
	v := *h.view.Load()
	out := mark{at: time.Now()}
	switch m.Action {
	case events.ActionKill:
		signal := m.Actor.Attributes["signal"]
		if !docker.Deadly(signal, v.stopSignal(task)) {
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
	default:
		return
	}
	v.marks = maps.Clone(v.marks)
	if v.marks == nil {
		v.marks = make(map[string]mark)
	}
	v.marks[task] = out
	h.publish(&v)
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
	h.publish(&v)
}

// tookListing makes a listing part of the view; one that failed leaves the last one.
func (h *hub) tookListing(l *listing) (ok bool, again time.Duration) {
	v := *h.view.Load()
	was := v.err
	v.err = l.err
	switch {
	case l.err != nil && was == nil:
		h.log.Warn("the Swarm manager does not list its tasks, keeping the last list", "error", l.err)
	case l.err == nil && was != nil:
		h.log.Info("the Swarm manager lists its tasks again", "after", time.Since(v.listed).Round(time.Second))
	}
	if l.err != nil {
		h.publish(&v)
		return false, 0
	}
	v.picture, v.listed, v.number = l.picture, l.begun, l.number
	v.marks = settle(v.marks, &v)
	h.publish(&v)
	if time.Since(h.lastEvent) < eventBusy || v.unsettled() {
		return true, listBusy
	}
	return true, listQuiet
}

func (h *hub) publish(v *view) {
	h.view.Store(v)
	h.Publish()
}
