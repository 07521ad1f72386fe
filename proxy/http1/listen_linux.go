package http1

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// inherits tells that accepted connections have the options of their listener.
const inherits = true

// keepAliveSeconds and keepAliveProbes are what package net gives each connection.
const (
	keepAliveSeconds = 15
	keepAliveProbes  = 9
)

// deferSeconds: the kernel hands a connection over when its first bytes are there, or after about so long without.
const deferSeconds = 1

// setListenOptions does not fail: what a kernel does not know is only slower.
func setListenOptions(_, _ string, raw syscall.RawConn) error {
	_ = raw.Control(func(fd uintptr) {
		for _, o := range [...]struct{ level, name, value int }{
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAliveSeconds},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAliveSeconds},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes},
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		} {
			_ = unix.SetsockoptInt(int(fd), o.level, o.name, o.value)
		}
	})
	deferAccept(raw, deferSeconds)
	return nil
}

func deferAccept(raw syscall.RawConn, seconds int) {
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, seconds)
	})
}
