package http1

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// edges tells that a descriptor whose last read was short can be waited on without another read that finds nothing: the poller is
// edge-triggered, and an end of the stream that came along with the data is told by the watcher.
const edges = true

// disconnect resets the connection without closing its descriptor, which somebody may hold (connect(2): AF_UNSPEC). A Unix socket
// cannot be reset, only ended.
func disconnect(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		var none syscall.RawSockaddr // AF_UNSPEC is zero
		if _, _, errno := syscall.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none)); errno == syscall.EINVAL {
			_ = syscall.Shutdown(int(fd), syscall.SHUT_RDWR)
		}
	})
}
