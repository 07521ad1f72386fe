package http1

import (
	"context"
	"net"
	"os"
	"syscall"
)

// Listen listens on a TCP address, "host:port", with the options that connections shall have: they inherit them, which spares a handful
// of system calls for each; or on a Unix socket, "unix:/path".
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	if path, ok := SocketPath(addr); ok {
		return listenUnix(ctx, path)
	}
	cfg := net.ListenConfig{Control: setListenOptions}
	if inherits {
		cfg.KeepAlive = -1
	}
	l, err := cfg.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	return accepting(l)
}

// FileListener is net.FileListener for a socket that Listen made, here or in another process.
func FileListener(f *os.File) (net.Listener, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	return accepting(l)
}

// acceptAtOnce ends the waiting of connections in the kernel for their first bytes: a listener that is to be closed must see them.
func acceptAtOnce(l net.Listener) {
	if sc, ok := l.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			deferAccept(raw, 0)
		}
	}
}
