package docker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"time"

	"github.com/docker/docker/api/types/events"
	"github.com/docker/docker/api/types/filters"

	"sluice/scaler"
)

const (
	// respect is how long what somebody else did to the number of replicas stays, while sluice's own decision does.
	respect = 30 * time.Second
	// longGrace is how long before its end a replica may have been told to stop: it has its grace for what it does.
	longGrace = 10 * time.Minute
)

// others is what others did to the replicas of an upstream: Docker Compose sets their number back, another gateway
// with the same configuration starts some. Two writers cannot both be right; without it each would undo at once what
// the other did, for ever.
type others struct {
	alive map[string]bool      // replicas that ran, by id, without those that Compose itself made
	count int                  // those, and Compose's own
	back  *setBack             // nil: nobody did
	ended map[string]bool      // by id: somebody else stopped it, and it is still there
	mine  map[string]time.Time // by id: when this driver told it to stop; kept a while after it is gone

	theirs map[string]time.Time // by id: replicas that somebody else started, and when they were first seen
	undone time.Time            // when one of them was last stopped by this driver
	fights int                  // how often they came back after that
}

// setBack is a lower number that somebody else has set.
type setBack struct {
	from, to int
	at       time.Time
	asked    int // what the first Scale after it asked for; 0 before
}

func (s *setBack) words() string {
	return fmt.Sprintf("somebody else set the number of replicas from %d to %d at %s: sluice leaves it so until %s, or until its own decision changes",
		s.from, s.to, s.at.Format(time.TimeOnly), s.at.Add(respect).Format(time.TimeOnly))
}

// sees joins what was listed with what others may have done. Of clones, and only of them, it notices that somebody
// else stopped some in order, as `docker-compose up` does with what is above its own number; one that was killed, or
// removed by force, is a loss like any other, and replaced.
func (d *Driver) sees(ctx context.Context, o Options, members []*member, now time.Time) error {
	alive := make(map[string]bool)
	count := 0
	for _, m := range members {
		if m.counts() && m.state != "created" {
			count++
			if !m.fixed {
				alive[m.id] = true
			}
		}
	}
	d.mu.Lock()
	var lost []string
	for id := range d.others.alive {
		if _, mine := d.others.mine[id]; !alive[id] && !mine {
			lost = append(lost, id)
		}
	}
	d.mu.Unlock()
	var stopped []string
	if o.Service != nil && len(lost) > 0 {
		var err error
		if stopped, err = d.toldToStop(ctx, lost, now.Add(-longGrace), now); err != nil {
			return fmt.Errorf("asking what became of replicas that are gone: %w", err)
		}
	}

	d.mu.Lock()
	defer d.mu.Unlock()
	t := &d.others
	if len(stopped) > 0 {
		if t.back == nil {
			t.back = &setBack{from: t.count}
			o.Log.Warn("somebody else stopped replicas", "upstream", o.Upstream, "from", t.count, "to", count)
		}
		t.back.at = now
		for _, id := range stopped {
			t.ended[id] = true
		}
	}
	switch {
	case t.back == nil:
	case now.Sub(t.back.at) >= respect, count == 0: // with nothing left it is no number: the project is down
		t.back = nil
	default:
		t.back.to = count // and more of the kind
	}
	listed := make(map[string]bool, len(members))
	came := false
	for _, m := range members {
		listed[m.id] = true
		if _, known := t.theirs[m.id]; known || m.fixed || !m.counts() {
			continue
		}
		_, asked := d.asked[m.id]
		if _, making := d.making[m.name]; !asked && !making && m.created.After(d.born) {
			t.theirs[m.id] = now
			came = true
		}
	}
	if came && !t.undone.IsZero() {
		t.fights++
		t.undone = time.Time{}
	}
	for id := range t.theirs {
		if !listed[id] {
			delete(t.theirs, id)
		}
	}
	for id := range t.ended {
		if !listed[id] {
			delete(t.ended, id)
		}
	}
	for id, at := range t.mine {
		if !listed[id] && now.Sub(at) > longGrace {
			delete(t.mine, id)
		}
	}
	for name, at := range d.making {
		if now.Sub(at) > longGrace {
			delete(d.making, name)
		}
	}
	t.alive, t.count = alive, count
	return nil
}

// toldToStop asks the engine which of these containers got a signal that ends a program in order.
func (d *Driver) toldToStop(ctx context.Context, ids []string, since, until time.Time) ([]string, error) {
	filter := filters.NewArgs(filters.Arg("type", string(events.ContainerEventType)), filters.Arg("event", string(events.ActionKill)))
	for _, id := range ids {
		filter.Add("container", id)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	messages, errs := d.engine.Events(ctx, events.ListOptions{Since: stamp(since), Until: stamp(until), Filters: filter})
	var told []string
	for {
		select {
		case m := <-messages:
			if id := m.Actor.ID; ends(m.Actor.Attributes["signal"]) && !slices.Contains(told, id) {
				told = append(told, id)
			}
		case err := <-errs:
			if errors.Is(err, io.EOF) { // that is all
				err = nil
			}
			return told, err
		}
	}
}

// ends tells whether a signal asks a program to end; KILL asks nothing, and the others mean something else.
func ends(signal string) bool {
	switch signal {
	case "", "1", "9", "10", "12", "17", "18", "19", "20", "28":
		return false
	}
	return true
}

// stamp is a time as the engine's queries take it.
func stamp(t time.Time) string {
	return strconv.FormatInt(t.Unix(), 10) + fmt.Sprintf(".%09d", t.Nanosecond())
}

// leaves reports whether the number stays as somebody else has set it, although n are asked for.
func (d *Driver) leaves(n int, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.others.back
	if s == nil {
		return false
	}
	if s.asked == 0 {
		s.asked = n
	}
	if n > s.to && n == s.asked && now.Sub(s.at) < respect {
		return true
	}
	d.others.back = nil
	return false
}

// contested says why replicas are not stopped that somebody else has only just started; nil when they may be.
// Gateways that share the work agree on who decides.
func (d *Driver) contested(o Options, stop []*member, now time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := &d.others
	patience := respect << min(t.fights, 4)
	young := 0
	for _, m := range stop {
		if at, theirs := t.theirs[m.id]; theirs && !o.Shared && now.Sub(at) < patience {
			young++
		}
	}
	if young == 0 {
		for _, m := range stop {
			if _, theirs := t.theirs[m.id]; theirs {
				t.undone = now
			}
		}
		return nil
	}
	return fmt.Errorf("%w: somebody else started %d of the replicas that would be stopped less than %s ago; two gateways that scale the same containers need [peers], or an engine.project each",
		scaler.ErrRefused, young, patience)
}

// endedByOthers tells that somebody else stopped a replica: that is no failure of it.
func (d *Driver) endedByOthers(id string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.others.ended[id]
}
