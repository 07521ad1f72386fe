package main

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// certificate is what every peer shows: of ECDSA P-256, made for the run and signed by itself.
type certificate struct {
	Cert, Key, Both string // paths of PEM files; Both has the certificate and then the key
	der             []byte
}

// makeCertificate writes the files into dir.
func makeCertificate(dir string) (certificate, error) {
	none := certificate{}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return none, err
	}
	about := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "www.example.com"},
		DNSNames: []string{"www.example.com"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(30 * 24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, &about, &about, key.Public(), key)
	if err != nil {
		return none, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return none, err
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	keyPEM := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})
	c := certificate{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem"), Both: filepath.Join(dir, "both.pem"), der: der}
	return c, errors.Join(os.WriteFile(c.Cert, certPEM, 0o600), os.WriteFile(c.Key, keyPEM, 0o600),
		os.WriteFile(c.Both, append(bytes.Clone(certPEM), keyPEM...), 0o600))
}

// client is how the load speaks TLS, the same to every peer: version 1.3 with X25519, AES-128-GCM and the certificate of the run, and
// never a session from before. Without a cache for them Go does not offer to take tickets either, so Go makes none; OpenSSL is told not
// to by the configurations.
func (c certificate) client() *tls.Config {
	return &tls.Config{
		MinVersion:         tls.VersionTLS13,
		CurvePreferences:   []tls.CurveID{tls.X25519}, // what OpenSSL 3.0 and Go both have
		NextProtos:         []string{"http/1.1"},
		InsecureSkipVerify: true, // the certificate is compared with the one of the run; that costs the load nothing
		VerifyConnection: func(s tls.ConnectionState) error {
			switch {
			case len(s.PeerCertificates) == 0 || !bytes.Equal(s.PeerCertificates[0].Raw, c.der):
				return errors.New("another certificate than that of the run")
			case s.DidResume:
				return errors.New("a resumed session")
			case s.CipherSuite != tls.TLS_AES_128_GCM_SHA256:
				return fmt.Errorf("%s instead of TLS_AES_128_GCM_SHA256", tls.CipherSuiteName(s.CipherSuite))
			}
			return nil
		},
	}
}
