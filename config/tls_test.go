package config

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"sluice/proxy/certs/certstest"
)

// tlsFiles writes certificates and gives their folder: a (a.example, b.example), a-rsa, other, old and ca.pem.
func tlsFiles(t *testing.T) string {
	t.Helper()
	ca, dir := certstest.New(t), t.TempDir()
	ca.Write(dir, "a", certstest.Want{Hosts: []string{"a.example", "b.example"}})
	ca.Write(dir, "a-rsa", certstest.Want{Hosts: []string{"a.example"}, RSA: true})
	ca.Write(dir, "twin", certstest.Want{Hosts: []string{"b.example"}})
	ca.Write(dir, "old", certstest.Want{Hosts: []string{"c.example"}, Until: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)})
	if err := os.WriteFile(filepath.Join(dir, "ca.pem"), ca.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestTLSMistakes(t *testing.T) {
	t.Chdir(tlsFiles(t))
	const (
		a  = `{ cert = "a.crt", key = "a.key" }`
		ok = "listen = [\":443\"]\ncertificates = [" + a + "]\n"
	)
	for _, c := range []struct{ text, want string }{
		{`certificates = [` + a + `]`, `1:1: listen is missing; write listen = [":443"]`},
		{`listen = ":443"`, `1:1: there is no certificate for the TLS listeners; write certificates = [`},
		{"listen = [\":443\"]\ncertificates = []", `1:1: there is no certificate`},
		{"certificates = [" + a + "]\nlisten = []", `1:1: listen is missing`},
		{"certificates = [" + a + "]\nlisten = \"443\"", `3:10: "443" has no port`},
		{"certificates = [" + a + "]\nlisten = [\":443\", \":443\"]", `3:19: ":443" and ":443" are the same port`},
		{"certificates = [" + a + "]\nlisten = \":8080\"", `3:10: ":8080" stands in listen as well`},
		{"certificates = [" + a + "]\nlisten = \"127.0.0.1:9901\"", `the admin API listens on`},
		{ok + `certificate = 1`, `unknown key "certificate" in [tls]; did you mean "certificates"?`},
		{"listen = \":443\"\ncertificates = [{ cert = \"a.crt\" }]", `3:17: cert and key belong together: key is missing`},
		{"listen = \":443\"\ncertificates = [{ key = \"a.key\" }]", `cert and key belong together: cert is missing`},
		{"listen = \":443\"\ncertificates = [{ cert = \"none.crt\", key = \"a.key\" }]", `3:26: none.crt: no such file`},
		{"listen = \":443\"\ncertificates = [{ cert = \"a.crt\", key = \".\" }]", `3:41: .: it is no regular file`},
		{"listen = \":443\"\ncertificates = [{ cert = \"a.crt\", key = \"empty\" }]", `3:41: empty: there is no PEM key in it`},
		{"listen = \":443\"\ncertificates = [{ cert = \"empty\", key = \"a.key\" }]", `3:26: empty: there is no PEM certificate in it`},
		{"listen = \":443\"\ncertificates = [{ cert = \"a.crt\", key = \"a-rsa.key\" }]", `3:41: a-rsa.key: the key does not belong to the certificate`},
		{"listen = \":443\"\ncertificates = [{ cert = \"a.crt\", key = \"twin.key\" }]", `3:41: twin.key: the key does not belong to the certificate`},
		{"listen = \":443\"\n[[tls.certificates]]\ncert = \"old.crt\"\nkey = \"old.key\"", `4:8: old.crt: it has expired on 2026-01-02 03:04:05`},
		{"listen = \":443\"\ncertificates = [" + a + ",\n{ cert = \"a-rsa.crt\", key = \"a-rsa.key\" },\n{ cert = \"twin.crt\", key = \"twin.key\" }]",
			`5:10: twin.crt: another certificate (line 3) has an ECDSA key for b.example as well`},
		{ok + `min_version = "1.1"`, `4:15: "1.1" is none of 1.2 and 1.3`},
		{ok + `min_version = 1.2`, `a string is wanted`},
		{ok + `ciphers = ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265"]`, `4:12: "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA265" is no cipher suite`},
		{ok + `ciphers = ["TLS_RSA_WITH_RC4_128_SHA"]`, `is not secure`},
		{ok + `ciphers = ["TLS_AES_128_GCM_SHA256"]`, `is of TLS 1.3, whose suites are not chosen`},
		{ok + "min_version = \"1.3\"\nciphers = [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"]", `5:11: ciphers are those of TLS 1.2`},
		{ok + `redirect_port = 70000`, `70000 is out of range: 1 to 65535`},
		{ok + "redirect = false\nredirect_port = 444", `redirect_port has no effect`},
		{ok + `client_auth = "required"`, `"required" is none of off, request and require; did you mean "require"?`},
		{ok + `client_auth = "require"`, `4:15: client_auth is require, and there is no client_ca to believe; add client_ca = "FILE"`},
		{ok + "client_ca = \"ca.pem\"\nclient_auth = \"off\"", `5:15: client_ca has no effect: client_auth is off`},
		{ok + `client_ca = ""`, `it is empty: a file is wanted`},
		{ok + `client_ca = "none"`, `4:13: none: no such file`},
		{ok + `client_ca = "a.key"`, `4:13: a.key: there is no PEM certificate in it`},
		{ok + `hsts = "-1s"`, `never negative`},
		{ok + `hsts = { max_age = "8760h", preload = true }`, `preload needs include_subdomains`},
		{ok + `hsts = { max_age = "1h", include_subdomains = true, preload = true }`, `preload needs include_subdomains and a max_age of "8760h"`},
	} {
		text := "[tls]\n" + c.text + "\n"
		_, err := Parse("a.toml", []byte(text))
		errs, _ := err.(Errors)
		if len(errs) != 1 || !strings.Contains(errs[0].Error(), c.want) {
			t.Errorf("%s\n%v\nwant one error: %s", text, err, c.want)
		}
	}
}

func TestTLS(t *testing.T) {
	t.Chdir(tlsFiles(t))
	c, err := Parse("a.toml", []byte(`
listen = []
[tls]
listen = ":443"
certificates = [{ cert = "a.crt", key = "a.key" }, { cert = "a-rsa.crt", key = "a-rsa.key" }]
[[route]]
respond = {}
[[route]]
listen = ":443"
host = "a.example"
respond = {}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(*c.TLS), "{[:443] [{a.crt a.key} {a-rsa.crt a-rsa.key}] true 0   1.2 [] <nil>}"; got != want || c.TLS.Auth() != "off" {
		t.Errorf("defaults %s, want %s", got, want)
	}
	if c, err := Parse("a.toml", nil); err != nil || c.TLS != nil || c.TLSListen() != nil {
		t.Errorf("without [tls]: %v, %v", c.TLS, err)
	}
	c, err = Parse("a.toml", []byte(`[tls]
listen = [":443", "[::1]:444"]
certificates = [{ cert = "a.crt", key = "a.key" }]
redirect_port = 8443
client_ca = "ca.pem"
min_version = "1.2"
ciphers = ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]
hsts = "720h"
`))
	if err != nil {
		t.Fatal(err)
	}
	if c.TLS.Auth() != "require" || c.TLS.HSTS.MaxAge != 720*time.Hour {
		t.Errorf("%+v", c.TLS)
	}
	file := filepath.Join(t.TempDir(), "config.toml") // from elsewhere, where none of the files is
	if err := os.WriteFile(file, c.Dump(), 0o600); err != nil {
		t.Fatal(err)
	}
	again, err := Parse("dump.toml", c.Dump())
	if err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("differs after a dump: %v\n%s", err, c.Dump())
	}
	t.Chdir(filepath.Dir(file))
	if _, err := Load(file); err == nil {
		t.Error("loaded without its files")
	}
	if again, err := LoadForScaler(file); err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("for the scaler: %v", err)
	}
}
