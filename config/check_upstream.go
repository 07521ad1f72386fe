package config

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/balancer"
	"sluice/discovery"
	"sluice/proxy/http1"
	"sluice/scaler"
)

var upstreamName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)

// checkUpstreamName: the name stands in metrics, in paths of the admin API and in names of containers.
func checkUpstreamName(s string) error {
	if !upstreamName.MatchString(s) {
		return fmt.Errorf("%q is no name of an upstream: letters, digits, - _ . (63 at most), beginning with a letter or digit", s)
	}
	return nil
}

func (k *checker) upstreams(root *value) {
	all := root.get("upstream")
	if all == nil || all.bad {
		return
	}
	least, fixed := 0, false
	for _, name := range all.names {
		v, u := all.table[name], k.c.Upstreams[name]
		if err := checkUpstreamName(name); err != nil {
			k.failKey(v, "", "%s", err)
		}
		if u == nil || v.bad {
			continue
		}
		k.upstream(u, v)
		if s := u.Scaling(); s.Mode != "observe" { // which takes of the budget what is there, and asks for nothing
			least += s.Min
			fixed = fixed || s.Min > 0 && (u.Scale == nil || u.Scale.Mode == "off")
		}
	}
	if at := root.get("scale", "max_replicas"); at != nil && k.c.Scale.MaxReplicas > 0 && least > k.c.Scale.MaxReplicas {
		hint := ""
		if fixed {
			hint = `a process or container counts without scale as 1, and with mode = "off" as its min`
		}
		k.failHint(at, hint, "%d is less than all scale.min together (%d)", k.c.Scale.MaxReplicas, least)
	}
}

var sources = []string{"servers", "service", "container", "process", "dns"}

// upstream checks one [upstream.NAME].
func (k *checker) upstream(u *Upstream, v *value) {
	source := ""
	for _, key := range sources {
		switch at := v.get(key); {
		case at == nil:
		case source == "":
			source = key
		default:
			k.failKey(at, "", "an upstream has one source: this one has %s already", source)
		}
	}
	if source == "" {
		k.failKey(v, "", "the upstream has no source: it needs one of %s", strings.Join(sources, ", "))
	}
	k.servers(u, v)
	if at := v.get(source); (source == "service" || source == "container") && k.c.Engine.Kind == "none" {
		k.failKey(at, "", "%s needs an engine, and [engine] kind is none", source)
	}
	if at := v.get("container"); at != nil && k.c.Engine.Kind == "kubernetes" {
		k.failKey(at, "", "containers are declared on a Docker Engine: on Kubernetes name a Service, whose Deployment is scaled")
	}
	if at := v.get("service"); at != nil && u.Discovery.Service != nil {
		k.required(at, "name")
		if name := at.get("name"); name != nil && !containerName.MatchString(u.Discovery.Service.Name) {
			k.fail(name, "%q is no name of a service", u.Discovery.Service.Name)
		}
		k.between(at.get("port"), u.Discovery.Service.Port, 0, 65535)
		if name := at.get("port_name"); name != nil && !kubernetesName.MatchString(u.Discovery.Service.PortName) {
			k.fail(name, "%q is no name of a port", u.Discovery.Service.PortName)
		}
	}
	if at := v.get("dns"); at != nil && at.sound() {
		if _, ok := http1.SocketPath(u.Discovery.DNS); ok {
			k.failHint(at, fmt.Sprintf("write servers = [%q]", u.Discovery.DNS), "%q is a socket, not a name", u.Discovery.DNS)
		} else if err := checkServerAddr(u.Discovery.DNS); err != nil {
			k.fail(at, "%s", err)
		} else if host, _, _ := splitAddress(u.Discovery.DNS, 1); isAddr(host) {
			k.failHint(at, fmt.Sprintf("write servers = [%q]", u.Discovery.DNS), "%q is an address, not a name", u.Discovery.DNS)
		}
	}
	k.balancing(u, v)
	k.reaching(u, v)
	k.health(u, v)
	k.process(u.Replicas.Process, v.get("process"))
	k.container(u.Replicas.Container, v.get("container"))
	k.scale(u, v, source)
}

func isAddr(host string) bool {
	_, err := netip.ParseAddr(host)
	return err == nil
}

func checkServerAddr(s string) error {
	if is, err := checkSocket(s); is {
		return err
	}
	host, _, err := splitAddress(s, 1)
	switch {
	case err != nil:
		return err
	case host == "":
		return fmt.Errorf("%q has no host", s)
	}
	if a, e := netip.ParseAddr(host); e == nil && a.IsUnspecified() {
		return fmt.Errorf("%q is every address of a machine; a server has one", s)
	}
	return nil
}

func (k *checker) servers(u *Upstream, v *value) {
	at := v.get("servers")
	if at == nil || at.bad {
		return
	}
	if len(u.Discovery.Servers) == 0 {
		k.fail(at, "the list of servers is empty")
	}
	seen := map[string]bool{}
	for i, s := range u.Discovery.Servers {
		one := at.element(i)
		if one.bad {
			continue
		}
		k.required(one, "addr")
		k.between(one.get("weight"), s.Weight, 1, 65535)
		k.between(one.get("max_conns"), s.MaxConns, 0, 1e6)
		addr := one.get("addr")
		if addr == nil || !addr.sound() {
			continue
		}
		if err := checkServerAddr(s.Addr); err != nil {
			k.fail(addr, "%s", err)
			continue
		}
		key := s.Addr
		if path, ok := http1.SocketPath(s.Addr); ok {
			key = path
			if at := v.get("health_check", "port"); at != nil && at.sound() && u.Discovery.HealthCheck.Port != 0 {
				k.failKey(at, "", "%q has no ports", s.Addr)
			}
		} else if host, port, err := splitAddress(s.Addr, 1); err == nil {
			key = fmt.Sprint(sameHost(host), " ", port)
		}
		if seen[key] {
			k.fail(addr, "the server %q stands twice; weight gives it a larger share", s.Addr)
		}
		seen[key] = true
	}
}

func (k *checker) balancing(u *Upstream, v *value) {
	b := &u.Balancer
	k.oneOf(v.get("balance"), b.Balance, "least_request", "round_robin", "random", "hash")
	if at := v.get("hash_key"); at != nil && at.sound() {
		if err := checkKey(b.HashKey, "client_ip", "uri"); err != nil {
			k.fail(at, "%s", err)
		} else if b.Balance != "hash" && v.sound("balance") && b.HashKey != balancer.DefaultConfig().HashKey {
			k.failKey(at, `add balance = "hash"`, "hash_key has no effect with balance %q", b.Balance)
		}
	}
	if at := v.get("sticky"); at != nil && b.Sticky != nil && !at.bad {
		if !isToken(b.Sticky.Cookie) {
			k.fail(at.near("cookie"), "%q is no name of a cookie", b.Sticky.Cookie)
		}
		k.atLeast(at.get("ttl"), b.Sticky.TTL, 0)
	}
	if v.get("max_conns") == nil && u.Scale != nil && u.Scale.Mode == "apply" {
		b.MaxConns = balancer.AutoSlots // sizing needs to know what a server takes
	}
	k.between(v.get("queue", "size"), b.Queue.Size, 0, 1e7)
	if at := v.get("queue", "timeout"); at != nil && at.sound() && b.Queue.Timeout == 0 {
		k.failHint(at, "size = 0 switches the queue off", "a queue that waits 0s is none")
	}
	k.between(v.get("outlier_detection", "errors"), b.Outlier.Errors, 0, 1e6)
	k.atLeast(v.get("outlier_detection", "eject_for"), b.Outlier.EjectFor, time.Millisecond)
	if at := v.get("circuit_breaker"); at != nil && b.Breaker != nil {
		if r := at.get("failure_ratio"); r != nil && b.Breaker.FailureRatio == 0 {
			k.failHint(r, "leave circuit_breaker out to switch it off", "a breaker with a ratio of 0 would never close")
		}
		k.between(at.get("min_requests"), b.Breaker.MinRequests, 1, 1e6)
		k.atLeast(at.get("open_for"), b.Breaker.OpenFor, time.Millisecond)
	}
}

func (k *checker) reaching(u *Upstream, v *value) {
	t := &u.Proxy.Timeouts
	k.atLeast(v.get("timeouts", "connect"), t.Connect, time.Millisecond)
	k.atLeast(v.get("timeouts", "first_byte"), t.FirstByte, time.Millisecond)
	k.atLeast(v.get("timeouts", "idle"), t.Idle, time.Millisecond)
	k.between(v.get("retry", "attempts"), u.Proxy.Retry.Attempts, 0, 10)
	k.secure(u, v)
	if at := v.get("proxy_protocol"); at != nil && at.sound() && u.Proxy.ProxyProtocolVersion() == 0 {
		words := []string{"v1", "v2"}
		k.failHint(at, didYouMean(u.Proxy.ProxyProtocol, words), "%q is no version of the PROXY protocol: v1 or v2", u.Proxy.ProxyProtocol)
	} else if at != nil && u.Scale != nil && u.Scale.Signals != nil && u.Scale.Signals.Port == 0 {
		k.failKey(at, "give signals a port of their own", "servers are asked for their signals without the PROXY protocol's header")
	}
}

func (k *checker) health(u *Upstream, v *value) {
	h, at := &u.Discovery.HealthCheck, v.get("health_check")
	if at == nil || at.bad {
		return
	}
	if p := at.get("path"); p != nil && p.sound() {
		if !strings.HasPrefix(h.Path, "/") {
			k.fail(p, "%q: a path begins with /", h.Path)
		} else if strings.ContainsFunc(h.Path, func(c rune) bool { return c <= ' ' || c == 127 || c == '#' }) {
			k.fail(p, "%q: a path has no blank, control character or fragment", h.Path)
		}
	}
	k.atLeast(at.get("interval"), h.Interval, 10*time.Millisecond)
	k.atLeast(at.get("timeout"), h.Timeout, 10*time.Millisecond)
	k.between(at.get("rise"), h.Rise, 1, 1000)
	k.between(at.get("fall"), h.Fall, 1, 1000)
	k.between(at.get("port"), h.Port, 0, 65535)
	if s := at.get("status"); s != nil && s.sound() {
		if err := checkStatuses(h.Status); err != nil {
			k.fail(s, "%s", err)
		}
	}
	if s := at.get("host"); s != nil && s.sound() {
		err := checkName(h.Host)
		if strings.Contains(h.Host, ":") {
			_, _, err = splitAddress(h.Host, 1)
		}
		if err != nil {
			k.fail(s, "%s", err)
		}
	}
	for _, key := range []string{"status", "host"} {
		if s := at.get(key); s != nil && at.get("path") == nil && (key != "status" || h.Status != discovery.DefaultConfig().HealthCheck.Status) {
			k.failKey(s, `add path = "/…"`, "%s has no effect: without a path only a connection is opened", key)
		}
	}
}

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
