package signals

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

// maxAsked is how many servers are asked at the same time.
const maxAsked = 32

// Poller asks for what the configuration of one upstream names, and keeps the last answers. All methods may be called
// concurrently; Run once.
type Poller struct {
	upstream *balancer.Upstream
	log      *slog.Logger
	poke     chan struct{} // capacity 1: the configuration changed

	mu         sync.Mutex // guards all below
	prometheus *scaler.PrometheusConfig
	signals    *scaler.SignalsConfig
	plan       plan
	turn       int // one more for each configuration: what was asked for an earlier one is not heard
	query      queryState
	servers    map[string]*serverState
	names      names
}

// queryState is what is known of the query.
type queryState struct {
	reading scaler.QueryReading
	due     time.Time
	busy    bool
}

// serverState is what is known of one server.
type serverState struct {
	reading scaler.ServerReading
	due     time.Time
	busy    bool
}

// New makes a poller for u.
func New(u *balancer.Upstream, cfg scaler.Config, log *slog.Logger) *Poller {
	p := &Poller{upstream: u, log: log.With("upstream", u.Name()), poke: make(chan struct{}, 1), names: names{}}
	p.Configure(cfg)
	return p
}

// Configure takes a new configuration. What was heard stays when it is asked for in the same way.
func (p *Poller) Configure(cfg scaler.Config) {
	p.mu.Lock()
	defer p.mu.Unlock()
	sameQuery, sameSignals := reflect.DeepEqual(p.prometheus, cfg.Prometheus), reflect.DeepEqual(p.signals, cfg.Signals)
	if sameQuery && sameSignals && p.servers != nil {
		return
	}
	p.turn++
	if !sameQuery {
		p.query.reading = scaler.QueryReading{}
	}
	if !sameSignals || p.servers == nil {
		p.servers = map[string]*serverState{}
	}
	p.query.due, p.query.busy = time.Time{}, false
	for _, s := range p.servers {
		s.due, s.busy = time.Time{}, false
	}
	p.prometheus, p.signals, p.plan = cfg.Prometheus, cfg.Signals, plan{}
	if cfg.Signals != nil {
		p.plan = planOf(*cfg.Signals)
	}
	select {
	case p.poke <- struct{}{}:
	default:
	}
}

// Heard is what was last heard of the query, and of every server that is there and was ever ready.
func (p *Poller) Heard() scaler.External {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := scaler.External{Query: p.query.reading, Queue: len(p.plan.queue) > 0, Tasks: len(p.plan.tasks) > 0}
	if p.signals == nil {
		return e
	}
	e.Fresh = p.signals.Fresh()
	for _, s := range p.upstream.Servers() {
		if s.Draining() || s.ReadyAt().IsZero() {
			continue
		}
		if known := p.servers[s.ID()]; known != nil {
			e.Servers = append(e.Servers, known.reading)
		} else {
			e.Servers = append(e.Servers, scaler.Untold(s.ID()))
		}
	}
	return e
}

// Run asks until ctx ends, and waits for what was asked last.
func (p *Poller) Run(ctx context.Context) {
	client := newClient()
	defer client.CloseIdleConnections()
	var asked sync.WaitGroup
	defer asked.Wait()
	slots := make(chan struct{}, maxAsked)
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		now := time.Now()
		p.askPrometheus(ctx, client, &asked, now)
		p.askServers(ctx, client, &asked, slots, now)
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-p.poke:
		}
	}
}

func (p *Poller) askPrometheus(ctx context.Context, client *http.Client, asked *sync.WaitGroup, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.prometheus == nil || p.query.busy || now.Before(p.query.due) {
		return
	}
	cfg, turn := *p.prometheus, p.turn
	p.query.busy, p.query.due = true, now.Add(cfg.Interval)
	asked.Go(func() {
		var v float64
		err := balancer.Guard(p.log, "the query", func() (err error) { v, err = ask(ctx, client, cfg); return err })
		if ctx.Err() == nil {
			p.tookQuery(turn, v, err)
		}
	})
}

func (p *Poller) tookQuery(turn int, v float64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if turn != p.turn {
		return
	}
	p.query.busy = false
	was, r := p.query.reading.Why, &p.query.reading
	if err == nil {
		*r = scaler.QueryReading{Value: v, At: time.Now()}
	} else {
		r.Why = err.Error()
	}
	p.tell("the query", was, r.Why)
}

// askServers asks the ready servers whose turn it is, as many at a time as there are slots. A server that left is
// forgotten.
func (p *Poller) askServers(ctx context.Context, client *http.Client, asked *sync.WaitGroup, slots chan struct{}, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.signals == nil {
		return
	}
	for id := range p.servers {
		if p.upstream.Server(id) == nil {
			delete(p.servers, id)
		}
	}
	for _, s := range p.upstream.Servers() {
		if state, _ := s.State(now); state != balancer.StateReady && state != balancer.StateDraining {
			continue
		}
		known := p.servers[s.ID()]
		if known == nil {
			known = &serverState{reading: scaler.Untold(s.ID())}
			p.servers[s.ID()] = known
		}
		if known.busy || now.Before(known.due) {
			continue
		}
		known.busy, known.due = true, now.Add(p.signals.Interval)
		pl, timeout, turn := p.plan, p.signals.Timeout, p.turn
		asked.Go(func() {
			select {
			case slots <- struct{}{}:
				defer func() { <-slots }()
			case <-ctx.Done():
				return
			}
			r := scaler.Untold(s.ID())
			err := balancer.Guard(p.log, "signals of server "+s.ID(), func() (err error) { r, err = pl.ask(ctx, client, s.ID(), s.Addr(), timeout); return err })
			if ctx.Err() == nil {
				p.tookServer(turn, known, r, err)
			}
		})
	}
}

// ask asks one server.
func (p plan) ask(ctx context.Context, client *http.Client, server, addr string, timeout time.Duration) (scaler.ServerReading, error) {
	if p.port != 0 {
		host, _, err := net.SplitHostPort(addr)
		if err != nil {
			return scaler.Untold(server), err
		}
		addr = net.JoinHostPort(host, strconv.Itoa(p.port))
	}
	status, body, err := fetch(ctx, client, "http://"+addr+p.path, timeout)
	switch {
	case err != nil:
		return scaler.Untold(server), err
	case status != http.StatusOK && p.hint != "":
		return scaler.Untold(server), fmt.Errorf("%s answers %d: %s", p.path, status, p.hint)
	case status != http.StatusOK:
		return scaler.Untold(server), fmt.Errorf("%s answers %d", p.path, status)
	}
	return p.read(server, body)
}

func (p *Poller) tookServer(turn int, known *serverState, r scaler.ServerReading, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if turn != p.turn {
		return
	}
	known.busy = false
	was := known.reading.Why
	if err == nil {
		r.At = time.Now()
		r.Models = p.names.few(r.Models)
		known.reading = r
	} else {
		known.reading.Why = err.Error()
	}
	p.tell("server "+r.Server, was, known.reading.Why)
}

// tell logs that something became known again, or why it is not known any more.
func (p *Poller) tell(what, was, why string) {
	switch {
	case was == why:
	case why == "":
		p.log.Info("signals are heard again", "of", what)
	case was == "":
		p.log.Warn("signals are not heard", "of", what, "why", why)
	}
}
