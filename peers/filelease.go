package peers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// FileLease is a Lease among the processes of one host: a lock on a file, which the kernel releases the
// moment its holder dies, so that the next one begins at once.
//
// A holder that lives but does not run (stopped, or starved) keeps its lock. It also writes a beat into
// the file, and one that sees none for staleAfter puts a file of its own, locked, in its place. The old
// holder sees at its next renewal that the file at the path is another. It may have renewed just before
// that, so the new one waits termValid before it begins; until then its file says that it is not settled,
// and whoever gets its lock waits as well.
//
// The file has to be on a file system of the host itself. Removing it by hand lets two hold the lease for
// up to termValid.
type FileLease struct {
	path string
	log  *slog.Logger
}

// NewFileLease makes the lease at path, whose folder exists and can be written to by all who take part.
func NewFileLease(path string, log *slog.Logger) *FileLease { return &FileLease{path: path, log: log} }

// lockPoll is how often a lock is asked for: it may be free at any moment.
const lockPoll = 250 * time.Millisecond

// mark is what stands in the file. Its text has a fixed length and is written at once.
type mark struct {
	term, beat uint64
	settled    int // 1: no other can still be acting
}

const markText = "%020d %020d %d\n"

func readMark(f *os.File) (m mark, ok bool) {
	b := make([]byte, 64)
	n, _ := f.ReadAt(b, 0)
	if n == 0 {
		return mark{settled: 1}, true // a new file: nobody held it
	}
	_, err := fmt.Sscanf(string(b[:n]), markText, &m.term, &m.beat, &m.settled)
	return m, err == nil
}

func (m mark) write(f *os.File) error {
	_, err := f.WriteAt(fmt.Appendf(nil, markText, m.term, m.beat, m.settled), 0)
	return err
}

// Hold takes the lock when it is free, and the path when the one who has the lock does not beat.
func (l *FileLease) Hold(ctx context.Context) (*Term, error) {
	var seen mark
	var file os.FileInfo // that seen was read from
	var since time.Time
	trouble := ""
	for ; ; _ = pause(ctx, lockPoll) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		f, err := l.open()
		if err != nil {
			if why := err.Error(); why != trouble {
				trouble = why
				l.log.Warn("the lease cannot be had", "error", err)
			}
			continue
		}
		trouble = ""
		now := time.Now()
		info, err := f.Stat()
		m, ok := readMark(f)
		if err != nil || !ok {
			_ = f.Close()
			continue
		}
		if lock(f) == nil {
			if !samePath(f, l.path) { // overtaken since it was opened
				_ = f.Close()
				continue
			}
			m, _ = readMark(f)
			m.term++
			if term, err := l.begin(ctx, f, m); term != nil || err != nil {
				return term, err
			}
			continue
		}
		_ = f.Close()
		switch {
		case file == nil || !os.SameFile(info, file) || m != seen:
			seen, file, since = m, info, now
		case now.Sub(since) >= staleAfter:
			seen.term++
			seen.settled = 0
			own, err := l.overtake(file, seen)
			file = nil
			if err != nil {
				l.log.Warn("the lease cannot be taken over", "error", err)
				continue
			}
			if own == nil {
				continue
			}
			if term, err := l.begin(ctx, own, seen); term != nil || err != nil {
				return term, err
			}
		}
	}
}

func (l *FileLease) open() (*os.File, error) {
	return os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
}

// overtake puts a locked file with m in the place of stale; nil when that is no longer there.
func (l *FileLease) overtake(stale os.FileInfo, m mark) (*os.File, error) {
	f, err := os.CreateTemp(filepath.Dir(l.path), ".lease-")
	if err != nil {
		return nil, err
	}
	err = lock(f)
	if err == nil {
		err = m.write(f)
	}
	gone := false
	if err == nil {
		at, statErr := os.Lstat(l.path)
		if gone = statErr != nil || !os.SameFile(at, stale); !gone {
			err = os.Rename(f.Name(), l.path)
		}
	}
	if err != nil || gone {
		_ = os.Remove(f.Name())
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// begin starts a term on the locked file f, waiting first if another may still act. Neither a term nor an
// error: f was overtaken meanwhile. It closes f unless a term has it.
func (l *FileLease) begin(ctx context.Context, f *os.File, m mark) (*Term, error) {
	if m.settled == 0 {
		for end := time.Now().Add(termValid); time.Now().Before(end); {
			if err := pause(ctx, min(renewEvery, time.Until(end))); err != nil {
				_ = f.Close()
				return nil, err
			}
			m.beat++
			if err := m.write(f); err != nil {
				break // begin again
			}
		}
	}
	start := time.Now()
	m.settled = 1
	m.beat++
	if err := m.write(f); err != nil || !samePath(f, l.path) {
		_ = f.Close()
		return nil, nil
	}
	t := newTerm(m.term, start)
	go t.keep(func(context.Context) error {
		m.beat++
		if err := m.write(f); err != nil {
			return err
		}
		if !samePath(f, l.path) {
			return ErrLost
		}
		return nil
	}, func() { _ = f.Close() })
	return t, nil
}

// lock takes the exclusive lock of f, or returns an error at once.
func lock(f *os.File) error {
	for {
		err := flock(f, syscall.LOCK_EX|syscall.LOCK_NB)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func flock(f *os.File, how int) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	if err := raw.Control(func(fd uintptr) { failed = syscall.Flock(int(fd), how) }); err != nil {
		return err
	}
	return failed
}

// samePath reports whether f is the file at path.
func samePath(f *os.File, path string) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(path)
	return err == nil && os.SameFile(a, b)
}
