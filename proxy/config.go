package proxy

import "time"

// RouteConfig is one [[route]] of config.toml: what to match and what to do.
type RouteConfig struct {
	// Name is unique; metrics, limiters and reload know the route by it. Default: made from the match.
	Name string `toml:"name"`
	// Listen restricts the route to one listener, which is opened if no other names it; "" is every listener of the top level.
	Listen string `toml:"listen"`
	// Host is one or several host names, exact or "*.example.com"; none is any host.
	Host []string `toml:"host"`
	// Path is a prefix that ends at a segment border; the longest wins.
	Path string `toml:"path"`
	// PathExact is compared first of all.
	PathExact string `toml:"path_exact"`
	// PathRegex is an RE2 expression searched for in the path (anchor it with ^ and $ as in nginx), tried
	// after the prefixes in file order.
	PathRegex string `toml:"path_regex"`
	// Method is one or several methods; none is any.
	Method []string `toml:"method"`
	// Header and Query name fields and parameters with the value each must have; the value "*" asks only for presence.
	Header map[string]string `toml:"header"`
	Query  map[string]string `toml:"query"`

	// Exactly one of Upstream, Redirect and Respond.

	// Upstream is the name of an [upstream.NAME] or, with a colon, an address.
	Upstream string          `toml:"upstream"`
	Redirect *RedirectConfig `toml:"redirect"`
	Respond  *RespondConfig  `toml:"respond"`

	// StripPath removes the matched prefix (Path or PathExact) from the target before forwarding.
	StripPath bool `toml:"strip_path"`
	// Rewrite replaces the path: with PathRegex its $1… are expanded; with Path it replaces the prefix.
	Rewrite string        `toml:"rewrite"`
	Headers HeadersConfig `toml:"headers"`

	// Priority orders the requests that wait in the upstream's queue: high, normal (default) or low. One of a lower
	// priority rises with the time it waits: none is starved.
	Priority string `toml:"priority"`
	// FairBy shares the upstream's queue fairly by a key, as in RateLimitConfig; "" (default) is off. The keys take
	// turns, whatever each of them sends; a request of a route without it has a turn of its own. The same key of
	// several routes is one. In sizing a key counts for no more waiting requests than all others have together, unless
	// nobody else has waited for a minute; what it is refused beyond that counts for nothing.
	FairBy string `toml:"fair_by"`

	RateLimit *RateLimitConfig `toml:"rate_limit"`
	LimitConn *LimitConnConfig `toml:"limit_conn"`
	// MaxBody is the largest request body in bytes; 0 (default) is no bound.
	MaxBody int64 `toml:"max_body" unit:"bytes"`
	// Allow and Deny are CIDRs or addresses of clients, or "unix" for those on Unix sockets. Deny is looked at first; a non-empty Allow denies all others.
	Allow []string `toml:"allow"`
	Deny  []string `toml:"deny"`
}

// RedirectConfig answers with a Location.
type RedirectConfig struct {
	// To is the location; $host (in lower case, without a port), $http_host (as the client wrote it), $path, $query and $request_uri (path
	// and query) are replaced.
	To string `toml:"to" short:"true"`
	// Status is 301, 302, 303, 307 or 308 (default).
	Status int `toml:"status"`
}

// RespondConfig answers with a fixed response.
type RespondConfig struct {
	// Status is the answer's status; default 200.
	Status int `toml:"status"`
	// Body is sent as it stands.
	Body string `toml:"body" short:"true"`
	// ContentType defaults to "text/plain; charset=utf-8".
	ContentType string `toml:"content_type"`
}

// HeadersConfig edits fields; the value "" removes the field.
type HeadersConfig struct {
	Request  map[string]string `toml:"request"`
	Response map[string]string `toml:"response"`
}

// RateLimitConfig is a token bucket per key.
type RateLimitConfig struct {
	// Rate is requests per second, written "100/s", "20/m" or "1000/h".
	Rate float64 `toml:"rate" unit:"rate" short:"true"`
	// Burst is the bucket's size; default max(1, ceil(Rate)).
	Burst int `toml:"burst"`
	// Key is "client_ip" (default; IPv6 by its /64, all on Unix sockets as one), "route" (one bucket for all), "header:NAME" or "cookie:NAME".
	Key string `toml:"key"`
	// Status of a refusal: 429 (default) or 503.
	Status int `toml:"status"`
}

// LimitConnConfig bounds the requests in flight per key.
type LimitConnConfig struct {
	// Max is the number of requests of one key in flight at once; required.
	Max int `toml:"max" short:"true"`
	// Key as in RateLimitConfig.
	Key string `toml:"key"`
	// Status of a refusal: 503 (default) or 429.
	Status int `toml:"status"`
}

// UpstreamConfig is what [upstream.NAME] says about reaching its servers.
type UpstreamConfig struct {
	// TLS encrypts the connections to the servers; nil (default) is off.
	TLS *TLSConfig `toml:"tls"`
	// Protocol that the servers speak: http1 (default), h2 (HTTP/2, needs tls) or h2c (HTTP/2 without tls).
	Protocol string         `toml:"protocol"`
	Timeouts TimeoutsConfig `toml:"timeouts"`
	Retry    RetryConfig    `toml:"retry"`
	// ProxyProtocol begins each connection to a server with the PROXY protocol's header of that version, v1 or v2, which tells who
	// the client is; "" (default) is off. A kept connection serves only the client that it was made for, by address and port.
	// Health probes tell of no client (LOCAL, UNKNOWN); to a health_check.port of their own they begin without the header.
	ProxyProtocol string `toml:"proxy_protocol"`
}

// TimeoutsConfig has no bound on a whole request: long streams are the normal case.
type TimeoutsConfig struct {
	// Connect bounds the handshakes of TCP and TLS together; default 2s.
	Connect time.Duration `toml:"connect"`
	// FirstByte bounds the time from the request's last byte to the response's head; default 10m.
	FirstByte time.Duration `toml:"first_byte"`
	// Idle bounds the silence between two bytes of a body or a WebSocket; default 5m.
	Idle time.Duration `toml:"idle"`
	// KeepAlive is how long an unused connection is kept; default 4s.
	KeepAlive time.Duration `toml:"keepalive"`
}

// RetryConfig bounds second tries.
type RetryConfig struct {
	// Attempts is the number of retries after the first try; default 2, 0 is off.
	Attempts int `toml:"attempts"`
	// Budget is the largest share of requests that may be retries (0…1), at least 3/s; default 20 %.
	Budget float64 `toml:"budget" unit:"percent"`
}

// ClientConfig is the top-level table [client]: what a client may take its time for. Zero is no bound.
type ClientConfig struct {
	// HeaderTimeout bounds the reading of one request head; default 10s.
	HeaderTimeout time.Duration `toml:"header_timeout"`
	// BodyTimeout bounds the silence between two reads of a body or two writes of a response; default 60s.
	BodyTimeout time.Duration `toml:"body_timeout"`
	// KeepAlive is how long an idle connection is kept; default 75s.
	KeepAlive time.Duration `toml:"keepalive"`
	// MaxHeader is the largest head in bytes; default 32KiB.
	MaxHeader int `toml:"max_header" unit:"bytes"`
	// MaxFields is the largest number of fields; default 100, at most 256.
	MaxFields int `toml:"max_fields"`
	// MaxConnections is the largest number of open client connections: beyond it idle ones make room, or new ones are
	// refused with 503 conn_limited. 0 (default) is as many as leave descriptors for the servers: 7/8 of RLIMIT_NOFILE
	// less 16, where a connection counts twice while it has a request; that holds with any number.
	MaxConnections int `toml:"max_connections"`
}

// LogConfig is the table [log].
type LogConfig struct {
	// Access is the access log's format: json (default), combined, logfmt or off.
	Access string `toml:"access"`
	// Level of the error log: debug, info (default), warn, error.
	Level string `toml:"level"`
	// File takes both logs; "" is standard output for access, standard error for the rest. Nothing waits for who reads
	// them: what finds 4 MiB unread is dropped, what replicas write first, and the error log says how much of it is lost.
	File string `toml:"file"`
}

// DefaultUpstreamConfig is what an upstream without these keys has.
func DefaultUpstreamConfig() UpstreamConfig {
	return UpstreamConfig{
		Protocol: ProtocolHTTP1,
		Timeouts: TimeoutsConfig{Connect: 2 * time.Second, FirstByte: 10 * time.Minute, Idle: 5 * time.Minute, KeepAlive: 4 * time.Second},
		Retry:    RetryConfig{Attempts: 2, Budget: 0.2},
	}
}

// DefaultClientConfig is what a file without [client] has.
func DefaultClientConfig() ClientConfig {
	return ClientConfig{HeaderTimeout: 10 * time.Second, BodyTimeout: 60 * time.Second, KeepAlive: 75 * time.Second, MaxHeader: 32 << 10, MaxFields: 100}
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *RedirectConfig) SetDefaults() { c.Status = 308 }

// SetDefaults is called by the decoder before a table of this type is read.
func (c *RespondConfig) SetDefaults() {
	*c = RespondConfig{Status: 200, ContentType: "text/plain; charset=utf-8"}
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *RateLimitConfig) SetDefaults() { *c = RateLimitConfig{Key: "client_ip", Status: 429} }

// SetDefaults is called by the decoder before a table of this type is read.
func (c *LimitConnConfig) SetDefaults() { *c = LimitConnConfig{Key: "client_ip", Status: 503} }
