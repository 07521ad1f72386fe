package admin

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// contract has the names and labels that dashboards rely on, and their types.
var contract = map[string]struct {
	kind   dto.MetricType
	labels string
}{
	"sluice_requests_total":                  {dto.MetricType_COUNTER, "code route upstream"},
	"sluice_requests_by_protocol_total":      {dto.MetricType_COUNTER, "protocol tls"},
	"sluice_request_duration_seconds":        {dto.MetricType_HISTOGRAM, "route"},
	"sluice_request_queue_seconds":           {dto.MetricType_HISTOGRAM, "upstream"},
	"sluice_upstream_in_flight":              {dto.MetricType_GAUGE, "upstream"},
	"sluice_upstream_queue_depth":            {dto.MetricType_GAUGE, "upstream"},
	"sluice_upstream_replicas":               {dto.MetricType_GAUGE, "state upstream"},
	"sluice_server_up":                       {dto.MetricType_GAUGE, "server upstream"},
	"sluice_server_in_flight":                {dto.MetricType_GAUGE, "server upstream"},
	"sluice_server_slots":                    {dto.MetricType_GAUGE, "server upstream"},
	"sluice_breaker_state":                   {dto.MetricType_GAUGE, "server upstream"},
	"sluice_rejected_total":                  {dto.MetricType_COUNTER, "reason route"},
	"sluice_retries_total":                   {dto.MetricType_COUNTER, "upstream"},
	"sluice_scale_decisions_total":           {dto.MetricType_COUNTER, "direction reason upstream"},
	"sluice_scale_errors_total":              {dto.MetricType_COUNTER, "driver upstream"},
	"sluice_replica_start_seconds":           {dto.MetricType_HISTOGRAM, "upstream"},
	"sluice_replica_start_failures_total":    {dto.MetricType_COUNTER, "upstream"},
	"sluice_vertical_cpu_cores":              {dto.MetricType_GAUGE, "bound upstream"},
	"sluice_vertical_memory_bytes":           {dto.MetricType_GAUGE, "bound upstream"},
	"sluice_replica_cpu_cores":               {dto.MetricType_GAUGE, "server upstream"},
	"sluice_replica_memory_bytes":            {dto.MetricType_GAUGE, "server upstream"},
	"sluice_ai_queue_depth":                  {dto.MetricType_GAUGE, "server upstream"},
	"sluice_ai_running":                      {dto.MetricType_GAUGE, "server upstream"},
	"sluice_ai_cache_usage_ratio":            {dto.MetricType_GAUGE, "server upstream"},
	"sluice_ai_model_memory_bytes":           {dto.MetricType_GAUGE, "model server upstream"},
	"sluice_ai_models_loaded":                {dto.MetricType_GAUGE, "server upstream"},
	"sluice_ai_task_queue_depth":             {dto.MetricType_GAUGE, "server upstream"},
	"sluice_ai_vector_collections":           {dto.MetricType_GAUGE, "server upstream"},
	"sluice_ai_vector_pending_operations":    {dto.MetricType_GAUGE, "server upstream"},
	"sluice_labels_refused":                  {dto.MetricType_GAUGE, ""},
	"sluice_tls_handshakes_total":            {dto.MetricType_COUNTER, "result version"},
	"sluice_certificate_expiry_seconds":      {dto.MetricType_GAUGE, "host"},
	"sluice_certificate_failures_total":      {dto.MetricType_COUNTER, "host"},
	"sluice_certificate_files_broken":        {dto.MetricType_GAUGE, ""},
	"sluice_config_reload_success":           {dto.MetricType_GAUGE, ""},
	"sluice_config_reload_timestamp_seconds": {dto.MetricType_GAUGE, ""},
	"sluice_build_info":                      {dto.MetricType_GAUGE, "goversion version"},
}

func scrape(t *testing.T, addr string) (string, map[string]*dto.MetricFamily) {
	t.Helper()
	a := send(t, addr, "GET", "/metrics", "")
	a.is(t, 200)
	if kind := a.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain; version=0.0.4") {
		t.Errorf("content type %q", kind)
	}
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(a.body))
	if err != nil {
		t.Fatal(err)
	}
	return a.body, families
}

func TestMetricNames(t *testing.T) {
	g, _ := newGateway(t)
	_, families := scrape(t, local(t, g).Addr())
	for name, want := range contract {
		f := families[name]
		if f == nil {
			t.Errorf("%s is missing", name)
			continue
		}
		if f.GetType() != want.kind {
			t.Errorf("%s is a %v", name, f.GetType())
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, l.GetName())
		}
		slices.Sort(labels)
		if got := strings.Join(labels, " "); got != want.labels {
			t.Errorf("%s has the labels %q, want %q", name, got, want.labels)
		}
	}
	for name := range families {
		if _, ok := contract[name]; !ok && strings.HasPrefix(name, "sluice_") {
			t.Errorf("%s is not in the contract", name)
		}
	}
	for _, name := range []string{"go_goroutines", "process_cpu_seconds_total"} {
		if families[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}

// What `promtool check metrics` says.
func TestMetricsLint(t *testing.T) {
	g, _ := newGateway(t)
	text, _ := scrape(t, local(t, g).Addr())
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestMetricValues(t *testing.T) {
	g, _ := newGateway(t)
	demo := g.upstreams[1]
	trip := demo.Server("demo-1")
	for range 2 {
		_ = trip.Execute(func() (time.Time, error) { return time.Now(), errors.New("no answer") })
	}
	s := local(t, g)
	text, _ := scrape(t, s.Addr())
	for _, line := range []string{
		`sluice_requests_total{code="404",route="",upstream=""} 2`,
		`sluice_requests_by_protocol_total{protocol="http2",tls="1.3"} 6`,
		`sluice_requests_total{code="200",route="api",upstream="demo"} 7`,
		`sluice_requests_total{code="499",route="api",upstream="demo"} 1`,
		`sluice_request_duration_seconds_bucket{route="api",le="600"} 3`,
		`sluice_request_duration_seconds_bucket{route="api",le="+Inf"} 8`,
		`sluice_request_duration_seconds_sum{route="api"} 4.5`,
		`sluice_rejected_total{reason="no_route",route=""} 2`,
		`sluice_retries_total{upstream="demo"} 5`,
		`sluice_upstream_replicas{state="wanted",upstream="demo"} 3`,
		`sluice_upstream_replicas{state="starting",upstream="demo"} 2`,
		`sluice_upstream_replicas{state="wanted",upstream="old"} 1`,
		`sluice_server_up{server="demo-1",upstream="demo"} 0`,
		`sluice_breaker_state{server="demo-1",upstream="demo"} 2`,
		`sluice_breaker_state{server="demo/2",upstream="demo"} 0`,
		`sluice_scale_decisions_total{direction="up",reason="queue",upstream="demo"} 2`,
		`sluice_scale_errors_total{driver="process",upstream="demo"} 1`,
		`sluice_replica_start_seconds_bucket{upstream="demo",le="5"} 2`,
		`sluice_replica_start_seconds_bucket{upstream="demo",le="+Inf"} 3`,
		`sluice_ai_queue_depth{server="demo-1",upstream="demo"} 12`,
		`sluice_replica_cpu_cores{server="demo-1",upstream="demo"} 0.75`,
		`sluice_replica_memory_bytes{server="demo-1",upstream="demo"} 5.24288e+07`,
		`sluice_vertical_cpu_cores{bound="target",upstream="demo"} 0.5`,
		`sluice_vertical_cpu_cores{bound="lower",upstream="demo"} 0.25`,
		`sluice_vertical_memory_bytes{bound="upper",upstream="demo"} 2.097152e+08`,
		`sluice_ai_cache_usage_ratio{server="demo-1",upstream="demo"} 0.25`,
		`sluice_ai_model_memory_bytes{model="gemma3:4b",server="demo-1",upstream="demo"} 6.59e+09`,
		`sluice_config_reload_success 1`,
		`sluice_config_reload_timestamp_seconds 1.7723664005e+09`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(text, `sluice_replica_cpu_cores{server="demo-2"`) {
		t.Error("the use of demo-2, which was measured a minute ago, is exported")
	}
	if strings.Contains(text, `sluice_ai_queue_depth{server="demo/2"`) {
		t.Error("what a server told long ago is still a metric")
	}
	if strings.Contains(text, `sluice_breaker_state{server="10.0.0.1:80"`) {
		t.Error("a server without a breaker has a state of it")
	}
	g.mu.Lock()
	g.running.Config.Error = "config.toml:1:1: no"
	g.mu.Unlock()
	if text, _ = scrape(t, s.Addr()); !strings.Contains(text, "sluice_config_reload_success 0\n") {
		t.Error("a failed reload does not show")
	}
}
