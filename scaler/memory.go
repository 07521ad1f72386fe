package scaler

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sluice/scaler/vertical"
)

// Memory keeps what the loops have learned, by the name of their upstream: across a change of an upstream's source
// and, with a file, across restarts. What it cannot read it does without, and says so. A nil Memory forgets. Safe for
// concurrent use.
type Memory struct {
	log *slog.Logger

	writing sync.Mutex // one at a time

	mu      sync.Mutex // guards all below
	path    string     // "" is no file
	entries map[string]memoryEntry
	saved   time.Time
	due     bool // a goroutine is about to write the file
}

type memoryEntry struct {
	At      time.Time `json:"at"`
	Learned Learned   `json:"learned"`
	// Vertical is what is known of the replicas' use; nil is nothing.
	Vertical *vertical.Checkpoint `json:"vertical,omitempty"`
}

// memoryFile is the file: JSON.
type memoryFile struct {
	Version   int                    `json:"version"`
	Upstreams map[string]memoryEntry `json:"upstreams"`
}

const (
	memoryVersion = 1
	memoryMost    = 1000 // upstreams; the oldest are forgotten
	memoryEvery   = time.Minute
	memoryLargest = 64 << 20 // bytes
)

// NewMemory makes a memory without a file.
func NewMemory(log *slog.Logger) *Memory {
	return &Memory{log: log, entries: map[string]memoryEntry{}}
}

// Configure keeps the memory in a file from now on, "" in none. A file that is there is read when it is named first;
// what this memory knows already is newer and stays.
func (m *Memory) Configure(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if path == m.path {
		return
	}
	m.path = path
	if path == "" {
		return
	}
	entries, bad, err := readMemory(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.log.Info("no state file yet: scaling learns afresh", "file", path)
	case err != nil:
		m.log.Warn("the state file cannot be read: scaling learns afresh", "file", path, "error", err)
	case bad > 0:
		m.log.Warn("the state file is partly unsound: scaling of some upstreams learns afresh", "file", path, "upstreams", bad)
	}
	for name, e := range entries {
		if _, known := m.entries[name]; !known {
			m.entries[name] = e
		}
	}
}

// readMemory returns what is sound in a file, and how many entries are not.
func readMemory(path string) (entries map[string]memoryEntry, bad int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() || info.Size() > memoryLargest {
		return nil, 0, errors.New("it is no file of ours")
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, 0, err
	}
	var f memoryFile
	if err := json.Unmarshal(b, &f); err != nil {
		return nil, 0, err
	}
	if f.Version != memoryVersion {
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

// recall is what is known of an upstream.
func (m *Memory) recall(name string) Learned {
	if m == nil {
		return Learned{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[name].Learned
}

// keep takes what was learned of an upstream, and writes the file beside when it is time to.
func (m *Memory) keep(name string, l Learned, now time.Time) {
	if m == nil {
		return
	}
	m.put(name, now, func(e *memoryEntry) { e.Learned = l })
}

// recallUse is what is known of the use of an upstream's replicas; nil is nothing.
func (m *Memory) recallUse(name string) *vertical.Checkpoint {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.entries[name].Vertical
}

// keepUse is keep for what is known of the replicas' use.
func (m *Memory) keepUse(name string, c *vertical.Checkpoint, now time.Time) {
	if m != nil {
		m.put(name, now, func(e *memoryEntry) { e.Vertical = c })
	}
}

func (m *Memory) put(name string, now time.Time, change func(*memoryEntry)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.entries[name]
	e.At = now
	change(&e)
	m.entries[name] = e
	if len(m.entries) > memoryMost {
		oldest := name
		for other, e := range m.entries {
			if e.At.Before(m.entries[oldest].At) {
				oldest = other
			}
		}
		delete(m.entries, oldest)
	}
	if age := now.Sub(m.saved); m.path != "" && (age >= memoryEvery || age < 0) {
		m.saved, m.due = now, true
		go m.saveDue()
	}
}

// saveDue writes the file unless that was done meanwhile.
func (m *Memory) saveDue() {
	m.writing.Lock()
	defer m.writing.Unlock()
	m.mu.Lock()
	due := m.due
	m.mu.Unlock()
	if due {
		m.write()
	}
}

// Save writes the file, all of it or nothing, and nothing is written after it that was kept before. An error is logged.
func (m *Memory) Save() {
	if m == nil {
		return
	}
	m.writing.Lock()
	defer m.writing.Unlock()
	m.write()
}

// write is called with writing held.
func (m *Memory) write() {
	m.mu.Lock()
	m.due = false
	path := m.path
	b, err := json.Marshal(memoryFile{memoryVersion, m.entries})
	known := len(m.entries)
	m.mu.Unlock()
	if path == "" || known == 0 {
		return
	}
	if err == nil {
		err = replaceFile(path, b)
	}
	if err != nil {
		m.log.Warn("the state file cannot be written", "file", path, "error", err)
	}
}

// replaceFile puts b in the place of a file so that a crash leaves either the old or the new one.
func replaceFile(path string, b []byte) error {
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
