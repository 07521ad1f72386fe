package kubernetes

import (
	"math"

	"k8s.io/apimachinery/pkg/api/resource"
)

// metric is one name under which a figure of an upstream's load is shown.
type metric struct {
	name string
	of   func(load) float64
}

// metrics have the names of the Prometheus metrics where there is one. ai_agent_queue_depth is the name that
// autoscalers written for queues of agents ask for. The names are a contract with the HorizontalPodAutoscalers of
// users: extend, never rename.
var metrics = []metric{
	{"ai_agent_queue_depth", func(l load) float64 { return l.queued }},
	{"sluice_upstream_queue_depth", func(l load) float64 { return l.queued }},
	{"sluice_upstream_in_flight", func(l load) float64 { return l.inFlight }},
	{"sluice_upstream_concurrency", func(l load) float64 { return l.inFlight + l.queued }},
	{"sluice_upstream_arrival_rate", func(l load) float64 { return l.arrivals }},
}

func metricOf(name string) (metric, bool) {
	for _, m := range metrics {
		if m.name == name {
			return m, true
		}
	}
	return metric{}, false
}

// quantity has the precision that the HorizontalPodAutoscaler reckons with, a thousandth. It is rounded up: what there
// is little of is not nothing; what is left of reckoning with floats is.
func quantity(v float64) resource.Quantity {
	return *resource.NewMilliQuantity(int64(math.Ceil(v*1000-1e-3)), resource.DecimalSI)
}
