package peers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// Dir is the membership of the gateways on one host: a folder with a lock file and a Unix socket for each.
// A gateway is a member as long as its lock is held, which the kernel sees to; what a dead one left is
// removed by whoever looks next. Whoever connects to the socket is sent the report and the end.
type Dir struct {
	path, id string
	file     *os.File
	socket   net.Listener
	report   func() []byte
}

const (
	lockSuffix   = ".gateway"
	socketSuffix = ".sock"
	reportMost   = 16 << 20 // bytes
	sendTimeout  = 2 * time.Second
)

// JoinDir makes the gateway id a member of the group at path, which is made if it is missing. From then on
// report, called concurrently, is what others are told. A folder that everybody can write to is refused, as
// whoever is in it is believed. Members lists whoever joined before, so that of two
// that join at once at least one sees the other.
func JoinDir(path, id string, report func() []byte) (*Dir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, err
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("everybody can write to %s", path)
	}
	d := &Dir{path: path, id: id, report: report}
	for range 100 { // one who lists may hold a fresh lock for a moment, and take it for a dead one's
		if d.file, err = os.OpenFile(d.name(id, lockSuffix), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600); err != nil {
			return nil, err
		}
		err = lock(d.file)
		if err == nil && samePath(d.file, d.file.Name()) {
			break
		}
		_ = d.file.Close()
		if err == nil {
			err = errors.New("its lock file was removed")
		}
		time.Sleep(time.Millisecond)
	}
	if err != nil {
		return nil, fmt.Errorf("join %s as %s: %w", path, id, err)
	}
	_ = os.Remove(d.name(id, socketSuffix)) // of an earlier process of that name
	if d.socket, err = net.Listen("unix", d.name(id, socketSuffix)); err != nil {
		d.leave()
		return nil, err
	}
	if err := os.Chmod(d.name(id, socketSuffix), 0o600); err != nil {
		_ = d.socket.Close()
		d.leave()
		return nil, err
	}
	go d.serve()
	return d, nil
}

func (d *Dir) name(id, suffix string) string { return filepath.Join(d.path, id+suffix) }

// serve sends the report to everyone who connects, until the socket is closed.
func (d *Dir) serve() {
	for {
		c, err := d.socket.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond) // no descriptors left: others need them more
			continue
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(sendTimeout))
			_, _ = c.Write(d.report())
		}()
	}
}

// Members are the ids of all gateways alive, this one too.
func (d *Dir) Members(context.Context) ([]string, error) {
	files, err := os.ReadDir(d.path)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), lockSuffix)
		if ok && (id == d.id || d.lives(id)) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// lives reports whether the lock of id is held, and removes what is left of it when it is not.
func (d *Dir) lives(id string) bool {
	f, err := os.OpenFile(d.name(id, lockSuffix), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return !errors.Is(err, os.ErrNotExist) // what cannot be seen counts as alive
	}
	defer f.Close()
	if lock(f) != nil {
		return true
	}
	if samePath(f, f.Name()) { // nobody else can have it while we hold its lock
		_ = os.Remove(d.name(id, socketSuffix))
		_ = os.Remove(f.Name())
	}
	return false
}

// Fetch asks a member for its report.
func (d *Dir) Fetch(ctx context.Context, id string) ([]byte, error) {
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", d.name(id, socketSuffix))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	unhook := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	defer unhook()
	var b bytes.Buffer
	n, err := io.Copy(&b, io.LimitReader(c, reportMost))
	if err == nil && n == reportMost {
		err = fmt.Errorf("the report of %s has more than %d bytes", id, reportMost)
	}
	return b.Bytes(), err
}

// Leave ends the membership.
func (d *Dir) Leave() {
	_ = d.socket.Close()
	d.leave()
}

func (d *Dir) leave() {
	_ = os.Remove(d.name(d.id, socketSuffix))
	_ = os.Remove(d.file.Name())
	_ = d.file.Close()
}
