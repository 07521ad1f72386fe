package config

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"sluice/balancer"
	"sluice/discovery"
	"sluice/proxy/http1"
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
