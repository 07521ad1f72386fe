// Package vertical says how much CPU and memory a replica should have, by what replicas have used: the arithmetic of
// Kubernetes' VerticalPodAutoscaler (kubernetes/autoscaler, vertical-pod-autoscaler/pkg/recommender and pkg/updater),
// for any engine. It measures nothing and changes nothing, and every time is an argument.
package vertical

import (
	"fmt"
	"maps"
	"math"
	"time"
)

const (
	// Every is how far apart samples of one replica should be: confidence counts one a minute.
	Every = time.Minute
	// weightLeast is the weight of a CPU sample of a replica that has less, or has nothing said.
	weightLeast = 0.1
	// window is over how long of a replica's memory only the peak counts.
	window = 24 * time.Hour
	// peaksMost bounds the replicas whose peak is known at a time; beyond, the oldest counts as it is.
	peaksMost = 1000
	// full is the share of a CPU limit from which on a replica does not show any more what it would use.
	full = 0.95
	// bumpRatio and bumpLeast are what a replica gets beyond what it had when it ran out of it.
	bumpRatio = 1.2
	bumpLeast = 100 << 20
)

// Sample is what one replica used.
type Sample struct {
	// Replica tells it from others.
	Replica string
	// CPU is in cores, the mean since the sample before.
	CPU float64
	// Memory is in bytes, the most since the sample before.
	Memory int64
	// Has is the cores it has, by its limit or its request: as much the sample weighs. 0 is neither.
	Has float64
	// Limit is the cores that it cannot use more than; 0 is no limit.
	Limit float64
}

// Model is what is known of the replicas of one upstream. Its size is bounded. It belongs to one goroutine.
type Model struct {
	cpu, memory histogram
	first, last time.Time // of the samples
	samples     int
	peaks       map[string]peak // by replica, while its window lasts
	oom         oom
}

// peak is the most memory of one replica in its window. Its sample is dated to the end of that.
type peak struct {
	End   time.Time `json:"end"`
	Bytes int64     `json:"bytes"`
	// Needs is Bytes, or what it is thought to need since it ran out.
	Needs int64 `json:"needs"`
}

// oom is the last time that replicas ran out of memory.
type oom struct {
	Until time.Time `json:"until"`
	Needs int64     `json:"needs"`
}

// NewModel knows nothing.
func NewModel() *Model {
	return &Model{cpu: newHistogram(cpuScale), memory: newHistogram(memoryScale), peaks: map[string]peak{}}
}

// Add takes a sample. A replica that is at its CPU limit shows only that it wants more, and counts for a fifth more.
func (m *Model) Add(s Sample, at time.Time) {
	if math.IsNaN(s.CPU) || math.IsInf(s.CPU, 0) || s.CPU < 0 || s.Memory < 0 {
		return
	}
	if m.first.IsZero() {
		m.first = at
	}
	if at.After(m.last) {
		m.last = at
	}
	m.samples++
	used := s.CPU
	if s.Limit > 0 && used >= full*s.Limit {
		used *= bumpRatio
	}
	m.cpu.add(used, max(s.Has, weightLeast), at)
	m.peakIs(s.Replica, s.Memory, s.Memory, at)
}

// OutOfMemory takes that a replica was killed for want of memory, with that limit (0: it had none).
func (m *Model) OutOfMemory(replica string, limit int64, at time.Time) {
	used := max(limit, m.peaks[replica].Bytes)
	if used <= 0 {
		return
	}
	needs := max(int64(float64(used)*bumpRatio), used+bumpLeast)
	m.peakIs(replica, used, needs, at)
	if at.After(m.oom.Until) {
		m.oom.Needs = 0
	}
	m.oom = oom{at.Add(window), max(needs, m.oom.Needs)}
}

// peakIs makes used, or what is needed for it, the replica's peak if it is one.
func (m *Model) peakIs(replica string, used, needs int64, at time.Time) {
	maps.DeleteFunc(m.peaks, func(_ string, p peak) bool { return !at.Before(p.End) })
	p, known := m.peaks[replica]
	if known && used <= p.Bytes && needs <= p.Needs {
		return
	}
	if known && p.Needs > 0 {
		m.memory.subtract(float64(p.Needs), 1, p.End)
	} else if !known {
		m.room()
		p.End = at.Add(window)
	}
	p.Bytes, p.Needs = max(used, p.Bytes), max(needs, p.Needs)
	m.peaks[replica] = p
	if p.Needs > 0 {
		m.memory.add(float64(p.Needs), 1, p.End)
	}
}

// room makes room for one more peak.
func (m *Model) room() {
	if len(m.peaks) < peaksMost {
		return
	}
	oldest := ""
	for id, p := range m.peaks {
		if oldest == "" || p.End.Before(m.peaks[oldest].End) {
			oldest = id
		}
	}
	delete(m.peaks, oldest)
}

// Checkpoint is a model in a file. It is never changed.
type Checkpoint struct {
	CPU     savedHistogram  `json:"cpu"`
	Memory  savedHistogram  `json:"memory"`
	First   time.Time       `json:"first"`
	Last    time.Time       `json:"last"`
	Samples int             `json:"samples"`
	Peaks   map[string]peak `json:"peaks,omitempty"`
	OOM     oom             `json:"oom"`
}

// Checkpoint is m as it is now, a little coarser.
func (m *Model) Checkpoint() *Checkpoint {
	return &Checkpoint{m.cpu.save(), m.memory.save(), m.first, m.last, m.samples, maps.Clone(m.peaks), m.oom}
}

// Model is the model that c was made of. It comes from a file, which may hold anything: what is not sound is an error.
func (c *Checkpoint) Model() (*Model, error) {
	m := NewModel()
	var err error
	if m.cpu, err = c.CPU.load(cpuScale); err != nil {
		return nil, fmt.Errorf("cpu: %w", err)
	}
	if m.memory, err = c.Memory.load(memoryScale); err != nil {
		return nil, fmt.Errorf("memory: %w", err)
	}
	if c.Samples < 0 || c.Last.Before(c.First) || len(c.Peaks) > peaksMost || c.OOM.Needs < 0 {
		return nil, errUnsound
	}
	for id, p := range c.Peaks {
		if p.Bytes < 0 || p.Needs < p.Bytes {
			return nil, errUnsound
		}
		m.peaks[id] = p
	}
	m.first, m.last, m.samples, m.oom = c.First, c.Last, c.Samples, c.OOM
	return m, nil
}
