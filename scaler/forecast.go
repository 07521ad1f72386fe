package scaler

import (
	"iter"
	"math"
)

// Forecast predicts the load one start time ahead, when a replica that is asked for now will be ready: a weighted
// sum of the features, by the least squares over the past, in which what is older counts less. Squares are weighted
// by the inverse of the load, as its variance grows with it, and drawn to forecastPrior as by a minute of evidence,
// so that the weights stay sane while all features say the same.
type Forecast struct {
	// Squares is Σ w·x·xᵀ, Products Σ w·x·load, Seconds how many went into them, all decayed.
	Squares  [5][5]float64 `json:"squares"`
	Products features      `json:"products"`
	Seconds  float64       `json:"seconds"`
	// Weights follow from them.
	Weights features `json:"weights"`
	// Expected are the predictions whose time has not come: Count of them from First on, a ring.
	Expected [expectedMost]expected `json:"expected"`
	First    int                    `json:"first"`
	Count    int                    `json:"count"`
}

// expected is a prediction, and what was known when it was made.
type expected struct {
	Due  float64  `json:"due"`
	X    features `json:"x"`
	Plan float64  `json:"plan"` // the largest prediction within holdLeast: what there were replicas for
	// Burst is the load of a burst that was seen then, 0 if there was none.
	Burst float64 `json:"burst,omitempty"`
	// Stands is for how many seconds it stands: as there is room for expectedMost, not every second has its own.
	Stands float64 `json:"stands"`
}

const (
	expectedMost = 64
	horizonLeast = 1 // seconds
	horizonMost  = 600
	priorSeconds = 60
	// A prediction is between 1/forecastClamp of the least that the features say and forecastClamp times the most.
	forecastClamp = 2
)

var forecastPrior = features{.4, 0, .6, 0, 0}

// predict is the load one start time from now.
func (f *Forecast) predict(x features) float64 {
	w := f.Weights
	if f.Seconds == 0 {
		w = forecastPrior
	}
	y, low, high := 0.0, math.Inf(1), 0.0
	for i, v := range x {
		y += w[i] * v
		if i < len(x)-1 {
			low, high = min(low, v), max(high, v)
		}
	}
	if math.IsNaN(y) {
		return high
	}
	return max(low/forecastClamp, min(y, forecastClamp*high+1))
}

// expect notes a prediction of now. There is room for expectedMost within one start time.
func (f *Forecast) expect(clock, dt, start float64, e expected) {
	horizon := min(max(start, horizonLeast), horizonMost)
	e.Due, e.Stands = clock+horizon, dt
	if f.Count > 0 {
		last := &f.Expected[(f.First+f.Count-1)%expectedMost]
		if e.Due < last.Due+horizon/(expectedMost-2) {
			last.Stands += dt
			return
		}
	}
	if f.Count < expectedMost {
		f.Expected[(f.First+f.Count)%expectedMost] = e
		f.Count++
	}
}

// due takes out the predictions whose time has come.
func (f *Forecast) due(clock float64) iter.Seq[expected] {
	return func(yield func(expected) bool) {
		for f.Count > 0 && f.Expected[f.First].Due <= clock {
			e := f.Expected[f.First]
			f.First = (f.First + 1) % expectedMost
			f.Count--
			if !yield(e) {
				return
			}
		}
	}
}

// learn takes what the load came to be. The past fades by keep.
func (f *Forecast) learn(keep, dt float64, e expected, load float64) {
	w := dt / (e.X[2] + 1)
	for i, a := range e.X {
		for j, b := range e.X {
			f.Squares[i][j] = f.Squares[i][j]*keep + w*a*b
		}
		f.Products[i] = f.Products[i]*keep + w*a*load
	}
	f.Seconds = f.Seconds*keep + dt
	f.solve()
}

// solve finds the weights: (Squares + ridge)·w = Products + ridge·prior.
func (f *Forecast) solve() {
	const k = len(features{})
	trace := 0.0
	for i := range k - 1 {
		trace += f.Squares[i][i]
	}
	ridge := priorSeconds*trace/float64(k-1)/f.Seconds + 1e-9
	var a [k][k + 1]float64
	for i := range k {
		copy(a[i][:k], f.Squares[i][:])
		r := ridge
		if i == k-1 {
			r += f.Squares[i][i] // the load is hardly ever a constant
		}
		a[i][i] += r
		a[i][k] = f.Products[i] + r*forecastPrior[i]
	}
	for i := range k { // positive definite, so no pivoting is needed
		for j := i + 1; j < k; j++ {
			q := a[j][i] / a[i][i]
			for c := i; c <= k; c++ {
				a[j][c] -= q * a[i][c]
			}
		}
	}
	for i := k - 1; i >= 0; i-- {
		v := a[i][k]
		for j := i + 1; j < k; j++ {
			v -= a[i][j] * f.Weights[j]
		}
		f.Weights[i] = v / a[i][i]
	}
}
