package certs

import (
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"
)

// Fallback is another source of certificates, such as one that gets them by ACME. All methods may be called concurrently.
type Fallback interface {
	// GetCertificate is that of tls.Config, for hosts that no file is for and for clients that ask for one of its protocols. It may
	// block until the handshake's deadline. Nil without an error: the host is none of its.
	GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// Hosts are the hosts, in lower case, for which it has a certificate now, and when that ends. The map is not changed any more. It is
	// asked for each cleartext request.
	Hosts() map[string]time.Time
}

// ErrNone is GetCertificate's when there is no certificate at all.
var ErrNone = errors.New("no certificate for this host")

// Store finds the certificate for a client. All methods may be called concurrently.
type Store struct {
	log      *slog.Logger
	set      atomic.Pointer[set]
	fallback atomic.Pointer[source]

	mu     sync.Mutex      // guards the change of set, and what follows
	stamps map[Files]stamp // of the files, when what is served was read from them
	broken map[Files]string
}

// source is a Fallback and the protocols of its own.
type source struct {
	from   Fallback
	protos []string
}

// NewStore makes one without certificates. log gets what became of changed files.
func NewStore(log *slog.Logger) *Store {
	s := &Store{log: log}
	s.set.Store(newSet(nil))
	return s
}

// SetFallback sets where else certificates come from; nil is nowhere. A client that offers one of protos (ALPN, such as "acme-tls/1")
// gets its certificate from there alone, and Protos lists them.
func (s *Store) SetFallback(f Fallback, protos ...string) {
	if f == nil {
		s.fallback.Store(nil)
		return
	}
	s.fallback.Store(&source{f, protos})
}

// Protos are the protocols that only the fallback speaks: a connection that has agreed on one is over with its handshake.
func (s *Store) Protos() []string {
	if f := s.fallback.Load(); f != nil {
		return f.protos
	}
	return nil
}

// Use makes these the certificates in force; the first is for hosts that none is for.
func (s *Store) Use(all []*Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	broken := s.broken
	s.stamps, s.broken = map[Files]stamp{}, map[Files]string{}
	for _, c := range all {
		s.stamps[c.Files] = c.stamp
		if why := broken[c.Files]; why != "" {
			s.broken[c.Files] = why
		}
	}
	s.set.Store(newSet(slices.Clone(all)))
}

// Loaded is what is in force of these files; nil when they are not.
func (s *Store) Loaded(f Files) *Certificate {
	for _, c := range s.set.Load().all {
		if c.Files == f {
			return c
		}
	}
	return nil
}

// GetCertificate is that of tls.Config: by name, then by wildcard, then from the fallback, then the first one. Of several for a name, that
// which the client can use and which costs less. A client that names no host gets that of the address it came to, or the first.
func (s *Store) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	set, other := s.set.Load(), s.fallback.Load()
	if other != nil && slices.ContainsFunc(hello.SupportedProtos, func(p string) bool { return slices.Contains(other.protos, p) }) {
		c, err := other.from.GetCertificate(hello)
		if c == nil && err == nil {
			err = ErrNone
		}
		return c, err
	}
	if c := choose(set.named(helloHost(hello)), hello); c != nil {
		return c, nil
	}
	if other != nil {
		if c, err := other.from.GetCertificate(hello); c != nil || err != nil {
			return c, err
		}
	}
	if c := choose(set.others, hello); c != nil {
		return c, nil
	}
	return nil, ErrNone
}

// helloHost is the host that a client means, in lower case.
func helloHost(hello *tls.ClientHelloInfo) string {
	if hello.ServerName == "" && hello.Conn != nil {
		if a, ok := hello.Conn.LocalAddr().(*net.TCPAddr); ok {
			return a.AddrPort().Addr().Unmap().WithZone("").String()
		}
	}
	return strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
}

// Covers tells whether there is a certificate for a host in lower case, without its port: not one that merely stands in. It allocates
// nothing and keeps nothing of host.
func (s *Store) Covers(b []byte) bool {
	host := unsafe.String(unsafe.SliceData(b), len(b))
	if s.set.Load().named(strings.Trim(host, "[]")) != nil {
		return true
	}
	if f := s.fallback.Load(); f != nil {
		_, ok := f.from.Hosts()[host]
		return ok
	}
	return false
}

// Expiries tells for each name when its certificate ends, the earliest where there are several.
func (s *Store) Expiries() map[string]time.Time {
	all := map[string]time.Time{}
	add := func(name string, at time.Time) {
		if before, ok := all[name]; !ok || at.Before(before) {
			all[name] = at
		}
	}
	for _, c := range s.set.Load().all {
		for _, name := range c.names {
			add(name, c.Expiry())
		}
	}
	if f := s.fallback.Load(); f != nil {
		for name, at := range f.from.Hosts() {
			if all[name].IsZero() {
				add(name, at)
			}
		}
	}
	return all
}

// Served are the certificates of files that a host in lower case would be shown, that which costs less first; standIn tells that none of
// them is for it.
func (s *Store) Served(host string) (list []*Certificate, standIn bool) {
	set := s.set.Load()
	if list = set.named(strings.Trim(host, "[]")); list != nil {
		return list, false
	}
	return set.others, true
}
