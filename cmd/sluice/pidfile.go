package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sluice/config"
)

// pidFile tells where a sluice runs. It is locked (flock) for as long as its process lives, however that ends: so
// a pid in it is a live sluice exactly while the file is locked, and a number that the
// system gave to another process since is never taken for one. A nil *pidFile is none.
type pidFile struct {
	path string
	file *os.File // holds the lock
}

// claimPID writes the pid file; "off" and "" are none. It is an error that a live sluice has it, unless that is
// predecessor, which started this one to take its place (0 is nobody). The file appears complete or not at all.
func claimPID(path string, predecessor int) (*pidFile, error) {
	if path == "off" || path == "" {
		return nil, nil
	}
	own, err := lockedPID(filepath.Dir(path))
	if err != nil {
		return nil, fmt.Errorf("pid: %w", err)
	}
	p := &pidFile{path, own}
	for round := range 100 { // in each one somebody else was faster
		if err = os.Link(own.Name(), path); err == nil {
			break
		}
		if !errors.Is(err, os.ErrExist) {
			break
		}
		var again bool
		if again, err = p.replacePresent(predecessor); err == nil || !again && round >= 5 {
			break
		}
		if !again { // it may only be somebody who looks: livePID locks too, for a moment
			time.Sleep(2 * time.Millisecond)
		}
	}
	_ = os.Remove(own.Name()) // linked to its path by now, or of no use
	if err != nil {
		_ = own.Close()
		return nil, fmt.Errorf("pid: %w", err)
	}
	return p, nil
}

// lockedPID makes a locked file that holds our pid, under a name of its own.
func lockedPID(dir string) (*os.File, error) {
	f, err := os.CreateTemp(dir, ".sluice-pid-")
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%d\n", os.Getpid())
	}
	if err != nil {
		_ = f.Close()
		_ = os.Remove(f.Name())
		return nil, err
	}
	return f, nil
}

func (p *pidFile) replacePresent(predecessor int) (again bool, err error) {
	old, err := openPID(p.path)
	if errors.Is(err, os.ErrNotExist) {
		return true, err
	}
	if err != nil {
		return false, err
	}
	defer old.Close() // gives up its lock, too late to matter: it is no longer at the path
	return p.replace(old, predecessor)
}

// replace puts our file in the place of old. again is true when old is no longer there: somebody else
// has replaced it since it was opened.
func (p *pidFile) replace(old *os.File, predecessor int) (again bool, err error) {
	if err := syscall.Flock(int(old.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		pid, _ := readPID(old)
		switch {
		case !samePath(old, p.path):
			return true, err
		case !errors.Is(err, syscall.EWOULDBLOCK):
			return false, err
		case pid != predecessor || pid == 0:
			return false, fmt.Errorf("sluice runs already (pid %d holds %s)", pid, p.path)
		}
	}
	if !samePath(old, p.path) {
		return true, os.ErrExist
	}
	// Rename would do nothing if both were the same file; they never are.
	return false, os.Rename(p.file.Name(), p.path)
}

// Release removes the file, unless a successor's has taken its place.
func (p *pidFile) Release() {
	if p == nil {
		return
	}
	if samePath(p.file, p.path) {
		_ = os.Remove(p.path)
	}
	_ = p.file.Close()
}

// giveWay releases the file, unless next is the same one.
func (p *pidFile) giveWay(next *pidFile) {
	if p != nil && (next == nil || next.file != p.file) {
		p.Release()
	}
}

// takePID claims the first pid file. It comes last in a start: a successor that fails before has not taken its predecessor's.
func (g *gateway) takePID() (err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.pid == nil { // no reload was faster
		g.pid, err = g.claimPID(g.cfg.PID, g.predecessorPID)
	}
	return err
}

// preparePID claims the pid file of a reload beside the present one, or gives that one where it stays. The caller holds mu.
func (g *gateway) preparePID(path string) (*pidFile, error) {
	switch {
	case g.cfg == nil || g.cfg.PID == path:
		return g.pid, nil
	case g.pid != nil && samePath(g.pid.file, path): // the same one by another path
		return &pidFile{path, g.pid.file}, nil
	}
	return g.claimPID(path, 0)
}

// claimPID is the function of that name, but the default's folder need not be there: an image FROM scratch has none.
func (g *gateway) claimPID(path string, predecessor int) (*pidFile, error) {
	p, err := claimPID(path, predecessor)
	if errors.Is(err, os.ErrNotExist) && path == config.Default().PID {
		g.log.Warn("no pid file", "why", err)
		return nil, nil
	}
	return p, err
}

// releasePID removes the pid file at the end.
func (g *gateway) releasePID() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.pid.Release()
}

// livePID is the pid of the sluice that holds the file.
func livePID(path string) (int, error) {
	if path == "off" || path == "" {
		return 0, errors.New("the configuration has pid = \"off\": there is no pid file to find sluice by")
	}
	f, err := openPID(path)
	if errors.Is(err, os.ErrNotExist) {
		return 0, fmt.Errorf("no sluice runs: there is no pid file %s", path)
	}
	if err != nil {
		return 0, err
	}
	defer f.Close()
	// Asking for a shared lock does not disturb others who ask at the same time.
	switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB); {
	case err == nil:
		return 0, fmt.Errorf("no sluice runs: %s was left behind", path)
	case !errors.Is(err, syscall.EWOULDBLOCK):
		return 0, err
	}
	pid, err := readPID(f)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if err := sameOwner(f, pid); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return pid, nil
}

// openPID follows no link in place of the file: the folder may be one that others write to.
func openPID(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, fmt.Errorf("%s is no regular file", path)
	}
	return f, nil
}

func readPID(f *os.File) (int, error) {
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 32))
	if err != nil {
		return 0, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid <= 1 {
		return 0, errors.New("there is no pid in it")
	}
	return pid, nil
}

// samePath tells whether the open file is the one at path.
func samePath(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}

// sameOwner refuses a file whose writer names a process that is not its own: root must not be led to signal
// one by whoever could write the file. Where there is no /proc, only root's and our own files are believed.
func sameOwner(f *os.File, pid int) error {
	info, err := f.Stat()
	if err != nil {
		return err
	}
	writer := info.Sys().(*syscall.Stat_t).Uid
	if writer == 0 || int(writer) == os.Geteuid() && os.Geteuid() != 0 {
		return nil
	}
	process, err := os.Stat("/proc/" + strconv.Itoa(pid))
	if err == nil && process.Sys().(*syscall.Stat_t).Uid == writer {
		return nil
	}
	return fmt.Errorf("it belongs to user %d, process %d does not", writer, pid)
}
