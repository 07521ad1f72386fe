// Package https is the front's TLS: it shakes hands with clients, by certificates of proxy/certs, and says what became of that.
package https

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"sluice/proxy/certs"
)

// Config is the table [tls]. Without it there is no TLS.
type Config struct {
	// Listen are the addresses where clients speak TLS; required. A route's own listen may be one of them.
	Listen []string `toml:"listen"`
	// Certificates are those of files, required unless others are made. A client is shown that of the host it asks for, exact before
	// wildcard, else the first; of several for one host that which it can use. They are read again within 5 s when they change.
	Certificates []certs.Files `toml:"certificates"`
	// Redirect sends cleartext requests to listen of the top level, for hosts that have a certificate, to https by 308; default true.
	Redirect bool `toml:"redirect"`
	// RedirectPort is the port that clients reach the first of Listen by; 0 (default) is its own.
	RedirectPort int `toml:"redirect_port"`
	// ClientCA is a file with the certificates, PEM, of those who sign clients' certificates; "" (default) is none. It is read again when
	// it changes.
	ClientCA string `toml:"client_ca"`
	// ClientAuth is "require" (default with ClientCA): a client without a certificate of ClientCA gets no connection; "request": it may
	// have one; or "off" (default without). Servers are told by X-SSL-Client-Verify, X-SSL-Client-S-DN and Client-Cert (RFC 9440).
	ClientAuth string `toml:"client_auth"`
	// MinVersion is "1.2" (default) or "1.3".
	MinVersion string `toml:"min_version"`
	// Ciphers are the suites of TLS 1.2 by their IANA names; default those of Mozilla's intermediate configuration. Those of TLS 1.3 are
	// not chosen (RFC 8446 §B.4).
	Ciphers []string `toml:"ciphers"`
	// HSTS tells browsers to come by https alone (RFC 6797); nil (default) is off.
	HSTS *HSTSConfig `toml:"hsts"`
}

// HSTSConfig is the field Strict-Transport-Security of answers over TLS.
type HSTSConfig struct {
	// MaxAge is how long a browser remembers; 0 makes it forget.
	MaxAge time.Duration `toml:"max_age" short:"true"`
	// IncludeSubdomains is for all hosts below as well.
	IncludeSubdomains bool `toml:"include_subdomains"`
	// Preload agrees to browsers' lists: with IncludeSubdomains and a year.
	Preload bool `toml:"preload"`
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *Config) SetDefaults() { *c = Config{Redirect: true, MinVersion: "1.2"} }

// Auth is ClientAuth with its default.
func (c *Config) Auth() string {
	switch {
	case c.ClientAuth != "":
		return c.ClientAuth
	case c.ClientCA != "":
		return "require"
	}
	return "off"
}

// Field is the value of Strict-Transport-Security; "" for nil.
func (h *HSTSConfig) Field() string {
	if h == nil {
		return ""
	}
	value := fmt.Sprintf("max-age=%d", int64(h.MaxAge/time.Second))
	if h.IncludeSubdomains {
		value += "; includeSubDomains"
	}
	if h.Preload {
		value += "; preload"
	}
	return value
}

// intermediate are the suites of TLS 1.2 of Mozilla's intermediate configuration (wiki.mozilla.org/Security/Server_Side_TLS, version
// 5.7) but for those with DHE, which Go does not have.
var intermediate = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// CipherNames are the names that Ciphers may have: those that can be used safely.
func CipherNames() []string {
	var names []string
	for _, s := range tls.CipherSuites() {
		if slices.Contains(s.SupportedVersions, tls.VersionTLS12) {
			names = append(names, s.Name)
		}
	}
	return names
}

// CheckCipher tells what is wrong with one of Ciphers.
func CheckCipher(name string) error {
	if slices.Contains(CipherNames(), name) {
		return nil
	}
	for _, s := range tls.CipherSuites() {
		if s.Name == name {
			return fmt.Errorf("%s is of TLS 1.3, whose suites are not chosen", name)
		}
	}
	for _, s := range tls.InsecureCipherSuites() {
		if s.Name == name {
			return fmt.Errorf("%s is not secure", name)
		}
	}
	return fmt.Errorf("%q is no cipher suite", name)
}

// ciphers are the numbers of Ciphers, which were checked.
func (c *Config) ciphers() []uint16 {
	if len(c.Ciphers) == 0 {
		return intermediate
	}
	var all []uint16
	for _, s := range tls.CipherSuites() {
		if slices.Contains(c.Ciphers, s.Name) {
			all = append(all, s.ID)
		}
	}
	return all
}

func (c *Config) minVersion() uint16 {
	if c.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

// LoadCA reads ClientCA. text is what the file says.
func LoadCA(path string) (pool *x509.CertPool, text string, err error) {
	b, err := certs.ReadFile(path)
	if err != nil {
		return nil, "", err
	}
	pool = x509.NewCertPool()
	if !pool.AppendCertsFromPEM(b) {
		return nil, "", errors.New("there is no PEM certificate in it")
	}
	return pool, string(b), nil
}
