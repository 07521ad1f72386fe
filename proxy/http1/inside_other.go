//go:build !linux

package http1

import "syscall"

// edges: see inside_linux.go. Here each wait begins with a read.
const edges = false

// disconnect is needed only where requests are served inside of a read.
func disconnect(syscall.RawConn) {}
