package privsep

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"
)

// connsMost bounds the connections: one stream per upstream and gateway, and a few calls.
const connsMost = 512

// Listener accepts only connections of processes with the user ids it is told of, by the credentials that the kernel
// vouches for. All others are answered why not, and closed.
type Listener struct {
	*net.UnixListener
	path string
	made os.FileInfo
	log  *slog.Logger
	free chan struct{} // holds one per connection that is open

	refusing chan struct{} // holds one per connection that is being turned away

	mu      sync.Mutex // guards all below
	clients []int
	told    time.Time // when a refusal was logged last
}

// Listen makes the socket at path, whose folder is made if it is missing. A folder that everybody can write to is
// refused, as whoever is in it could take the socket's place. What a dead scaler left is replaced; one that somebody
// answers on is left alone. clients are user ids; none is the process's own.
func Listen(path string, clients []int, log *slog.Logger) (*Listener, error) {
	folder := filepath.Dir(path)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Stat(folder)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("everybody can write to %s", folder)
	}
	if err := taken(path); err != nil {
		return nil, err
	}
	hidden, err := os.MkdirTemp(folder, ".scaler-") // nobody can connect before the mode is set
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(hidden)
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(hidden, "s"), Net: "unix"})
	if err != nil {
		return nil, err
	}
	socket.SetUnlinkOnClose(false)
	l := &Listener{UnixListener: socket, path: socket.Addr().String(), log: log, free: make(chan struct{}, connsMost), refusing: make(chan struct{}, 16)}
	if err = l.Allow(clients); err == nil {
		err = os.Rename(l.path, path)
	}
	if err == nil {
		l.path = path
		l.made, err = os.Lstat(path)
	}
	if err != nil {
		_ = socket.Close()
		return nil, err
	}
	return l, nil
}

// taken says why path cannot be the socket's; what a dead process left there can.
func taken(path string) error {
	switch info, err := os.Lstat(path); {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&os.ModeSocket == 0:
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	c, err := net.DialTimeout("unix", path, time.Second)
	switch {
	case err == nil:
		_ = c.Close()
		return fmt.Errorf("%s: %w: another process answers on it", path, syscall.EADDRINUSE)
	case errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist):
		return nil
	}
	return err
}

// Allow changes whose processes may connect. The socket is open to its owner only, unless others are named.
func (l *Listener) Allow(clients []int) error {
	if len(clients) == 0 {
		clients = []int{os.Getuid()}
	}
	mode := os.FileMode(0o600)
	if slices.ContainsFunc(clients, func(uid int) bool { return uid != os.Getuid() }) {
		mode = 0o666 // the credentials decide
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := os.Chmod(l.path, mode); err != nil {
		return err
	}
	l.clients = slices.Clone(clients)
	return nil
}

// Accept gives the next connection of one who may connect.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.AcceptUnix()
		if err != nil {
			return nil, err
		}
		code, why := http.StatusForbidden, l.forbidden(c)
		if why == "" {
			select {
			case l.free <- struct{}{}:
				return &conn{UnixConn: c, free: l.free}, nil
			default:
				code, why = http.StatusServiceUnavailable, fmt.Sprintf("%d connections are open already", connsMost)
			}
		}
		l.turnAway(c, code, why)
	}
}

// forbidden says why c may not connect; "" when it may.
func (l *Listener) forbidden(c *net.UnixConn) string {
	uid, pid, err := peer(c)
	if err != nil {
		return fmt.Sprintf("the client's credentials are not known: %v", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if slices.Contains(l.clients, uid) {
		return ""
	}
	return fmt.Sprintf("user id %d (pid %d) is not among the clients %v: engine.scaler_clients names them", uid, pid, l.clients)
}

// turnAway answers and closes, beside Accept and only for a few at a time, so that nobody can hold others up.
func (l *Listener) turnAway(c *net.UnixConn, code int, why string) {
	select {
	case l.refusing <- struct{}{}:
		go func() {
			defer func() { <-l.refusing }()
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(time.Second))
			_, _ = c.Read(make([]byte, 8<<10)) // a request that is not read resets the connection, and the answer is lost
			body := fmt.Sprintf(`{"error":%q,"kind":"refused"}`, why)
			fmt.Fprintf(c, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", code, http.StatusText(code), len(body), body)
		}()
	default:
		_ = c.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if now := time.Now(); now.Sub(l.told) >= time.Second { // a flood of them is no flood of lines
		l.told = now
		l.log.Warn("a connection was refused", "why", why)
	}
}

// Close ends listening and removes the socket, unless another has taken its place.
func (l *Listener) Close() error {
	if now, err := os.Lstat(l.path); err == nil && os.SameFile(now, l.made) {
		_ = os.Remove(l.path)
	}
	return l.UnixListener.Close()
}

// conn gives its place back when it is closed.
type conn struct {
	*net.UnixConn
	free chan struct{}
	once sync.Once
}

// Close ends the connection.
func (c *conn) Close() error {
	c.once.Do(func() { <-c.free })
	return c.UnixConn.Close()
}
