package scaler

import (
	"fmt"
	"math"
	"strings"
	"time"
)

const (
	// tolerance is how far demand may be from what the present replicas are for before their number
	// changes: the default of the Kubernetes HorizontalPodAutoscaler.
	tolerance = 0.1
	// guessedSlots is how many requests in flight count as a full replica when nothing bounds them
	// (max_conns = 0). It is used for sizing only, never for admission.
	guessedSlots = 10
	// patience is how long the first request in the queue waits before a queue that is short enough by
	// queued_per_replica, before replicas that are all busy, counts as one that stands.
	patience = 5 * time.Second
)

// demand is how many replicas the objectives ask for, before any bound, with words and code. The largest
// objective wins.
//
// queued_per_replica = N is HPA's AverageValue on the queue: ceil(queue/N) sizes the whole upstream, not an
// addition to it, so N requests per replica may wait for good. Never below what the requests in flight
// occupy, ceil(in flight/slots), so that busy replicas do not go because nothing waits. A queue that is
// short by N would however never bring a replica when queue.size or queue.timeout keeps it short, or when
// service is slow; so when every slot is busy and requests are refused or the first one has waited 5 s, the
// queue comes on top: ceil(in flight/slots) + ceil(queue/N). It is bounded by what is busy, so replicas
// that are still starting are not asked for twice. With 4 slots a replica and N = 20:
//
//	ready  in flight  queue  oldest   replicas
//	1      4          84     3s       5    ceil(84/20)
//	5      20         40     1s       5    the 5 that are busy; 40 may wait
//	5      20         40     6s       7    5 busy + ceil(40/20)
//	5      9          0      -        3    ceil(9/4) are occupied
//	5      0          0      -        0    raised to min
//
// What waits in the servers' own queues, and agents' tasks, adds to the queue that is divided, and to nothing else: such
// a request is in flight already, and has its slot.
//
// in_flight_per_replica = N is Knative's target: ceil((in flight + queue)/N), agents' tasks included.
//
// prometheus is HPA's AverageValue on the value of the query: ceil(value/per_replica). It says nothing of the requests
// in flight; beside it another objective may.
//
// cpu and memory are HPA's Utilization: see share.replicas. The last replica goes for being idle as with all others, never
// for what it uses.
func (s Sizing) demand(sig Signal, current int) (n int, why, code string) {
	take := func(replicas int, words, c string) {
		if code == "" || replicas > n {
			n, why, code = replicas, words, c
		}
	}
	per := s.slots(sig)
	if s.QueuedPerReplica > 0 {
		each := float64(s.QueuedPerReplica)
		occupied := ceil(sig.InFlight / per)
		if sig.Slots <= 0 {
			occupied = min(occupied, current) // a guess keeps replicas, it does not add any
		}
		take(occupied, fmt.Sprintf("in flight %s, %d slots a replica", number(sig.InFlight), int(per)), "in_flight")
		inside := sig.Servers.Queue + sig.Servers.Tasks
		waiting := ratio((sig.Queue+inside)/each, current)
		if inside > 0 {
			waiting = max(waiting, 1)
		}
		take(waiting, queueWords(sig)+sig.Servers.words(true), "queue")
		full := sig.Slots > 0 && sig.Ready > 0 && sig.InFlight >= 0.95*per*float64(sig.Ready)
		if full && sig.Queue >= 1 && (sig.OldestWait >= patience || sig.Refused > 0) {
			take(occupied+ceil(sig.Queue/each), queueWords(sig)+", every slot busy", "saturated")
		}
	}
	if s.InFlightPerReplica > 0 {
		load := sig.InFlight + sig.Queue + sig.Servers.Tasks
		wanted := ratio(load/float64(s.InFlightPerReplica), current)
		if sig.Servers.Tasks > 0 {
			wanted = max(wanted, 1)
		}
		take(wanted, loadWords(sig, s.InFlightPerReplica)+sig.Servers.words(false), "in_flight")
	}
	if s.queryKnown(sig) {
		take(ratio(sig.Query.Value/s.QueryPerReplica, current), fmt.Sprintf("query %s, %s a replica", number(sig.Query.Value), number(s.QueryPerReplica)), "query")
	} else if s.QueryPerReplica > 0 && code == "" {
		code = "query" // perhaps the only objective, and not known: unknown says why
	}
	for _, o := range s.shares(sig) {
		switch {
		case o.unknown(current) == "":
			take(o.replicas(current), o.words(), o.name)
		case code == "":
			code = o.name
		}
	}
	return n, why, code
}

// ratio is ceil(want), or current when want is within the tolerance of it.
func ratio(want float64, current int) int {
	if current > 0 && math.Abs(want/float64(current)-1) <= tolerance {
		return current
	}
	return ceil(want)
}

// ceil forgives a hundredth, which integrals of gauges are worth.
func ceil(x float64) int {
	if x <= 0 || math.IsNaN(x) {
		return 0
	}
	return int(math.Ceil(min(x, 1e6) - 0.01))
}

func queueWords(sig Signal) string {
	words := "queue " + number(sig.Queue)
	if sig.Excess >= .5 {
		words += fmt.Sprintf(" without %s too many of one key", number(sig.Excess))
	}
	if sig.OldestWait >= time.Second {
		words += fmt.Sprintf(", %d s old", int(sig.OldestWait.Seconds()))
	}
	return words
}

func loadWords(sig Signal, per int) string {
	words := "in flight " + number(sig.InFlight)
	if sig.Queue >= 0.05 || sig.Excess >= .5 {
		words += ", " + queueWords(sig)
	}
	return fmt.Sprintf("%s, %d a replica", words, per)
}

// number is x with one decimal when it is small and not whole.
func number(x float64) string {
	if x >= 10 {
		return fmt.Sprintf("%.0f", x)
	}
	return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0")
}

func replicas(n int) string {
	if n == 1 {
		return "1 replica"
	}
	return fmt.Sprintf("%d replicas", n)
}
