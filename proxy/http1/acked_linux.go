package http1

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// bytesAcked is how many bytes the peer's kernel has acknowledged since the connection began (RFC 4898
// tcpEStatsAppHCThruOctetsAcked, which counts the SYN as one).
func bytesAcked(raw syscall.RawConn) (n int64, ok bool) {
	_ = raw.Control(func(fd uintptr) {
		info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil && info.Bytes_acked > 0 {
			n, ok = int64(info.Bytes_acked)-1, true
		}
	})
	return n, ok
}
