package config

import "sluice/scaler"

// shareMost is the largest share of a limit that can be exceeded by the tolerance of a tenth.
const shareMost = 0.9

// share checks scale.cpu and scale.memory. limited says that the source declares a limit, unlimited that there never is one.
func (k *checker) share(at *value, target float64, what string, limited, unlimited bool) {
	switch {
	case at == nil || !at.sound():
	case !(target > 0):
		k.failHint(at, "leave it out to switch it off", "%s is a share above 0%%", what)
	case unlimited:
		k.failKey(at, "", "a process has no limit of %s of which it could be a share", what)
	case k.c.Engine.Kind == "swarm":
		k.failKey(at, "size by prometheus, queued_per_replica or in_flight_per_replica", "Swarm tells nothing of what containers on other nodes use")
	case limited && target > shareMost:
		k.fail(at, "nothing can use more than its limit: above 90%% no replica would ever be added")
	}
}

// shares checks both, for a source of that name.
func (k *checker) shares(s *scaler.Config, up *Upstream, v *value, source string) {
	c := up.Replicas.Container
	k.share(v.get("cpu"), s.CPU, "cpu", c != nil, false)
	k.share(v.get("memory"), s.Memory, "memory", c != nil, source == "process")
	if c == nil || source != "container" {
		return
	}
	if at := v.get("cpu"); at != nil && at.sound() && s.CPU > 0 && c.CPUs == 0 {
		k.failKey(at, "add cpus to container", "cpu is a share of a limit, and the container has none")
	}
	if at := v.get("memory"); at != nil && at.sound() && s.Memory > 0 && c.Memory == 0 {
		k.failKey(at, "add memory to container", "memory is a share of a limit, and the container has none")
	}
}
