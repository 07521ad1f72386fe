package scaler

import "time"

// resize is plan for a driver whose engine chooses which replicas go: the number is all there is to ask for.
// While starts fail nothing is asked for upwards, but nothing is given back either: the engine may be about to
// start what is missing.
func (l *Loop) resize(now time.Time) call {
	live, n := len(l.members()), l.state.Wanted
	if n == live || n > live && l.failures.holds(now) {
		return call{}
	}
	return call{kind: "scale", at: now, n: n}
}
