package scaler

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// memoryFile is the file of a Memory: JSON.
type memoryFile struct {
	Version   int                    `json:"version"`
	Upstreams map[string]memoryEntry `json:"upstreams"`
}

const (
	memoryVersion = 1
	memoryLargest = 64 << 20      // bytes
	memoryHead    = `{"version":` // what a file of ours begins with, however it ends
	linksMost     = 40
)

var (
	errIrregular = errors.New("it is no regular file")
	errForeign   = errors.New("it is no file of ours")
	errDamaged   = errors.New("damaged") // but ours: it may be replaced
)

// notOurs tells by the error of readMemory that there is something that must not be replaced.
func notOurs(err error) bool {
	return err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errDamaged)
}

// readMemory returns what is sound in a file, and how many entries are not.
func readMemory(path string) (entries map[string]memoryEntry, bad int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	switch {
	case !info.Mode().IsRegular():
		return nil, 0, errIrregular
	case info.Size() > memoryLargest:
		return nil, 0, errForeign
	case info.Size() == 0:
		return nil, 0, fmt.Errorf("it is empty: %w", fs.ErrNotExist) // nothing is lost with it
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	var f memoryFile
	if err := json.Unmarshal(b, &f); err != nil {
		if !bytes.HasPrefix(b, []byte(memoryHead)) {
			return nil, 0, errForeign
		}
		return nil, 0, fmt.Errorf("%w: %w", errDamaged, err)
	}
	switch {
	case f.Version == 0:
		return nil, 0, errForeign
	case f.Version != memoryVersion:
		return nil, 0, fmt.Errorf("it has version %d, not %d", f.Version, memoryVersion)
	}
	entries = map[string]memoryEntry{}
	for name, e := range f.Upstreams {
		if !e.Learned.Sound() {
			bad++
			continue
		}
		if e.Vertical != nil {
			if _, err := e.Vertical.Model(); err != nil {
				bad++
				e.Vertical = nil
			}
		}
		entries[name] = e
	}
	return entries, bad, nil
}

// setAside gives a damaged file a second name, under which it stays when it is replaced: the first one that was damaged,
// as it may tell why. It returns that name, or why there is none.
func setAside(path string) string {
	target, err := followLinks(path)
	if err != nil {
		return err.Error()
	}
	aside := target + ".bad"
	if err := os.Link(target, aside); err != nil && !errors.Is(err, os.ErrExist) {
		return err.Error()
	}
	return aside
}

// followLinks is the path of what is, or would be, at the end of the symbolic links at path.
func followLinks(path string) (string, error) {
	for range linksMost {
		next, err := os.Readlink(path)
		if err != nil { // no link, or nothing there
			return path, nil
		}
		if !filepath.IsAbs(next) {
			next = filepath.Dir(path) + string(filepath.Separator) + next // not cleaned: a folder of it may be a link too
		}
		path = next
	}
	return "", &os.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// replaceFile puts b in the place of a regular file, or of none, so that a crash leaves either the old or the new one.
func replaceFile(path string, b []byte) error {
	path, err := followLinks(path)
	if err != nil {
		return err
	}
	if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
		return errIrregular
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}
