package main

import (
	"cmp"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"sluice/config"
	"sluice/proxy"
	"sluice/proxy/http1"
	"sluice/proxy/https"
)

// named is how a listener is served: a header of the PROXY protocol comes before all else.
func (g *gateway) named(cfg *config.Config, addr string, ln net.Listener) http1.NamedListener {
	l := http1.NamedListener{Listener: ln, Name: addr}
	var next http1.Opener
	if slices.Contains(cfg.TLSListen(), addr) {
		next, l.Encrypted = g.tls.Open, true
	}
	l.Open = g.acceptor.Opener(next)
	return l
}

// turn opens those anew whose clients begin or end to speak TLS by cfg: on the same sockets, so that nobody who waits there is lost.
func (l listeners) turn(was, cfg *config.Config, wanted []string, fresh listeners) error {
	if was == nil {
		return nil
	}
	for _, addr := range wanted {
		if l[addr] == nil || slices.Contains(was.TLSListen(), addr) == slices.Contains(cfg.TLSListen(), addr) {
			continue
		}
		ln, err := sameSocket(l[addr])
		if err != nil {
			return fmt.Errorf("cannot listen on %s in another way: %w", addr, err)
		}
		fresh[addr] = ln
	}
	return nil
}

// sameSocket is another listener on the socket of ln: each outlives the other.
func sameSocket(ln net.Listener) (net.Listener, error) {
	socket, ok := ln.(interface{ File() (*os.File, error) })
	if !ok {
		return nil, fmt.Errorf("it is a %T", ln)
	}
	f, err := socket.File()
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return http1.FileListener(f)
}

// followCertificates reads the files of [tls] again when they change, until the gateway closes. The caller holds mu.
func (g *gateway) followCertificates(cfg *config.Config) {
	if cfg.TLS == nil || g.stopTLS != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	g.stopTLS = cancel
	go g.tls.Run(ctx)
}

// secure is what the routing table knows of [tls].
func secure(cfg *config.Config, front *https.Front) proxy.Secure {
	if cfg.TLS == nil {
		return proxy.Secure{}
	}
	s := proxy.Secure{HSTS: cfg.TLS.HSTS.Field(), ClientCerts: cfg.TLS.Auth() != "off"}
	if cfg.TLS.Redirect && len(cfg.TLS.Listen) > 0 {
		_, port, _ := net.SplitHostPort(cfg.TLS.Listen[0])
		own, _ := strconv.Atoi(port)
		s.Covers, s.From, s.Port = front.Certs.Covers, cfg.Listen, cmp.Or(cfg.TLS.RedirectPort, own)
	}
	return s
}

// explainTLS says what a client that speaks TLS is shown before its request; nothing of one that does not.
func explainTLS(cfg *config.Config, front *https.Front, q proxy.Question) []string {
	switch {
	case !q.TLS:
		return nil
	case cfg.TLS == nil:
		return []string{"no listener speaks TLS"}
	case q.Listener == "":
		return []string{"no listener has the port of " + q.Host}
	case !slices.Contains(cfg.TLS.Listen, q.Listener):
		return []string{fmt.Sprintf("the listener %s speaks no TLS", q.Listener)}
	}
	host := q.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return front.Explain(strings.ToLower(strings.TrimSuffix(host, ".")))
}
