package vertical

import (
	"errors"
	"math"
	"time"
)

// scale divides a range into buckets, each ratio times as wide as the one before. A value beyond the last bucket
// falls into that.
type scale struct {
	first   float64 // width of the first bucket
	ratio   float64
	buckets int
}

func newScale(most, first, ratio float64) scale {
	return scale{first, ratio, int(math.Ceil(math.Log(most*(ratio-1)/first+1)/math.Log(ratio))) + 1}
}

// The scales of the VPA's recommender: up to 1000 cores from 0.01, up to 1 TB from 10 MB.
var (
	cpuScale    = newScale(1000, 0.01, 1.05)
	memoryScale = newScale(1e12, 1e7, 1.05)
)

// bucket is the bucket that v falls into.
func (s scale) bucket(v float64) int {
	if !(v >= s.first) {
		return 0
	}
	return min(int(math.Log(v*(s.ratio-1)/s.first+1)/math.Log(s.ratio)), s.buckets-1)
}

// start is where a bucket begins.
func (s scale) start(bucket int) float64 {
	return s.first * (math.Pow(s.ratio, float64(bucket)) - 1) / (s.ratio - 1)
}

const (
	// half is after how long a sample counts half.
	half = 24 * time.Hour
	// halvesMost is after how many halvings weights are written anew, before they overflow.
	halvesMost = 100
)

// histogram holds how often which values were seen, of late more than long ago. What was added at a time weighs
// 2^((time-reference)/half), so that nothing has to be touched as time goes by.
type histogram struct {
	scale     scale
	weights   []float64 // by bucket
	total     float64
	reference time.Time // zero: nothing was ever added
}

func newHistogram(s scale) histogram { return histogram{scale: s, weights: make([]float64, s.buckets)} }

// add takes a value that was seen at a time.
func (h *histogram) add(v, weight float64, at time.Time) {
	weight *= h.worth(at)
	h.weights[h.scale.bucket(v)] += weight
	h.total += weight
}

// subtract takes back what was added with the same arguments.
func (h *histogram) subtract(v, weight float64, at time.Time) {
	weight *= h.worth(at)
	b := h.scale.bucket(v)
	if h.weights[b] -= weight; h.weights[b] < 1e-9*weight { // what rounding leaves
		h.weights[b] = 0
	}
	h.total = 0
	for _, w := range h.weights {
		h.total += w
	}
}

// worth is the weight of one at a time.
func (h *histogram) worth(at time.Time) float64 {
	if h.reference.IsZero() {
		h.reference = at
	}
	halves := at.Sub(h.reference).Hours() / half.Hours()
	if halves > halvesMost {
		keep := math.Exp2(-halves)
		for i := range h.weights {
			h.weights[i] *= keep
		}
		h.total *= keep
		h.reference, halves = at, 0
	}
	return math.Exp2(max(halves, -halvesMost))
}

// quantile is the end of the bucket in which the share q of all weight is reached, of the last bucket its start; 0
// when nothing was added.
func (h *histogram) quantile(q float64) float64 {
	if h.total <= 0 {
		return 0
	}
	last, sum := 0, 0.0
	for b, w := range h.weights {
		if w == 0 {
			continue
		}
		last = b
		if sum += w; sum >= q*h.total {
			break
		}
	}
	return h.scale.start(min(last+1, h.scale.buckets-1))
}

// savedHistogram is a histogram in a file: weights in ten-thousandths of the largest, those below half of one left out.
type savedHistogram struct {
	Reference time.Time   `json:"reference"`
	Total     float64     `json:"total"`
	Weights   map[int]int `json:"weights"`
}

const savedFull = 10000

func (h *histogram) save() savedHistogram {
	s := savedHistogram{h.reference, h.total, map[int]int{}}
	most := 0.0
	for _, w := range h.weights {
		most = max(most, w)
	}
	for b, w := range h.weights {
		if n := int(math.Round(w / most * savedFull)); w > 0 && n > 0 {
			s.Weights[b] = n
		}
	}
	return s
}

var errUnsound = errors.New("no such histogram can have been saved")

// load is the histogram that s was saved from, nearly.
func (s savedHistogram) load(of scale) (histogram, error) {
	h := newHistogram(of)
	sum := 0
	for b, n := range s.Weights {
		if b < 0 || b >= of.buckets || n < 1 || n > savedFull {
			return h, errUnsound
		}
		sum += n
	}
	if math.IsNaN(s.Total) || math.IsInf(s.Total, 0) || s.Total < 0 || (s.Total > 0) != (sum > 0) || s.Total > 0 && s.Reference.IsZero() {
		return h, errUnsound
	}
	for b, n := range s.Weights {
		h.weights[b] = float64(n) / float64(sum) * s.Total
	}
	h.total, h.reference = s.Total, s.Reference
	return h, nil
}
