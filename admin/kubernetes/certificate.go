package kubernetes

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"sync"
	"time"
)

// certificate is what the server shows to its clients: that of two files, read again when they change, or one of its
// own making.
type certificate struct {
	cert, key string // "" for one of its own
	log       *slog.Logger

	mu      sync.Mutex // guards all below
	current *tls.Certificate
	changed [2]time.Time // of the files, when they were last read
}

// newCertificate reads the files, or makes a certificate where there are none.
func newCertificate(cert, key string, log *slog.Logger) (*certificate, error) {
	c := &certificate{cert: cert, key: key, log: log}
	if cert == "" {
		own, err := selfSigned(time.Now())
		if err != nil {
			return nil, err
		}
		c.current = own
		return c, nil
	}
	if err := c.read(); err != nil {
		return nil, err
	}
	return c, nil
}

// get is tls.Config's. Files that were replaced are read; while they cannot be, the last certificate stays.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cert == "" || c.changed == [2]time.Time{modified(c.cert), modified(c.key)} {
		return c.current, nil
	}
	if err := c.read(); err != nil {
		c.log.Error("the certificate of the metrics API could not be read, the old one stays", "error", err)
	}
	return c.current, nil
}

// read takes the files, which may be in the middle of being replaced: they are read again when they change again. The
// caller holds mu, or nobody else knows c.
func (c *certificate) read() error {
	c.changed = [2]time.Time{modified(c.cert), modified(c.key)}
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return fmt.Errorf("metrics_api.cert and key: %w", err)
	}
	c.current = &pair
	return nil
}

func modified(file string) time.Time {
	info, err := os.Stat(file)
	if err != nil {
		return time.Time{}
	}
	return info.ModTime()
}

// selfSigned makes a certificate that nobody can verify: it serves where the APIService says insecureSkipTLSVerify.
func selfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "sluice"}, DNSNames: []string{"sluice"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(10, 0, 0), // as long as a process may live
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
