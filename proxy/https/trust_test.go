package https

import (
	"crypto/tls"
	"crypto/x509/pkix"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/proxy/certs/certstest"
)

func TestClientCertificates(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.ClientCA = filepath.Join(w.folder, "ca.pem")
		if err := os.WriteFile(w.cfg.ClientCA, w.ca.PEM, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	stranger := certstest.New(t)
	known := &tls.Config{Certificates: []tls.Certificate{w.ca.Pair(certstest.Want{Client: true, Subject: pkix.Name{CommonName: "me"}})}}
	foreign := stranger.Pair(certstest.Want{Client: true, Subject: pkix.Name{CommonName: "me"}})
	unknown := &tls.Config{GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &foreign, nil }}
	old := &tls.Config{Certificates: []tls.Certificate{w.ca.Pair(certstest.Want{Client: true, Until: time.Now().Add(-time.Hour)})}}
	server := &tls.Config{Certificates: []tls.Certificate{w.ca.Pair(certstest.Want{Hosts: []string{"me"}})}}

	if _, err := w.dial(known.Clone()); err != nil {
		t.Errorf("require, with a certificate: %v", err)
	} else if st := <-w.states; len(st.VerifiedChains) == 0 || st.PeerCertificates[0].Subject.CommonName != "me" {
		t.Error("its certificate is not known")
	}
	for what, cfg := range map[string]*tls.Config{"none": {}, "a foreign one": unknown, "an expired one": old, "one for servers": server} {
		if _, err := w.dial(cfg.Clone()); err == nil {
			t.Errorf("require: let in with %s", what)
		}
	}
	w.countedTimes("", "client_certificate", 4)
	w.cfg.ClientAuth = "request"
	w.apply()
	if _, err := w.dial(&tls.Config{}); err != nil {
		t.Errorf("request, without: %v", err)
	} else if st := <-w.states; len(st.VerifiedChains) > 0 {
		t.Error("verified without a certificate")
	}
	if _, err := w.dial(unknown.Clone()); err == nil {
		t.Error("request: let in with a foreign one")
	}

	// The file changes: who was trusted no longer is, not even by an old session.
	if err := os.WriteFile(w.cfg.ClientCA, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.front.Refresh(time.Now())
	w.front.Refresh(time.Now())
	if _, err := w.dial(known.Clone()); err != nil || w.front.Stats().Broken != 1 || strings.Count(w.log.String(), "the old one stays") != 1 {
		t.Errorf("a broken client_ca: %v, %d broken, %s", err, w.front.Stats().Broken, w.log)
	}
	if err := os.WriteFile(w.cfg.ClientCA, stranger.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	w.front.Refresh(time.Now())
	if _, err := w.dial(known.Clone()); err == nil {
		t.Error("let in by the old client_ca")
	}
	if _, err := w.dial(unknown.Clone()); err != nil || w.front.Stats().Broken != 0 {
		t.Errorf("not let in by the new client_ca: %v", err)
	}
}

// Sessions are resumed over a reload, and never over a change of who is let in.
func TestSessions(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		w := newWorld(t, nil)
		cache := tls.NewLRUClientSessionCache(8)
		resumes := func() bool {
			t.Helper()
			st, err := w.dial(&tls.Config{ClientSessionCache: cache, MaxVersion: version})
			if err != nil {
				t.Fatal(err)
			}
			return st.DidResume
		}
		resumes()
		if !resumes() {
			t.Errorf("%s: not resumed", tls.VersionName(version))
		}
		w.apply()
		if !resumes() {
			t.Errorf("%s: not resumed after a reload", tls.VersionName(version))
		}
		w.ca.Write(w.folder, "a", certstest.Want{Hosts: []string{"a.example", "b.example"}})
		w.front.Refresh(time.Now())
		if !resumes() {
			t.Errorf("%s: not resumed after a new certificate", tls.VersionName(version))
		}
		w.cfg.ClientCA = filepath.Join(w.folder, "ca.pem")
		w.cfg.ClientAuth = "request"
		if err := os.WriteFile(w.cfg.ClientCA, w.ca.PEM, 0o600); err != nil {
			t.Fatal(err)
		}
		w.apply()
		if resumes() {
			t.Errorf("%s: resumed although client_auth has changed", tls.VersionName(version))
		}
		if !resumes() {
			t.Errorf("%s: not resumed with request", tls.VersionName(version))
		}
		if err := os.WriteFile(w.cfg.ClientCA, append(certstest.New(t).PEM, w.ca.PEM...), 0o600); err != nil {
			t.Fatal(err)
		}
		w.front.Refresh(time.Now())
		if resumes() {
			t.Errorf("%s: resumed although client_ca has changed", tls.VersionName(version))
		}
	}
}

// maker is a fallback with a protocol of its own.
type maker struct{ pair tls.Certificate }

func (m maker) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &m.pair, nil }
func (m maker) Hosts() map[string]time.Time                                   { return nil }

// An authority that checks a host shows no certificate of its own and is served nothing.
func TestFallbacksOwnProtocol(t *testing.T) {
	w := newWorld(t, func(w *world) {
		w.cfg.ClientCA = filepath.Join(w.folder, "ca.pem")
		if err := os.WriteFile(w.cfg.ClientCA, w.ca.PEM, 0o600); err != nil {
			t.Fatal(err)
		}
		w.front.Certs.SetFallback(maker{w.ca.Pair(certstest.Want{Hosts: []string{"a.example", "made.example"}})}, "acme-tls/1")
	})
	st, err := w.dial(&tls.Config{NextProtos: []string{"acme-tls/1"}})
	if !errors.Is(err, io.EOF) || st.NegotiatedProtocol != "acme-tls/1" || !slices.Contains(st.PeerCertificates[0].DNSNames, "made.example") {
		t.Errorf("%q, %v", st.NegotiatedProtocol, err)
	}
	if len(w.states) > 0 {
		t.Error("it was served")
	}
	if _, err := w.dial(&tls.Config{NextProtos: []string{"h2"}}); err == nil {
		t.Error("others are let in without a certificate")
	}
}
