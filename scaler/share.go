package scaler

import (
	"fmt"
	"math"
)

// ShareSignal is how much replicas use of what they may have, of CPU or of memory. Replicas that drain have no part in it.
type ShareSignal struct {
	// Mean is the mean share of the Measured replicas: those that were ever ready and have a fresh measurement.
	Mean     float64
	Measured int
	// Missing were ready as well, and have none.
	Missing int
	// Unready have never been ready.
	Unready int
	// Boundless are those of Measured that have nothing of which it could be a share.
	Boundless int
	// Of says in words what it is a share of.
	Of string
	// Why is why one of Missing has none.
	Why string
}

// share is one objective of this kind.
type share struct {
	ShareSignal
	name   string // cpu or memory: in words, and as the code
	target float64
}

// shares are those that are objectives.
func (s Sizing) shares(sig Signal) (all []share) {
	if s.CPU > 0 {
		all = append(all, share{sig.CPU, "cpu", s.CPU})
	}
	if s.Memory > 0 {
		all = append(all, share{sig.Memory, "memory", s.Memory})
	}
	return all
}

// unknown says why the rule cannot be used; "" when it can, and at zero, where there is nothing to measure. A mean
// without those that have no limit would say nothing of them.
func (o share) unknown(current int) string {
	switch {
	case o.Boundless > 0:
		return fmt.Sprintf("%s not known (%d of %s have no limit or request)", o.name, o.Boundless, replicas(o.Measured))
	case o.Measured > 0 || current == 0:
		return ""
	case o.Why != "":
		return fmt.Sprintf("%s not known (%s)", o.name, o.Why)
	}
	return o.name + " not known yet"
}

// replicas is the rule by which a HorizontalPodAutoscaler (autoscaling/v2, Utilization) sizes:
//
//	ratio = mean share/target, n = ceil(ratio · measured), and no change while ratio is within 0.1 of 1
//
// What was not measured is counted so that the change is smaller: on the way down as if it used all that it may have, on
// the way up as nothing, and so is what was asked for and is not ready yet. If the ratio is then within the tolerance or
// on the other side of 1, there is no change; nor does n then go against the ratio. With a target of 70 %:
//
//	current  measured          missing  not ready  replicas
//	3        91 %, 91 %, 91 %  0        0          4   ceil(1.3 · 3)
//	3        75 %, 75 %, 75 %  0        0          3   within the tolerance
//	4        91 %              0        3          4   (91+0+0+0)/4 is below 70 %: they will do
//	4        20 %, 20 %, 20 %  1        0          3   ceil((20+20+20+100)/4 % / 70 % · 4)
//	2        10 %, 10 %        0        0          0   what one can do says nothing of whether that one is needed
//
// It differs in two things: shares are averaged and not weighted by the limits, which are alike for replicas, and what is
// measured of a replica that is not ready any more counts also of CPU in its first five minutes, as it may be the load
// that makes it so.
func (o share) replicas(current int) int {
	n := o.rule(current)
	if n <= 1 {
		return 0
	}
	return n
}

func (o share) rule(current int) int {
	ratio := o.Mean / o.target
	sum, count := o.Mean*float64(o.Measured), o.Measured
	unready := max(o.Unready, current-o.Measured-o.Missing, 0)
	if o.Missing == 0 && (ratio <= 1 || unready == 0) {
		if tolerable(ratio) {
			return current
		}
		return ceilExact(ratio * float64(count))
	}
	switch {
	case ratio < 1:
		sum += float64(o.Missing) * max(1, o.target)
		count += o.Missing
	case ratio > 1:
		count += o.Missing + unready
	}
	cautious := sum / float64(count) / o.target
	n := ceilExact(cautious * float64(count))
	switch {
	case tolerable(cautious), ratio < 1 && cautious > 1, ratio > 1 && cautious < 1,
		cautious < 1 && n > current, cautious > 1 && n < current:
		return current
	}
	return n
}

func (o share) words() string {
	words := fmt.Sprintf("%s %.0f %% of %s (target %.0f %%)", o.name, 100*o.Mean, o.Of, 100*o.target)
	if o.Missing > 0 {
		words += fmt.Sprintf(", %d of %d not measured", o.Missing, o.Measured+o.Missing)
	}
	return words
}

// rounding is what sums of shares may be off by.
const rounding = 1e-9

func tolerable(ratio float64) bool { return math.Abs(ratio-1) <= tolerance+rounding }

func ceilExact(x float64) int { return int(math.Ceil(min(x, 1e6) - rounding)) }
