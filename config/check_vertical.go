package config

import (
	"math"

	"sluice/scaler"
)

// verticalLeast is the least memory, in bytes, that an engine gives a container.
const verticalLeast = 6 << 20

// vertical checks scale.vertical and its bounds.
func (k *checker) vertical(s *scaler.Config, v *value, source string) {
	at := v.get("vertical")
	k.oneOf(at, s.Vertical, "off", "recommend", "apply")
	if at != nil && at.sound() && s.Vertical == "apply" {
		switch {
		case source == "process":
			k.failHint(at, `"recommend" says what they should have`, "a process has no limits that could be changed: vertical = \"apply\" needs containers or pods")
		case s.CPU > 0 || s.Memory > 0:
			k.failHint(at, `"recommend", or size by another objective`, "cpu and memory are shares of what vertical = \"apply\" changes: each would answer the other")
		case k.c.Engine.Scaler != "":
			k.failHint(at, `"recommend"`, "sluice scaler passes on numbers of replicas, not what they may use")
		case s.Mode == "observe" || s.Mode == "off":
			k.failHint(at, `"recommend" says what it would be`, "vertical = \"apply\" has no effect with mode %q, which changes nothing", s.Mode)
		}
	}
	if at != nil && at.sound() && s.Vertical != "off" && source == "service" && k.c.Engine.Kind == "swarm" {
		k.failKey(at, "", "Swarm tells nothing of what containers on other nodes use, and changes the resources of a task only by replacing all of its service")
	}
	var byDefault scaler.Config
	byDefault.SetDefaults()
	for _, key := range []string{"vertical_min", "vertical_max"} {
		r, usual, name := s.VerticalMin, byDefault.VerticalMin, v.get(key)
		if key == "vertical_max" {
			r, usual = s.VerticalMax, byDefault.VerticalMax
		}
		if name == nil || name.bad {
			continue
		}
		if s.Vertical == "off" && v.sound("vertical") && r != usual {
			k.failKey(name, `add vertical = "recommend"`, "%s has no effect with vertical \"off\"", key)
		}
		if r.CPUs < 0 || r.CPUs > 10000 || math.IsNaN(r.CPUs) {
			k.fail(name.near("cpus"), "%v is out of range: 0 to 10000", r.CPUs)
		}
		if r.Memory > 0 && r.Memory < verticalLeast {
			k.fail(name.near("memory"), "no container starts with less than 6MiB")
		}
	}
	// The default of vertical_min gives way to a lower vertical_max.
	if at := v.get("vertical_max", "cpus"); at != nil && at.sound() && v.get("vertical_min", "cpus") != nil && s.VerticalMax.CPUs > 0 && s.VerticalMax.CPUs < s.VerticalMin.CPUs {
		k.fail(at, "vertical_max.cpus (%v) is below vertical_min.cpus (%v)", s.VerticalMax.CPUs, s.VerticalMin.CPUs)
	}
	if at := v.get("vertical_max", "memory"); at != nil && at.sound() && v.get("vertical_min", "memory") != nil && s.VerticalMax.Memory > 0 && s.VerticalMax.Memory < s.VerticalMin.Memory {
		k.fail(at, "vertical_max.memory is below vertical_min.memory: %d and %d bytes", s.VerticalMax.Memory, s.VerticalMin.Memory)
	}
}
