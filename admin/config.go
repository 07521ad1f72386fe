package admin

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Config is the table [admin].
type Config struct {
	// Listen is host:port or "unix:/path"; default 127.0.0.1:9901, "off" is none. Anything but loopback or
	// a Unix socket needs Token.
	Listen string `toml:"listen"`
	// Token is asked for as "Authorization: Bearer …"; "env:NAME" or "file:PATH", never a literal.
	Token string `toml:"token" unit:"secret"`
}

// MetricsConfig is the table [metrics]: a second, read-only listener with /metrics, /healthz and /readyz.
type MetricsConfig struct {
	// Listen is host:port; "" (default) is none.
	Listen string `toml:"listen"`
}

// MetricsAPIConfig is the table [metrics_api]: the upstreams' load as metrics of the Kubernetes API
// (custom.metrics.k8s.io, external.metrics.k8s.io), for HorizontalPodAutoscalers. On other engines it is off.
type MetricsAPIConfig struct {
	// Listen is host:port; "" (default) is none. It speaks TLS and answers the cluster's API server alone.
	Listen string `toml:"listen"`
	// Cert and Key are PEM files, read again when they change, for an APIService with a caBundle; "" (default) makes
	// a certificate in memory, for one with insecureSkipTLSVerify.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// Window is the time that values are means over; default 10s.
	Window time.Duration `toml:"window"`
}

// DefaultMetricsAPIConfig is what a file without [metrics_api] has.
func DefaultMetricsAPIConfig() MetricsAPIConfig { return MetricsAPIConfig{Window: 10 * time.Second} }

// Off reports whether nothing listens.
func (c MetricsAPIConfig) Off() bool { return c.Listen == "" || c.Listen == "off" }

// DefaultConfig is what a file without [admin] has.
func DefaultConfig() Config { return Config{Listen: "127.0.0.1:9901"} }

// Check says what is wrong with the table, in words that name the key; nil when nothing is.
func (c Config) Check() error {
	if c.off() {
		return nil
	}
	if err := checkAddress(c.Listen); err != nil {
		return fmt.Errorf("admin.listen: %w", err)
	}
	if c.Token == "" && !onlyLocal(c.Listen) {
		return fmt.Errorf("admin.listen: %q can be reached from other machines: set admin.token, or listen on 127.0.0.1 or unix:/path", c.Listen)
	}
	return nil
}

// Check says what is wrong with the table, in words that name the key; nil when nothing is.
func (c MetricsConfig) Check() error {
	if c.off() {
		return nil
	}
	if err := checkAddress(c.Listen); err != nil {
		return fmt.Errorf("metrics.listen: %w", err)
	}
	return nil
}

func (c Config) off() bool        { return c.Listen == "" || c.Listen == "off" }
func (c MetricsConfig) off() bool { return c.Listen == "" || c.Listen == "off" }

// socketPath is the path of "unix:/path"; ok is false for a TCP address.
func socketPath(listen string) (path string, ok bool) { return strings.CutPrefix(listen, "unix:") }

func checkAddress(listen string) error {
	if path, ok := socketPath(listen); ok {
		if path == "" {
			return fmt.Errorf("%q names no socket: write unix:/path", listen)
		}
		return nil
	}
	if _, port, err := net.SplitHostPort(listen); err != nil || port == "" {
		return fmt.Errorf("%q is no address: write host:port, unix:/path or off", listen)
	}
	return nil
}

// onlyLocal tells whether nobody but this machine can reach the address. A name other than localhost
// is not looked up: what it means may change after it was checked.
func onlyLocal(listen string) bool {
	if _, ok := socketPath(listen); ok {
		return true
	}
	host, _, err := net.SplitHostPort(listen)
	return err == nil && isLoopback(host)
}

// isLoopback takes a host without a port: "localhost", "127.0.0.1", "::1".
func isLoopback(host string) bool {
	if strings.EqualFold(strings.TrimSuffix(host, "."), "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}
