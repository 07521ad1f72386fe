package simulator

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// Kinds are the synthetic traces.
var Kinds = []string{"diurnal", "spiky", "steps", "batches", "even"}

// Synthetic makes a trace: Poisson arrivals whose rate, on average that many requests a second, goes up and down
// like a day (diurnal: one wave a third of the length, and noise that lasts minutes), jumps to many times itself
// for seconds or minutes (spiky), changes in steps, comes in batches of which most are small, with pauses between
// them of which some are long, or wanders about its mean by 15 % (even). Service times are left unknown.
func Synthetic(kind string, rate float64, length time.Duration, seed uint64) (Trace, error) {
	r := rand.New(rand.NewPCG(seed, 0x5f7))
	seconds := int(length / time.Second)
	if seconds < 1 || !(rate > 0 && rate < 1e6) {
		return Trace{}, fmt.Errorf("a synthetic trace wants a length of 1s or more and a rate above 0")
	}
	var at func(i int) float64
	switch kind {
	case "diurnal":
		noise := 0.0
		at = func(i int) float64 {
			noise = .98*noise + .2*math.Sqrt(1-.98*.98)*r.NormFloat64()
			return max(0, 1-.8*math.Cos(2*math.Pi*float64(i)/(float64(seconds)/3))) * math.Exp(noise)
		}
	case "spiky":
		spike, left := 0.0, 0
		at = func(int) float64 {
			if left--; left <= 0 {
				if spike, left = 0, 0; r.Float64() < 1./120 {
					spike, left = 1+6*r.ExpFloat64(), 2+int(r.ExpFloat64()*20)
				}
			}
			return .6 + spike
		}
	case "steps":
		level, left := 0., 0
		at = func(int) float64 {
			if left--; left <= 0 {
				level, left = .2+1.8*r.Float64(), 120+r.IntN(600)
			}
			return level
		}
	case "batches":
		batch, left := 0.0, 0
		at = func(int) float64 {
			if left--; left <= 0 {
				batch, left = math.Exp(1.2*r.NormFloat64()), 1+int(math.Exp(1.8+1.1*r.NormFloat64()))
				return batch
			}
			return .02
		}
	case "even":
		drift := 0.0
		at = func(int) float64 {
			drift = .9967*drift + .15*math.Sqrt(1-.9967*.9967)*r.NormFloat64() // half of it is gone after 3.5 minutes
			return math.Exp(drift)
		}
	default:
		return Trace{}, fmt.Errorf("no synthetic trace %q: want one of %s", kind, strings.Join(Kinds, ", "))
	}
	shape, sum := make([]float64, seconds), 0.0
	for i := range shape {
		shape[i] = at(i)
		sum += shape[i]
	}
	var all []Request
	for i, v := range shape {
		mean := v * rate * float64(seconds) / sum
		for t := r.ExpFloat64(); t < mean; t += r.ExpFloat64() {
			all = append(all, Request{time.Duration((float64(i) + t/mean) * float64(time.Second)), unknown})
		}
	}
	return wholeSeconds(all, seconds), nil
}
