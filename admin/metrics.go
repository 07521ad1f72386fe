package admin

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
	"github.com/valyala/fasthttp"

	"sluice/balancer"
	"sluice/proxy"
	"sluice/scaler"
	"sluice/scaler/vertical"
)

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("sluice_"+name, help, labels, nil)
}

// The names and labels are a contract with dashboards and alert rules: extend, never rename.
var (
	buildInfo       = describe("build_info", "1, labelled with the version of sluice and of Go.", "version", "goversion")
	requestsTotal   = describe("requests_total", "Requests that were answered, by route, upstream and status code (499: the client left).", "route", "upstream", "code")
	protocolsTotal  = describe("requests_by_protocol_total", "Requests that were answered, by protocol (http1, http2) and version of TLS (none in cleartext).", "protocol", "tls")
	requestSeconds  = describe("request_duration_seconds", "Time from a request's head to the end of its answer.", "route")
	queueSeconds    = describe("request_queue_seconds", "Time that requests waited for a slot, of those that got one.", "upstream")
	inFlight        = describe("upstream_in_flight", "Requests that have a slot now.", "upstream")
	queueDepth      = describe("upstream_queue_depth", "Requests that wait for a slot now.", "upstream")
	replicas        = describe("upstream_replicas", "Servers of an upstream that are wanted, ready, starting and draining.", "upstream", "state")
	serverUp        = describe("server_up", "1 while the server gets requests, else 0.", "upstream", "server")
	serverInFlight  = describe("server_in_flight", "Requests that the server has now.", "upstream", "server")
	serverSlots     = describe("server_slots", "Requests that the server may have in flight, as configured or learned; none where there is no bound.", "upstream", "server")
	breakerState    = describe("breaker_state", "Circuit breaker of the server: 0 closed, 1 half-open, 2 open.", "upstream", "server")
	rejectedTotal   = describe("rejected_total", "Requests that sluice answered itself, by reason.", "route", "reason")
	retriesTotal    = describe("retries_total", "Second and further tries of requests.", "upstream")
	decisionsTotal  = describe("scale_decisions_total", "Decisions of the scaler that changed the number of wanted replicas, or would have.", "upstream", "direction", "reason")
	scaleErrors     = describe("scale_errors_total", "Failed calls to what starts and stops replicas.", "upstream", "driver")
	startSeconds    = describe("replica_start_seconds", "Time of replicas from asked for to ready.", "upstream")
	startFailures   = describe("replica_start_failures_total", "Replicas that never got ready, or ended soon after.", "upstream")
	replicaCPU      = describe("replica_cpu_cores", "Cores that the replica used on the mean when it was measured last, where scale asks for it.", "upstream", "server")
	replicaMemory   = describe("replica_memory_bytes", "Memory that the replica used when it was measured last, where scale asks for it.", "upstream", "server")
	aiQueue         = describe("ai_queue_depth", "Requests that wait within the server, as it tells.", "upstream", "server")
	aiRunning       = describe("ai_running", "Requests that the server works on, as it tells.", "upstream", "server")
	aiCacheUsage    = describe("ai_cache_usage_ratio", "Share of the server's cache in use, as it tells.", "upstream", "server")
	aiModelMemory   = describe("ai_model_memory_bytes", "Memory of a model that the server has loaded, as it tells; beyond a number of names they are other.", "upstream", "server", "model")
	aiModelsLoaded  = describe("ai_models_loaded", "Models that the server has in memory, as it tells.", "upstream", "server")
	aiTasks         = describe("ai_task_queue_depth", "Tasks that an agent was given and has not begun, as it tells.", "upstream", "server")
	aiCollections   = describe("ai_vector_collections", "Collections of a vector database, as it tells.", "upstream", "server")
	aiVectorPending = describe("ai_vector_pending_operations", "Operations that a vector database has not done yet, as it tells.", "upstream", "server")
	verticalCPU     = describe("vertical_cpu_cores", "CPU that a replica should have: target, and the bounds within which it is left alone.", "upstream", "bound")
	verticalMemory  = describe("vertical_memory_bytes", "Memory that a replica should have: target, and the bounds within which it is left alone.", "upstream", "bound")
	labelsRefused   = describe("labels_refused", "Labels of containers that are refused now: they ask for what is another's, or make no sense.")
	handshakesTotal = describe("tls_handshakes_total", "TLS handshakes with clients, by version and result: ok, or why not.", "version", "result")
	certExpiry      = describe("certificate_expiry_seconds", "Time until the certificate that clients are shown for the host ends; negative when it has.", "host")
	certFailures    = describe("certificate_failures_total", "Failed tries to get or to renew the host's certificate by ACME.", "host")
	certsBroken     = describe("certificate_files_broken", "Certificate files that have changed into what cannot be used; what was read before is in force.")
	reloadSuccess   = describe("config_reload_success", "1 when the configuration was last read without an error, else 0.")
	reloadTimestamp = describe("config_reload_timestamp_seconds", "When the configuration in use was loaded, in seconds since 1970.")
)

// collector reads the counters of the other packages when Prometheus asks, and keeps none of its own.
type collector struct {
	gateway Gateway
	version string
	log     *slog.Logger
}

func newRegistry(g Gateway, version string, log *slog.Logger) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{g, version, log}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// Describe sends the descriptions of all that Collect may send.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		buildInfo, requestsTotal, requestSeconds, queueSeconds, inFlight, queueDepth, replicas, serverUp, serverInFlight, serverSlots, breakerState,
		rejectedTotal, retriesTotal, decisionsTotal, scaleErrors, startSeconds, startFailures, replicaCPU, replicaMemory,
		aiQueue, aiRunning, aiCacheUsage, aiModelMemory, aiModelsLoaded, aiTasks, aiCollections, aiVectorPending, verticalCPU, verticalMemory, labelsRefused,
		handshakesTotal, certExpiry, certFailures, certsBroken, reloadSuccess, reloadTimestamp,
	} {
		out <- d
	}
}

// Collect runs in a goroutine of the registry, where a panic would end the process.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	defer func() {
		if p := recover(); p != nil {
			c.log.Error("metrics could not be collected", "panic", p)
			out <- prometheus.NewInvalidMetric(buildInfo, fmt.Errorf("collecting failed: %v", p))
		}
	}()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(buildInfo, 1, c.version, runtime.Version())
	running := c.gateway.Running()
	cfg := running.Config
	gauge(reloadSuccess, truth(cfg.Error == ""))
	gauge(reloadTimestamp, float64(cfg.LoadedAt.UnixMilli())/1e3)
	gauge(labelsRefused, float64(running.LabelsRefused))

	now := time.Now()
	for _, u := range c.gateway.Upstreams() {
		name := u.Name()
		r := u.Read(now)
		gauge(inFlight, float64(r.InFlight), name)
		gauge(queueDepth, float64(r.Queued), name)
		out <- histogram(queueSeconds, r.Waits, name)
		st := upstreamStatus(u, now)
		for _, n := range []struct {
			state string
			n     int
		}{{"wanted", st.Wanted}, {"ready", st.Ready}, {"starting", st.Starting}, {"draining", st.Draining}} {
			gauge(replicas, float64(n.n), name, n.state)
		}
		for _, server := range u.Servers() {
			state, _ := server.State(now)
			gauge(serverUp, truth(state == balancer.StateReady), name, server.ID())
			gauge(serverInFlight, float64(server.InFlight()), name, server.ID())
			if st := serverStatus(server, now); st.Slots != 0 {
				gauge(serverSlots, float64(max(st.Slots, 0)), name, server.ID())
			}
			if v, ok := breakerValues[server.Breaker()]; ok {
				gauge(breakerState, v, name, server.ID())
			}
		}
		if u.Scaler != nil {
			st := u.Scaler.Status()
			c.scaler(out, name, u.Driver, st)
			told(out, name, st.External, now)
			used(out, name, st.Usage, now)
			sized(out, name, st.Vertical)
		}
	}

	traffic := c.gateway.Traffic()
	for _, r := range traffic.Routes {
		for code, n := range r.Requests {
			counter(requestsTotal, n, r.Route, r.Upstream, strconv.Itoa(code))
		}
		for reason, n := range r.Rejected {
			counter(rejectedTotal, n, r.Route, reason)
		}
		buckets := make(map[float64]uint64, len(r.Duration.Buckets))
		for i, n := range r.Duration.Buckets {
			buckets[proxy.DurationBuckets[i]] = n
		}
		out <- prometheus.MustNewConstHistogram(requestSeconds, r.Duration.Count, r.Duration.Seconds, buckets, r.Route)
	}
	for _, u := range traffic.Upstreams {
		counter(retriesTotal, u.Retries, u.Upstream)
	}
	for _, p := range traffic.Protocols {
		counter(protocolsTotal, p.Requests, p.Protocol, p.TLS)
	}
	for _, h := range traffic.TLS.Handshakes {
		counter(handshakesTotal, h.Count, h.Version, h.Result)
	}
	for host, at := range traffic.TLS.Expiries {
		gauge(certExpiry, at.Sub(now).Seconds(), host)
	}
	for host, n := range traffic.TLS.Failures {
		counter(certFailures, n, host)
	}
	gauge(certsBroken, float64(traffic.TLS.Broken))
}

func (c *collector) scaler(out chan<- prometheus.Metric, upstream, driver string, st scaler.Status) {
	for k, n := range st.Decisions {
		out <- prometheus.MustNewConstMetric(decisionsTotal, prometheus.CounterValue, float64(n), upstream, k[0], k[1])
	}
	out <- prometheus.MustNewConstMetric(scaleErrors, prometheus.CounterValue, float64(st.Errors), upstream, driver)
	out <- histogram(startSeconds, st.StartSeconds, upstream)
	out <- prometheus.MustNewConstMetric(startFailures, prometheus.CounterValue, float64(st.FailedStarts), upstream)
}

// told re-exports what the servers tell of themselves; what is not told, or too old, has no metric.
func told(out chan<- prometheus.Metric, upstream string, e scaler.External, now time.Time) {
	for _, r := range e.Servers {
		if r.At.IsZero() || now.Sub(r.At) > e.Fresh {
			continue
		}
		for _, m := range []struct {
			desc *prometheus.Desc
			v    float64
		}{
			{aiQueue, r.Queue}, {aiRunning, r.Running}, {aiCacheUsage, r.CacheUsage}, {aiModelsLoaded, r.ModelsLoaded},
			{aiTasks, r.Tasks}, {aiCollections, r.VectorCollections}, {aiVectorPending, r.VectorPendingOperations},
		} {
			if !math.IsNaN(m.v) {
				out <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.v, upstream, r.Server)
			}
		}
		for _, model := range r.Models {
			out <- prometheus.MustNewConstMetric(aiModelMemory, prometheus.GaugeValue, model.Bytes, upstream, r.Server, model.Model)
		}
	}
}

// used exports what the replicas use; what was never measured, or too long ago, has no metric.
func used(out chan<- prometheus.Metric, upstream string, all []scaler.Usage, now time.Time) {
	for _, u := range all {
		if u.Fresh(now) {
			out <- prometheus.MustNewConstMetric(replicaCPU, prometheus.GaugeValue, u.CPU, upstream, u.Replica)
			out <- prometheus.MustNewConstMetric(replicaMemory, prometheus.GaugeValue, float64(u.Memory), upstream, u.Replica)
		}
	}
}

// sized is what replicas should have, where that is asked for and known.
func sized(out chan<- prometheus.Metric, upstream string, v *scaler.VerticalStatus) {
	if v == nil || !v.Known {
		return
	}
	r := v.Recommendation
	for bound, one := range map[string]vertical.Resources{"target": r.Target, "lower": r.Lower, "upper": r.Upper} {
		out <- prometheus.MustNewConstMetric(verticalCPU, prometheus.GaugeValue, one.CPUs, upstream, bound)
		out <- prometheus.MustNewConstMetric(verticalMemory, prometheus.GaugeValue, float64(one.Memory), upstream, bound)
	}
}

// breakerValues has no value for "", a server without a breaker.
var breakerValues = map[string]float64{"closed": 0, "half-open": 1, "open": 2}

// histogram makes the counts cumulative, as Prometheus has them; +Inf is implied by Count.
func histogram(d *prometheus.Desc, r balancer.HistogramReading, labels ...string) prometheus.Metric {
	buckets := make(map[float64]uint64, len(r.Bounds))
	var sum uint64
	for i, bound := range r.Bounds {
		sum += r.Counts[i]
		buckets[bound] = sum
	}
	return prometheus.MustNewConstHistogram(d, r.Count, r.Sum, buckets, labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (s *Server) metrics(ctx *fasthttp.RequestCtx, _ target) *failure {
	families, err := s.registry.Gather()
	if err != nil { // what is well is sent all the same
		s.log.Error("metrics are incomplete", "error", err)
		if len(families) == 0 {
			return fail(fasthttp.StatusInternalServerError, "internal", "no metrics: %v", err)
		}
	}
	format := expfmt.NegotiateAccept(http.Header{"Accept": {string(ctx.Request.Header.Peek(fasthttp.HeaderAccept))}}, expfmt.DefaultAcceptedFormats()...)
	var b bytes.Buffer
	enc := expfmt.NewEncoder(&b, format)
	for _, f := range families {
		if err := enc.Encode(f); err != nil {
			return fail(fasthttp.StatusInternalServerError, "internal", "metrics cannot be written: %v", err)
		}
	}
	if c, ok := enc.(expfmt.Closer); ok {
		if err := c.Close(); err != nil {
			return fail(fasthttp.StatusInternalServerError, "internal", "metrics cannot be written: %v", err)
		}
	}
	ctx.SetContentType(string(format))
	ctx.SetBody(b.Bytes())
	return nil
}
