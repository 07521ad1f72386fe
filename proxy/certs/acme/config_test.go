package acme

import (
	"path/filepath"
	"strings"
	"testing"
)

func TestCertifiable(t *testing.T) {
	var public Config
	public.SetDefaults()
	private, listed, ownCA := public, public, public
	private.Directory = "https://ca.internal/acme/acme/directory"
	listed.Hosts = []string{"api.internal"}
	ownCA.CA = "root.pem"
	for _, one := range []struct {
		cfg  *Config
		host string
		want string // "": it may
	}{
		{&public, "api.example.com", ""}, {&public, "xn--bcher-kva.example", ""},
		{&public, "*.example.com", "wildcard"}, {&private, "*.example.com", "wildcard"},
		{&public, "10.0.0.1", "address"}, {&public, "[::1]", "address"}, {&private, "10.0.0.1", "address"},
		{&public, "my_api.example.com", "underscore"},
		{&public, "ollama", "no public authority"}, {&public, "localhost", "no public authority"}, {&public, "api.internal", "no public authority"},
		{&private, "ollama", ""}, {&private, "api.internal", ""}, {&ownCA, "api.internal", ""}, {&listed, "api.internal", ""},
	} {
		err := one.cfg.Certifiable(one.host)
		if (err == nil) != (one.want == "") || err != nil && !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s by %s: %v, want %q", one.host, one.cfg.Directory, err, one.want)
		}
	}
}

func TestDefaultStorage(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/one:/var/lib/two")
	if got := DefaultStorage(); got != "/var/lib/one/acme" {
		t.Error(got)
	}
	t.Setenv("STATE_DIRECTORY", "")
	t.Setenv("XDG_STATE_HOME", "/home/a/.state")
	if got := DefaultStorage(); got != "/home/a/.state/sluice/acme" {
		t.Error(got)
	}
	t.Setenv("XDG_STATE_HOME", "")
	if got := DefaultStorage(); !filepath.IsAbs(got) || !strings.HasSuffix(got, "/sluice/acme") {
		t.Error(got)
	}
}

func TestCheckDirectory(t *testing.T) {
	for url, good := range map[string]bool{
		"https://acme-v02.api.letsencrypt.org/directory": true, "http://127.0.0.1:14000/dir": true, "https://ca.internal/acme": true,
		"http://acme.example.com/directory": false, "acme.example.com": false, "ftp://a/b": false, "https://": false, "https://user@a/b": false, "": false, "https://[": false,
	} {
		if err := CheckDirectory(url); (err == nil) != good {
			t.Errorf("%q: %v", url, err)
		}
	}
}

func TestCheckEmail(t *testing.T) {
	for s, good := range map[string]bool{"ops@example.com": true, "ops": false, "Ops <ops@example.com>": false, "": false, "a@b, c@d": false} {
		if err := CheckEmail(s); (err == nil) != good {
			t.Errorf("%q: %v", s, err)
		}
	}
}
