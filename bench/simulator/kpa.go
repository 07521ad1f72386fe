package simulator

import (
	"math"
	"time"
)

const (
	kpaPeriod    = 2 * time.Second
	kpaStable    = 60 // seconds: stable-window
	kpaPanic     = 6  // seconds: panic-window-percentage 10
	kpaThreshold = 2  // panic-threshold-percentage 200
	kpaUp        = 1000
	kpaDown      = 2
	kpaGrace     = 30 * time.Second  // scale-to-zero-grace-period
	kpaDelay     = 300 * time.Second // scale-down-delay of kpa-delay
)

// kpa is the Knative Pod Autoscaler (knative/serving pkg/autoscaler/scaling) by concurrency, which counts what
// waits too. Its burst capacity only decides who queues, and here there is one queue.
type kpa struct {
	setup    Setup
	delay    time.Duration
	seconds  []float64 // concurrency of the last stable window
	panicked bool
	panicAt  time.Duration
	most     int // in panic
	recent   []hpaChange
	zeroFrom time.Duration
	zero     bool
}

func newKPA(s Setup, delay time.Duration) *kpa { return &kpa{setup: s, delay: delay} }

// wake is the activator's: the first request brings the first replica.
func (k *kpa) wake(look) int { return 1 }

func (k *kpa) decide(l look) int {
	if k.seconds = append(k.seconds, l.inFlight+l.queue); len(k.seconds) > kpaStable {
		k.seconds = k.seconds[1:]
	}
	if l.now%kpaPeriod != 0 {
		return l.wanted
	}
	want := k.scale(l)
	if k.delay > 0 {
		k.recent = append(k.recent, hpaChange{l.now, want})
		for l.now-k.recent[0].at > k.delay {
			k.recent = k.recent[1:]
		}
		for _, r := range k.recent {
			want = max(want, r.n)
		}
	}
	if want == 0 && !k.zero {
		k.zeroFrom = l.now
	}
	if k.zero = want == 0; k.zero && (l.now-k.zeroFrom < kpaGrace || l.queued > 0) {
		return min(l.wanted, 1)
	}
	return want
}

// scale is autoscaler.Scale.
func (k *kpa) scale(l look) int {
	target := max(.01, k.setup.Target*float64(k.setup.Slots))
	ready := max(1, float64(l.ready))
	up, down := math.Ceil(kpaUp*ready), math.Floor(ready/kpaDown)
	stable := math.Ceil(k.average(kpaStable)/target - 1e-9)
	panicky := math.Ceil(k.average(kpaPanic)/target - 1e-9)
	want, inPanic := int(min(max(stable, down), up)), int(min(max(panicky, down), up))
	over := panicky/ready >= kpaThreshold
	switch {
	case over:
		k.panicked, k.panicAt = true, l.now
	case k.panicked && l.now-k.panicAt > kpaStable*time.Second:
		k.panicked, k.most = false, 0
	}
	if k.panicked {
		k.most = max(k.most, want, inPanic)
		want = k.most
	}
	return want
}

// average is the mean of the last n seconds, or of as many as there are.
func (k *kpa) average(n int) float64 {
	list := k.seconds[max(0, len(k.seconds)-n):]
	sum := 0.0
	for _, v := range list {
		sum += v
	}
	return sum / float64(max(len(list), 1))
}
