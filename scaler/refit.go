package scaler

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"sluice/scaler/vertical"
)

// refit asks what replicas may use, or changes one of them. It is called when nothing else is to do.
func (l *Loop) refit(ctx context.Context, cfg Config, now time.Time) {
	f := &l.fit
	if f.model == nil || l.resizer == nil || now.Before(f.until) {
		return
	}
	if f.asked.IsZero() || now.Sub(f.asked) >= allowEvery {
		f.asked = now
		l.launch(ctx, call{kind: "allow", at: now})
		return
	}
	if cfg.Vertical != "apply" || !l.acts(cfg) || l.follows || !f.known || now.Sub(f.at) < resizePause {
		return
	}
	c := l.nextFit(now)
	if c.kind == "" {
		return
	}
	if now.Sub(f.asked) >= listBusy { // decide by old news, act only on fresh ones
		f.asked = now
		c = call{kind: "allow", at: now}
	}
	l.launch(ctx, c)
}

// nextFit is the next replica that is to be changed; a zero call is none.
func (l *Loop) nextFit(now time.Time) call {
	f := &l.fit
	f.not = ""
	maps.DeleteFunc(f.failed, func(_ string, until time.Time) bool { return !now.Before(until) })
	if s := l.upstream.Server(f.last); f.last != "" && s != nil && !s.UnhealthySince().IsZero() {
		f.not = fmt.Sprintf("replica %s is unhealthy since it was changed: no other is", f.last)
		return call{}
	}
	sorted := slices.Clone(l.replicas)
	slices.SortStableFunc(sorted, func(a, b Replica) int { return cmp.Compare(a.Index, b.Index) })
	for _, r := range sorted {
		a, ok := f.allowance(r.ID)
		server, rec := l.upstream.Server(r.ID), l.known[r.ID]
		switch {
		case !ok, r.State != ReplicaRunning, r.Outdated, l.drains[r.ID] != nil, server == nil, rec == nil, rec.readyAt.IsZero():
			continue
		case !f.failed[r.ID].IsZero(), !server.UnhealthySince().IsZero():
			continue
		}
		uses, known := f.uses[r.ID].at(now)
		to, why := vertical.Next(vertical.Replica{Has: a.Has, Uses: uses, Known: known}, f.rec)
		switch {
		case to != (vertical.Resources{}):
			return call{kind: "resize", at: now, victims: []string{r.ID}, to: to, why: why}
		case a.Waits != "": // one at a time
			f.not = fmt.Sprintf("replica %s: %s", r.ID, a.Waits)
			return call{}
		case why != "" && f.not == "":
			f.not = fmt.Sprintf("replica %s %s", r.ID, why)
		}
	}
	if f.failing == "resize" && len(f.failed) == 0 { // nothing is left that could fail
		f.well()
	}
	return call{}
}

// well ends the count of failed calls.
func (f *fit) well() { f.fails, f.failing, f.trouble = 0, "", "" }

func (f *fit) allowance(replica string) (Allowance, bool) {
	for _, a := range f.allowed.Replicas {
		if a.Replica == replica {
			return a, true
		}
	}
	return Allowance{}, false
}

// fitted takes the result of a call of the resizer.
func (l *Loop) fitted(c call, now time.Time) {
	f := &l.fit
	if f.model == nil { // switched off meanwhile
		return
	}
	if c.kind == "resize" {
		f.asked, f.last, f.at = time.Time{}, c.victims[0], now
	}
	if c.err != nil {
		f.fails, f.failing = f.fails+1, c.kind
		f.until = now.Add(pause(f.fails, resizeFailed))
		why := c.err.Error()
		if errors.Is(c.err, context.DeadlineExceeded) {
			why = "no answer within " + words(now.Sub(c.at))
		}
		if c.kind == "resize" {
			f.failed[c.victims[0]] = now.Add(resizeFailed)
			why = fmt.Sprintf("replica %s, %s: %s", c.victims[0], c.why, why)
		}
		if why != f.trouble {
			l.tell(Event{At: now, Kind: "unfit", Reason: "replicas are not sized: " + why})
		}
		f.trouble = why
		return
	}
	if c.kind == f.failing {
		f.well()
	}
	switch c.kind {
	case "resize":
		f.did = fmt.Sprintf("replica %s: %s", c.victims[0], c.why)
		l.tell(Event{At: now, Kind: "resize", Reason: f.did})
	default:
		f.allowed = c.allowed
		for _, a := range f.allowed.Replicas {
			if a.RanOut.After(f.ranOut[a.Replica]) && a.RanOut.After(l.born.Add(-allowEvery)) {
				f.ranOut[a.Replica] = a.RanOut
				f.model.OutOfMemory(a.Replica, a.Limit.Memory, now)
				l.tell(Event{At: now, Kind: "unfit", Reason: fmt.Sprintf("replica %s ran out of memory, of which it might use %d MiB", a.Replica, a.Limit.Memory>>20)})
			}
		}
		maps.DeleteFunc(f.ranOut, func(id string, _ time.Time) bool {
			_, there := f.allowance(id)
			return !there
		})
	}
}

// status is what is shown; nil while it is off.
func (l *Loop) verticalStatus(cfg Config) *VerticalStatus {
	f := &l.fit
	if f.model == nil {
		return nil
	}
	s := &VerticalStatus{Mode: cfg.Vertical, Known: f.known, Recommendation: f.rec, Replicas: f.allowed.Replicas, Reason: join(f.did, f.not), Trouble: f.trouble}
	switch {
	case l.gauge == nil:
		s.Trouble = join("this engine does not tell what replicas use", s.Trouble)
	case !f.known:
		s.Reason = "no replica was measured for a minute yet"
		for _, u := range f.heard {
			if u.Why != "" {
				s.Reason = join(s.Reason, u.Why)
				break
			}
		}
	}
	if l.resizer == nil && cfg.Vertical == "apply" {
		s.Trouble = join(s.Trouble, ErrNoResize.Error())
	}
	return s
}
