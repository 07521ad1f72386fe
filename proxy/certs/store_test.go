package certs

import (
	"crypto/tls"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/proxy/certs/certstest"
)

// newTestStore has the certificates in that order and a log that can be read.
func newTestStore(t *testing.T, all ...*Certificate) (*Store, *strings.Builder) {
	t.Helper()
	log := &strings.Builder{}
	s := NewStore(slog.New(slog.NewTextHandler(log, nil)))
	s.Use(all)
	return s, log
}

func load(t *testing.T, a *certstest.Authority, folder, name string, w certstest.Want) *Certificate {
	t.Helper()
	cert, key := a.Write(folder, name, w)
	c, err := Load(Files{cert, key})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake is what a client of that store is shown.
func handshake(t *testing.T, s *Store, client *tls.Config) (tls.ConnectionState, error) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer nc.Close()
		_ = tls.Server(nc, &tls.Config{GetCertificate: s.GetCertificate, NextProtos: append([]string{"http/1.1"}, s.Protos()...)}).Handshake()
	}()
	nc, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	client.InsecureSkipVerify = true
	c := tls.Client(nc, client)
	err = c.Handshake()
	return c.ConnectionState(), err
}

// shown is the first name of the certificate for a client that asks for host, and the kind of its key.
func shown(t *testing.T, s *Store, host string) string {
	t.Helper()
	st, err := handshake(t, s, &tls.Config{ServerName: host})
	if err != nil {
		return err.Error()
	}
	return st.PeerCertificates[0].Subject.CommonName
}

func TestCertificateByName(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	s, _ := newTestStore(t,
		load(t, a, dir, "first", certstest.Want{Hosts: []string{"first.example"}}),
		load(t, a, dir, "wild", certstest.Want{Hosts: []string{"*.example.com", "Example.com"}}),
		load(t, a, dir, "exact", certstest.Want{Hosts: []string{"api.example.com"}}),
		load(t, a, dir, "addr", certstest.Want{Hosts: []string{"127.0.0.1"}}))
	for host, want := range map[string]string{
		"first.example": "first.example", "api.example.com": "api.example.com", "API.Example.com": "api.example.com", "b.example.com": "*.example.com",
		"example.com": "*.example.com", "a.b.example.com": "first.example", "other.test": "first.example", "": "127.0.0.1",
	} {
		if got := shown(t, s, host); got != want {
			t.Errorf("%q is shown the certificate of %s, want %s", host, got, want)
		}
	}
	for host, want := range map[string]bool{"api.example.com": true, "b.example.com": true, "a.b.example.com": false, "other.test": false, "127.0.0.1": true, ".example.com": false, "": false} {
		if s.Covers([]byte(host)) != want {
			t.Errorf("Covers(%q) is not %v", host, want)
		}
	}
	if all := s.Expiries(); len(all) != 5 || all["*.example.com"].IsZero() || !all["example.com"].Equal(all["*.example.com"]) {
		t.Errorf("expiries: %v", all)
	}
	if list, standIn := s.Served("nobody.test"); !standIn || len(list) != 1 || list[0].Names()[0] != "first.example" {
		t.Errorf("a stranger is served %v, %v", list, standIn)
	}
}

func TestKeysSideBySide(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	rsa := load(t, a, dir, "rsa", certstest.Want{Hosts: []string{"a.example"}, RSA: true})
	ecdsa := load(t, a, dir, "ecdsa", certstest.Want{Hosts: []string{"a.example"}})
	s, _ := newTestStore(t, rsa, ecdsa)
	for _, one := range []struct {
		suite uint16
		want  *Certificate
	}{
		{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, rsa},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, ecdsa},
	} {
		for _, host := range []string{"a.example", ""} {
			st, err := handshake(t, s, &tls.Config{ServerName: host, MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{one.suite}})
			if err != nil || !st.PeerCertificates[0].Equal(one.want.Leaf) {
				t.Errorf("a client with %s alone, for %q: %v", tls.CipherSuiteName(one.suite), host, err)
			}
		}
	}
	if st, err := handshake(t, s, &tls.Config{ServerName: "a.example"}); err != nil || !st.PeerCertificates[0].Equal(ecdsa.Leaf) {
		t.Errorf("a client that takes both does not get the cheaper one: %v", err)
	}
	if Overlap(rsa, ecdsa) != "" {
		t.Error("keys of two kinds are no overlap")
	}
	if twin := load(t, a, dir, "twin", certstest.Want{Hosts: []string{"b.example", "a.example"}}); Overlap(ecdsa, twin) != "a.example" || Overlap(rsa, twin) != "" {
		t.Error("the overlap is not seen")
	}
}

// other is a fallback.
type other struct {
	pair  tls.Certificate
	host  string
	asked []string
}

func (o *other) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	o.asked = append(o.asked, hello.ServerName)
	if hello.ServerName == o.host {
		return &o.pair, nil
	}
	return nil, nil
}

func (o *other) Hosts() map[string]time.Time {
	return map[string]time.Time{o.host: o.pair.Leaf.NotAfter}
}

func TestFallback(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	s, _ := newTestStore(t)
	if got := shown(t, s, "a.example"); !strings.Contains(got, "tls: ") {
		t.Errorf("without any certificate: %s", got)
	}
	s.Use([]*Certificate{load(t, a, dir, "file", certstest.Want{Hosts: []string{"file.example"}})})
	o := &other{pair: a.Pair(certstest.Want{Hosts: []string{"made.example"}}), host: "made.example"}
	s.SetFallback(o, "acme-tls/1")
	for host, want := range map[string]string{"file.example": "file.example", "made.example": "made.example", "third.example": "file.example"} {
		if got := shown(t, s, host); got != want {
			t.Errorf("%s is shown the certificate of %s, want %s", host, got, want)
		}
	}
	if slices.Contains(o.asked, "file.example") {
		t.Error("the fallback was asked for the host of a file")
	}
	if !s.Covers([]byte("made.example")) || s.Covers([]byte("third.example")) || len(s.Expiries()) != 2 {
		t.Error("the fallback's hosts are not counted")
	}
	o.host = "file.example"
	if st, err := handshake(t, s, &tls.Config{ServerName: "file.example", NextProtos: []string{"acme-tls/1"}}); err != nil ||
		st.PeerCertificates[0].Subject.CommonName != "made.example" || st.NegotiatedProtocol != "acme-tls/1" {
		t.Errorf("a client with the fallback's protocol: %v, %v", st.NegotiatedProtocol, err)
	}
	s.SetFallback(nil)
	if s.Covers([]byte("made.example")) || s.Protos() != nil {
		t.Error("the fallback is still there")
	}
}

func TestChangedFilesAreReadAgain(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	now := time.Now()
	s, log := newTestStore(t, load(t, a, dir, "a", certstest.Want{Hosts: []string{"one.example"}}))
	s.Refresh(now)
	if got := shown(t, s, ""); got != "one.example" || log.Len() > 0 {
		t.Errorf("unchanged: %s, %s", got, log)
	}
	a.Write(dir, "a", certstest.Want{Hosts: []string{"two.example"}})
	s.Refresh(now)
	if got := shown(t, s, ""); got != "two.example" || !s.Covers([]byte("two.example")) || s.Covers([]byte("one.example")) {
		t.Errorf("after the change: %s", got)
	}

	// In the middle of a change: the key is still the old one.
	cert, key := a.Make(certstest.Want{Hosts: []string{"three.example"}})
	write := func(name string, text []byte) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log.Reset()
	write("a.crt", cert)
	s.Refresh(now)
	s.Refresh(now)
	if got := shown(t, s, ""); got != "two.example" || s.Broken() != 1 || strings.Count(log.String(), "does not belong to the certificate") != 1 {
		t.Errorf("with a foreign key: %s, %d broken, %s", got, s.Broken(), log)
	}
	write("a.key", key)
	s.Refresh(now)
	if got := shown(t, s, ""); got != "three.example" || s.Broken() != 0 {
		t.Errorf("with the right key: %s, %d broken", got, s.Broken())
	}

	for what, breakIt := range map[string]func(){
		"expired on": func() { a.Write(dir, "a", certstest.Want{Hosts: []string{"four.example"}, Until: now.Add(-time.Hour)}) },
		"no PEM":     func() { write("a.crt", []byte("x")) },
		"no such":    func() { os.Remove(filepath.Join(dir, "a.crt")) },
	} {
		log.Reset()
		breakIt()
		s.Refresh(now)
		if got := shown(t, s, ""); got != "three.example" || s.Broken() != 1 || !strings.Contains(log.String(), what) {
			t.Errorf("%s: %s, %d broken, %s", what, got, s.Broken(), log)
		}
	}
	a.Write(dir, "a", certstest.Want{Hosts: []string{"five.example"}})
	s.Refresh(now)
	if got := shown(t, s, ""); got != "five.example" || s.Broken() != 0 {
		t.Errorf("mended: %s, %d broken", got, s.Broken())
	}
}

// TestSwappedLinks does what the kubelet does with a secret's files: they are links through ..data, which is replaced.
func TestSwappedLinks(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	link := func(to, name string) {
		t.Helper()
		if err := os.Symlink(to, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for _, n := range []string{"1", "2"} {
		if err := os.Mkdir(filepath.Join(dir, n), 0o755); err != nil {
			t.Fatal(err)
		}
		a.Write(filepath.Join(dir, n), "tls", certstest.Want{Hosts: []string{n + ".example"}})
	}
	link("1", "..data")
	link("..data/tls.crt", "tls.crt")
	link("..data/tls.key", "tls.key")
	c, err := Load(Files{filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")})
	if err != nil {
		t.Fatal(err)
	}
	s, _ := newTestStore(t, c)
	link("2", "..data_tmp")
	if err := os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")); err != nil {
		t.Fatal(err)
	}
	s.Refresh(time.Now())
	if got := shown(t, s, ""); got != "2.example" {
		t.Errorf("after the swap: %s", got)
	}
}

func TestLoadBlamesTheRightFile(t *testing.T) {
	a, dir := certstest.New(t), t.TempDir()
	cert, key := a.Write(dir, "a", certstest.Want{Hosts: []string{"a.example"}})
	_, foreign := a.Write(dir, "b", certstest.Want{Hosts: []string{"b.example"}})
	_, rsa := a.Write(dir, "rsa", certstest.Want{Hosts: []string{"b.example"}, RSA: true})
	junk := filepath.Join(dir, "junk")
	if err := os.WriteFile(junk, []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, maxFile+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct{ cert, key, blamed, says string }{
		{cert, foreign, "key", "does not belong to the certificate"},
		{cert, rsa, "key", "does not belong to the certificate"},
		{cert, cert, "key", "no PEM key"},
		{cert, filepath.Join(dir, "none"), "key", "no such file"},
		{filepath.Join(dir, "none"), key, "cert", "no such file"},
		{key, key, "cert", "no PEM certificate"},
		{junk, key, "cert", "x509"},
		{dir, key, "cert", "no regular file"},
		{large, key, "cert", "larger than 1 MiB"},
	} {
		_, err := Load(Files{one.cert, one.key})
		if e, ok := err.(*FileError); !ok || e.Key != one.blamed || !strings.Contains(err.Error(), one.says) {
			t.Errorf("%s and %s: %v, want %s to be blamed: %s", one.cert, one.key, err, one.blamed, one.says)
		}
	}
}
