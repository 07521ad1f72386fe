package discovery

import "time"

// Config is what [upstream.NAME] says about finding servers and probing them. Exactly one of the
// sources is set (the sources that start replicas themselves, container and process, are the
// scaler's: see scaler.Config).
type Config struct {
	// Servers lists static servers.
	Servers []ServerConfig `toml:"servers"`
	// Service names a service of the engine that sluice runs on.
	Service *ServiceConfig `toml:"service"`
	// DNS is "name:port", resolved again by TTL.
	DNS string `toml:"dns"`
	// HealthCheck is active; its defaults apply when the key is absent.
	HealthCheck HealthConfig `toml:"health_check"`
}

// ServerConfig is one static server, written "host:port", "unix:/path" or as a table.
type ServerConfig struct {
	// Addr is host:port or, for a Unix socket, unix:/path.
	Addr string `toml:"addr" short:"true"`
	// Weight is its share against the others; default 1.
	Weight int `toml:"weight"`
	// MaxConns is its number of slots; 0 (default) is the upstream's max_conns.
	MaxConns int `toml:"max_conns"`
	// Backup servers are used only while no other is ready.
	Backup bool `toml:"backup"`
}

// ServiceConfig names a service of the engine, written "api" or as a table.
type ServiceConfig struct {
	Name string `toml:"name" short:"true"`
	// Port inside the container; 0 (default) is the only exposed one.
	Port int `toml:"port"`
	// PortName is the name of the port in a Kubernetes Service that has several; "" (default) is any.
	PortName string `toml:"port_name"`
	// Network on which sluice reaches the service; "" (default) is any network both are on.
	Network string `toml:"network"`
}

// HealthConfig is one active health check.
type HealthConfig struct {
	// Path is requested with GET; "" (default) only opens a TCP connection, which the kernel of a
	// server whose process hangs still accepts, and shakes hands where there is TLS.
	Path string `toml:"path" short:"true"`
	// GRPC asks grpc.health.v1.Health in place of a path, and wants SERVING: true is the server as a whole ("*" in here), a text the
	// service of that name; "" (default) is off. It needs protocol h2 or h2c.
	GRPC string `toml:"grpc" unit:"grpc"`
	// Interval between the starts of two probes of a server, with 10 % of jitter: 83–93 % of it, so
	// that a silent server is out within interval + timeout; default 2s. A server that was never ready
	// yet, or whose last probe was bad, is probed sooner.
	Interval time.Duration `toml:"interval"`
	// Timeout of one probe; default 1s.
	Timeout time.Duration `toml:"timeout"`
	// Rise is how many good probes in a row make a server ready; default 1.
	Rise int `toml:"rise"`
	// Fall is how many bad probes in a row make it unhealthy; default 2.
	Fall int `toml:"fall"`
	// Status is the expected status, as "200", "200-299" or "2xx,404"; default "200-399".
	Status string `toml:"status"`
	// Host is the Host field; "" (default) is the server's address, "localhost" on a Unix socket.
	Host string `toml:"host"`
	// Port to probe; 0 (default) is the server's own.
	Port int `toml:"port"`

	// Prologue is what a probe of the server's own port begins with, before all else: a header of the PROXY protocol that tells of
	// no client, where the upstream has proxy_protocol; "" = nothing.
	Prologue string `toml:"-"`
}

// DefaultConfig is what an upstream without these keys has.
func DefaultConfig() Config {
	return Config{HealthCheck: HealthConfig{Interval: 2 * time.Second, Timeout: time.Second, Rise: 1, Fall: 2, Status: "200-399"}}
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *ServerConfig) SetDefaults() { c.Weight = 1 }
