package scaler

import (
	"fmt"
	"time"

	"sluice/balancer"
)

const (
	// startFailsMost is how many starts in a row may fail before no more are tried.
	startFailsMost = 3
	// startPauseMost bounds the pause between them.
	startPauseMost = 5 * time.Minute
	// startLeast is the least time a replica has to become ready.
	startLeast = time.Minute
	// steady is how long a replica has to be ready for its start to count as a success; one that ends
	// sooner failed to start.
	steady = 10 * time.Second
	// settled is how long a replica has to be ready for its crash to be nothing but bad luck. Crashes
	// before that are paused for as well, but never given up: at most crashPauseMost.
	settled        = 30 * time.Second
	crashPauseMost = 8 * time.Second
	// unhealthyGrace is how long a replica may be unhealthy before it is replaced.
	unhealthyGrace = 30 * time.Second
)

// failures counts failed starts in a row.
type failures struct {
	n       int
	at      time.Time // of the last
	until   time.Time // no start before
	stopped bool      // no start at all until a new configuration, a pin or a success
	why     string
	total   uint64

	crashes  int // in a row, of replicas that were steady but not settled
	crashWhy string
}

func (f *failures) holds(now time.Time) bool { return f.stopped || now.Before(f.until) }

func (f *failures) words() string {
	if f.stopped {
		return fmt.Sprintf("%d starts failed in a row, the last: %s; no more until a new configuration or a pin", f.n, f.why)
	}
	return fmt.Sprintf("start failed (%d in a row): %s; next not before %s", f.n, f.why, f.until.Format(time.TimeOnly))
}

// record is what the loop knows of one replica beyond what the driver lists.
type record struct {
	asked    time.Time // or first seen
	readyAt  time.Time
	old      bool // there before the loop: its start was not measured
	steady   bool // ready for long enough
	counted  bool // its failure was counted
	late     bool // was not ready in time: to be stopped
	lastSeen time.Time
}

// failed takes a failed start that was asked for at asked. Several that were asked for together, before the
// last failure was known, are one; so is one that the driver started while it cleared the others away, as
// nobody asks for any before the pause is over.
func (l *Loop) failed(asked time.Time, why string, now time.Time) {
	f := &l.failures
	f.total++
	l.fit.asked = time.Time{} // it may have run out of memory, and the next should have more
	if f.n > 0 && (f.stopped || !asked.After(f.at) || asked.Before(f.until)) {
		return
	}
	f.n++
	f.at, f.why = now, why
	f.until = now.Add(pause(f.n, startPauseMost))
	f.stopped = f.n >= startFailsMost
	l.tell(Event{At: now, Kind: "failure", Reason: f.words()})
}

// crashed takes the end of a replica that had started well. The first is replaced at once.
func (l *Loop) crashed(rec *record, why string, now time.Time) {
	f := &l.failures
	l.fit.asked = time.Time{} // as in failed
	l.tell(Event{At: now, Kind: "crash", Reason: why})
	if now.Sub(rec.readyAt) >= settled {
		f.crashes = 0
		return
	}
	if f.crashes++; f.crashes > 1 {
		f.until = later(f.until, now.Add(pause(f.crashes-1, crashPauseMost)))
	}
	f.crashWhy = why
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// learn joins the driver's list with the servers of the balancer: how long starts took, which succeeded,
// which failed.
func (l *Loop) learn(cfg Config, now time.Time) {
	for _, r := range l.replicas {
		rec := l.known[r.ID]
		if rec == nil {
			rec = &record{asked: r.Asked, old: r.Asked.Before(l.born)}
			if r.Asked.IsZero() {
				rec.asked = now
			}
			rec.counted = rec.old && r.State == ReplicaFailed // broken before we came
			l.known[r.ID] = rec
		}
		rec.lastSeen = now
		l.learnReady(r.ID, rec, now)
		switch {
		case rec.counted:
		case r.State == ReplicaFailed:
			rec.counted = true
			if rec.steady {
				l.crashed(rec, "replica "+r.ID+": "+r.Reason, now)
				break
			}
			l.failed(rec.asked, fmt.Sprintf("replica %s: %s", r.ID, r.Reason), now)
		case r.live() && rec.readyAt.IsZero() && now.Sub(rec.asked) >= l.startLimit(cfg):
			rec.counted, rec.late = true, true
			l.failed(rec.asked, fmt.Sprintf("replica %s: not ready after %s%s", r.ID, words(now.Sub(rec.asked)), l.serverWords(r.ID, now)), now)
		}
	}
	for id, rec := range l.known { // what is gone is remembered a little: lists may lag behind
		if now.Sub(rec.lastSeen) > time.Minute {
			delete(l.known, id)
		}
	}
}

// learnReady notes when a replica became ready and whether it stayed so.
func (l *Loop) learnReady(id string, rec *record, now time.Time) {
	server := l.upstream.Server(id)
	if server == nil {
		return
	}
	if rec.readyAt.IsZero() {
		if rec.readyAt = server.ReadyAt(); !rec.readyAt.IsZero() && !rec.old {
			l.starts.Add(rec.readyAt.Sub(rec.asked))
		}
	}
	state, _ := server.State(now)
	well := state == balancer.StateReady || state == balancer.StateDraining
	if !rec.steady && !rec.readyAt.IsZero() && well && now.Sub(rec.readyAt) >= steady {
		rec.steady = true
		if rec.readyAt.After(l.failures.at) {
			f := &l.failures
			*f = failures{total: f.total, crashes: f.crashes, crashWhy: f.crashWhy, until: f.until}
		}
	}
}

// startLimit is how long a replica may take to become ready.
func (l *Loop) startLimit(cfg Config) time.Duration {
	return max(startLeast, 5*max(cfg.StartTime, l.starts.P90(0)))
}

// serverWords is what the balancer says of a replica that is not ready.
func (l *Loop) serverWords(id string, now time.Time) string {
	server := l.upstream.Server(id)
	if server == nil {
		return " (discovery does not list it)"
	}
	_, why := server.State(now)
	return " (" + why + ")"
}
