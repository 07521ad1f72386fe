package config

import (
	"fmt"
	"strings"

	"sluice/proxy/certs/acme"
)

// acme checks [acme]. The file of roots is read, so that a check finds what a start would.
func (k *checker) acme(root *value) {
	at, c := root.get("acme"), k.c.ACME
	if at == nil || !at.sound() || c == nil {
		return
	}
	check := func(key, text string, does func(string) error) {
		if v := at.get(key); v != nil && v.sound() {
			if err := does(text); err != nil {
				k.fail(v, "%s", err)
			}
		}
	}
	check("email", c.Email, acme.CheckEmail)
	check("directory", c.Directory, acme.CheckDirectory)
	k.filled(at.get("storage"), c.Storage, "a folder")
	check("ca", c.CA, func(s string) error {
		if !k.serves {
			return nil
		}
		if _, _, err := acme.LoadRoots(s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
		return nil
	})
	if v := at.get("hosts"); v != nil && v.sound() && len(c.Hosts) == 0 {
		k.fail(v, "hosts is empty: leave it out for the hosts of all routes")
	}
	k.list(at.get("hosts"), c.Hosts, "host", func(host string) error {
		if err := checkHost(host); err != nil {
			return err
		}
		if strings.ContainsAny(host, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") || strings.HasSuffix(host, ".") {
			return fmt.Errorf("%q: write %q", host, acme.Name(host))
		}
		if err := c.Certifiable(host); err != nil {
			return fmt.Errorf("%q: %w", host, err)
		}
		return nil
	})
}
