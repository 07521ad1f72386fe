package http1

import (
	"net/netip"
	"slices"
	"strings"
)

// unixPrefix begins the address of a Unix socket, as in nginx and HAProxy: unix:/path.
const unixPrefix = "unix:"

// SocketPath is the path of a Unix socket's address; false for all others.
func SocketPath(addr string) (path string, ok bool) { return strings.CutPrefix(addr, unixPrefix) }

// Network gives an address, "host:port" or "unix:/path", as package net wants it.
func Network(addr string) (network, address string) {
	if path, ok := SocketPath(addr); ok {
		return "unix", path
	}
	return "tcp", addr
}

// Within tells that addr is in one of all. The zero Prefix holds the zero Addr: those who come over Unix sockets.
func Within(all []netip.Prefix, addr netip.Addr) bool {
	if !addr.IsValid() {
		return slices.Contains(all, netip.Prefix{})
	}
	for _, p := range all {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
