package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestACMEMistakes(t *testing.T) {
	const r = "[[route]]\nrespond = {}\n"
	nothing := filepath.Join(t.TempDir(), "nothing.pem")
	if err := os.WriteFile(nothing, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, one := range []struct{ text, want string }{
		{`email = "ops"`, `"ops" is no email address`},
		{`storage = ""`, `a folder is wanted`},
		{`directory = "ca.example.com"`, `is no URL of an ACME directory, as "https://acme-v02.api.letsencrypt.org/directory"`},
		{`directory = "http://ca.example.com/dir"`, `only an authority within the own network may be asked without TLS`},
		{`ca = "/nowhere/ca.pem"`, `/nowhere/ca.pem: no such file or directory`},
		{fmt.Sprintf("ca = %q", nothing), `there is no PEM certificate in it`},
		{`hosts = []`, `hosts is empty: leave it out for the hosts of all routes`},
		{`hosts = ["*.example.com"]`, `a wildcard needs a challenge by DNS, which sluice does not do`},
		{`hosts = ["10.0.0.1"]`, `it is an address`},
		{`hosts = ["a.example", "a.example"]`, `the host "a.example" stands twice`},
		{`hosts = ["A.example"]`, `write "a.example"`},
		{`hosts = ["a.example:443"]`, `a host has no port`},
		{`host = ["a.example"]`, `did you mean "hosts"?`},
		{`emails = "a@b"`, `did you mean "email"?`},
	} {
		_, err := Parse("a", []byte(r+"[acme]\n"+one.text))
		var all Errors
		if all, _ = err.(Errors); len(all) != 1 || !strings.Contains(all[0].Error(), one.want) || all[0].Pos.Line != 4 {
			t.Errorf("%s: %v, want %q", one.text, err, one.want)
		}
	}
	for _, one := range []struct{ text, want string }{
		{"listen = \":443\"\n[acme]\n" + r, "\":443\" stands in listen as well"},
		{"[acme]\n[tls]\nlisten = []\n" + r, "listen is missing"},
		{"[tls]\nlisten = \":443\"\n" + r, "there is no certificate for the TLS listeners"},
	} {
		if _, err := Parse("a", []byte(one.text)); err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: %v, want %q", one.text, err, one.want)
		}
	}
}

// The scaler's process has no use for the file of roots.
func TestACMEForTheScaler(t *testing.T) {
	if _, err := parse("a", []byte("[acme]\nca = \"/nowhere/ca.pem\"\n[[route]]\nrespond = {}\n"), false); err != nil {
		t.Error(err)
	}
}

func TestACMEHosts(t *testing.T) {
	const routes = `
[[route]]
host = ["A.example", "b.example", "*.c.example"]
respond = {}
[[route]]
host = ["b.example", "files.example", "localhost"]
path = "/x"
redirect = "/"
[[route]]
host = "inside.example"
listen = ":11434"
respond = {}
[[route]]
host = "outside.example"
listen = ":8443"
respond = {}
[[route]]
respond = {}
`
	for _, one := range []struct{ acme, hosts, without string }{
		{``, "a.example b.example outside.example", "*.c.example localhost"},
		{`hosts = ["b.example", "x.c.example", "files.example"]`, "b.example x.c.example", "*.c.example localhost"},
		{`hosts = ["localhost"]`, "localhost", "*.c.example"},
		{`directory = "https://127.0.0.1:14000/dir"`, "a.example b.example localhost outside.example", "*.c.example"},
	} {
		c, err := Parse("a", []byte("[tls]\nlisten = [\":443\", \":8443\"]\n[acme]\n"+one.acme+routes))
		if err != nil {
			t.Fatal(err)
		}
		hosts, without := c.ACMEHosts(func(host string) bool { return host == "files.example" })
		slices.Sort(hosts)
		var left []string
		for _, u := range without {
			left = append(left, u.Host)
		}
		if got := strings.Join(hosts, " "); got != one.hosts || strings.Join(left, " ") != one.without {
			t.Errorf("%q: %s, without %v", one.acme, got, left)
		}
	}
	c, err := Parse("a", []byte(routes))
	if err != nil || c.TLS != nil {
		t.Fatalf("TLS without [acme]: %v", err)
	}
	if hosts, without := c.ACMEHosts(nil); hosts != nil || without != nil {
		t.Errorf("without [acme]: %v %v", hosts, without)
	}
}

// Without [tls] it has what [acme] needs, and a dump says so.
func TestACMEDefaults(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "/var/lib/sluice")
	c, err := Parse("a", []byte("[acme]\n[[route]]\nhost = \"a.example\"\nrespond = {}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(*c.ACME, c.TLS.Listen, c.TLS.Redirect, c.Listen); got != "{ /var/lib/sluice/acme https://acme-v02.api.letsencrypt.org/directory  []} [:443] true [:8080]" {
		t.Error(got)
	}
	again, err := Parse("b", c.Dump())
	if err != nil || fmt.Sprint(*again.ACME, *again.TLS) != fmt.Sprint(*c.ACME, *c.TLS) {
		t.Errorf("%v\n%s", err, c.Dump())
	}
}
