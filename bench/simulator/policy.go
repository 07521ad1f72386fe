package simulator

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Policies are the names that Run takes, besides fixed:N.
var Policies = []string{"ltd", "hpa", "hpa-queue", "kpa", "kpa-delay", "oracle"}

// Known reports whether Run takes a policy of this name.
func Known(name string) bool {
	_, err := fixedAt(name)
	return err == nil || slices.Contains(Policies, name)
}

// Run is the trace under a policy. Every service time of the trace must be known.
func Run(t Trace, s Setup, name string) (*Result, error) {
	var p policy
	switch name {
	case "ltd":
		p = newLeadTime(s)
	case "hpa":
		p = newHPA(s, false)
	case "hpa-queue":
		p = newHPA(s, true)
	case "kpa":
		p = newKPA(s, 0)
	case "kpa-delay":
		p = newKPA(s, kpaDelay)
	case "oracle":
		return oracle(t, s), nil
	default:
		n, err := fixedAt(name)
		if err != nil {
			return nil, err
		}
		s.Initial = n
		p = fixed(n)
	}
	r := simulate(t, s, p)
	r.Policy = name
	return r, nil
}

// Seeds is Run with seeds 1 to n (the setup's own and those after it), each with service times of its own, and the
// mean of the results.
func Seeds(t Trace, svc Service, s Setup, name string, n int) (*Result, error) {
	var all []*Result
	for i := range n {
		one := s
		one.Seed = s.Seed + uint64(i)
		filled, err := svc.Fill(t, one.Seed)
		if err != nil {
			return nil, err
		}
		r, err := Run(filled, one, name)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return mean(all), nil
}

// fixed never changes.
type fixed int

func (f fixed) decide(look) int { return int(f) }

func fixedAt(name string) (int, error) {
	number, ok := strings.CutPrefix(name, "fixed:")
	n, err := strconv.Atoi(number)
	if !ok || err != nil || n < 1 {
		return 0, fmt.Errorf("no policy %q: want some of %s, fixed:N", name, strings.Join(Policies, ", "))
	}
	return n, nil
}
