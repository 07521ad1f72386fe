package vertical

import (
	"fmt"
	"math"
	"strconv"
	"time"
)

// Resources are what a replica may use.
type Resources struct {
	// CPUs is in cores; 0 is no limit.
	CPUs float64 `toml:"cpus" json:"cpus"`
	// Memory is in bytes; 0 is no limit.
	Memory int64 `toml:"memory" unit:"bytes" json:"memory"`
}

// String is r in words, "0.25 cores, 300 MiB"; an Upper of no bound is "any".
func (r Resources) String() string { return cores(r.CPUs) + ", " + size(r.Memory) }

func cores(n float64) string {
	if n >= highestCPUs {
		return "any cores"
	}
	return strconv.FormatFloat(math.Round(n*1e3)/1e3, 'f', -1, 64) + " cores"
}

func size(bytes int64) string {
	if bytes >= highestMemory {
		return "any memory"
	}
	return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20))
}

const (
	margin = 1.15
	// highest is what stands for no upper bound, of cores and of bytes: Upper while next to nothing is known.
	highestCPUs   = 1e4
	highestMemory = 1 << 50
	// Grain to which a recommendation is rounded up.
	grainCPUs   = 1e-3
	grainMemory = 1 << 20
)

// Recommendation is what one replica should have. What has between Lower and Upper is left alone.
type Recommendation struct {
	// Target covers nine tenths of the time (of memory: of the days), and 15 %.
	Target Resources `json:"target"`
	// Lower is the same of half of the time, and less while little is known; Upper of 95 %, and much more then.
	Lower Resources `json:"lower"`
	Upper Resources `json:"upper"`
	// Days is of how much time it comes, the most the days of which every minute was measured.
	Days float64 `json:"days"`
	// OOM is what memory was raised to because replicas ran out of it in the last day; 0 is that none did.
	OOM int64 `json:"oom,omitempty"`
}

// Recommend is what follows from the model within the bounds least and most, whose zero fields are no bound. It is
// false while nothing is known.
func (m *Model) Recommend(least, most Resources, now time.Time) (Recommendation, bool) {
	if m.samples == 0 && !now.Before(m.oom.Until) {
		return Recommendation{}, false
	}
	r := Recommendation{Days: m.confidence()}
	up, down := 1+1/r.Days, math.Pow(1+0.001/r.Days, -2)
	if r.Days <= 0 {
		up, down = math.Inf(1), 0
	}
	at := func(q, factor float64) Resources {
		return rounded(m.cpu.quantile(q)*margin*factor, m.memory.quantile(q)*margin*factor)
	}
	r.Target, r.Lower, r.Upper = at(.9, 1), at(.5, down), at(.95, up)
	if now.Before(m.oom.Until) {
		r.OOM = roundUp(m.oom.Needs)
		for _, one := range []*Resources{&r.Target, &r.Lower, &r.Upper} {
			one.Memory = max(one.Memory, r.OOM)
		}
	}
	for _, one := range []*Resources{&r.Target, &r.Lower, &r.Upper} {
		*one = one.within(least, most)
	}
	r.Upper.CPUs, r.Upper.Memory = max(r.Upper.CPUs, r.Target.CPUs), max(r.Upper.Memory, r.Target.Memory)
	r.Lower.CPUs, r.Lower.Memory = min(r.Lower.CPUs, r.Target.CPUs), min(r.Lower.Memory, r.Target.Memory)
	return r, true
}

// confidence is in days of which every minute was measured.
func (m *Model) confidence() float64 {
	return min(m.last.Sub(m.first).Hours()/24, float64(m.samples)*Every.Hours()/24)
}

func rounded(cpus, memory float64) Resources {
	if math.IsNaN(cpus) { // nothing, however often
		cpus = 0
	}
	if math.IsNaN(memory) {
		memory = 0
	}
	return Resources{
		min(math.Ceil(cpus/grainCPUs-1e-6)*grainCPUs, highestCPUs),
		roundUp(int64(min(memory, highestMemory))),
	}
}

func roundUp(bytes int64) int64 { return (bytes + grainMemory - 1) / grainMemory * grainMemory }

// within is r within bounds whose zero fields are none.
func (r Resources) within(least, most Resources) Resources {
	r.CPUs, r.Memory = max(r.CPUs, least.CPUs), max(r.Memory, least.Memory)
	if most.CPUs > 0 {
		r.CPUs = min(r.CPUs, most.CPUs)
	}
	if most.Memory > 0 {
		r.Memory = min(r.Memory, most.Memory)
	}
	return r
}
