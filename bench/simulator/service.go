package simulator

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Service says how long requests have their slot where the trace does not.
type Service struct {
	// Mean of the distribution. When the trace knows service times, a mean that is not 0 rescales them.
	Mean time.Duration
	// Distribution is exp, lognormal (coefficient of variation 2) or fixed.
	Distribution string
}

// Distributions are the values of Service.Distribution.
var Distributions = []string{"exp", "lognormal", "fixed"}

// defaultMean is the service time of a trace that knows none, unless it is given.
const defaultMean = time.Second

// Fill is the trace with every service time known. The same seed gives the same times.
func (s Service) Fill(t Trace, seed uint64) (Trace, error) {
	r := rand.New(rand.NewPCG(seed, 0x5e41ce))
	mean, scale := s.Mean, 1.0
	if known := t.Mean(); known > 0 && mean > 0 {
		scale = float64(mean) / float64(known)
	} else if mean == 0 {
		mean = max(known, 0)
	}
	if mean == 0 {
		mean = defaultMean
	}
	draw, err := s.draw(float64(mean), r)
	if err != nil {
		return Trace{}, err
	}
	filled := Trace{Requests: make([]Request, len(t.Requests)), Length: t.Length}
	for i, q := range t.Requests {
		switch {
		case q.Service < 0:
			q.Service = time.Duration(draw())
		default:
			q.Service = time.Duration(float64(q.Service) * scale)
		}
		q.Service = max(q.Service, time.Microsecond)
		filled.Requests[i] = q
	}
	return filled, nil
}

func (s Service) draw(mean float64, r *rand.Rand) (func() float64, error) {
	switch s.Distribution {
	case "", "exp":
		return func() float64 { return r.ExpFloat64() * mean }, nil
	case "lognormal":
		const cv = 2
		sigma := math.Sqrt(math.Log(1 + cv*cv))
		return func() float64 { return mean * math.Exp(sigma*r.NormFloat64()-sigma*sigma/2) }, nil
	case "fixed":
		return func() float64 { return mean }, nil
	}
	return nil, fmt.Errorf("no distribution %q: want one of %v", s.Distribution, Distributions)
}
