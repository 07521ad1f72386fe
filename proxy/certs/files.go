// Package certs keeps the certificates that the front shows to its clients: those of files, read again when they change, and those
// of another source that makes them itself.
package certs

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

// Files are a certificate and its key, both PEM.
type Files struct {
	// Cert is the file with the certificate, followed by those that lead to its authority; required. Relative paths start at the
	// working directory.
	Cert string `toml:"cert"`
	// Key is the file with its private key; required.
	Key string `toml:"key"`
}

// FileError is a certificate that cannot be used, and which of the two files is to blame.
type FileError struct {
	// Key is "cert" or "key".
	Key string
	// Path is what it says.
	Path string
	Err  error
}

// Error implements error.
func (e *FileError) Error() string { return fmt.Sprintf("%s: %s", e.Path, e.Err) }

// Unwrap gives the cause.
func (e *FileError) Unwrap() error { return e.Err }

// Certificate is one that was read and fits its key. It is never changed.
type Certificate struct {
	tls.Certificate // Leaf is set
	Files           Files
	stamp           stamp    // of the files, before they were read
	names           []string // in lower case, "*.example.com" as it stands, addresses as netip writes them
	kind            kind
}

// kind is the key's algorithm, the one that costs less first.
type kind int

const (
	kindECDSA kind = iota
	kindEd25519
	kindRSA
)

func (k kind) String() string { return [...]string{"ECDSA", "Ed25519", "RSA"}[k] }

// maxFile is the largest file that is read.
const maxFile = 1 << 20

// Load reads a certificate and its key. The error is a *FileError. One that is no longer valid is no error: see Expired.
func Load(f Files) (*Certificate, error) {
	at := stampOf(f)
	cert, err := ReadFile(f.Cert)
	if err != nil {
		return nil, &FileError{"cert", f.Cert, err}
	}
	key, err := ReadFile(f.Key)
	if err != nil {
		return nil, &FileError{"key", f.Key, err}
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		blame := &FileError{"key", f.Key, plain(err)}
		if text := err.Error(); strings.Contains(text, "certificate input") || strings.HasPrefix(text, "x509: ") {
			blame.Key, blame.Path = "cert", f.Cert
		}
		return nil, blame
	}
	c := &Certificate{Certificate: pair, Files: f, stamp: at, kind: kindRSA}
	switch pair.Leaf.PublicKey.(type) {
	case *ecdsa.PublicKey:
		c.kind = kindECDSA
	case ed25519.PublicKey:
		c.kind = kindEd25519
	}
	for _, name := range pair.Leaf.DNSNames {
		c.names = append(c.names, strings.ToLower(strings.TrimSuffix(name, ".")))
	}
	for _, ip := range pair.Leaf.IPAddresses {
		c.names = append(c.names, ip.String())
	}
	slices.Sort(c.names)
	c.names = slices.Compact(c.names)
	return c, nil
}

// plain words an error of crypto/tls for a file of ours.
func plain(err error) error {
	text := strings.TrimPrefix(err.Error(), "tls: ")
	switch {
	case strings.Contains(text, "private key does not match"), strings.Contains(text, "private key type does not match"):
		return errors.New("the key does not belong to the certificate")
	case strings.Contains(text, "found a certificate rather than a key"), strings.Contains(text, "PEM data in key input"):
		return errors.New("there is no PEM key in it")
	case strings.Contains(text, "PEM data in certificate input"):
		return errors.New("there is no PEM certificate in it")
	}
	return errors.New(text)
}

// ReadFile reads a regular file of at most 1 MiB.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path) // before it is opened: a pipe would wait for its writer
	if err != nil {
		return nil, cause(err)
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, cause(err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, cause(err)
	}
	if len(b) > maxFile {
		return nil, errors.New("it is larger than 1 MiB")
	}
	return b, nil
}

// cause drops the path, which whoever tells the error names.
func cause(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}

// Names are the hosts that it is for, in lower case and in order, "*.example.com" for all of one label more.
func (c *Certificate) Names() []string { return c.names }

// Kind is the key's algorithm: ECDSA, Ed25519 or RSA.
func (c *Certificate) Kind() string { return c.kind.String() }

// Expiry is when it ends.
func (c *Certificate) Expiry() time.Time { return c.Leaf.NotAfter }

// Expired tells that it is no longer valid.
func (c *Certificate) Expired(now time.Time) bool { return now.After(c.Expiry()) }
