package main

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sluice/admin"
	"sluice/config"
	"sluice/proxy/certs/acme"
	"sluice/proxy/https"
)

// certify puts [acme] in force, after the files of [tls], which come first, and the listeners, where challenges are answered. Nobody waits
// for a certificate. The caller holds mu.
func (g *gateway) certify(cfg *config.Config, change *acme.Change) {
	hosts, without := cfg.ACMEHosts(coveredByFiles(g.tls))
	change.Commit(hosts, g.listeners.answering(cfg))
	if cfg.ACME == nil {
		g.tls.Certs.SetFallback(nil)
	} else {
		g.tls.Certs.SetFallback(g.acme, acme.Protocol)
	}
	var told []string
	for _, u := range without {
		said := u.Host + ": " + u.Why.Error()
		if told = append(told, said); !slices.Contains(g.uncertified, said) {
			g.log.Warn("no certificate for a host of a route", "host", u.Host, "why", u.Why)
		}
	}
	g.uncertified = told
}

// answering is where challenges are answered. A Unix socket in cleartext has somebody before it who brings them: then any address does, as
// nothing is opened where sluice listens already.
func (l listeners) answering(cfg *config.Config) acme.Listening {
	at := acme.Listening{HTTP: l.first(cfg.Listen), TLS: l.first(cfg.TLSListen())}
	if len(cfg.Listen) > 0 && !at.HTTP.IsValid() {
		at.HTTP = at.TLS
	}
	return at
}

// first is the address of the first of these listeners that has one; not valid when there is none.
func (l listeners) first(addrs []string) netip.AddrPort {
	for _, addr := range addrs {
		if ln := l[addr]; ln != nil {
			if a, ok := ln.Addr().(*net.TCPAddr); ok {
				return a.AddrPort()
			}
		}
	}
	return netip.AddrPort{}
}

// coveredByFiles tells which hosts have a certificate of files.
func coveredByFiles(front *https.Front) func(host string) bool {
	return func(host string) bool {
		_, standIn := front.Certs.Served(host)
		return !standIn
	}
}

// answerChallenge is proxy.Secure's.
func (g *gateway) answerChallenge(host, path []byte) ([]byte, bool) {
	return g.acme.Answer(string(host), string(path))
}

// certificateNotes are the hosts whose last try to get or renew a certificate failed.
func (g *gateway) certificateNotes() (notes []admin.Note) {
	for _, h := range g.acme.Status() {
		if h.Failure == "" {
			continue
		}
		has := "it has none"
		if !h.Expires.IsZero() {
			has = "it has one until " + h.Expires.UTC().Format(time.DateTime)
		}
		why := fmt.Sprintf("%s; tried %d times without success, at last %s: %s", has, h.Failures, h.FailedAt.UTC().Format(time.DateTime), h.Failure)
		notes = append(notes, admin.Note{Name: "certificate of " + h.Name, Why: why})
	}
	return notes
}

func (g *gateway) certificateFailures() map[string]uint64 {
	failures := map[string]uint64{}
	for _, h := range g.acme.Status() {
		failures[h.Name] = h.Failures
	}
	return failures
}

// writeACME says which certificates would be asked for, and where, and which hosts do without. The configuration is a valid one.
func writeACME(w io.Writer, cfg *config.Config) error {
	if cfg.ACME == nil {
		return nil
	}
	front := https.New(discardLog())
	files, err := front.Prepare(cfg.TLS, true)
	if err != nil {
		return err
	}
	files.Commit()
	hosts, without := cfg.ACMEHosts(coveredByFiles(front))
	named := strings.Join(hosts, ", ")
	if len(hosts) == 0 {
		named = "no host"
	}
	fmt.Fprintf(w, "certificates for %s from %s, kept in %s\n", clean(named), clean(cfg.ACME.Directory), clean(cfg.ACME.Storage))
	for _, u := range without {
		fmt.Fprintf(w, "warning: no certificate for %s: %v\n", clean(u.Host), u.Why)
	}
	return nil
}
