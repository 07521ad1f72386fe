package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"sluice/proxy/http1"
)

// splitAddress reads host:port strictly: a port is decimal digits from least to 65535, an IPv6 address stands in brackets.
func splitAddress(s string, least int) (host string, port int, err error) {
	if strings.Contains(s, "://") {
		return "", 0, fmt.Errorf("%q: an address is host:port, without a scheme", s)
	}
	if strings.ContainsRune(s, '/') {
		return "", 0, fmt.Errorf("%q: an address is host:port, without a path", s)
	}
	host, text, err := net.SplitHostPort(s)
	if err != nil {
		if a, e := netip.ParseAddr(s); e == nil && a.Is4() {
			return "", 0, fmt.Errorf("%q has no port: write %q", s, net.JoinHostPort(s, "PORT"))
		}
		if strings.Count(s, ":") > 1 {
			return "", 0, fmt.Errorf("%q: an IPv6 address stands in brackets, as \"[::1]:80\"", s)
		}
		return "", 0, fmt.Errorf("%q has no port: write host:port", s)
	}
	port, err = strconv.Atoi(text)
	if err != nil || strings.Trim(text, "0123456789") != "" || port < least || port > 65535 {
		return "", 0, fmt.Errorf("%q: %q is no port (%d to 65535)", s, text, least)
	}
	if host == "" {
		return "", port, nil
	}
	if strings.Contains(host, ":") || strings.HasPrefix(s, "[") {
		if a, e := netip.ParseAddr(host); e != nil || !a.Is6() {
			return "", 0, fmt.Errorf("%q: %q is no IPv6 address", s, host)
		}
		return host, port, nil
	}
	return host, port, checkName(host)
}

// checkSocket tells whether addr is a Unix socket as it is written here: unix:/path, absolute and no longer than the system takes.
// false: it is none.
func checkSocket(addr string) (is bool, err error) {
	path, ok := http1.SocketPath(addr)
	switch {
	case !ok:
		return false, nil
	case !filepath.IsAbs(path):
		return true, fmt.Errorf("%q: a Unix socket is written \"unix:/path\", from the root", addr)
	case strings.HasSuffix(path, "/"):
		return true, fmt.Errorf("%q is a folder, not a socket", addr)
	case strings.ContainsFunc(path, func(c rune) bool { return c < ' ' || c == 127 }):
		return true, fmt.Errorf("%q has a control character", addr)
	case len(path) > http1.MaxSocketPath:
		return true, fmt.Errorf("%q: the path of a Unix socket has %d bytes at most, this one has %d", addr, http1.MaxSocketPath, len(path))
	}
	return true, nil
}

// checkListen tells whether a front listener can have this address.
func checkListen(addr string) error {
	if is, err := checkSocket(addr); is {
		return err
	}
	_, _, err := splitAddress(addr, 0)
	return err
}

// checkName tells whether s can be the name of a machine or an IPv4 address (RFC 1123, with the underscore that container names have).
func checkName(s string) error {
	if len(s) > 253 {
		return fmt.Errorf("%.40q… is longer than 253 characters", s)
	}
	for label := range strings.SplitSeq(strings.TrimSuffix(s, "."), ".") {
		if label == "" || len(label) > 63 {
			return fmt.Errorf("%q is no host name: its parts have 1 to 63 characters", s)
		}
		if strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
			return fmt.Errorf("%q is no host name: a part begins or ends with -", s)
		}
		for _, c := range label {
			if !(c == '-' || c == '_' || '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z') {
				if c > 127 {
					return fmt.Errorf("%q is no host name: write it in its ASCII form (xn--…)", s)
				}
				return fmt.Errorf("%q is no host name: it contains %q", s, c)
			}
		}
	}
	last := s[strings.LastIndexByte(strings.TrimSuffix(s, "."), '.')+1:]
	if strings.Trim(last, "0123456789.") == "" {
		if a, err := netip.ParseAddr(s); err != nil || !a.Is4() {
			return fmt.Errorf("%q is no IPv4 address", s)
		}
	}
	return nil
}

// checkHost tells whether s can stand in a route's host: a name, "*.name" or an address, without a port.
func checkHost(s string) error {
	switch {
	case s == "":
		return errors.New("a host is empty")
	case s == "*", s == "_": // as nginx's server_name has it
		return fmt.Errorf("%q: leave host out for any host", s)
	case strings.Contains(s, "://"):
		return fmt.Errorf("%q: a host has no scheme", s)
	case strings.Contains(s, "/"):
		return fmt.Errorf("%q: a host has no path; write it in path", s)
	case strings.HasPrefix(s, "["):
		if a, err := netip.ParseAddr(strings.TrimSuffix(s[1:], "]")); err != nil || !strings.HasSuffix(s, "]") || !a.Is6() || a.Zone() != "" {
			return fmt.Errorf("%q is no IPv6 address in brackets", s)
		}
		return nil
	case strings.Count(s, ":") == 1:
		return fmt.Errorf("%q: a host has no port; listen restricts a route to a listener", s)
	case strings.Contains(s, ":"):
		return fmt.Errorf("%q: an IPv6 address stands in brackets", s)
	}
	name, wild := strings.CutPrefix(s, "*.")
	if strings.Contains(name, "*") {
		return fmt.Errorf("%q: a * stands only for the first part, as *.example.com", s)
	}
	if wild {
		if _, err := netip.ParseAddr(name); err == nil {
			return fmt.Errorf("%q: an address has no subdomains", s)
		}
	}
	return checkName(name)
}

// parsePrefix reads a CIDR or an address, or "unix", which is the zero Prefix. Bits beyond the mask are refused: something else was
// meant.
func parsePrefix(s string) (netip.Prefix, error) {
	if s == "unix" {
		return netip.Prefix{}, nil
	}
	if strings.HasPrefix(s, "unix:") {
		return netip.Prefix{}, fmt.Errorf("%q: write \"unix\" for all who come over Unix sockets", s)
	}
	if a, err := netip.ParseAddr(s); err == nil {
		if a.Zone() != "" || a.Is4In6() {
			return netip.Prefix{}, fmt.Errorf("%q: write the plain address", s)
		}
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf(`%q is neither an address nor a CIDR, as "10.0.0.0/8"`, s)
	}
	if p.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q: write the IPv4 network", s)
	}
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("%q has bits beyond its mask: %q is the network", s, p.Masked().String())
	}
	return p, nil
}

// loopback tells whether only this machine can reach a listener on host.
func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// clash tells whether two listeners cannot be open at once: the same port, and the same host or one that is every host; or the same
// path of a Unix socket.
func clash(a, b string) bool {
	if pathA, ok := http1.SocketPath(a); ok {
		pathB, ok := http1.SocketPath(b)
		return ok && filepath.Clean(pathA) == filepath.Clean(pathB)
	}
	hostA, portA, errA := splitAddress(a, 0)
	hostB, portB, errB := splitAddress(b, 0)
	if errA != nil || errB != nil || portA != portB || portA == 0 {
		return false
	}
	hostA, hostB = sameHost(hostA), sameHost(hostB)
	return hostA == hostB || hostA == "" || hostB == ""
}

func sameHost(h string) string {
	if strings.EqualFold(h, "localhost") {
		return "127.0.0.1"
	}
	if a, err := netip.ParseAddr(h); err == nil {
		if a.IsUnspecified() {
			return ""
		}
		return a.String()
	}
	return strings.ToLower(h)
}
