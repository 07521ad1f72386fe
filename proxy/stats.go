package proxy

import (
	"sync/atomic"
	"time"

	"sluice/proxy/https"
)

// DurationBuckets are the upper bounds, in seconds, of sluice_request_duration_seconds: from a cached
// answer to a long token stream.
var DurationBuckets = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600}

// durationBounds are DurationBuckets as durations.
var durationBounds = func() (d [len(DurationBuckets)]time.Duration) {
	for i, s := range DurationBuckets {
		d[i] = time.Duration(s * float64(time.Second))
	}
	return d
}()

// routeStats are the counters of one route. They outlive a reload in which the route keeps its name;
// those by upstream only if it keeps that too. All methods may be called concurrently.
type routeStats struct {
	route, upstream string
	classes         [9]atomic.Pointer[codeCounts] // by the first digit of the status; made when first seen
	*routeTotals
}

type codeCounts [100]atomic.Uint64

// routeTotals are counted whatever the upstream.
type routeTotals struct {
	durations [len(DurationBuckets) + 1]atomic.Uint64
	nanos     atomic.Uint64 // sum of the durations
	rejected  [reasons]atomic.Uint64
}

func newRouteStats(route, upstream string) *routeStats {
	return &routeStats{route: route, upstream: upstream, routeTotals: &routeTotals{}}
}

// finished counts a request that ended with a status.
func (s *routeStats) finished(status int, took time.Duration) {
	if class := status/100 - 1; class >= 0 && class < len(s.classes) {
		counts := s.classes[class].Load()
		if counts == nil {
			s.classes[class].CompareAndSwap(nil, new(codeCounts))
			counts = s.classes[class].Load()
		}
		counts[status%100].Add(1)
	}
	i := 0
	for i < len(durationBounds) && took > durationBounds[i] {
		i++
	}
	s.durations[i].Add(1)
	s.nanos.Add(uint64(max(took, 0)))
}

// Stats is a reading of all counters. They are monotonic as long as their route is configured.
type Stats struct {
	Routes    []RouteStats
	Upstreams []UpstreamStats
	Protocols []ProtocolStats
	// TLS is not the proxy's to fill.
	TLS https.Stats
}

// RouteStats is a reading of one route's counters. The requests that no route matched are counted under
// the route "".
type RouteStats struct {
	Route    string
	Upstream string            // "" for a route that answers by itself
	Requests map[int]uint64    // by status; 499 for clients that left
	Rejected map[string]uint64 // by reason code: requests that sluice answered, or gave up, itself
	Duration DurationStats
}

// DurationStats is a histogram as Prometheus reads it.
type DurationStats struct {
	Buckets [len(DurationBuckets)]uint64 // cumulative, by DurationBuckets
	Count   uint64
	Seconds float64
}

// UpstreamStats is a reading of one upstream's counters.
type UpstreamStats struct {
	Upstream string
	Retries  uint64
}

// read copies the counters.
func (s *routeStats) read() RouteStats {
	r := RouteStats{Route: s.route, Upstream: s.upstream, Requests: map[int]uint64{}, Rejected: map[string]uint64{}}
	for class := range s.classes {
		counts := s.classes[class].Load()
		if counts == nil {
			continue
		}
		for i := range counts {
			if n := counts[i].Load(); n > 0 {
				r.Requests[(class+1)*100+i] = n
			}
		}
	}
	for i := range s.durations {
		r.Duration.Count += s.durations[i].Load()
		if i < len(DurationBuckets) {
			r.Duration.Buckets[i] = r.Duration.Count
		}
	}
	r.Duration.Seconds = time.Duration(s.nanos.Load()).Seconds()
	for i := range s.rejected {
		if n := s.rejected[i].Load(); n > 0 {
			r.Rejected[failures[i].Reason] = n
		}
	}
	return r
}
