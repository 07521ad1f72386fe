package config

import (
	"fmt"
	"math"
	"net/url"
	"strings"
	"time"

	"sluice/scaler"
	"sluice/scaler/signals"
)

// prometheus checks scale.prometheus.
func (k *checker) prometheus(p *scaler.PrometheusConfig, v *value) {
	if p == nil || v == nil || v.bad {
		return
	}
	if v.label != "" { // whoever may label a container shall not choose what address sluice sends requests to
		k.failKey(v, "write it into the configuration file", "prometheus is none of the labels' keys")
		return
	}
	for _, key := range []string{"url", "query", "per_replica"} {
		k.required(v, key)
	}
	if at := v.get("url"); at != nil && at.sound() {
		if err := checkPrometheusURL(p.URL); err != nil {
			k.fail(at, "%s", err)
		}
	}
	if at := v.get("query"); at != nil && at.sound() && strings.TrimSpace(p.Query) == "" {
		k.fail(at, "query is empty")
	}
	if at := v.get("per_replica"); at != nil && at.sound() && !(p.PerReplica > 0 && !math.IsInf(p.PerReplica, 0)) {
		k.fail(at, "per_replica is a number above 0")
	}
	k.pace(v, p.Interval, p.Timeout)
}

// checkPrometheusURL wants what the API's path can be added to. A password in it would stand in dumps and logs.
func checkPrometheusURL(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		return fmt.Errorf("%q is no address of a Prometheus, as \"http://prometheus:9090\"", s)
	case u.User != nil:
		return fmt.Errorf("a user or password cannot be given in the address")
	case u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q has more than an address; the query has a key of its own", s)
	}
	return nil
}

// signals checks scale.signals.
func (k *checker) signals(s *scaler.SignalsConfig, v *value) {
	if s == nil || v == nil || v.bad {
		return
	}
	k.oneOf(v.get("preset"), s.Preset, signals.Presets()...)
	names := []struct{ key, name string }{
		{"queue", s.Queue}, {"task_queue", s.TaskQueue}, {"running", s.Running}, {"cache_usage", s.CacheUsage}, {"models_loaded", s.ModelsLoaded},
		{"vector_collections", s.VectorCollections}, {"vector_pending_operations", s.VectorPendingOperations},
	}
	named := v.get("preset") != nil
	for _, n := range names {
		at := v.get(n.key)
		named = named || at != nil
		k.filled(at, n.name, "the name of a metric, or a field of JSON")
	}
	if !named {
		k.failKey(v, "", "signals needs preset, or the name of a signal, as queue")
	}
	if at := v.get("path"); at != nil && at.sound() && (!strings.HasPrefix(s.Path, "/") || strings.ContainsAny(s.Path, " \t\r\n#")) {
		k.fail(at, "%q is no path: it begins with /", s.Path)
	}
	k.between(v.get("port"), s.Port, 0, 65535)
	k.pace(v, s.Interval, s.Timeout)
}

// pace checks how often something is asked, and for how long.
func (k *checker) pace(v *value, interval, timeout time.Duration) {
	k.atLeast(v.get("interval"), interval, time.Second)
	k.atLeast(v.get("timeout"), timeout, time.Millisecond)
	if at := v.get("timeout"); at != nil && at.sound() && v.sound("interval") && timeout > interval {
		k.fail(at, "timeout (%s) is longer than interval (%s)", timeout, interval)
	} else if at := v.get("interval"); at != nil && at.sound() && v.get("timeout") == nil && interval >= time.Second && timeout > interval {
		k.failHint(at, "shorten timeout as well", "interval (%s) is shorter than timeout (%s)", interval, timeout)
	}
}
