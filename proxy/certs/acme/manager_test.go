package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/certmagic"

	"sluice/proxy/certs/acme/pebbletest"
)

// Each kind of challenge alone is enough, the certificate is served by name, and nobody can have others asked for.
func TestACertificateByEitherChallenge(t *testing.T) {
	for _, kind := range []string{"http-01", "tls-alpn-01"} {
		t.Run(kind, func(t *testing.T) {
			ports := pebbletest.FreePorts(t, 2)
			a := pebbletest.Start(t, pebbletest.Options{HTTPPort: ports[0], TLSPort: ports[1]})
			s := newSite(t, ports[0], ports[1])
			at := s.at
			if kind == "http-01" {
				at.TLS = netip.AddrPort{}
			} else {
				at.HTTP = netip.AddrPort{}
			}
			s.configureAt(configOf(t, a), at, "one.example.com", "Two.Example.com.")
			for _, host := range []string{"one.example.com", "two.example.com"} {
				if c := s.awaits(host, a.Roots()); !slices.Equal(c.DNSNames, []string{host}) {
					t.Errorf("%s is shown a certificate for %v", host, c.DNSNames)
				}
			}
			if c, err := s.shown("three.example.com"); err == nil {
				t.Errorf("a host that is not wanted is shown a certificate for %v", c.DNSNames)
			}
			if c, err := tls.Dial("tcp", s.at.TLS.String(), &tls.Config{ServerName: "one.example.com", InsecureSkipVerify: true, NextProtos: []string{Protocol}}); err == nil {
				c.Close()
				t.Error("a certificate for a challenge that is not under way")
			}
			if asked := a.Asked(); !slices.Equal(slices.Sorted(slices.Values(asked)), []string{"one.example.com", "two.example.com"}) || a.Orders() != 2 {
				t.Errorf("%d orders, names looked up: %v", a.Orders(), asked)
			}
			within(t, 5*time.Second, "both in Hosts", func() bool { return len(s.Hosts()) == 2 })
			for host, at := range s.Hosts() {
				if left := time.Until(at); left < 89*24*time.Hour || left > 91*24*time.Hour {
					t.Errorf("%s ends in %s", host, left)
				}
			}
			for _, h := range s.Status() {
				if h.Failures != 0 || h.Expires.IsZero() {
					t.Errorf("%+v", h)
				}
			}
			if said := s.log.String(); strings.Count(said, "certificate obtained") != 2 || strings.Contains(said, "level=WARN") || strings.Contains(said, "level=ERROR") {
				t.Errorf("logged:\n%s", said)
			}
		})
	}
}

// A second Manager with the same folder, be it after a restart or another gateway, has the certificates without asking for them.
func TestTheFolderIsEnough(t *testing.T) {
	ports := pebbletest.FreePorts(t, 3)
	a := pebbletest.Start(t, pebbletest.Options{HTTPPort: ports[0], TLSPort: ports[1]})
	cfg := configOf(t, a)
	s := newSite(t, ports[0], ports[1])
	s.configure(cfg, "one.example.com")
	first := s.awaits("one.example.com", a.Roots())
	s.Close()
	a.Stop()
	again := newSite(t, 0, ports[2])
	again.configure(cfg, "one.example.com")
	within(t, 10*time.Second, "the certificate from the folder", func() bool {
		c, err := again.shown("one.example.com")
		return err == nil && c.Equal(first)
	})
	if a.Orders() != 1 {
		t.Errorf("%d orders", a.Orders())
	}
	if info, err := os.Stat(cfg.Storage); err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("others may look into the folder: %v %v", info, err)
	}
}

// One gateway's challenge is answered by another with the same folder, whichever the authority comes to.
func TestAChallengeIsAnsweredByAnotherGateway(t *testing.T) {
	ports := pebbletest.FreePorts(t, 3)
	a := pebbletest.Start(t, pebbletest.Options{HTTPPort: ports[0], TLSPort: ports[1]})
	cfg := configOf(t, a)
	reached := newSite(t, ports[0], 0)
	reached.configure(cfg, "one.example.com")
	within(t, 30*time.Second, "the first certificate", func() bool { return len(reached.Hosts()) == 1 })

	// The authority comes to the first gateway, which knows of the second host and asks for nothing itself.
	known := maps.Clone(*reached.account.Load().hosts.Load())
	known["two.example.com"] = &host{cancel: func() {}}
	reached.account.Load().hosts.Store(&known)
	asking := newSite(t, 0, ports[2])
	asking.configureAt(cfg, Listening{HTTP: reached.at.HTTP}, "two.example.com")
	asking.awaits("two.example.com", a.Roots())
	reached.configure(cfg, "one.example.com")
	reached.configure(cfg, "one.example.com", "two.example.com")
	within(t, 10*time.Second, "both at both", func() bool { return len(reached.Hosts()) == 2 })
	if a.Orders() != 2 {
		t.Errorf("%d orders", a.Orders())
	}
}

// Certificates are renewed before they end, and clients are shown the new one.
func TestRenewal(t *testing.T) {
	ports := pebbletest.FreePorts(t, 2)
	a := pebbletest.Start(t, pebbletest.Options{HTTPPort: ports[0], TLSPort: ports[1], Validity: 18 * time.Second})
	s := newSite(t, ports[0], ports[1])
	s.every = 200 * time.Millisecond
	s.configure(configOf(t, a), "one.example.com")
	first := s.awaits("one.example.com", a.Roots())
	within(t, 40*time.Second, "another certificate", func() bool {
		c, err := s.shown("one.example.com")
		if err == nil && !c.Equal(first) && c.NotAfter.After(first.NotAfter) {
			return true
		}
		if time.Now().After(first.NotAfter.Add(2 * time.Second)) {
			t.Fatal("it has ended")
		}
		return false
	})
}

// A change of the hosts asks for what is new, keeps what stays and forgets what goes.
func TestOtherHosts(t *testing.T) {
	ports := pebbletest.FreePorts(t, 2)
	a := pebbletest.Start(t, pebbletest.Options{HTTPPort: ports[0], TLSPort: ports[1]})
	cfg := configOf(t, a)
	s := newSite(t, ports[0], ports[1])
	s.configure(cfg, "one.example.com", "two.example.com")
	s.awaits("one.example.com", a.Roots())
	two := s.awaits("two.example.com", a.Roots())
	s.configure(cfg, "two.example.com", "three.example.com")
	s.awaits("three.example.com", a.Roots())
	if c, err := s.shown("two.example.com"); err != nil || !c.Equal(two) {
		t.Errorf("what stays has changed: %v", err)
	}
	if c, err := s.GetCertificate(&tls.ClientHelloInfo{ServerName: "one.example.com"}); c != nil || err != nil { // others may have one
		t.Errorf("what is gone is still shown: %v", err)
	}
	if a.Orders() != 3 {
		t.Errorf("%d orders", a.Orders())
	}
	s.configure(nil)
	if _, err := s.shown("two.example.com"); err == nil || len(s.Hosts()) != 0 || s.Status() != nil {
		t.Error("without [acme] there are certificates")
	}
}

// Another authority's certificates take over as they come; until then those of the one before are shown.
func TestAnotherAuthority(t *testing.T) {
	ports := pebbletest.FreePorts(t, 2)
	o := pebbletest.Options{HTTPPort: ports[0], TLSPort: ports[1]}
	a, b := pebbletest.Start(t, o), pebbletest.Start(t, o)
	s := newSite(t, ports[0], ports[1])
	cfg := configOf(t, a)
	s.configure(cfg, "one.example.com")
	first := s.awaits("one.example.com", a.Roots())
	other := *cfg
	other.Directory, other.CA = b.Directory, b.CA
	s.configure(&other, "one.example.com")
	roots := b.Roots()
	within(t, 30*time.Second, "the other's certificate", func() bool {
		c, err := s.shown("one.example.com")
		if err != nil {
			t.Fatalf("no certificate meanwhile: %v", err)
		}
		return !c.Equal(first)
	})
	s.awaits("one.example.com", roots)
}

// What the authority says of a failure is told.
func TestWhatTheAuthoritySays(t *testing.T) {
	ports := pebbletest.FreePorts(t, 3)
	a := pebbletest.Start(t, pebbletest.Options{HTTPPort: ports[2], TLSPort: ports[2]}) // where nobody listens
	s := newSite(t, ports[0], ports[1])
	s.configure(configOf(t, a), "one.example.com")
	within(t, 30*time.Second, "a failure", func() bool { return s.Status()[0].Failures > 0 })
	h := s.Status()[0]
	if !strings.Contains(h.Failure, "urn:ietf:params:acme:error:") || !h.Expires.IsZero() || time.Since(h.FailedAt) > time.Minute {
		t.Errorf("%+v", h)
	}
	if said := s.log.String(); strings.Count(said, "level=ERROR") != 1 || !strings.Contains(said, "urn:ietf:params:acme:error:") {
		t.Errorf("logged:\n%s", said)
	}
	if _, err := s.shown("one.example.com"); err == nil {
		t.Error("there is a certificate")
	}
}

// A failure is told until there is a certificate, and how often there was one for ever; that nobody wants it any more is none.
func TestFailuresAreToldUntilThereIsACertificate(t *testing.T) {
	s := newSite(t, 0, 0)
	s.configure(&Config{Storage: t.TempDir(), Directory: "https://127.0.0.1:1/dir"}, "one.example.com")
	within(t, 20*time.Second, "a failure", func() bool { return s.Status()[0].Failures == 1 })
	tell := func(event string, err error) Host {
		if err := s.account.Load().event(t.Context(), event, map[string]any{"identifier": "one.example.com", "error": err}); err != nil {
			t.Error(err)
		}
		return s.Status()[0]
	}
	if h := tell("cert_failed", errors.New("no more today")); h.Failure != "no more today" || h.Failures != 2 {
		t.Errorf("%+v", h)
	}
	if h := tell("cert_failed", fmt.Errorf("polling: %w", context.Canceled)); h.Failure != "no more today" || h.Failures != 2 {
		t.Errorf("%+v", h)
	}
	if h := tell("cert_obtained", nil); h.Failure != "" || h.Failures != 2 {
		t.Errorf("%+v", h)
	}
}

// An authority that cannot be reached is a failure as any other, and hinders nobody.
func TestNobodyAnswers(t *testing.T) {
	s := newSite(t, 0, pebbletest.FreePorts(t, 1)[0])
	gone := pebbletest.FreePorts(t, 1)[0]
	begun := time.Now()
	folder := t.TempDir()
	cfg := &Config{Storage: folder, Directory: fmt.Sprintf("https://127.0.0.1:%d/dir", gone)}
	s.configure(cfg, "one.example.com")
	if took := time.Since(begun); took > time.Second {
		t.Errorf("it took %s to begin", took)
	}
	within(t, 20*time.Second, "a failure", func() bool { return strings.Contains(s.Status()[0].Failure, "refused") })
	if said := s.log.String(); strings.Count(said, "level=ERROR") != 1 {
		t.Errorf("logged:\n%s", said)
	}
	if _, err := s.shown("one.example.com"); err == nil {
		t.Error("there is a certificate")
	}
	// Between two tries it holds the lock, for which another gateway would wait.
	locks := func() []string {
		names, err := filepath.Glob(filepath.Join(folder, "locks", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return names
	}
	if len(locks()) == 0 {
		t.Fatal("no lock")
	}
	s.configure(nil)
	within(t, 10*time.Second, "no lock without [acme]", func() bool { return len(locks()) == 0 })
	s.configure(cfg, "one.example.com")
	within(t, 10*time.Second, "a lock again", func() bool { return len(locks()) > 0 })
	s.Close()
	if left := locks(); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A folder that cannot be written is told, and nobody is asked.
func TestAFolderThatCannotBeWritten(t *testing.T) {
	s := newSite(t, 0, pebbletest.FreePorts(t, 1)[0])
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.configure(&Config{Storage: filepath.Join(file, "acme"), Directory: "https://127.0.0.1:1/dir"}, "one.example.com")
	within(t, 20*time.Second, "a failure", func() bool { return strings.Contains(s.Status()[0].Failure, "not a directory") })
}

// Only hosts that are wanted are answered for, and only tokens under way.
func TestOnlyTokensUnderWayAreAnswered(t *testing.T) {
	ports := pebbletest.FreePorts(t, 2)
	a := pebbletest.Start(t, pebbletest.Options{HTTPPort: ports[0], TLSPort: ports[1]})
	s := newSite(t, ports[0], 0)
	if _, ok := s.Answer("one.example.com", ChallengePath+"token"); ok {
		t.Error("answered without [acme]")
	}
	cfg := configOf(t, a)
	s.configure(cfg, "one.example.com")
	within(t, 30*time.Second, "the certificate", func() bool { return len(s.Hosts()) == 1 })
	key := "acme/" + certmagic.StorageKeys.Safe(s.account.Load().issuer.IssuerKey()) + "/challenge_tokens/"
	for _, host := range []string{"one.example.com", "two.example.com"} { // as another gateway would
		challenge := fmt.Sprintf(`{"type": "http-01", "token": "abc", "keyAuthorization": "abc.def", "identifier": {"type": "dns", "value": %q}}`, host)
		if err := s.account.Load().magic.Storage.Store(t.Context(), key+host+".json", []byte(challenge)); err != nil {
			t.Fatal(err)
		}
	}
	for _, one := range []struct {
		host, path, want string
	}{
		{"one.example.com", ChallengePath + "abc", "abc.def"}, {"One.Example.Com.", ChallengePath + "abc", "abc.def"},
		{"one.example.com", ChallengePath + "abd", ""}, {"one.example.com", ChallengePath, ""}, {"one.example.com", "/abc", ""},
		{"two.example.com", ChallengePath + "abc", ""}, {"../one.example.com", ChallengePath + "abc", ""},
	} {
		if body, ok := s.Answer(one.host, one.path); string(body) != one.want || ok != (one.want != "") {
			t.Errorf("%s%s: %q %v", one.host, one.path, body, ok)
		}
	}
}

func TestAFileOfRootsThatCannotBeRead(t *testing.T) {
	cfg := &Config{Storage: t.TempDir(), Directory: "https://127.0.0.1:1/dir", CA: filepath.Join(t.TempDir(), "none.pem")}
	if _, err := New(slog.New(slog.DiscardHandler)).Prepare(cfg); err == nil || !strings.Contains(err.Error(), "none.pem: no such file") {
		t.Errorf("%v", err)
	}
	if err := os.WriteFile(cfg.CA, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := New(slog.New(slog.DiscardHandler)).Prepare(cfg); err == nil || !strings.Contains(err.Error(), "no PEM certificate") {
		t.Errorf("%v", err)
	}
}
