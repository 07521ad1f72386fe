package docker

import (
	"math"
	"time"

	"github.com/docker/docker/api/types/container"
)

// sample is one reading of what a container has used since its start.
type sample struct {
	at  time.Time // on the engine's clock
	cpu uint64    // nanoseconds
}

// limits are what a container may have; 0 is no limit.
type limits struct {
	cpus   float64
	memory int64
}

// defaultPeriod is the kernel's, in microseconds, where a quota is given without one.
const defaultPeriod = 100_000

func limitsOf(host *container.HostConfig) limits {
	l := limits{memory: max(host.Memory, 0)}
	switch {
	case host.NanoCPUs > 0:
		l.cpus = float64(host.NanoCPUs) / 1e9
	case host.CPUQuota > 0:
		period := host.CPUPeriod
		if period <= 0 {
			period = defaultPeriod
		}
		l.cpus = float64(host.CPUQuota) / float64(period)
	}
	return l
}

// sampleOf is false for the zeros that the engine sends of a container that does not run.
func sampleOf(s *container.StatsResponse) (sample, bool) {
	return sample{s.Read, s.CPUStats.CPUUsage.TotalUsage}, !s.Read.IsZero() && s.MemoryStats.Usage > 0
}

// cores is the mean of cores used between two samples. It is false where there is none: at the first sample, and when
// the counter has begun anew with the container.
func cores(from, to sample) (float64, bool) {
	took := to.at.Sub(from.at)
	if from.at.IsZero() || took <= 0 || to.cpu < from.cpu {
		return 0, false
	}
	return float64(to.cpu-from.cpu) / float64(took.Nanoseconds()), true
}

// memoryOf is what the engine's own tools show: without the cache of files not in use, which the kernel takes back when
// something else needs it. With version 1 of control groups the counts of a group and all below it begin with "total_".
func memoryOf(m *container.MemoryStats) int64 {
	cache, version1 := m.Stats["total_inactive_file"]
	if !version1 {
		cache = m.Stats["inactive_file"]
	}
	if cache >= m.Usage {
		cache = 0
	}
	return int64(m.Usage - cache)
}

// share is NaN without a limit.
func share(used, limit float64) float64 {
	if limit <= 0 {
		return math.NaN()
	}
	return used / limit
}
