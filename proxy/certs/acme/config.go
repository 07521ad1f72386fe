// Package acme gets certificates from a certification authority by ACME (RFC 8555), keeps them in a folder and renews them in time. The
// protocol is certmagic's; this package joins it with a configuration that changes while it runs, and tells how it goes.
package acme

import (
	"crypto/x509"
	"errors"
	"fmt"
	"net/mail"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/caddyserver/certmagic"

	"sluice/proxy/certs"
)

// Config is the table [acme]. Having it is to agree to the terms of the authority.
type Config struct {
	// Email is where the authority may write to about the account; "" (default) is nowhere.
	Email string `toml:"email"`
	// Storage is the folder of account, keys and certificates; it may be shared by several gateways, which then get each certificate once
	// and answer each other's challenges. Relative paths start at the working directory. Default: see DefaultStorage.
	Storage string `toml:"storage"`
	// Directory is the URL of the authority's directory; default Let's Encrypt's. There, after a failure, its staging is tried first, which
	// counts for no limits.
	Directory string `toml:"directory"`
	// CA is a file of PEM certificates, of which one has to vouch for Directory's own certificate: that of a private authority. "" (default)
	// is the system's.
	CA string `toml:"ca"`
	// Hosts are the names to get certificates for, each its own; no wildcards. Default: every exact host of a route that can be reached with TLS.
	Hosts []string `toml:"hosts"`
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *Config) SetDefaults() {
	*c = Config{Storage: DefaultStorage(), Directory: certmagic.LetsEncryptProductionCA}
}

// DefaultStorage is the folder "acme" in the one that systemd gives (StateDirectory=), else in /var/lib/sluice for root, else in sluice's own
// of $XDG_STATE_HOME or ~/.local/state.
func DefaultStorage() string {
	if dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":"); dir != "" {
		return filepath.Join(dir, "acme")
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "sluice", "acme")
	}
	if home, err := os.UserHomeDir(); err == nil && os.Getuid() != 0 {
		return filepath.Join(home, ".local", "state", "sluice", "acme")
	}
	return "/var/lib/sluice/acme"
}

// CheckEmail tells whether s is an address and nothing else.
func CheckEmail(s string) error {
	if a, err := mail.ParseAddress(s); err != nil || a.Address != s {
		return fmt.Errorf("%q is no email address", s)
	}
	return nil
}

// CheckDirectory tells whether s can be the URL of a directory.
func CheckDirectory(s string) error {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%q is no URL of an ACME directory, as %q", s, certmagic.LetsEncryptProductionCA)
	case u.Scheme == "http" && !certmagic.SubjectIsInternal(u.Host):
		return fmt.Errorf("%q: only an authority within the own network may be asked without TLS", s)
	}
	return nil
}

// LoadRoots reads the file CA. text is what it says.
func LoadRoots(path string) (pool *x509.CertPool, text string, err error) {
	pem, err := certs.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	pool = x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, "", errors.New("there is no PEM certificate in it")
	}
	return pool, string(pem), nil
}

// Certifiable tells why the authority cannot certify a route's host; nil when it may.
func (c *Config) Certifiable(host string) error {
	switch {
	case strings.HasPrefix(host, "*."):
		return errors.New("a wildcard needs a challenge by DNS, which sluice does not do")
	case isAddress(host):
		return errors.New("it is an address")
	case strings.Contains(host, "_"):
		return errors.New("a name in a certificate has no underscore")
	case c.private() || slices.Contains(c.Hosts, host):
		return nil
	case !strings.Contains(strings.TrimSuffix(host, "."), ".") || !certmagic.SubjectQualifiesForPublicCert(Name(host)):
		return errors.New("no public authority certifies it; list it in acme.hosts if this one does")
	}
	return nil
}

// private tells that the authority is one of the own network, which may certify names that nobody else knows.
func (c *Config) private() bool {
	u, err := url.Parse(c.Directory)
	return c.CA != "" || err == nil && certmagic.SubjectIsInternal(u.Host)
}

func isAddress(host string) bool {
	_, err := netip.ParseAddr(strings.Trim(host, "[]"))
	return err == nil
}

// Name is a host as certificates have it: in lower case, without a dot at its end.
func Name(host string) string { return strings.ToLower(strings.TrimSuffix(host, ".")) }
