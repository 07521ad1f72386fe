package privsep

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"slices"
	"sync"
	"time"

	"sluice/scaler"
)

// usage is scaler.Usage for the wire: JSON has no NaN, which is null here.
type usage struct {
	Replica     string        `json:"replica"`
	At          time.Time     `json:"at"`
	CPU         *float64      `json:"cpu"`
	Memory      int64         `json:"memory"`
	CPUShare    *float64      `json:"cpu_share"`
	MemoryShare *float64      `json:"memory_share"`
	Of          string        `json:"of,omitempty"`
	Every       time.Duration `json:"every,omitempty"`
	Why         string        `json:"why,omitempty"`
}

func toWire(u scaler.Usage) usage {
	known := func(f float64) *float64 {
		if math.IsNaN(f) || math.IsInf(f, 0) {
			return nil
		}
		return &f
	}
	return usage{u.Replica, u.At, known(u.CPU), u.Memory, known(u.CPUShare), known(u.MemoryShare), u.Of, u.Every, u.Why}
}

func (u usage) fromWire() scaler.Usage {
	number := func(f *float64) float64 {
		if f == nil {
			return math.NaN()
		}
		return *f
	}
	return scaler.Usage{
		Replica: u.Replica, At: u.At, CPU: number(u.CPU), Memory: u.Memory,
		CPUShare: number(u.CPUShare), MemoryShare: number(u.MemoryShare), Of: u.Of, Every: u.Every, Why: u.Why,
	}
}

// usage is what the driver measures; a refusal where it does not.
func (h *Held) usage() ([]usage, error) {
	g, ok := h.driver.(scaler.Gauge)
	if !ok {
		return nil, refusal(fmt.Sprintf("the scaler does not measure what replicas of upstream %s use", h.name))
	}
	var all []usage
	for _, u := range g.Usage() {
		all = append(all, toWire(u))
	}
	return all, nil
}

// gauge is what a gateway last heard of the scaler's measurements.
type gauge struct {
	mu   sync.Mutex // guards all below
	busy bool
	at   time.Time // when it was asked last
	last []scaler.Usage
}

// Usage is scaler.Gauge's: what the scaler told last. It is asked again beside it, at most once a second.
func (r *Remote) Usage() []scaler.Usage {
	g := &r.gauge
	g.mu.Lock()
	defer g.mu.Unlock()
	if now := time.Now(); !g.busy && now.Sub(g.at) >= time.Second*9/10 { // as the loop's ticks are not exact
		g.busy, g.at = true, now
		go r.askUsage()
	}
	return slices.Clone(g.last)
}

func (r *Remote) askUsage() {
	ctx, cancel := context.WithTimeout(context.Background(), listTime)
	defer cancel()
	var l listing
	err := r.wrong()
	if err == nil {
		err = r.client.call(ctx, http.MethodGet, "list", url.Values{"upstream": {r.name}, "usage": {"1"}}, nil, &l)
	}
	g := &r.gauge
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy = false
	if err != nil { // measurements stay, and grow old
		for i := range g.last {
			g.last[i].Why = err.Error()
		}
		return
	}
	g.last = make([]scaler.Usage, 0, len(l.Usage))
	for _, u := range l.Usage {
		g.last = append(g.last, u.fromWire())
	}
}
