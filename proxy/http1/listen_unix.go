package http1

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"
)

// MaxSocketPath is the longest path of a Unix socket, in bytes; the system ends it with a zero.
const MaxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// socketMode lets everybody connect, as nginx does: who may is the folder's to say.
const socketMode = 0o666

// socketPatience is how long somebody who listens may take to let himself be found.
const socketPatience = time.Second

// listenUnix listens on a Unix socket. One that is left behind, on which nobody listens, is replaced; the file is not removed when the
// listener is closed: see RemoveSocket.
func listenUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeSocket(path); err != nil {
		return nil, err
	}
	var cfg net.ListenConfig
	l, err := cfg.Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, socketMode); err != nil {
		_ = l.Close()
		_ = os.Remove(path)
		return nil, err
	}
	return l, nil
}

// RemoveSocket removes the file of a Unix socket whose listener was closed, unless somebody else listens there: the successor of an
// upgrade has the same socket. Other addresses than "unix:/path" have no file.
func RemoveSocket(addr string) {
	if path, ok := SocketPath(addr); ok {
		_ = removeSocket(path) // what is in the way is told by who listens next
	}
}

// removeSocket removes a socket on which nobody listens. It is no error when there is no file.
func removeSocket(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	nc, err := net.DialTimeout("unix", path, socketPatience)
	switch {
	case err == nil:
		_ = nc.Close()
		return syscall.EADDRINUSE
	case errors.Is(err, os.ErrNotExist):
		return nil
	case errors.Is(err, os.ErrPermission):
		return err
	case !errors.Is(err, syscall.ECONNREFUSED): // a full backlog, another kind of socket
		return syscall.EADDRINUSE
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
