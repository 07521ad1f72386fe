package main

import (
	"bytes"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// The metrics of a gateway that has seen traffic pass Prometheus's own check, and bear the names that
// dashboards rely on.
func TestMetricsPassPrometheusOwnCheck(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	requireEngine(t, "promtool", err)
	s := start(t, demo(`"--service-time", "1ms"`, `max_conns = 4
circuit_breaker = { failure_ratio = 0.5 }`))
	s.waitReplicas("demo", 1, 10*time.Second)
	load(t, "--concurrency", "2", "--duration", "1s", s.url)().lostNothing(t)
	_, text, err := fetch(s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(promtool, "check", "metrics")
	cmd.Stdin = strings.NewReader(text)
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil || said.Len() > 0 {
		t.Errorf("promtool: %v\n%s", err, &said)
	}
	for _, name := range []string{
		`sluice_requests_total{code="200",route="*",upstream="demo"}`, "sluice_request_duration_seconds_bucket", "sluice_request_queue_seconds_bucket",
		"sluice_upstream_in_flight", "sluice_upstream_queue_depth", `sluice_upstream_replicas{state="wanted",upstream="demo"}`, "sluice_server_up",
		"sluice_server_in_flight", "sluice_breaker_state", "sluice_retries_total", "sluice_scale_decisions_total", "sluice_scale_errors_total",
		"sluice_replica_start_seconds", "sluice_config_reload_success 1", "sluice_config_reload_timestamp_seconds",
	} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is missing", name)
		}
	}
}
