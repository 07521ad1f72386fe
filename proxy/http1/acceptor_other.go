//go:build !linux

package http1

import "net"

// accepting is for Linux.
func accepting(l net.Listener) (net.Listener, error) { return l, nil }
