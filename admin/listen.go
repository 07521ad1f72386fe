package admin

import (
	"container/list"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// writeTimeout bounds each write to a client. It is per write because an event stream has no end.
const writeTimeout = 10 * time.Second

// open listens on "host:port" or "unix:/path".
func open(listen string) (*listener, error) {
	if path, ok := socketPath(listen); ok {
		return openSocket(path)
	}
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, err
	}
	return &listener{Listener: l, conns: map[*conn]struct{}{}}, nil
}

// adopt goes on with a listener that a predecessor opened on the same address.
func adopt(l net.Listener, listen string) (*listener, error) {
	kept := &listener{Listener: l, conns: map[*conn]struct{}{}}
	path, ok := socketPath(listen)
	if !ok {
		return kept, nil
	}
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false)
	}
	var err error
	kept.path = path
	kept.made, err = os.Lstat(path)
	return kept, err
}

// openSocket makes a Unix socket that only sluice's user may connect to. It is made in a folder that nobody else can enter and
// moved into place when its mode is set, so that there is no moment in which others could connect, and
// so that a socket left behind by a crash is replaced in one step. One that somebody answers on is left alone.
func openSocket(path string) (*listener, error) {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&os.ModeSocket == 0:
		return nil, fmt.Errorf("%s exists and is not a socket", path)
	default:
		c, err := net.DialTimeout("unix", path, time.Second)
		if err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("%s: %w: another process answers on it", path, syscall.EADDRINUSE)
		}
		if !errors.Is(err, syscall.ECONNREFUSED) && !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".sluice-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, "s"), Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	if err = os.Chmod(l.Addr().String(), 0o600); err == nil {
		err = os.Rename(l.Addr().String(), path)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	made, err := os.Lstat(path)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &listener{Listener: l, path: path, made: made, conns: map[*conn]struct{}{}}, nil
}

// listener knows its connections, so that those of clients who never leave can be ended.
type listener struct {
	net.Listener
	path string      // of a Unix socket; "" for TCP
	made os.FileInfo // the socket as it was made: what is at path later may be another one's

	mu              sync.Mutex // guards all below
	conns           map[*conn]struct{}
	asked, answered list.List // of *conn: those that wait for a request, and for its answer to be taken, longest first
	given           bool      // to a successor, who removes the socket
}

func (l *listener) disown() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.given = true
}

func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	kept := &conn{Conn: c, of: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.conns) >= maxConns {
		l.makeRoom()
	}
	l.conns[kept] = struct{}{}
	kept.move(&l.asked)
	return kept, nil
}

func (l *listener) Close() error {
	l.mu.Lock()
	given := l.given
	l.mu.Unlock()
	if l.path != "" && !given {
		if info, err := os.Lstat(l.path); err == nil && os.SameFile(info, l.made) {
			_ = os.Remove(l.path)
		}
	}
	return l.Listener.Close()
}

// copy is a second descriptor of the socket. It is not made by net's own File, whose result switches the socket, which
// both descriptors share, to blocking when it is given to a process: the Accept of this
// process would then hold up its Close until somebody connects.
func (l *listener) copy() (*os.File, error) {
	raw, err := l.Listener.(syscall.Conn).SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dup error
	if err = raw.Control(func(own uintptr) { fd, dup = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err == nil {
		err = dup
	}
	if err != nil {
		return nil, os.NewSyscallError("dup", err)
	}
	return os.NewFile(uintptr(fd), l.Addr().String()), nil
}

// cut ends every connection that is still open.
func (l *listener) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		_ = c.Conn.Close()
	}
}

type conn struct {
	net.Conn
	of    *listener
	in    *list.List // of.asked or of.answered; nil: a request is under way. Guarded by of.mu, as is place in it
	place *list.Element
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

func (c *conn) Close() error {
	c.of.mu.Lock()
	c.of.forget(c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
