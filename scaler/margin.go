package scaler

import "math"

// Margin is by how much the load passed what was planned for one start time earlier, in units of the square root of
// the plan (square-root staffing): a histogram in which the past fades. It begins as a normal distribution, as by
// five minutes of evidence.
type Margin struct {
	Buckets [marginBuckets]float64 `json:"buckets"`
	Begun   bool                   `json:"begun"`
}

const (
	marginBuckets = 128
	marginScale   = 10.0 // buckets to a unit of asinh: fine around 0, and up to ±300
	marginPrior   = 300  // seconds
)

// marginBound is the lower bound of bucket i.
func marginBound(i int) float64 { return math.Sinh(float64(i-marginBuckets/2) / marginScale) }

func marginBucket(z float64) int {
	return clamp(int(math.Floor(math.Asinh(z)*marginScale))+marginBuckets/2, 0, marginBuckets-1)
}

func (m *Margin) fade(keep float64) {
	if !m.Begun {
		m.Begun = true
		for i := range m.Buckets {
			m.Buckets[i] = marginPrior * (math.Erf(marginBound(i+1)/math.Sqrt2) - math.Erf(marginBound(i)/math.Sqrt2)) / 2
		}
	}
	for i := range m.Buckets {
		m.Buckets[i] *= keep
	}
}

func (m *Margin) add(plan, load, dt float64) {
	m.Buckets[marginBucket((load-plan)/math.Sqrt(plan+1))] += dt
}

// over is the margin for a plan such that share q of the past would have been within it.
func (m *Margin) over(plan, q float64) float64 {
	sum := 0.0
	for _, b := range m.Buckets {
		sum += b
	}
	rest := (1 - q) * sum
	for i := marginBuckets - 1; i >= 0 && sum > 0; i-- {
		if rest -= m.Buckets[i]; rest < 0 {
			return marginBound(i+1) * math.Sqrt(plan+1)
		}
	}
	return 2 * math.Sqrt(plan+1) // nothing is known
}
