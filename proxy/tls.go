package proxy

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
)

// TLSConfig says how servers are reached over TLS, written `tls = true` or as a table.
type TLSConfig struct {
	// On is true (default) unless it is written `tls = false`.
	On bool `toml:"on" short:"true"`
	// CA is a file of certificates (PEM), one of which has to have signed a server's; "" (default) is what the system trusts.
	CA string `toml:"ca"`
	// Cert and Key are files (PEM) of the certificate, with its chain, that servers are shown, and of its key; "" (default) is none.
	Cert string `toml:"cert"`
	Key  string `toml:"key"`
	// ServerName is the name that servers are told (SNI) and that their certificates have to be for; "" (default) is the host of each
	// server's address. An address is not told.
	ServerName string `toml:"server_name"`
	// Verify is whether the certificates of servers are checked; default true. Without it whoever is in between can read and
	// change everything.
	Verify bool `toml:"verify"`
}

// SetDefaults is called by the decoder before a table of this type is read.
func (c *TLSConfig) SetDefaults() { *c = TLSConfig{On: true, Verify: true} }

// Off tells that servers are reached without TLS; nil is off.
func (c *TLSConfig) Off() bool { return c == nil || !c.On }

// Check reads the files and tells the key that is wrong and why, in words.
func (c *TLSConfig) Check() (key string, err error) {
	_, key, err = c.load()
	return key, err
}

// material is what the files of a TLSConfig hold.
type material struct {
	ca, cert, key []byte
	roots         *x509.CertPool // nil: the system's
	shown         []tls.Certificate
}

func (m *material) same(o *material) bool {
	return slices.Equal(m.ca, o.ca) && slices.Equal(m.cert, o.cert) && slices.Equal(m.key, o.key)
}

// load reads the files. An error belongs to key.
func (c *TLSConfig) load() (m *material, key string, err error) {
	m = new(material)
	if c.CA != "" {
		if m.ca, err = os.ReadFile(c.CA); err != nil {
			return nil, "ca", plain(err)
		}
		m.roots = x509.NewCertPool()
		if !m.roots.AppendCertsFromPEM(m.ca) {
			return nil, "ca", fmt.Errorf("%s holds no certificate (PEM)", c.CA)
		}
	}
	switch {
	case c.Cert == "" && c.Key == "":
		return m, "", nil
	case c.Key == "":
		return nil, "cert", errors.New("cert needs its key")
	case c.Cert == "":
		return nil, "key", errors.New("key needs its cert")
	}
	if m.cert, err = os.ReadFile(c.Cert); err != nil {
		return nil, "cert", plain(err)
	}
	if m.key, err = os.ReadFile(c.Key); err != nil {
		return nil, "key", plain(err)
	}
	pair, err := tls.X509KeyPair(m.cert, m.key)
	if err != nil {
		return nil, "cert", fmt.Errorf("%s and %s are no pair: %w", c.Cert, c.Key, err)
	}
	m.shown = []tls.Certificate{pair}
	return m, "", nil
}

// plain is what kept a file from being read, without the name of the system call.
func plain(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return fmt.Errorf("%s: %w", e.Path, e.Err)
	}
	return err
}

// client makes the TLS of connections to the server at host, a name or an address.
func (c *TLSConfig) client(m *material) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: m.roots, Certificates: m.shown, ServerName: c.ServerName,
		InsecureSkipVerify: !c.Verify, // asked for in the configuration, which warns
	}
}

// sessionsOf keeps the TLS sessions of one server apart from those of others: what one gave another cannot resume.
type sessionsOf struct {
	tls.ClientSessionCache
	addr string
}

func (s sessionsOf) Get(key string) (*tls.ClientSessionState, bool) {
	return s.ClientSessionCache.Get(s.addr + " " + key)
}

func (s sessionsOf) Put(key string, state *tls.ClientSessionState) {
	s.ClientSessionCache.Put(s.addr+" "+key, state)
}

// maxSessions is how many TLS sessions an upstream keeps to resume.
const maxSessions = 256
