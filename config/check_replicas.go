package config

import (
	"errors"
	"fmt"
	"math"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/scaler"
)

func checkEnvName(s string) error {
	if s == "" || strings.ContainsAny(s, "=\x00") {
		return fmt.Errorf("%q is no name of an environment variable", s)
	}
	return nil
}

func (k *checker) env(at *value) {
	if at == nil {
		return
	}
	for _, name := range at.names {
		if err := checkEnvName(name); err != nil {
			k.failKey(at.table[name], "", "%s", err)
		}
	}
}

func (k *checker) process(p *scaler.ProcessConfig, v *value) {
	if p == nil || v == nil || v.bad {
		return
	}
	k.required(v, "command")
	if at := v.get("command"); at != nil && at.sound() && (len(p.Command) == 0 || p.Command[0] == "") {
		k.fail(at.element(0), "the command is empty: it needs a program")
	} else if at != nil {
		k.commandLine(at, p)
	}
	k.env(v.get("env"))
}

// commandLine refuses a command line in one text, which would be the name of a program. A program may have such a name.
func (k *checker) commandLine(at *value, p *scaler.ProcessConfig) {
	line, one := at.raw.(string)
	words := strings.Fields(line)
	if !one || len(words) == 0 || words[0] == line {
		return
	}
	program := line
	if strings.Contains(line, "/") && !filepath.IsAbs(line) {
		program = filepath.Join(p.Dir, line)
	}
	if _, err := exec.LookPath(program); err == nil {
		return
	}
	for i, w := range words {
		words[i] = quote(w)
	}
	k.failHint(at, "write command = ["+strings.Join(words, ", ")+"]", "a list of a program and its arguments is wanted: there is no program %q", line)
}

var (
	containerName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]*$`)
	imageName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]*$`)
)

// kubernetesName is a label of RFC 1123.
var kubernetesName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)

func (k *checker) namespace(at *value, s string) {
	if at == nil || !at.sound() {
		return
	}
	switch kind := k.c.Engine.Kind; {
	case !kubernetesName.MatchString(s):
		k.fail(at, "%q is no name of a namespace", s)
	case kind != "kubernetes" && kind != "auto":
		k.failKey(at, `add kind = "kubernetes"`, "namespace has no effect with engine kind %q", kind)
	}
}

func (k *checker) container(c *scaler.ContainerConfig, v *value) {
	if c == nil || v == nil || v.bad {
		return
	}
	k.required(v, "image")
	if at := v.get("image"); at != nil && !imageName.MatchString(c.Image) {
		k.fail(at, "%q is no name of an image", c.Image)
	}
	k.env(v.get("env"))
	k.list(v.get("networks"), c.Networks, "network", func(s string) error {
		if !containerName.MatchString(s) {
			return fmt.Errorf("%q is no name of a network", s)
		}
		return nil
	})
	k.list(v.get("mounts"), c.Mounts, "mount", checkMount)
	if c.Memory > 0 && c.Memory < 6<<20 {
		k.fail(v.near("memory"), "the engine starts no container with less than 6MiB")
	}
	if c.CPUs < 0 || c.CPUs > 10000 || math.IsNaN(c.CPUs) {
		k.fail(v.near("cpus"), "%v is out of range: 0 to 10000", c.CPUs)
	}
	k.between(v.get("gpus"), c.GPUs, -1, 1000)
	k.between(v.get("port"), c.Port, 0, 65535)
}

// checkMount reads "source:target[:ro]".
func checkMount(s string) error {
	part := strings.Split(s, ":")
	switch {
	case len(part) < 2 || len(part) > 3 || part[0] == "":
		return fmt.Errorf(`%q is no mount: write "source:target" or "source:target:ro"`, s)
	case !path.IsAbs(part[1]):
		return fmt.Errorf("%q: the target begins with /", s)
	case len(part) == 3 && part[2] != "ro" && part[2] != "rw":
		return fmt.Errorf("%q: %q is neither ro nor rw", s, part[2])
	case strings.Contains(part[0], "/") && !path.IsAbs(part[0]):
		return fmt.Errorf("%q: a folder is named from / on", s)
	case !strings.Contains(part[0], "/") && !containerName.MatchString(part[0]):
		return errors.New("the volume " + part[0] + " has no valid name")
	}
	return nil
}

func (k *checker) scale(u *Upstream, up *value, source string) {
	s, v := u.Scale, up.get("scale")
	if s == nil || v == nil || v.bad {
		return
	}
	if slices.Contains([]string{"servers", "dns"}, source) {
		k.failKey(v, "", "nothing can be started for %s: scale needs service, container or process", source)
	}
	var byDefault scaler.Config
	byDefault.SetDefaults()
	k.oneOf(v.get("mode"), s.Mode, "apply", "observe", "off")
	k.between(v.get("min"), s.Min, 0, 10000)
	k.between(v.get("max"), s.Max, 1, 10000)
	if v.sound("min") && v.sound("max") && s.Min > s.Max && s.Max > 0 {
		at := v.near("min")
		if at == v {
			at = v.near("max")
		}
		k.fail(at, "min (%d) is greater than max (%d)", s.Min, s.Max)
	}
	if at := v.get("min"); at != nil && at.sound() && s.Min == 0 && source == "service" && k.c.Engine.Kind != "kubernetes" && k.c.Engine.Kind != "swarm" {
		k.failHint(at, `declare it as container, or say [engine] kind = "kubernetes" or "swarm"`, "a service keeps its last container: min is 1 at least")
	}
	k.between(v.get("queued_per_replica"), s.QueuedPerReplica, 0, 1e6)
	k.between(v.get("in_flight_per_replica"), s.InFlightPerReplica, 0, 1e6)
	if at := v.get("headroom"); at != nil && at.sound() {
		switch {
		case !(s.Headroom >= 0.5 && s.Headroom < 0.9991):
			k.fail(at, "headroom is between 50%% and 99.9%%")
		case s.Headroom != byDefault.Headroom && (s.QueuedPerReplica > 0 || s.InFlightPerReplica > 0 || s.Prometheus != nil || s.CPU > 0 || s.Memory > 0):
			k.failKey(at, "leave out queued_per_replica, in_flight_per_replica, cpu, memory and prometheus to size by the law", "headroom has no effect with another objective")
		}
	}
	k.shares(s, u, v, source)
	k.prometheus(s.Prometheus, v.get("prometheus"))
	k.signals(s.Signals, v.get("signals"))
	k.vertical(s, v, source)
	k.between(v.get("step_up"), s.StepUp, 0, 10000)
	k.between(v.get("step_down"), s.StepDown, 0, 10000)
	k.atLeast(v.get("start_time"), s.StartTime, time.Millisecond)
	if at := v.get("schedule"); at != nil && !at.bad {
		for i, r := range s.Schedule {
			k.scheduleRule(r, s, at.element(i))
		}
	}
	if at := v.get("to_zero_after"); at != nil && at.sound() && v.sound("min") && s.Min > 0 && s.ToZeroAfter != byDefault.ToZeroAfter {
		k.failKey(at, "add min = 0", "to_zero_after has no effect with min %d", s.Min)
	} else if s.Min == 0 {
		k.atLeast(at, s.ToZeroAfter, time.Millisecond)
	}
}

func (k *checker) scheduleRule(r scaler.ScheduleRule, s *scaler.Config, v *value) {
	if v.bad {
		return
	}
	for _, key := range []string{"cron", "for", "min"} {
		k.required(v, key)
	}
	if at := v.get("cron"); at != nil && at.sound() {
		if _, err := scaler.ParseCron(r.Cron); err != nil {
			k.fail(at, "%s", err)
		}
	}
	if at := v.get("timezone"); at != nil && at.sound() {
		if _, err := scaler.ParseTimezone(r.Timezone); err != nil {
			k.fail(at, "%s", err)
		}
	}
	if at := v.get("for"); at != nil && at.sound() && (r.For < time.Minute || r.For > 8784*time.Hour) {
		k.fail(at, "a rule holds from 1m to 8784h")
	}
	if at := v.get("min"); at != nil && at.sound() {
		switch {
		case r.Min < 1 || r.Min > 10000:
			k.between(at, r.Min, 1, 10000)
		case r.Min > s.Max:
			k.fail(at, "min (%d) is greater than max (%d)", r.Min, s.Max)
		case r.Min <= s.Min:
			k.fail(at, "min %d has no effect: scale holds %d anyway", r.Min, s.Min)
		}
	}
}
