package scaler

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
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
	alone   bool       // what is at path is not ours: nothing is written
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

const (
	memoryMost  = 1000 // upstreams; the oldest are forgotten
	memoryEvery = time.Minute
)

// NewMemory makes a memory without a file.
func NewMemory(log *slog.Logger) *Memory {
	return &Memory{log: log, entries: map[string]memoryEntry{}}
}

// Configure keeps the memory in a file from now on, "" in none. A file that is there is read when it is named first;
// what this memory knows already is newer and stays. A file that is not ours to replace is left alone.
func (m *Memory) Configure(path string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if path == m.path {
		return
	}
	m.path, m.alone = path, false
	if path == "" {
		return
	}
	entries, bad, err := readMemory(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.log.Info("no state file yet: scaling learns afresh", "file", path)
	case errors.Is(err, errDamaged):
		m.log.Warn("the state file cannot be read: scaling learns afresh", "file", path, "error", err, "kept", setAside(path))
	case err != nil:
		m.alone = true
		m.log.Error("the state file is left alone: scaling learns afresh, and forgets it at its end", "file", path, "error", err)
	case bad > 0:
		m.log.Warn("the state file is partly unsound: scaling of some upstreams learns afresh", "file", path, "upstreams", bad)
	}
	for name, e := range entries {
		if _, known := m.entries[name]; !known {
			m.entries[name] = e
		}
	}
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
	nothing := path == "" || m.alone || len(m.entries) == 0
	m.mu.Unlock()
	if nothing {
		return
	}
	if err == nil {
		err = replaceFile(path, b)
	}
	if err != nil {
		m.log.Warn("the state file cannot be written", "file", path, "error", err)
	}
}
