package scaler

import (
	"time"

	"sluice/scaler/vertical"
)

// Config is the key `scale` of [upstream.NAME].
type Config struct {
	// Min and Max bound the number of replicas; default 1 and 10. Min 0 allows scaling to zero.
	Min int `toml:"min"`
	Max int `toml:"max"`
	// Mode is apply (default), observe (decide and log, touch nothing) or off.
	Mode string `toml:"mode"`
	// QueuedPerReplica is N of ceil(queue/N), never below what the requests in flight occupy; 0 is off.
	QueuedPerReplica int `toml:"queued_per_replica"`
	// InFlightPerReplica is N of ceil((in flight + queue)/N); 0 is off. With none of these five, the law sizes: for
	// the load expected one start time ahead.
	InFlightPerReplica int `toml:"in_flight_per_replica"`
	// CPU is the share of its CPU limit that a replica should use on the mean, by the rule of a HorizontalPodAutoscaler;
	// 0 (default) is off. On Kubernetes it is the share of what its containers request, of a process the share of one
	// core. While it is not known nothing is scaled down, and without a limit it never is.
	CPU float64 `toml:"cpu" unit:"percent"`
	// Memory is the same of memory; 0 (default) is off. A process has no limit of memory.
	Memory float64 `toml:"memory" unit:"percent"`
	// Prometheus sizes by any query; nil is off.
	Prometheus *PrometheusConfig `toml:"prometheus"`
	// Signals are what the servers tell of themselves, for the metrics and for queued_per_replica; nil is off.
	Signals *SignalsConfig `toml:"signals"`
	// Headroom is the share of time in which the load should be within what the law has planned for: its one knob,
	// from 0.5 to 0.999; default 0.98. More is safer and dearer.
	Headroom float64 `toml:"headroom" unit:"percent"`
	// CooldownUp is the least time between two steps up; default 0s.
	CooldownUp time.Duration `toml:"cooldown_up"`
	// CooldownDown is how long demand must have been lower before a step down; default 30s. The law holds at least
	// that long: it learns for how long, from 1 to 5 minutes, and waits longer for a small step, 10 minutes at most.
	CooldownDown time.Duration `toml:"cooldown_down"`
	// StepUp and StepDown bound how many replicas one decision adds or removes; 0 (default) is no bound.
	StepUp   int `toml:"step_up"`
	StepDown int `toml:"step_down"`
	// ToZeroAfter is how long without a request before the last replica goes, with Min 0; default 5m.
	ToZeroAfter time.Duration `toml:"to_zero_after"`
	// DrainTimeout is how long a replica that is to go may finish its requests, streams included; default 30s.
	DrainTimeout time.Duration `toml:"drain_timeout"`
	// StartTime is the first guess of how long a replica takes from asked to ready; default 10s. A replica
	// that is not ready after max(60s, 5 × StartTime) has failed to start.
	StartTime time.Duration `toml:"start_time"`
	// Vertical is what becomes of the CPU and memory that replicas may have: off (default), recommend (say what they
	// should have, by what they have used) or apply (also change it while they run, one replica at a time). Only limits
	// that are there are changed; containers of a Docker Engine and pods can be.
	Vertical string `toml:"vertical"`
	// VerticalMin and VerticalMax bound what is recommended, and so what is applied; 0 is no bound. Default 0.025 cores
	// and 250MiB at least, and no more than the engine has.
	VerticalMin vertical.Resources `toml:"vertical_min"`
	VerticalMax vertical.Resources `toml:"vertical_max"`
	// Schedule raises Min at times; where several rules hold, the largest counts. None (default) is Min throughout.
	Schedule []ScheduleRule `toml:"schedule"`
}

// Off reports whether this is the zero value, which is no scaling at all.
func (c Config) Off() bool { return c.Max == 0 }

// SetDefaults is called by the decoder before a table of this type is read.
func (c *Config) SetDefaults() {
	*c = Config{Min: 1, Max: 10, Mode: "apply", Headroom: 0.98, CooldownDown: 30 * time.Second, ToZeroAfter: 5 * time.Minute, DrainTimeout: 30 * time.Second, StartTime: 10 * time.Second,
		Vertical: "off", VerticalMin: vertical.Resources{CPUs: 0.025, Memory: 250 << 20}}
}

// PrometheusConfig is the key `prometheus` of `scale`: ceil(value/per_replica) replicas, the value being what an
// instant query gives for the whole upstream. While it is not known nothing is scaled down.
type PrometheusConfig struct {
	// URL is where Prometheus answers, as "http://prometheus:9090"; /api/v1/query is added. Required.
	URL string `toml:"url"`
	// Query is PromQL that gives one number; sum(…) makes one of several series. Required.
	Query string `toml:"query"`
	// PerReplica is how much of it one replica is for; above 0, required.
	PerReplica float64 `toml:"per_replica"`
	// Interval is the time between two queries; default 5s. A value older than three of them is not used.
	Interval time.Duration `toml:"interval"`
	// Timeout is the longest that one query may take; default 2s.
	Timeout time.Duration `toml:"timeout"`
}

// SignalsConfig is the key `signals` of `scale`. Every ready server is asked for Path, which answers in Prometheus's
// text format or in JSON. The keys below name what to read there: a metric, whose series are added up (of cache_usage
// the largest counts), or in JSON a field, as "tasks.waiting" or "list.0.size"; a list counts its elements. What is
// named is re-exported as sluice_ai_*, and queue and task_queue add to the queue of queued_per_replica, task_queue
// also to the requests of in_flight_per_replica. While a server's are not known nothing is scaled down on them.
type SignalsConfig struct {
	// Preset is the kind of server: vllm, sglang, tgi, llamacpp, ollama or qdrant, with Path and all names that it has;
	// "" (default) is none. A key that is written all the same replaces the preset's.
	Preset string `toml:"preset"`
	// Path is where to ask; "" (default) is the preset's, or /metrics.
	Path string `toml:"path"`
	// Port is where to ask; 0 (default) is the one that requests go to.
	Port int `toml:"port"`
	// Queue is the number of requests that wait in the server, which are in flight for sluice; "" (default) is none, as
	// in all that follow.
	Queue string `toml:"queue"`
	// TaskQueue is the number of tasks that an agent was given and has not begun. No request is open for them.
	TaskQueue string `toml:"task_queue"`
	// Running is the number of requests that the server works on.
	Running string `toml:"running"`
	// CacheUsage is the share of the server's cache in use, 0 to 1.
	CacheUsage string `toml:"cache_usage"`
	// ModelsLoaded is the number of models in memory.
	ModelsLoaded string `toml:"models_loaded"`
	// VectorCollections and VectorPendingOperations are what a vector database holds, and has not done yet.
	VectorCollections       string `toml:"vector_collections"`
	VectorPendingOperations string `toml:"vector_pending_operations"`
	// Interval is the time between two questions to a server; default 5s. An answer older than three is not used.
	Interval time.Duration `toml:"interval"`
	// Timeout is the longest that an answer may take; default 2s.
	Timeout time.Duration `toml:"timeout"`
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *PrometheusConfig) SetDefaults() {
	*c = PrometheusConfig{Interval: externalInterval, Timeout: externalTimeout}
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *SignalsConfig) SetDefaults() {
	*c = SignalsConfig{Interval: externalInterval, Timeout: externalTimeout}
}

// Sources are the upstream sources that sluice itself starts; at most one is set.
type Sources struct {
	Process   *ProcessConfig   `toml:"process"`
	Container *ContainerConfig `toml:"container"`
}

// ProcessConfig declares replicas as local child processes.
type ProcessConfig struct {
	// Command is the program and its arguments; $PORT is a free port, $SLUICE the running binary. Required.
	Command []string `toml:"command"`
	// Env adds to the environment of sluice.
	Env map[string]string `toml:"env"`
	// Dir is the working directory; "" (default) is sluice's own.
	Dir string `toml:"dir"`
	// StopGrace is the time from SIGTERM to SIGKILL; default 10s.
	StopGrace time.Duration `toml:"stop_grace"`
}

// ContainerConfig declares replicas as containers on a plain Docker Engine.
type ContainerConfig struct {
	// Image must be on the engine or reachable by it; required.
	Image   string            `toml:"image" short:"true"`
	Command []string          `toml:"command"`
	Env     map[string]string `toml:"env"`
	// Networks to attach; none is the engine's default bridge.
	Networks []string `toml:"networks"`
	// Mounts as "source:target[:ro]"; a source without a slash is a volume.
	Mounts []string `toml:"mounts"`
	// Memory limit in bytes; 0 (default) is none.
	Memory int64 `toml:"memory" unit:"bytes"`
	// CPUs limit; 0 (default) is none.
	CPUs float64 `toml:"cpus"`
	// GPUs is the number of GPUs, or -1 for all; 0 (default) is none.
	GPUs int `toml:"gpus"`
	// Port inside the container; 0 (default) is the only exposed one.
	Port int `toml:"port"`
	// StopGrace is the time from SIGTERM to SIGKILL; default 10s.
	StopGrace time.Duration `toml:"stop_grace"`
}

// BudgetConfig is the top-level table [scale].
type BudgetConfig struct {
	// MaxReplicas bounds the replicas of all upstreams together, also of a process or container that is not scaled; 0 (default)
	// is no bound.
	MaxReplicas int `toml:"max_replicas"`
	// StateFile keeps what the law has learned across restarts; "" (default) is none. What is there and is no such
	// file is left alone.
	StateFile string `toml:"state_file"`
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *ProcessConfig) SetDefaults() { c.StopGrace = 10 * time.Second }

// SetDefaults is called by the decoder before a table of this type is read.
func (c *ContainerConfig) SetDefaults() { c.StopGrace = 10 * time.Second }
