package simulator

import (
	"slices"
	"time"
)

// Result is what became of a trace under one policy. Waits are those of the requests that were served.
type Result struct {
	Policy  string  `json:"policy"`
	WaitP50 float64 `json:"wait_p50_s"`
	WaitP95 float64 `json:"wait_p95_s"`
	WaitP99 float64 `json:"wait_p99_s"`
	// BeyondSLO is the share of requests that waited longer than the SLO or were rejected.
	BeyondSLO float64 `json:"beyond_slo"`
	Rejected  int     `json:"rejected"`
	// ReplicaSeconds counts from asked to gone, within the trace.
	ReplicaSeconds float64 `json:"replica_seconds"`
	// Actions counts changes of the number wanted, Flips those that go the other way than the one before.
	Actions int `json:"actions"`
	Flips   int `json:"flips"`
	Peak    int `json:"peak"`
	// Waited is the share of requests that waited at all.
	Waited float64 `json:"waited"`
	// Utilisation is busy slot-seconds by those paid for.
	Utilisation float64 `json:"utilisation"`
	// Spread is the least and the most of several seeds.
	Spread *Spread `json:"spread,omitempty"`

	// Series has one entry a second, for the plot.
	Series []Sample `json:"-"`

	setup      Setup
	paid, busy float64
	waits      []time.Duration // by request; rejected is negative
	length     time.Duration
	last       int
}

// Spread is the least and the most over several seeds.
type Spread struct {
	BeyondSLO      [2]float64 `json:"beyond_slo"`
	ReplicaSeconds [2]float64 `json:"replica_seconds"`
	Actions        [2]int     `json:"actions"`
}

// Sample is one second of a run: means, and the replicas that are paid for.
type Sample struct {
	InFlight, Queue float64
	Ready, Replicas int
}

func newResult(t Trace, s Setup) *Result {
	return &Result{setup: s, length: t.Length, waits: make([]time.Duration, len(t.Requests))}
}

func (r *Result) wait(i int, d time.Duration) { r.waits[i] = d }
func (r *Result) reject(i int)                { r.waits[i] = -1; r.Rejected++ }

func (r *Result) action(at time.Duration, direction int) {
	if at > r.length {
		return
	}
	r.Actions++
	if r.last*direction < 0 {
		r.Flips++
	}
	r.last = direction
}

func (r *Result) record(l look, replicas int) {
	if l.now <= r.length {
		r.Series = append(r.Series, Sample{l.inFlight, l.queue, l.ready, replicas})
	}
}

// finish makes the figures of what was collected.
func (r *Result) finish() {
	r.ReplicaSeconds = r.paid
	if r.paid > 0 {
		r.Utilisation = r.busy / (r.paid * float64(r.setup.Slots))
	}
	served := make([]time.Duration, 0, len(r.waits))
	beyond, waited := 0, 0
	for _, w := range r.waits {
		if w < 0 || w > r.setup.SLO {
			beyond++
		}
		if w != 0 {
			waited++
		}
		if w >= 0 {
			served = append(served, w)
		}
	}
	if n := len(r.waits); n > 0 {
		r.BeyondSLO, r.Waited = float64(beyond)/float64(n), float64(waited)/float64(n)
	}
	slices.Sort(served)
	at := func(q float64) float64 {
		if len(served) == 0 {
			return 0
		}
		return served[min(int(q*float64(len(served))), len(served)-1)].Seconds()
	}
	r.WaitP50, r.WaitP95, r.WaitP99 = at(.5), at(.95), at(.99)
	r.waits = nil
}

// mean is the mean of the same policy's results with several seeds, and their spread.
func mean(all []*Result) *Result {
	m := *all[0]
	if len(all) == 1 {
		return &m
	}
	m = Result{Policy: m.Policy, Series: m.Series}
	s := &Spread{BeyondSLO: [2]float64{2, 0}, ReplicaSeconds: [2]float64{1e300, 0}, Actions: [2]int{1 << 60, 0}}
	k := 1 / float64(len(all))
	var rejected, actions, flips float64
	for _, r := range all {
		m.WaitP50 += k * r.WaitP50
		m.WaitP95 += k * r.WaitP95
		m.WaitP99 += k * r.WaitP99
		m.BeyondSLO += k * r.BeyondSLO
		m.ReplicaSeconds += k * r.ReplicaSeconds
		m.Waited += k * r.Waited
		m.Utilisation += k * r.Utilisation
		rejected += k * float64(r.Rejected)
		actions += k * float64(r.Actions)
		flips += k * float64(r.Flips)
		m.Peak = max(m.Peak, r.Peak)
		s.BeyondSLO = [2]float64{min(s.BeyondSLO[0], r.BeyondSLO), max(s.BeyondSLO[1], r.BeyondSLO)}
		s.ReplicaSeconds = [2]float64{min(s.ReplicaSeconds[0], r.ReplicaSeconds), max(s.ReplicaSeconds[1], r.ReplicaSeconds)}
		s.Actions = [2]int{min(s.Actions[0], r.Actions), max(s.Actions[1], r.Actions)}
	}
	m.Rejected, m.Actions, m.Flips = round(rejected), round(actions), round(flips)
	m.Spread = s
	return &m
}

func round(x float64) int { return int(x + .5) }
