package signals

import (
	"maps"
	"slices"

	"sluice/scaler"
)

// plan is what to ask a server for and where to find it in the answer. Of several names the first that is there counts:
// servers rename their metrics. No name is no question.
type plan struct {
	path string
	port int // 0: the server's own

	queue, tasks, running, cacheUsage, modelsLoaded, collections, pending []string

	// absent says that a queue which the answer does not have is empty: the server tells of it once it has had a request.
	absent bool
	// ollama reads the list of models that /api/ps answers.
	ollama bool
	// hint says what to do about a path that is not there.
	hint string
}

var presets = map[string]plan{
	// https://docs.vllm.ai/en/latest/usage/metrics; gpu_cache_usage_perc until 0.10.
	"vllm": {
		path: "/metrics", queue: []string{"vllm:num_requests_waiting"}, running: []string{"vllm:num_requests_running"},
		cacheUsage: []string{"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"},
	},
	// https://docs.sglang.io/references/production_metrics.html
	"sglang": {
		path: "/metrics", queue: []string{"sglang:num_queue_reqs"}, running: []string{"sglang:num_running_reqs"},
		cacheUsage: []string{"sglang:token_usage"}, absent: true, hint: "start it with --enable-metrics",
	},
	// https://huggingface.co/docs/text-generation-inference/reference/metrics
	"tgi": {path: "/metrics", queue: []string{"tgi_queue_size"}, running: []string{"tgi_batch_current_size"}, absent: true},
	// https://github.com/ggml-org/llama.cpp/tree/master/tools/server; the cache's usage until 2025.
	"llamacpp": {
		path: "/metrics", queue: []string{"llamacpp:requests_deferred"}, running: []string{"llamacpp:requests_processing"},
		cacheUsage: []string{"llamacpp:kv_cache_usage_ratio"}, hint: "start it with --metrics",
	},
	// https://docs.ollama.com/api/ps; it tells of no queue.
	"ollama": {path: "/api/ps", modelsLoaded: []string{"models"}, ollama: true},
	// https://qdrant.tech/documentation/guides/monitoring; pending operations only of a cluster.
	"qdrant": {path: "/metrics", collections: []string{"collections_total"}, pending: []string{"cluster_pending_operations_total"}},
}

// Presets are the names that SignalsConfig.Preset may have.
func Presets() []string { return slices.Sorted(maps.Keys(presets)) }

// planOf is the preset with what cfg says otherwise.
func planOf(cfg scaler.SignalsConfig) plan {
	p := presets[cfg.Preset]
	p.port = cfg.Port
	if cfg.Path != "" {
		p.path = cfg.Path
	} else if p.path == "" {
		p.path = "/metrics"
	}
	if cfg.Queue != "" {
		p.absent = false // whoever names it knows that it is there
	}
	for _, own := range []struct {
		name string
		to   *[]string
	}{
		{cfg.Queue, &p.queue}, {cfg.TaskQueue, &p.tasks}, {cfg.Running, &p.running}, {cfg.CacheUsage, &p.cacheUsage},
		{cfg.ModelsLoaded, &p.modelsLoaded}, {cfg.VectorCollections, &p.collections}, {cfg.VectorPendingOperations, &p.pending},
	} {
		if own.name != "" {
			*own.to = []string{own.name}
		}
	}
	return p
}
