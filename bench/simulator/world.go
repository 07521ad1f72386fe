package simulator

import (
	"container/heap"
	"math/rand/v2"
	"time"

	"sluice/balancer"
)

// Setup is what every policy meets.
type Setup struct {
	// Slots is how many requests a replica takes at once.
	Slots int
	// Start is the mean time from asked to ready; each start takes up to Jitter (a share of it) more or less.
	Start  time.Duration
	Jitter float64
	// SLO is the wait that a request should not exceed.
	SLO time.Duration
	// Deadline is the longest wait before a request is rejected; 0 is none. Queue bounds those that wait; 0 is no
	// bound.
	Deadline time.Duration
	Queue    int
	// Min and Max bound the replicas.
	Min, Max int
	// Initial is how many are ready at the beginning; 0 is what the first minute of the trace needs.
	Initial int
	// Target is the utilisation that HPA and KPA aim at.
	Target float64
	// Headroom is the law's knob; 0 is its default.
	Headroom float64
	// InFlight sizes by this many requests per replica instead of the law, and Cooldown is its cooldown_down; 0 is the
	// law and the default.
	InFlight int
	Cooldown time.Duration
	// Seed of everything random.
	Seed uint64
}

// second is the time between two looks of a policy, as in the product.
const second = time.Second

// overtime is how long a run may go on after the trace until everything is served.
const overtime = 2 * time.Hour

// look is what a policy may know at the end of a second.
type look struct {
	now                             time.Duration
	inFlight, queue                 float64 // means over the second
	queued                          int     // now
	active, ready, starting, wanted int
	reading                         balancer.Reading
	starts                          []time.Duration // how long the starts took that ended in the second
	slowest                         time.Duration   // the longest start under way, so far
}

// policy says how many replicas there should be. It is asked every second.
type policy interface {
	decide(look) int
}

// waker is what a policy may also be: one that is asked at once when a request comes and there is no replica.
type waker interface {
	wake(look) int
}

// world is one run.
type world struct {
	setup  Setup
	trace  Trace
	policy policy
	random *rand.Rand
	now    time.Duration
	next   int // request that arrives next
	fleet  *fleet
	queue  []int // requests that wait, from head on
	head   int
	events events
	wanted int

	arrivals, started, finished, refused uint64
	inFlight                             int
	busy, waiting                        time.Duration // integrals up to now
	service                              time.Duration
	lastArrival                          time.Duration
	starts                               []time.Duration
	before                               struct{ busy, waiting time.Duration }

	result *Result
}

// event is the end of a service or of a start.
type event struct {
	at      time.Duration
	replica *replica
	request int // -1: the replica is ready
}

type events []event

func (e events) Len() int           { return len(e) }
func (e events) Less(i, j int) bool { return e[i].at < e[j].at }
func (e events) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *events) Push(x any)        { *e = append(*e, x.(event)) }
func (e *events) Pop() any {
	old := *e
	last := old[len(old)-1]
	*e = old[:len(old)-1]
	return last
}

// simulate runs the trace against a policy.
func simulate(t Trace, s Setup, p policy) *Result {
	w := &world{
		setup: s, trace: t, policy: p, fleet: newFleet(s.Slots), result: newResult(t, s),
		random: rand.New(rand.NewPCG(s.Seed, 0x57a47)),
	}
	for range w.initial() {
		r := &replica{}
		w.fleet.all = append(w.fleet.all, r)
		w.fleet.becomeReady(r)
		w.wanted++
	}
	w.result.Peak = w.wanted
	tick := second
	for w.next < len(t.Requests) || w.head < len(w.queue) || w.now < t.Length {
		if w.now > t.Length+overtime {
			break
		}
		at, what := tick, "tick"
		if w.next < len(t.Requests) && t.Requests[w.next].At < at {
			at, what = t.Requests[w.next].At, "arrival"
		}
		if len(w.events) > 0 && w.events[0].at <= at {
			at, what = w.events[0].at, "event"
		}
		w.advance(at)
		switch what {
		case "event":
			w.happen(heap.Pop(&w.events).(event))
		case "arrival":
			w.arrive(w.next)
			w.next++
		default:
			w.tick()
			tick += second
		}
	}
	for w.head < len(w.queue) { // what nobody ever served
		w.reject(w.pop())
	}
	w.result.finish()
	return w.result
}

// initial is how many replicas are there at the beginning.
func (w *world) initial() int {
	n := w.setup.Initial
	if n == 0 {
		var load time.Duration
		for _, r := range w.trace.Requests {
			if r.At >= time.Minute {
				break
			}
			load += r.Service
		}
		n = int(float64(load)/float64(min(time.Minute, max(w.trace.Length, second)))/float64(w.setup.Slots)) + 1
	}
	return max(min(n, w.setup.Max), w.setup.Min)
}

// advance brings the integrals up to at.
func (w *world) advance(at time.Duration) {
	d := at - w.now
	w.busy += d * time.Duration(w.inFlight)
	w.waiting += d * time.Duration(len(w.queue)-w.head)
	if paid := min(at, w.trace.Length) - w.now; paid > 0 {
		w.result.paid += paid.Seconds() * float64(len(w.fleet.all))
		w.result.busy += paid.Seconds() * float64(w.inFlight)
	}
	w.now = at
}

func (w *world) arrive(i int) {
	w.arrivals++
	w.lastArrival = w.now
	if r := w.fleet.pick(); r != nil && w.head == len(w.queue) {
		w.serve(i, r)
		return
	}
	if w.setup.Queue > 0 && len(w.queue)-w.head >= w.setup.Queue {
		w.reject(i)
		return
	}
	w.queue = append(w.queue, i)
	if wk, ok := w.policy.(waker); ok && w.wanted == 0 {
		w.resize(wk.wake(w.look()))
	}
}

// serve gives request i a slot of r.
func (w *world) serve(i int, r *replica) {
	w.fleet.take(r, 1)
	w.started++
	w.inFlight++
	w.result.wait(i, w.now-w.trace.Requests[i].At)
	heap.Push(&w.events, event{w.now + w.trace.Requests[i].Service, r, i})
}

func (w *world) reject(i int) {
	w.refused++
	w.result.reject(i)
}

func (w *world) pop() int {
	i := w.queue[w.head]
	if w.head++; w.head > 1024 && 2*w.head > len(w.queue) {
		w.queue = append(w.queue[:0], w.queue[w.head:]...)
		w.head = 0
	}
	return i
}

// dispatch gives free slots to those that wait.
func (w *world) dispatch() {
	for w.expire(); w.head < len(w.queue); {
		r := w.fleet.pick()
		if r == nil {
			return
		}
		w.serve(w.pop(), r)
	}
}

// expire rejects those that have waited for too long; they are the first.
func (w *world) expire() {
	for w.setup.Deadline > 0 && w.head < len(w.queue) && w.now-w.trace.Requests[w.queue[w.head]].At >= w.setup.Deadline {
		w.reject(w.pop())
	}
}

// happen is the end of a service or of a start.
func (w *world) happen(e event) {
	r := e.replica
	if e.request < 0 {
		if r.gone {
			return
		}
		w.starts = append(w.starts, w.now-r.asked)
		w.fleet.becomeReady(r)
	} else {
		w.finished++
		w.inFlight--
		w.service += w.trace.Requests[e.request].Service
		w.fleet.take(r, -1)
	}
	if r.draining && r.busy == 0 {
		w.fleet.remove(r)
	}
	w.dispatch()
}

// tick ends a second: the policy decides.
func (w *world) tick() {
	w.expire()
	l := w.look()
	w.before.busy, w.before.waiting = w.busy, w.waiting
	w.starts = w.starts[:0]
	w.result.record(l, len(w.fleet.all))
	w.resize(w.policy.decide(l))
}

func (w *world) look() look {
	active, starting, draining := w.fleet.active()
	l := look{
		now: w.now, active: active, ready: w.fleet.ready, starting: starting, wanted: w.wanted, queued: len(w.queue) - w.head,
		inFlight: (w.busy - w.before.busy).Seconds(), queue: (w.waiting - w.before.waiting).Seconds(), starts: w.starts,
	}
	for _, r := range w.fleet.all {
		if !r.ready && !r.draining {
			l.slowest = max(l.slowest, w.now-r.asked)
		}
	}
	l.reading = balancer.Reading{
		At: epoch.Add(w.now), Arrivals: w.arrivals, Started: w.started, Finished: w.finished, Refused: w.refused,
		InFlight: w.inFlight, Queued: l.queued, InFlightSeconds: w.busy.Seconds(), QueuedSeconds: w.waiting.Seconds(),
		ServiceSeconds: w.service.Seconds(), Ready: l.ready, Starting: starting, Draining: draining, Slots: l.ready * w.setup.Slots,
	}
	if w.head < len(w.queue) {
		l.reading.OldestWait = w.now - w.trace.Requests[w.queue[w.head]].At
	}
	if w.arrivals > 0 {
		l.reading.LastArrival = epoch.Add(w.lastArrival)
	}
	return l
}

// epoch is when traces begin.
var epoch = time.Unix(1_700_000_000, 0)

// resize goes for n replicas: up, drains are cancelled first; down, victims are chosen and drained.
func (w *world) resize(n int) {
	n = max(min(n, w.setup.Max), w.setup.Min)
	if n == w.wanted {
		return
	}
	direction := 1
	if n < w.wanted {
		direction = -1
	}
	w.wanted = n
	w.result.action(w.now, direction)
	active, _, _ := w.fleet.active()
	for _, r := range w.fleet.all {
		if active < n && r.draining {
			w.fleet.undrain(r)
			active++
		}
	}
	for ; active < n; active++ {
		r := &replica{asked: w.now}
		w.fleet.all = append(w.fleet.all, r)
		took := float64(w.setup.Start) * (1 + w.setup.Jitter*(2*w.random.Float64()-1))
		heap.Push(&w.events, event{w.now + time.Duration(took), r, -1})
	}
	if active > n {
		for _, r := range w.fleet.victims()[:active-n] {
			w.fleet.drain(r)
			if r.busy == 0 {
				w.fleet.remove(r)
			}
		}
	}
	w.result.Peak = max(w.result.Peak, len(w.fleet.all))
	w.dispatch()
}
