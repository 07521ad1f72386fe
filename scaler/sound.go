package scaler

import "math"

// Sound reports whether l can have been learned: it comes from a file, which may hold anything. What is not sound is
// not to be used.
func (l *Learned) Sound() bool {
	f := &l.Forecast
	if f.First < 0 || f.First >= expectedMost || f.Count < 0 || f.Count > expectedMost || l.Gaps.N < 0 || l.Gaps.N > fallenMost ||
		l.Loads.N < 0 || l.Loads.N > peaksMost || l.Plans.N < 0 || l.Plans.N > peaksMost {
		return false
	}
	for i := range f.Squares {
		if f.Squares[i][i] < 0 || !finite(f.Squares[i][:]...) {
			return false
		}
	}
	for _, e := range f.Expected {
		if !finite(e.X[:]...) || !positive(e.Due, e.Plan, e.Burst, e.Stands) {
			return false
		}
	}
	for _, p := range [...]*Peaks{&l.Loads, &l.Plans} {
		for _, e := range p.List {
			if !positive(e.At, e.Value) {
				return false
			}
		}
	}
	for _, e := range l.Gaps.Fallen {
		if e.Level < 0 || !finite(e.At) {
			return false
		}
	}
	if v := &l.Levels; !positive(v.Late[:]...) || !positive(v.Seconds, v.LawCost, v.LawLate) {
		return false
	}
	s := l.Service
	return l.Gaps.Level >= 0 && finite(f.Products[:]...) && finite(f.Weights[:]...) && positive(l.Margin.Buckets[:]...) && positive(l.Gaps.Counts[:]...) &&
		positive(l.Clock, l.Load, f.Seconds, l.Bursts.Seen, l.Bursts.Kept, l.Gaps.Best, s.Finished, s.Served, s.Occupied, s.RecentlyFinished, s.RecentlyOccupied, s.Mean)
}

func finite(all ...float64) bool {
	for _, v := range all {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return false
		}
	}
	return true
}

// positive is finite and not below 0.
func positive(all ...float64) bool {
	for _, v := range all {
		if v < 0 {
			return false
		}
	}
	return finite(all...)
}
