package http1

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// edges tells that a descriptor whose last read was short can be waited on without another read that finds nothing: the poller is
// edge-triggered, and an end of the stream that came along with the data is told by the watcher.
const edges = true

// disconnect resets the connection without closing its descriptor, which somebody may hold (connect(2): AF_UNSPEC).
func disconnect(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		var none syscall.RawSockaddr // AF_UNSPEC is zero
		_, _, _ = syscall.RawSyscall(unix.SYS_CONNECT, fd, uintptr(unsafe.Pointer(&none)), unsafe.Sizeof(none))
	})
}
