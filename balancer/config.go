package balancer

import (
	"cmp"
	"time"
)

// Config is what config.toml says about balancing in [upstream.NAME]. The zero value is not
// usable: decode over DefaultConfig.
type Config struct {
	// Balance names the policy: least_request (default), round_robin, random or hash.
	Balance string `toml:"balance"`
	// HashKey is what the hash policy hashes: "client_ip" (default), "uri", "header:NAME" or "cookie:NAME".
	HashKey string `toml:"hash_key"`
	// Sticky keeps a client on its server by a cookie; nil is off.
	Sticky *StickyConfig `toml:"sticky"`
	// MaxConns is the number of slots of each server: requests in flight at once. 0 is no bound. "auto" (AutoSlots)
	// learns it for each server from how long requests take, and enforces what it has learned. Default 0, and "auto"
	// where scale starts and stops the servers (mode "apply").
	MaxConns int `toml:"max_conns" unit:"slots"`
	// Queue bounds the requests that wait for a slot.
	Queue QueueConfig `toml:"queue"`
	// Outlier ejects servers that fail several requests in a row.
	Outlier OutlierConfig `toml:"outlier_detection"`
	// Breaker stops requests to a server that fails too large a share of them; nil (default) is off.
	Breaker *BreakerConfig `toml:"circuit_breaker"`
	// SlowStart is how long a server that became ready gets a share that grows from a tenth to its
	// full weight; 0 (default) is off.
	SlowStart time.Duration `toml:"slow_start"`
}

// AutoSlots as MaxConns lets each server's slots be learned.
const AutoSlots = -1

// StickyConfig is the cookie that binds a client to a server.
type StickyConfig struct {
	// Cookie is its name; default "sluice_server".
	Cookie string `toml:"cookie" short:"true"`
	// TTL is its Max-Age; 0 (default) makes a session cookie.
	TTL time.Duration `toml:"ttl"`
}

// QueueConfig bounds an upstream's queue.
type QueueConfig struct {
	// Size is how many requests may wait; default 1000, 0 refuses at once.
	Size int `toml:"size"`
	// Timeout is how long each may wait; 0, the default, is 30s, and for a request that comes while no server is ready
	// and one is started for it 3.5 times as long as a start takes, 10s at least.
	Timeout time.Duration `toml:"timeout"`
}

// A queue without a timeout of its own.
const (
	queueTimeout = 30 * time.Second
	coldStarts   = 3.5 // so many starts may pass until a request that began one is given up
	coldLeast    = 10 * time.Second
)

// usual is how long a request may wait while a server is ready.
func (c QueueConfig) usual() time.Duration { return cmp.Or(c.Timeout, queueTimeout) }

// cold is how long a request may wait for a server that takes start to be ready; 0 is not known.
func (c QueueConfig) cold(start time.Duration) time.Duration {
	if c.Timeout != 0 || start == 0 {
		return c.usual()
	}
	return max(time.Duration(coldStarts*float64(start)), coldLeast)
}

// OutlierConfig is passive health: what the requests themselves say of a server.
type OutlierConfig struct {
	// Errors is how many failures in a row (no answer, or 502, 503, 504) eject; default 5, 0 is off.
	Errors int `toml:"errors"`
	// EjectFor is the first ejection's length; it doubles at each following one up to 5m; default 10s.
	EjectFor time.Duration `toml:"eject_for"`
	// MaxShare is the largest share of an upstream's servers that may be ejected at once (0…1); default 50 %.
	MaxShare float64 `toml:"max_share" unit:"percent"`
}

// BreakerConfig is one circuit breaker per server (sony/gobreaker).
type BreakerConfig struct {
	// FailureRatio opens the breaker when reached (0…1); default 0.5. A failure is no answer or a status of 500 and more.
	FailureRatio float64 `toml:"failure_ratio" unit:"percent"`
	// MinRequests is how many requests a window needs before the ratio counts; default 20.
	MinRequests int `toml:"min_requests"`
	// OpenFor is how long the breaker stays open before one request tries again; default 10s.
	OpenFor time.Duration `toml:"open_for"`
}

// DefaultConfig is what an upstream without any balancing key has.
func DefaultConfig() Config {
	return Config{
		Balance: "least_request",
		HashKey: "client_ip",
		Queue:   QueueConfig{Size: 1000},
		Outlier: OutlierConfig{Errors: 5, EjectFor: 10 * time.Second, MaxShare: 0.5},
	}
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *StickyConfig) SetDefaults() { c.Cookie = "sluice_server" }

// SetDefaults is called by the decoder before a table of this type is read.
func (c *BreakerConfig) SetDefaults() {
	*c = BreakerConfig{FailureRatio: 0.5, MinRequests: 20, OpenFor: 10 * time.Second}
}
