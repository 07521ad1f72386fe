// Package config reads config.toml strictly and turns it into one Config, composed of the Config
// types of the packages that act on it.
package config

import (
	"cmp"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"sluice/admin"
	"sluice/balancer"
	"sluice/discovery"
	"sluice/peers"
	"sluice/proxy"
	"sluice/proxy/certs/acme"
	"sluice/proxy/https"
	"sluice/scaler"
)

// Config is one whole configuration, decoded and valid. It is never changed after Load.
type Config struct {
	// Listen are the addresses of the listeners that every route without its own listen shares, host:port or unix:/path; default
	// ":8080". A Unix socket has mode 0666: who may connect is its folder's to say.
	Listen []string `toml:"listen"`
	// TrustedProxies are the CIDRs or addresses of proxies whose X-Forwarded-* fields are believed, or "unix" for all on Unix
	// sockets; default none.
	TrustedProxies []string `toml:"trusted_proxies"`
	// ProxyProtocol are the CIDRs or addresses, or "unix", whose connections begin with a header of the PROXY protocol, version 1 or
	// 2, on every listener; default none. One that does not is closed. Who the header tells of is the client in all respects: for
	// limits, allow and deny, logs, X-Forwarded-For and trusted_proxies. From others it is not looked for, and is a bad request. It
	// has to come within client.header_timeout (5s where that is 0).
	ProxyProtocol []string `toml:"proxy_protocol"`
	// ShutdownDelay is how long after SIGTERM new work is still taken, with /readyz failing; default 0s.
	ShutdownDelay time.Duration `toml:"shutdown_delay"`
	// DrainTimeout is how long requests in flight may take after that; default 30s.
	DrainTimeout time.Duration `toml:"drain_timeout"`
	// PID is the pid file; default "sluice.pid" in the folder for runtime files ($XDG_RUNTIME_DIR, else the temporary folder), "off" is none.
	PID string `toml:"pid"`

	// TLS is for the listeners where clients speak it; nil (default) is none.
	TLS *https.Config `toml:"tls"`
	// ACME gets certificates for the TLS listeners; nil (default) is off. With it tls.listen is ":443" by default.
	ACME *acme.Config `toml:"acme"`

	Admin   admin.Config        `toml:"admin"`
	Metrics admin.MetricsConfig `toml:"metrics"`
	// MetricsAPI shows the load to HorizontalPodAutoscalers; default off.
	MetricsAPI admin.MetricsAPIConfig `toml:"metrics_api"`
	Log        proxy.LogConfig        `toml:"log"`
	Client     proxy.ClientConfig     `toml:"client"`
	Engine     EngineConfig           `toml:"engine"`
	Scale      scaler.BudgetConfig    `toml:"scale"`
	// Peers makes several gateways with the same configuration work as one; nil (default) is off.
	Peers  *peers.Config       `toml:"peers"`
	Routes []proxy.RouteConfig `toml:"route"`
	// Upstreams by name. A route that names an address has an upstream of that name here: one static server, everything else default.
	Upstreams map[string]*Upstream `toml:"upstream"`

	secrets map[string]string // how the secrets were written, by the path of the key; for Dump
}

// Upstream is one [upstream.NAME]: the keys of the packages that act on it, side by side.
type Upstream struct {
	Balancer  balancer.Config      `toml:",inline"`
	Proxy     proxy.UpstreamConfig `toml:",inline"`
	Discovery discovery.Config     `toml:",inline"`
	Replicas  scaler.Sources       `toml:",inline"`
	// Scale lets sluice choose the number of replicas; nil is off.
	Scale *scaler.Config `toml:"scale"`

	// Labeled says whose labels made this upstream; nil for the file's own.
	Labeled *Owner `toml:"-"`
}

// Owner says whose labels made an upstream: a service, or containers without one. It stays the same while containers come and go.
type Owner struct {
	// Project and Service of Compose; "" for containers that belong to no service.
	Project, Service string
	// Labels tell the containers without a service from others: those that carry exactly these of sluice's.
	Labels map[string]string
}

// SetDefaults is called by the decoder before a table of this type is read.
func (u *Upstream) SetDefaults() {
	*u = Upstream{Balancer: balancer.DefaultConfig(), Proxy: proxy.DefaultUpstreamConfig(), Discovery: discovery.DefaultConfig()}
}

// Scaling is how the upstream is scaled: what the file says, or for a source that starts its own replicas one where the
// file says nothing, and scale.min where the mode is off. The zero value is no scaling.
func (u *Upstream) Scaling() scaler.Config {
	switch {
	case u.Scale != nil && u.Scale.Mode != "off":
		return *u.Scale
	case u.Replicas.Process == nil && u.Replicas.Container == nil:
		return scaler.Config{}
	}
	var fixed scaler.Config
	fixed.SetDefaults()
	fixed.Min, fixed.Max = 1, 1
	if u.Scale != nil {
		fixed.Min, fixed.Max = u.Scale.Min, max(u.Scale.Min, 1)
	}
	return fixed
}

// Default is what an empty file has.
func Default() *Config {
	return &Config{
		Listen:       []string{":8080"},
		DrainTimeout: 30 * time.Second,
		PID:          filepath.Join(cmp.Or(os.Getenv("XDG_RUNTIME_DIR"), os.TempDir()), "sluice.pid"),
		Admin:        admin.DefaultConfig(),
		MetricsAPI:   admin.DefaultMetricsAPIConfig(),
		Log:          proxy.LogConfig{Access: "json", Level: "info"},
		Client:       proxy.DefaultClientConfig(),
		Engine:       EngineConfig{Kind: "auto", Socket: cmp.Or(os.Getenv("DOCKER_HOST"), "unix:///var/run/docker.sock")},
	}
}

// TrustedPrefixes gives TrustedProxies as prefixes, ready to compare with by http1.Within.
func (c *Config) TrustedPrefixes() []netip.Prefix { return prefixes(c.TrustedProxies) }

// ProxyProtocolPrefixes gives ProxyProtocol likewise.
func (c *Config) ProxyProtocolPrefixes() []netip.Prefix { return prefixes(c.ProxyProtocol) }

func prefixes(list []string) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(list))
	for _, s := range list {
		if p, err := parsePrefix(s); err == nil {
			all = append(all, p)
		}
	}
	return all
}

// TLSListen are the addresses where clients speak TLS.
func (c *Config) TLSListen() []string {
	if c.TLS == nil {
		return nil
	}
	return c.TLS.Listen
}

// EngineConfig says which engine sluice runs on.
type EngineConfig struct {
	// Kind is auto (default), none, docker, swarm or kubernetes. Auto is kubernetes in a pod with a service
	// account, else swarm where the engine is a manager of one, else docker where an engine answers.
	Kind string `toml:"kind"`
	// Socket of the Docker Engine; default $DOCKER_HOST, else unix:///var/run/docker.sock.
	Socket string `toml:"socket"`
	// Namespace whose Kubernetes Services are meant; default that of sluice's own pod, or of $KUBECONFIG outside a cluster.
	Namespace string `toml:"namespace"`
	// Project is the Compose project, on Swarm the stack, whose services are meant, and the owner of the
	// containers that sluice declares; default the project or stack of sluice's own container, else, as an
	// owner only, the name of the configuration's folder.
	Project string `toml:"project"`
	// Scaler is the path of the Unix socket of a `sluice scaler`, which has the engine in this process's stead: it
	// listens there, and the gateway asks it and makes no client of any engine. Labels are not followed then. "" (default)
	// is none.
	Scaler string `toml:"scaler"`
	// ScalerClients are the user ids whose processes the scaler answers; default its own only.
	ScalerClients []int `toml:"scaler_clients"`
}
