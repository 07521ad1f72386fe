package scaler

import "time"

// resize is plan for a driver whose engine chooses which replicas go: the number is all there is to ask for.
// While starts fail nothing is asked for upwards, but nothing is given back either: the engine may be about to
// start what is missing.
func (l *Loop) resize(now time.Time) call {
	all, n := l.members(), l.state.Wanted
	for i := range all {
		if all[i].held && n < l.most { // no capacity, and the engine does not know
			n++
		}
	}
	live := len(all)
	if n == live || n > live && l.failures.holds(now) {
		return call{}
	}
	return call{kind: "scale", at: now, n: n}
}
