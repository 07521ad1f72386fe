package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/config"
	"sluice/proxy/certs/acme"
	"sluice/proxy/certs/acme/pebbletest"
	"sluice/proxy/certs/certstest"
	"sluice/proxy/https"
)

// acmeSite is a sluice whose certificates come from an authority on this machine.
type acmeSite struct {
	*running
	*pebbletest.Authority
	tls string // its TLS listener
}

// prepareACME writes a configuration with these routes and the keys of [tls]; neither sluice nor the authority run yet.
func prepareACME(t *testing.T, tls, routes string) *acmeSite {
	t.Helper()
	s := &acmeSite{tls: freeAddrs(t, 1)[0]}
	s.running = prepare(t, fmt.Sprintf("tls = { listen = [%q]%s }\n", s.tls, tls)+"[acme]\nemail = \"ops@example.com\"\ndirectory = \"DIRECTORY\"\nca = \"VOUCHES\"\nstorage = \"STORAGE\"\n"+routes)
	port := func(addr string) int { return must(t, func() (int, error) { return strconv.Atoi(portOf(addr)) }) }
	s.Authority = pebbletest.Prepare(t, pebbletest.Options{HTTPPort: port(strings.TrimPrefix(s.url, "http://")), TLSPort: port(s.tls)})
	s.edit("DIRECTORY", s.Directory)
	s.edit("VOUCHES", s.CA)
	s.edit("STORAGE", filepath.Join(t.TempDir(), "acme"))
	return s
}

// shown is the certificate that a client gets who asks for a host, trusted or not.
func (s *acmeSite) shown(host string) (*x509.Certificate, error) {
	c, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", s.tls, &tls.Config{ServerName: host, InsecureSkipVerify: true})
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.ConnectionState().PeerCertificates[0], nil
}

// getFrom gets a page of a host, with TLS when roots are given, and follows nothing.
func (s *acmeSite) getFrom(host, path string, roots *x509.CertPool) (code int, location string, err error) {
	url, dial := "http://"+host+path, strings.TrimPrefix(s.url, "http://")
	if roots != nil {
		url, dial = "https://"+host+path, s.tls
	}
	client := http.Client{
		Timeout:       10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots},
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, "tcp", dial)
			},
		},
	}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	return resp.StatusCode, resp.Header.Get("Location"), nil
}

const acmeRoutes = `
[[route]]
host = ["one.example.com", "files.example.com", "*.wild.example.com"]
respond = "hello"
[[route]]
host = "inside"
listen = "INSIDE"
respond = "hello"
`

// The whole way: sluice serves in cleartext at once, gets its certificates, redirects from then on, keeps what it has over a restart, and
// asks for more after a reload; never for what files cover or for hosts that are no route's.
func TestCertificatesByACME(t *testing.T) {
	t.Parallel()
	cert, key := certstest.New(t).Write(t.TempDir(), "files", certstest.Want{Hosts: []string{"files.example.com"}})
	s := prepareACME(t, fmt.Sprintf(", certificates = [{ cert = %q, key = %q }]", cert, key), acmeRoutes)
	s.edit("INSIDE", freeAddrs(t, 1)[0])
	s.Run()
	s.launch()
	s.waitReady()
	roots := s.Roots()
	within(t, 30*time.Second, "https", func() bool {
		code, _, err := s.getFrom("one.example.com", "/", roots)
		return err == nil && code == 200
	})
	within(t, 5*time.Second, "a redirect", func() bool {
		code, location, err := s.getFrom("one.example.com", "/a?b", nil)
		return err == nil && code == 308 && strings.HasPrefix(location, "https://one.example.com") && strings.HasSuffix(location, "/a?b")
	})
	if code, _, err := s.getFrom("one.example.com", "/.well-known/acme-challenge/other", nil); err != nil || code != 200 {
		t.Errorf("a challenge that is not under way is not routed: %d %v", code, err)
	}
	for _, host := range []string{"files.example.com", "unknown.example.com", "a.wild.example.com"} {
		if c, err := s.shown(host); err != nil || !slices.Equal(c.DNSNames, []string{"files.example.com"}) {
			t.Errorf("%s is shown %v %v", host, c, err)
		}
	}
	if _, metrics, _ := fetch(s.admin + "/metrics"); !strings.Contains(metrics, `sluice_certificate_expiry_seconds{host="one.example.com"} 7.7`) ||
		!strings.Contains(metrics, `sluice_certificate_failures_total{host="one.example.com"} 0`) {
		t.Errorf("metrics:\n%s", metrics)
	}
	if said := s.log.String(); !strings.Contains(said, "a wildcard needs a challenge by DNS") {
		t.Errorf("nothing is said of the wildcard:\n%s", said)
	}
	if s.Orders() != 1 || !slices.Equal(s.Asked(), []string{"one.example.com"}) {
		t.Errorf("%d orders, for %v", s.Orders(), s.Asked())
	}

	s.signal(syscall.SIGTERM)
	if code := s.exitCode(20 * time.Second); code != exitOK {
		t.Fatalf("exit %d", code)
	}
	s.launch()
	s.waitReady()
	within(t, 5*time.Second, "https after the restart", func() bool {
		code, _, err := s.getFrom("one.example.com", "/", roots)
		return err == nil && code == 200
	})
	s.edit(`"one.example.com"`, `"one.example.com", "two.example.com"`)
	s.signal(syscall.SIGHUP)
	within(t, 30*time.Second, "https for a new host", func() bool {
		code, _, err := s.getFrom("two.example.com", "/", roots)
		return err == nil && code == 200
	})
	if s.Orders() != 2 {
		t.Errorf("%d orders", s.Orders())
	}
}

// While the authority is away sluice serves, and says what is wrong; when it comes the certificate does, without anybody's doing.
// certmagic tries again after a minute.
func TestTheAuthorityComesLater(t *testing.T) {
	takesMinutes(t)
	t.Parallel()
	s := prepareACME(t, "", "[[route]]\nhost = \"one.example.com\"\nrespond = \"hello\"\n")
	s.launch()
	s.waitReady()
	if code, _, err := s.getFrom("one.example.com", "/", nil); err != nil || code != 200 {
		t.Errorf("cleartext: %d %v", code, err)
	}
	within(t, 20*time.Second, "the failure in the status", func() bool {
		_, body, err := fetch(s.admin + "/api/v1/status")
		return err == nil && strings.Contains(body, "certificate of one.example.com") && strings.Contains(body, "connection refused")
	})
	s.Run()
	roots := s.Roots()
	within(t, 2*time.Minute, "https", func() bool {
		code, _, err := s.getFrom("one.example.com", "/", roots)
		return err == nil && code == 200
	})
	if _, body, _ := fetch(s.admin + "/api/v1/status"); strings.Contains(body, "certificate of") {
		t.Errorf("the failure is still told: %s", body)
	}
}

// A check says what would be asked for, and of what there will be nothing.
func TestCheckTellsOfCertificates(t *testing.T) {
	s := prepare(t, "[acme]\nstorage = \"/var/lib/acme\"\n"+strings.ReplaceAll(acmeRoutes, "INSIDE", ":11434"))
	code, out, errs := commandOutput(t, "check", "-c", s.file)
	if code != exitOK {
		t.Fatalf("%d: %s", code, errs)
	}
	for _, want := range []string{
		"certificates for one.example.com, files.example.com from https://acme-v02.api.letsencrypt.org/directory, kept in /var/lib/acme\n",
		"warning: no certificate for *.wild.example.com: a wildcard needs a challenge by DNS",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	if strings.Contains(out, "inside") {
		t.Errorf("a host without TLS:\n%s", out)
	}
	cert, key := certstest.New(t).Write(t.TempDir(), "wild", certstest.Want{Hosts: []string{"*.wild.example.com", "files.example.com"}})
	covered := prepare(t, fmt.Sprintf("[tls]\ncertificates = [{ cert = %q, key = %q }]\n[acme]\n", cert, key)+strings.ReplaceAll(acmeRoutes, "INSIDE", ":11434"))
	if _, out, _ := commandOutput(t, "check", "-c", covered.file); !strings.Contains(out, "certificates for one.example.com from") || strings.Contains(out, "warning") {
		t.Errorf("files do not cover:\n%s", out)
	}
	if _, dump, _ := commandOutput(t, "check", "-T", "-c", s.file); !strings.Contains(dump, "[tls]\nlisten = [\":443\"]") {
		t.Errorf("no port 443:\n%s", dump)
	}
}

func TestWhereChallengesAreAnswered(t *testing.T) {
	open := func(network, addr string) net.Listener {
		ln := must(t, func() (net.Listener, error) { return net.Listen(network, addr) })
		t.Cleanup(func() { ln.Close() })
		return ln
	}
	plain, secure := open("tcp", "127.0.0.1:0"), open("tcp", "127.0.0.1:0")
	l := listeners{"unix:a": open("unix", filepath.Join(t.TempDir(), "a")), ":80": plain, ":443": secure}
	plainAt, secureAt := plain.Addr().(*net.TCPAddr).AddrPort(), secure.Addr().(*net.TCPAddr).AddrPort()
	for _, one := range []struct {
		listen []string
		want   acme.Listening
	}{
		{[]string{":80"}, acme.Listening{HTTP: plainAt, TLS: secureAt}}, {[]string{"unix:a", ":80"}, acme.Listening{HTTP: plainAt, TLS: secureAt}},
		{[]string{"unix:a"}, acme.Listening{HTTP: secureAt, TLS: secureAt}}, {nil, acme.Listening{TLS: secureAt}},
	} {
		cfg := config.Default()
		cfg.Listen, cfg.TLS = one.listen, &https.Config{Listen: []string{":443"}}
		if got := l.answering(cfg); got != one.want {
			t.Errorf("%v: %v, want %v", one.listen, got, one.want)
		}
	}
}
