package acme

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"sluice/proxy/certs/acme/pebbletest"
)

// site is a small front on loopback: one cleartext and one TLS listener, and a Manager that answers on both.
type site struct {
	*Manager
	t   *testing.T
	at  Listening
	log *pebbletest.Output
}

// newSite opens the listeners; ports are of HTTP and TLS, 0 for none.
func newSite(t *testing.T, http01, tlsALPN01 int) *site {
	t.Helper()
	t.TempDir() // so that it is removed last
	s := &site{t: t, log: &pebbletest.Output{}}
	s.Manager = New(slog.New(slog.NewTextHandler(s.log, nil)))
	t.Cleanup(func() {
		s.Close()
		if t.Failed() {
			t.Logf("logged:\n%s", s.log)
		}
	})
	if http01 != 0 {
		ln := s.listen(http01)
		s.at.HTTP = addrOf(ln)
		go http.Serve(ln, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			host, _, err := net.SplitHostPort(r.Host)
			if err != nil {
				host = r.Host
			}
			if body, ok := s.Answer(host, r.URL.Path); ok {
				w.Write(body)
				return
			}
			http.NotFound(w, r)
		}))
	}
	if tlsALPN01 != 0 {
		ln := s.listen(tlsALPN01)
		s.at.TLS = addrOf(ln)
		cfg := &tls.Config{NextProtos: []string{"http/1.1", Protocol}, GetCertificate: func(h *tls.ClientHelloInfo) (*tls.Certificate, error) {
			c, err := s.GetCertificate(h)
			if c == nil && err == nil {
				err = errors.New("none of its hosts")
			}
			return c, err
		}}
		go func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				go func() {
					defer nc.Close()
					_ = nc.SetDeadline(time.Now().Add(10 * time.Second))
					_ = tls.Server(nc, cfg).Handshake()
				}()
			}
		}()
	}
	return s
}

func addrOf(ln net.Listener) netip.AddrPort { return ln.Addr().(*net.TCPAddr).AddrPort() }

func (s *site) listen(port int) net.Listener {
	s.t.Helper()
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { ln.Close() })
	return ln
}

// shown is the certificate that a client gets for a host.
func (s *site) shown(host string) (*x509.Certificate, error) {
	d := net.Dialer{Timeout: 5 * time.Second}
	c, err := tls.DialWithDialer(&d, "tcp", s.at.TLS.String(), &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

// awaits waits for the certificate of a host and checks it.
func (s *site) awaits(host string, roots *x509.CertPool) *x509.Certificate {
	s.t.Helper()
	var cert *x509.Certificate
	within(s.t, 30*time.Second, "a certificate for "+host, func() (ok bool) {
		c, err := s.shown(host)
		cert = c
		return err == nil
	})
	d, err := tls.Dial("tcp", s.at.TLS.String(), &tls.Config{ServerName: host, RootCAs: roots})
	if err != nil {
		s.t.Fatalf("%s: the chain is not good: %v", host, err)
	}
	d.Close()
	return cert
}

// within calls f until it is true, at most for limit.
func within(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func configOf(t *testing.T, a *pebbletest.Authority) *Config {
	return &Config{Email: "ops@example.com", Storage: filepath.Join(t.TempDir(), "acme"), Directory: a.Directory, CA: a.CA}
}

func (s *site) configureAt(cfg *Config, at Listening, hosts ...string) {
	s.t.Helper()
	c, err := s.Prepare(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	c.Commit(hosts, at)
}

func (s *site) configure(cfg *Config, hosts ...string) {
	s.t.Helper()
	s.configureAt(cfg, s.at, hosts...)
}
