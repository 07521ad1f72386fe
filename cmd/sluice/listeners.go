package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"sluice/config"
	"sluice/proxy/http1"
)

// listeners are the open front listeners by configured address.
type listeners map[string]net.Listener

// wantedListeners are the addresses that cfg asks for, the shared ones first.
func wantedListeners(cfg *config.Config) []string {
	var wanted []string
	seen := map[string]bool{}
	add := func(addr string) {
		if addr != "" && !seen[addr] {
			seen[addr] = true
			wanted = append(wanted, addr)
		}
	}
	for _, addr := range cfg.Listen {
		add(addr)
	}
	for _, addr := range cfg.TLSListen() {
		add(addr)
	}
	for _, r := range cfg.Routes {
		add(r.Listen)
	}
	return wanted
}

// open opens what is wanted and not yet open. It returns only the new ones, or an error with none of
// them left open. inherited holds listeners taken over from an older sluice.
func (l listeners) open(wanted []string, inherited listeners) (fresh listeners, err error) {
	fresh = listeners{}
	defer func() {
		if err != nil {
			for addr, ln := range fresh {
				if inherited[addr] == nil {
					closeListener(addr, ln)
				}
			}
		}
	}()
	for _, addr := range wanted {
		if l[addr] != nil {
			continue
		}
		if ln := inherited[addr]; ln != nil {
			fresh[addr] = ln
			continue
		}
		ln, err := http1.Listen(context.Background(), addr)
		if err != nil {
			return fresh, listenError(addr, err)
		}
		fresh[addr] = ln
	}
	return fresh, nil
}

// listenError says what a user can do about it.
func listenError(addr string, err error) error {
	path, isSocket := http1.SocketPath(addr)
	switch {
	case isSocket && errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: another process listens on it", addr)
	case isSocket && errors.Is(err, os.ErrPermission):
		return fmt.Errorf("cannot listen on %s: not permitted to make or replace a file in %s", addr, filepath.Dir(path))
	case isSocket && errors.Is(err, os.ErrNotExist):
		return fmt.Errorf("cannot listen on %s: there is no folder %s", addr, filepath.Dir(path))
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("cannot listen on %s: the address is in use by another process", addr)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("cannot listen on %s: not permitted; ports below 1024 need the capability CAP_NET_BIND_SERVICE", addr)
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return fmt.Errorf("cannot listen on %s: %s", addr, strings.TrimPrefix(err.Error(), "listen "))
}

// closeListener closes ln and removes the file of a Unix socket that nobody else listens on.
func closeListener(addr string, ln net.Listener) {
	ln.Close()
	http1.RemoveSocket(addr)
}

// serve runs the HTTP server on each of fresh until it is closed. One that was open before gives way.
func (g *gateway) serve(cfg *config.Config, fresh listeners) {
	for addr, ln := range fresh {
		if old := g.listeners[addr]; old != nil {
			defer old.Close()
		}
		g.listeners[addr] = ln
		named := g.named(cfg, addr, ln)
		g.serving.Go(func() {
			err := g.http.Serve(named)
			if err != nil && !errors.Is(err, net.ErrClosed) {
				g.log.Error("listener ended", "listen", addr, "error", err)
			}
		})
		shown := ln.Addr().String()
		if ln.Addr().Network() == "unix" {
			shown = addr
		}
		g.log.Info("listening", "addr", shown, "tls", named.Encrypted)
	}
}

// closeUnwanted closes the listeners that the configuration no longer names. Their connections go on.
func (g *gateway) closeUnwanted(wanted []string) {
	keep := map[string]bool{}
	for _, addr := range wanted {
		keep[addr] = true
	}
	for addr, ln := range g.listeners {
		if !keep[addr] {
			closeListener(addr, ln)
			delete(g.listeners, addr)
			g.log.Info("no longer listening", "addr", addr)
		}
	}
}
