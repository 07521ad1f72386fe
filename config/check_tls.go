package config

import (
	"errors"
	"slices"
	"time"

	"sluice/proxy/certs"
	"sluice/proxy/https"
)

// tls checks [tls] but for its addresses. The files are read, so that a check finds what a start would.
func (k *checker) tls(root *value) {
	at, c := root.get("tls"), k.c.TLS
	if at == nil || !at.sound() || c == nil {
		return
	}
	if len(c.Listen) == 0 && at.sound("listen") {
		k.failKey(at, `write listen = [":443"]`, "listen is missing")
	}
	k.certificates(at)
	k.oneOf(at.get("min_version"), c.MinVersion, "1.2", "1.3")
	k.list(at.get("ciphers"), c.Ciphers, "cipher suite", https.CheckCipher)
	if v := at.get("ciphers"); v != nil && v.sound() && c.MinVersion == "1.3" {
		k.fail(v, "ciphers are those of TLS 1.2, and min_version is 1.3")
	}
	if v := at.get("redirect_port"); v != nil && v.sound() {
		if k.between(v, c.RedirectPort, 1, 65535); !c.Redirect {
			k.fail(v, "redirect_port has no effect: redirect is false")
		}
	}
	k.clientCertificates(at)
	k.hsts(at.get("hsts"))
}

// certificates checks the files and that each of them would be shown to somebody.
func (k *checker) certificates(at *value) {
	list, c := at.get("certificates"), k.c.TLS
	if len(c.Certificates) == 0 && at.sound("certificates") && !k.makesCertificates() {
		k.failKey(at, `write certificates = [{ cert = "FILE", key = "FILE" }]`, "there is no certificate for the TLS listeners")
	}
	type seen struct {
		cert *certs.Certificate
		at   *value
	}
	var all []seen
	now := time.Now()
	for i, files := range c.Certificates {
		v := list.element(i)
		if !v.sound("cert") || !v.sound("key") {
			continue
		}
		if files.Cert == "" || files.Key == "" {
			missing := "cert"
			if files.Cert != "" {
				missing = "key"
			}
			k.fail(v.near(missing), "cert and key belong together: %s is missing", missing)
			continue
		}
		if !k.serves {
			continue
		}
		one, err := certs.Load(files)
		if err != nil {
			if e, ok := errors.AsType[*certs.FileError](err); ok {
				k.fail(v.near(e.Key), "%s", e)
			}
			continue
		}
		if one.Expired(now) {
			k.fail(v.near("cert"), "%s: it has expired on %s", files.Cert, one.Expiry().UTC().Format(time.DateTime))
			continue
		}
		for _, before := range all {
			if name := certs.Overlap(before.cert, one); name != "" {
				k.fail(v.near("cert"), "%s: another certificate%s has an %s key for %s as well: this one would never be shown", files.Cert, elsewhere(before.at, v), one.Kind(), name)
				break
			}
		}
		all = append(all, seen{one, v})
	}
}

// makesCertificates tells that something else than files gives certificates.
func (k *checker) makesCertificates() bool { return k.c.ACME != nil }

// clientCertificates checks who is let in.
func (k *checker) clientCertificates(at *value) {
	c := k.c.TLS
	v := at.get("client_auth")
	k.oneOf(v, c.ClientAuth, "off", "request", "require")
	switch {
	case v == nil || !v.sound() || !at.sound("client_ca"):
	case (c.ClientAuth == "request" || c.ClientAuth == "require") && c.ClientCA == "":
		k.failHint(v, `add client_ca = "FILE"`, "client_auth is %s, and there is no client_ca to believe", c.ClientAuth)
	case c.ClientAuth == "off" && c.ClientCA != "":
		k.fail(v, "client_ca has no effect: client_auth is off")
	}
	v = at.get("client_ca")
	if v == nil || !v.sound() {
		return
	}
	k.filled(v, c.ClientCA, "a file")
	if c.ClientCA == "" || !k.serves {
		return
	}
	if _, _, err := https.LoadCA(c.ClientCA); err != nil {
		k.fail(v, "%s: %s", c.ClientCA, err)
	}
}

// hsts checks what browsers would not take (hstspreload.org).
func (k *checker) hsts(at *value) {
	h := k.c.TLS.HSTS
	if at == nil || !at.sound() || h == nil {
		return
	}
	if v := at.get("preload"); h.Preload && v != nil && (!h.IncludeSubdomains || h.MaxAge < 365*24*time.Hour) {
		k.fail(v, `preload needs include_subdomains and a max_age of "8760h"`)
	}
}

// tlsListeners checks the addresses of [tls]; add checks them against the others.
func (k *checker) tlsListeners(root *value, add func(*value, string)) {
	v := root.get("tls", "listen")
	if v != nil && !v.sound() || k.c.TLS == nil {
		return
	}
	for i, addr := range k.c.TLS.Listen {
		at := root.near("acme") // whose default it is
		if v != nil {
			at = v.element(i)
		}
		if at.bad {
			continue
		}
		if _, _, err := splitAddress(addr, 0); err != nil {
			k.fail(at, "%s", err)
		} else if slices.Contains(k.c.Listen, addr) {
			k.fail(at, "%q stands in listen as well: on one address clients speak TLS or they do not", addr)
		} else {
			add(at, addr)
		}
	}
}
