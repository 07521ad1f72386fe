package vertical

import (
	"fmt"
	"strings"
)

// Replica is one replica as Next sees it.
type Replica struct {
	// Has is what it may use now; zero fields are no limit.
	Has Resources
	// Uses is what it uses now, as far as that is Known.
	Uses  Resources
	Known bool
}

const (
	// near is within what share two amounts are the same: engines round.
	near = 0.01
	// spare is what a replica keeps at least over what it uses: with less memory the kernel would have to take pages
	// back, or the engine refuses.
	spare = 1.15
)

// Next is what a replica is to have, and why: one step of the rule that the VPA's updater goes by. What lies within
// Lower and Upper stays, what does not becomes Target; never less than is used; a limit is never put where there is none.
// Zero fields of to stay as they are, and the zero value is nothing to do: then why says what is not as it should be, if
// anything is.
func Next(r Replica, rec Recommendation) (to Resources, why string) {
	var reasons []string
	cpus, word := next(r.Has.CPUs, r.Uses.CPUs, rec.Lower.CPUs, rec.Target.CPUs, rec.Upper.CPUs, r.Known, cores)
	if word != "" {
		reasons = append(reasons, word)
	}
	memory, word := next(float64(r.Has.Memory), float64(r.Uses.Memory), float64(rec.Lower.Memory), float64(rec.Target.Memory), float64(rec.Upper.Memory), r.Known,
		func(v float64) string { return size(int64(v)) })
	if word != "" {
		if rec.OOM > 0 && memory > float64(r.Has.Memory) {
			word += " after running out of it"
		}
		reasons = append(reasons, word)
	}
	to = Resources{cpus, roundUp(int64(memory))}
	return to, strings.Join(reasons, "; ")
}

// next is the rule for one resource.
func next(has, uses, lower, target, upper float64, known bool, text func(float64) string) (to float64, why string) {
	switch {
	case has <= 0 || target <= 0:
		return 0, ""
	case has >= lower*(1-near) && has <= upper*(1+near):
		return 0, ""
	case has > target && !known:
		return 0, fmt.Sprintf("stays at %s: what it uses is not known", text(has))
	case has < target:
		return target, fmt.Sprintf("%s to %s", text(has), text(target))
	}
	if to = max(target, uses*spare); to >= has*(1-near) {
		return 0, fmt.Sprintf("stays at %s, not %s: it uses %s", text(has), text(target), text(uses))
	}
	return to, fmt.Sprintf("%s to %s", text(has), text(to))
}

// Fit is what a replica that is declared with has should start with.
func (r Recommendation) Fit(has Resources) Resources {
	to, _ := Next(Replica{Has: has, Known: true}, r)
	if to.CPUs > 0 {
		has.CPUs = to.CPUs
	}
	if to.Memory > 0 {
		has.Memory = to.Memory
	}
	return has
}
