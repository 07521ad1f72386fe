package scaler

import (
	"math"
	"time"
)

// Gaps are how long replicas were without work until the load came back for them, layer by layer: when the load
// falls from 5 replicas to 2 and 40 s later rises to 4, layers 3 and 4 had a gap of 40 s. From their distribution
// follows how long an idle replica is worth its keep (ski rental with a known distribution).
type Gaps struct {
	Counts [gapBuckets]float64 `json:"counts"` // closed gaps by length, decayed
	// Fallen are the layers that wait for the load: each up to its level, without work since its time; ever
	// lower, ever later. N of them are used.
	Fallen [fallenMost]fallen `json:"fallen"`
	N      int                `json:"n"`
	Level  int                `json:"level"` // replicas that the load needs now
	// Best is how many seconds an idle replica should be kept; 0 while that is not known.
	Best float64 `json:"best"`
}

type fallen struct {
	Level int     `json:"level"`
	At    float64 `json:"at"`
}

const (
	gapBuckets = 48
	fallenMost = 64
	gapMemory  = 7200 // seconds after which a gap counts half
	gapGivenUp = 3600 // a layer without work for that long is taken for one that never comes back
	gapLooked  = 900  // the longest hold that is looked at
	// startOverhead is what a start costs beyond its time.
	startOverhead = 5

	holdLeast = 60 // seconds
	holdMost  = 300
)

// gapBound is the upper bound of bucket i in seconds: four to each doubling, from 1 s to 57 min.
func gapBound(i int) float64 { return math.Exp2(float64(i) / 4) }

func gapBucket(d float64) int {
	return clamp(int(math.Ceil(4*math.Log2(max(d, 1)))), 0, gapBuckets-1)
}

// add takes the level of a second.
func (g *Gaps) add(clock, dt float64, level int) {
	keep := math.Exp2(-dt / gapMemory)
	for i := range g.Counts {
		g.Counts[i] *= keep
	}
	for g.N > 0 && clock-g.Fallen[0].At > gapGivenUp {
		g.Counts[gapBuckets-1] += float64(g.Fallen[0].Level - g.below(0))
		copy(g.Fallen[:], g.Fallen[1:g.N])
		g.N--
	}
	switch {
	case level < g.Level:
		if g.N == fallenMost { // the two lowest become one
			g.N--
			g.Fallen[g.N-1].At = g.Fallen[g.N].At
		}
		g.Fallen[g.N] = fallen{g.Level, clock - dt}
		g.N++
	case level > g.Level:
		from := g.Level
		for g.N > 0 && from < level {
			f := g.Fallen[g.N-1]
			to := min(f.Level, level)
			g.Counts[gapBucket(clock-f.At)] += float64(to - from)
			from = to
			if f.Level > level {
				break
			}
			g.N--
		}
	}
	g.Level = level
}

// below is the level that the layers of Fallen[i] begin above.
func (g *Gaps) below(i int) int {
	if i+1 < g.N {
		return g.Fallen[i+1].Level
	}
	return g.Level
}

// learn finds the hold h that makes E[min(gap, h)] + cost·P(gap > h) least: replica-seconds idle, and what it costs to
// start again one that was stopped too early.
func (g *Gaps) learn(clock, start float64) {
	cost := start + startOverhead
	longest := g.Counts[gapBuckets-1]
	for i := range g.N { // gaps that are open are the longer the longer they last
		longest += float64(g.Fallen[i].Level-g.below(i)) * min(1, (clock-g.Fallen[i].At)/gapLooked)
	}
	sum := longest
	for _, c := range g.Counts[:gapBuckets-1] {
		sum += c
	}
	g.Best = 0
	if sum < 1e-6 {
		return
	}
	least, idle, closed := cost, 0.0, 0.0
	for i, c := range g.Counts[:gapBuckets-1] {
		h := gapBound(i)
		if h > gapLooked {
			break
		}
		closed += c
		idle += c * h * .9 // the middle of the bucket
		if v := (idle + (sum-closed)*(h+cost)) / sum; v < least {
			g.Best, least = h, v
		}
	}
}

// hold is how long the load must have been lower before a replica goes.
func (g *Gaps) hold() time.Duration {
	return time.Duration(min(max(g.Best, holdLeast), holdMost) * float64(time.Second))
}
