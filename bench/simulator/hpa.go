package simulator

import (
	"math"
	"time"
)

const (
	hpaPeriod    = 15 * time.Second  // horizontal-pod-autoscaler-sync-period
	hpaTolerance = 0.1               // horizontal-pod-autoscaler-tolerance
	hpaStable    = 300 * time.Second // stabilisation downwards
)

// hpa is the HorizontalPodAutoscaler (autoscaling/v2, pkg/controller/podautoscaler) with the default behaviour:
// every 15 s; up at once by 4 pods or 100 % per 15 s, whichever is more; down to the largest recommendation of the
// last 300 s, by 100 % per 15 s.
//
// By utilisation (a Resource metric) the ready pods' mean over the last period is set against the target; a ratio
// within the tolerance of 1 keeps the number; on the way up pods that are not ready count as idle ones. With queue
// (an External or Object metric with AverageValue) the requests in flight and waiting are divided by what one pod
// should have.
type hpa struct {
	setup   Setup
	queue   bool
	seconds []look // since the last sync
	ups     []hpaChange
	recent  []hpaChange // recommendations
}

type hpaChange struct {
	at time.Duration
	n  int
}

func newHPA(s Setup, queue bool) *hpa { return &hpa{setup: s, queue: queue} }

func (h *hpa) decide(l look) int {
	h.seconds = append(h.seconds, l)
	if l.now%hpaPeriod != 0 {
		return l.wanted
	}
	want := h.recommend(l)
	h.seconds = h.seconds[:0]
	want = max(min(want, h.setup.Max), h.setup.Min)
	h.recent = append(h.recent, hpaChange{l.now, want})
	stable := want
	for len(h.recent) > 0 && l.now-h.recent[0].at > hpaStable {
		h.recent = h.recent[1:]
	}
	for _, r := range h.recent {
		stable = max(stable, r.n)
	}
	if want < l.wanted { // down: never below the largest recommendation, never up because of it
		return min(stable, l.wanted)
	}
	// up: 4 pods or 100 % within 15 s, of which those added in this period are a part
	added := 0
	for _, u := range h.ups {
		if l.now-u.at < hpaPeriod {
			added += u.n
		}
	}
	begin := l.wanted - added
	want = min(want, max(begin+4, 2*begin))
	if want > l.wanted {
		h.ups = []hpaChange{{l.now, want - l.wanted}}
		return want
	}
	return l.wanted
}

func (h *hpa) recommend(l look) int {
	if h.queue {
		load, each := l.inFlight+l.queue, h.setup.Target*float64(h.setup.Slots)
		if l.active == 0 {
			return int(math.Ceil(load / each))
		}
		if math.Abs(load/(each*float64(l.active))-1) <= hpaTolerance {
			return l.active
		}
		return int(math.Ceil(load/each - 1e-9))
	}
	busy, ready := 0.0, 0.0
	for _, s := range h.seconds {
		busy += s.inFlight
		ready += float64(s.ready)
	}
	if ready == 0 || l.ready == 0 {
		return l.wanted
	}
	utilisation := min(busy/(ready*float64(h.setup.Slots)), 1)
	ratio := utilisation / h.setup.Target
	if ratio > 1 && l.starting > 0 {
		all := float64(l.ready + l.starting)
		again := utilisation * float64(l.ready) / all / h.setup.Target
		if again <= 1 || math.Abs(again-1) <= hpaTolerance {
			return l.wanted
		}
		return max(int(math.Ceil(again*all-1e-9)), l.wanted)
	}
	if math.Abs(ratio-1) <= hpaTolerance {
		return l.wanted
	}
	return int(math.Ceil(ratio*float64(l.ready) - 1e-9))
}
