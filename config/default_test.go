package config

import (
	"fmt"
	"reflect"
	"testing"
)

// TestDefaults holds the defaults to the table that the README gives.
func TestDefaults(t *testing.T) {
	t.Setenv("DOCKER_HOST", "")
	t.Setenv("XDG_RUNTIME_DIR", "/run/user/7")
	c, err := Parse("a", []byte("[[route]]\nhost=\"a\"\nupstream=\"a:1\"\nrate_limit=\"90/m\"\nlimit_conn=1\n[[route]]\nrespond={}\n[[route]]\nhost=\"b\"\nredirect=\"/\"\n"+
		"[upstream.p]\nprocess={command=\"x\"}\nscale={}\n[upstream.n]\nprocess={command=\"x\"}\nmax_conns=0\nscale={}\n[upstream.o]\nprocess={command=\"x\"}\nscale={mode=\"observe\"}\n[upstream.c]\ncontainer=\"x\"\nsticky={}\ncircuit_breaker={}\n"))
	if err != nil {
		t.Fatal(err)
	}
	u, p, con := c.Upstreams["a:1"], c.Upstreams["p"], c.Upstreams["c"]
	h := u.Discovery.HealthCheck
	r := c.Routes[0]
	for _, one := range []struct {
		key  string
		got  any
		want string
	}{
		{"listen, shutdown_delay, drain_timeout, pid", []any{c.Listen, c.ShutdownDelay, c.DrainTimeout, c.PID}, "[[:8080] 0s 30s /run/user/7/sluice.pid]"},
		{"admin, metrics", []any{c.Admin.Listen, c.Metrics.Listen}, "[127.0.0.1:9901 ]"},
		{"metrics_api", c.MetricsAPI, "{   10s}"},
		{"log", c.Log, "{json info }"},
		{"engine", c.Engine, "{auto unix:///var/run/docker.sock    []}"},
		{"client", c.Client, "{10s 1m0s 1m15s 32768 100 0}"},
		{"balance, hash_key", []any{u.Balancer.Balance, u.Balancer.HashKey}, "[least_request client_ip]"},
		{"max_conns, with scale, with a number, when scale only observes", []any{u.Balancer.MaxConns, p.Balancer.MaxConns, c.Upstreams["n"].Balancer.MaxConns, c.Upstreams["o"].Balancer.MaxConns}, "[0 -1 0 0]"},
		{"queue", u.Balancer.Queue, "{1000 0s}"},
		{"outlier_detection", u.Balancer.Outlier, "{5 10s 0.5}"},
		{"circuit_breaker, sticky, scale", []any{u.Balancer.Breaker == nil, u.Balancer.Sticky == nil, u.Scale == nil}, "[true true true]"},
		{"circuit_breaker when on", *con.Balancer.Breaker, "{0.5 20 10s}"},
		{"sticky when on", *con.Balancer.Sticky, "{sluice_server 0s}"},
		{"timeouts", u.Proxy.Timeouts, "{2s 10m0s 5m0s 4s}"},
		{"retry", u.Proxy.Retry, "{2 0.2}"},
		{"health_check", []any{h.Path, h.Interval, h.Timeout, h.Rise, h.Fall, h.Status}, "[ 2s 1s 1 2 200-399]"},
		{"rate_limit", *r.RateLimit, "{1.5 2 client_ip 429}"},
		{"limit_conn", *r.LimitConn, "{1 client_ip 503}"},
		{"max_body", r.MaxBody, "0"},
		{"respond", *c.Routes[1].Respond, "{200  text/plain; charset=utf-8}"},
		{"redirect", *c.Routes[2].Redirect, "{/ 308}"},
		{"scale", []any{p.Scale.Min, p.Scale.Max, p.Scale.Mode, p.Scale.CooldownUp, p.Scale.CooldownDown, p.Scale.ToZeroAfter, p.Scale.DrainTimeout, p.Scale.StartTime}, "[1 10 apply 0s 30s 5m0s 30s 10s]"},
		{"vertical, vertical_min, vertical_max", []any{p.Scale.Vertical, p.Scale.VerticalMin, p.Scale.VerticalMax.CPUs, p.Scale.VerticalMax.Memory}, "[off 0.025 cores, 250 MiB 0 0]"},
		{"stop_grace", []any{p.Replicas.Process.StopGrace, con.Replicas.Container.StopGrace}, "[10s 10s]"},
	} {
		if got := fmt.Sprint(one.got); got != one.want {
			t.Errorf("%s: %s, want %s", one.key, got, one.want)
		}
	}
}

// TestEveryFieldIsDecodable walks over all keys: each has a type that the decoder reads and a name that is taken once.
func TestEveryFieldIsDecodable(t *testing.T) {
	var walk func(path string, typ reflect.Type)
	walk = func(path string, typ reflect.Type) {
		seen := map[string]bool{}
		for _, f := range fields(typ) {
			if seen[f.key] {
				t.Errorf("%s has the key %s twice", path, f.key)
			}
			seen[f.key] = true
			in := f.typ
			for in.Kind() == reflect.Pointer || in.Kind() == reflect.Slice || in.Kind() == reflect.Map {
				in = in.Elem()
			}
			switch in.Kind() {
			case reflect.Struct:
				walk(join2(path, f.key), in)
			case reflect.String, reflect.Bool, reflect.Int, reflect.Int64, reflect.Float64:
			default:
				t.Errorf("%s: no decoding for %s", join2(path, f.key), in)
			}
		}
	}
	walk("", reflect.TypeFor[Config]())
}
