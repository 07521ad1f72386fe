package scaler

import (
	"fmt"
	"math"
	"time"
)

const (
	externalInterval = 5 * time.Second
	externalTimeout  = 2 * time.Second
	// freshIntervals is after how many intervals without a new one a measurement is no longer used.
	freshIntervals = 3
)

// Fresh is how old a value may be and still count.
func (c PrometheusConfig) Fresh() time.Duration { return freshIntervals*c.Interval + c.Timeout }

// Fresh is how old an answer may be and still count.
func (c SignalsConfig) Fresh() time.Duration { return freshIntervals*c.Interval + c.Timeout }

// Outside measures what the gateway cannot see in the requests that pass. It may be called concurrently.
type Outside interface {
	// Heard is what was last heard; it returns at once.
	Heard() External
}

// External is what was last heard, each with the time of it.
type External struct {
	// Query is the value of the configured query.
	Query QueryReading
	// Queue and Tasks say that the servers are asked for their queue and for agents' tasks.
	Queue, Tasks bool
	// Fresh is how old an answer of a server may be and still count.
	Fresh time.Duration
	// Servers has one for each server that may be asked.
	Servers []ServerReading
}

// QueryReading is the last value of a query.
type QueryReading struct {
	Value float64
	// At is when it was measured; zero: never.
	At time.Time
	// Why is why the last query gave none; "" when it did.
	Why string
}

// ServerReading is what one server last told of itself. What it did not tell is NaN.
type ServerReading struct {
	Server string
	// At is when it told that; zero: never.
	At time.Time
	// Why is why it told nothing when asked last; "" when it did.
	Why string

	Queue, Tasks, Running, CacheUsage, ModelsLoaded, VectorCollections, VectorPendingOperations float64

	Models []ModelMemory
}

// Untold is the reading of a server that told nothing.
func Untold(server string) ServerReading {
	nan := math.NaN()
	return ServerReading{Server: server, Queue: nan, Tasks: nan, Running: nan, CacheUsage: nan, ModelsLoaded: nan, VectorCollections: nan, VectorPendingOperations: nan}
}

// ModelMemory is a model that a server has in memory. Names are few: see Outside's implementation.
type ModelMemory struct {
	Model string
	Bytes float64
}

// QuerySignal is a query's value and its age.
type QuerySignal struct {
	Value float64
	Age   time.Duration
	// Known is false when there never was one.
	Known bool
	// Why is why the last query gave none.
	Why string
}

// ServersSignal sums up what the servers tell of their queues, each no older than it may be.
type ServersSignal struct {
	// Queue is of requests, which are in flight for the gateway as well; Tasks of agents' tasks, which are not.
	Queue, Tasks float64
	// Age is of the oldest that counts.
	Age time.Duration
	// Asked is how many servers are asked; Unheard how many of them have not told it, or too long ago.
	Asked, Unheard int
	// HasTasks says that they are asked for tasks.
	HasTasks bool
	// Why is what ails one of those that were not heard.
	Why string
}

// Listen makes the loop hear o. To be called before Run.
func (l *Loop) Listen(o Outside) { l.outside = o }

// listen is what was heard, as of now.
func (l *Loop) listen(now time.Time) (QuerySignal, ServersSignal) {
	if l.outside == nil {
		return QuerySignal{}, ServersSignal{}
	}
	l.external = l.outside.Heard()
	return l.external.Query.signal(now), l.external.signal(now)
}

func (r QueryReading) signal(now time.Time) QuerySignal {
	s := QuerySignal{Value: r.Value, Known: !r.At.IsZero(), Why: r.Why}
	if s.Known {
		s.Age = max(now.Sub(r.At), 0)
	}
	return s
}

// signal sums up. Servers that are not asked for a queue have no part in it.
func (e External) signal(now time.Time) ServersSignal {
	s := ServersSignal{HasTasks: e.Tasks}
	if !e.Queue && !e.Tasks {
		return s
	}
	for _, r := range e.Servers {
		s.Asked++
		age := now.Sub(r.At)
		if r.At.IsZero() || age > e.Fresh {
			s.Unheard++
			if s.Why == "" {
				s.Why = r.Why
			}
			continue
		}
		s.Age = max(s.Age, age)
		if e.Queue {
			s.Queue += r.Queue
		}
		if e.Tasks {
			s.Tasks += r.Tasks
		}
	}
	return s
}

// queryKnown reports whether the query is an objective and its value is fit to use.
func (s Sizing) queryKnown(sig Signal) bool {
	return s.QueryPerReplica > 0 && sig.Query.Known && sig.Query.Age <= s.QueryFresh && !math.IsNaN(sig.Query.Value) && !math.IsInf(sig.Query.Value, 0)
}

// unknown says which of the objectives cannot be measured now; "" is none. There may be more load than is known then, so
// nothing is scaled down.
func (s Sizing) unknown(sig Signal, current int) (words string) {
	if s.QueryPerReplica > 0 && !s.queryKnown(sig) {
		switch {
		case sig.Query.Why != "":
			words = "query not known (" + sig.Query.Why + ")"
		case sig.Query.Known && sig.Query.Age > s.QueryFresh:
			words = fmt.Sprintf("query not known for %d s", int(sig.Query.Age.Seconds()))
		default:
			words = "query not known yet"
		}
	}
	if sig.Servers.Unheard > 0 && (s.QueuedPerReplica > 0 || s.InFlightPerReplica > 0 && sig.Servers.HasTasks) {
		missing := fmt.Sprintf("own queue of %d of %d servers not known", sig.Servers.Unheard, sig.Servers.Asked)
		if sig.Servers.Why != "" {
			missing += " (" + sig.Servers.Why + ")"
		}
		words = join(words, missing)
	}
	for _, o := range s.shares(sig) {
		words = join(words, o.unknown(current))
	}
	return words
}

// words are appended to those of the gateway's own queue.
func (s ServersSignal) words(queue bool) (words string) {
	if queue && s.Queue > 0 {
		words = ", " + number(s.Queue) + " more within servers"
	}
	if s.Tasks > 0 {
		words += ", tasks " + number(s.Tasks)
	}
	return words
}
