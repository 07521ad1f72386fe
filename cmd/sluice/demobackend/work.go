package demobackend

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"
)

// serviceTime is a distribution of working times; it is a flag.Value. The zero value is no time at all.
type serviceTime struct {
	kind  string        // fixed, exp, lognormal, uniform
	a, b  time.Duration // fixed: a; exp: mean a; lognormal: median a; uniform: from a to b
	sigma float64       // lognormal: standard deviation of the logarithm
	text  string
}

func (s *serviceTime) String() string {
	if s.text == "" {
		return s.a.String()
	}
	return s.text
}

// Set parses "200ms", "exp:200ms", "lognormal:200ms,0.5" and "uniform:100ms-300ms".
func (s *serviceTime) Set(text string) error {
	kind, rest, found := strings.Cut(text, ":")
	if !found {
		kind, rest = "fixed", text
	}
	out := serviceTime{kind: kind, text: text}
	var err error
	switch kind {
	case "fixed", "exp":
		out.a, err = time.ParseDuration(rest)
	case "lognormal":
		median, sigma, ok := strings.Cut(rest, ",")
		if !ok {
			return errors.New("want lognormal:MEDIAN,SIGMA")
		}
		out.a, err = time.ParseDuration(median)
		if err == nil {
			out.sigma, err = strconv.ParseFloat(sigma, 64)
		}
	case "uniform":
		from, to, ok := strings.Cut(rest, "-")
		if !ok {
			return errors.New("want uniform:FROM-TO")
		}
		out.a, err = time.ParseDuration(from)
		if err == nil {
			out.b, err = time.ParseDuration(to)
		}
		if err == nil && out.b < out.a {
			err = errors.New("TO is below FROM")
		}
	default:
		err = fmt.Errorf("unknown distribution %q", kind)
	}
	if err != nil {
		return err
	}
	if out.a < 0 || out.sigma < 0 {
		return errors.New("must not be negative")
	}
	*s = out
	return nil
}

// sample draws one working time.
func (s serviceTime) sample(r *dice) time.Duration {
	switch s.kind {
	case "exp":
		return time.Duration(float64(s.a) * r.exp())
	case "lognormal":
		return time.Duration(float64(s.a) * math.Exp(s.sigma*r.norm()))
	case "uniform":
		return s.a + time.Duration(float64(s.b-s.a)*r.float())
	}
	return s.a
}

// warm is the factor on a working time `since` after the backend became ready: it falls evenly from by to 1
// over the warm-up.
func warm(since, warmup time.Duration, by float64) float64 {
	if since >= warmup || by <= 1 {
		return 1
	}
	return by - (by-1)*float64(since)/float64(warmup)
}

// dice is a seeded source of random numbers that many requests share.
type dice struct {
	mu sync.Mutex // guards r
	r  *rand.Rand
}

func newDice(seed uint64) *dice {
	if seed == 0 {
		seed = rand.Uint64()
	}
	return &dice{r: rand.New(rand.NewPCG(seed, seed))}
}

func (d *dice) float() float64 { d.mu.Lock(); defer d.mu.Unlock(); return d.r.Float64() }
func (d *dice) exp() float64   { d.mu.Lock(); defer d.mu.Unlock(); return d.r.ExpFloat64() }
func (d *dice) norm() float64  { d.mu.Lock(); defer d.mu.Unlock(); return d.r.NormFloat64() }
