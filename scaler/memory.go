package scaler

import (
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
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
	frozen  bool
	seen    os.FileInfo // of the file, when this memory has read or written it last; nil is none
	told    bool        // that others write the file
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
	m.path, m.told = path, false
	if path == "" {
		return
	}
	m.seen, _ = os.Stat(path)
	entries, bad, err := readMemory(path)
	m.alone = notOurs(err)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		m.log.Info("no state file yet: scaling learns afresh", "file", path)
	case m.alone:
		m.log.Error("the state file is left alone: scaling learns afresh, and forgets it at its end", "file", path, "error", err)
	case err != nil:
		m.log.Warn("the state file cannot be read: scaling learns afresh", "file", path, "error", err, "kept", setAside(path))
	case bad > 0:
		m.log.Warn("the state file is partly unsound: scaling of some upstreams learns afresh", "file", path, "upstreams", bad)
	}
	for name, e := range entries {
		if _, known := m.entries[name]; !known {
			m.entries[name] = e
		}
	}
}

// Freeze writes the file and then leaves it to another process, until that is undone.
func (m *Memory) Freeze(on bool) {
	if on {
		m.Save()
	}
	m.mu.Lock()
	m.frozen = on
	path := m.path
	m.mu.Unlock()
	if !on {
		m.see(path) // whatever the other has written
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
	if age := now.Sub(m.saved); m.path != "" && !m.frozen && (age >= memoryEvery || age < 0) {
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

// write is called with writing held. The file is not touched with mu held: a filesystem that hangs must not hold up loops.
func (m *Memory) write() {
	m.mu.Lock()
	m.due = false
	path, seen, alone := m.path, m.seen, m.alone
	nothing := path == "" || m.frozen || len(m.entries) == 0
	b, err := json.Marshal(memoryFile{memoryVersion, m.entries})
	m.mu.Unlock()
	if nothing || !m.mayReplace(path, seen, alone) {
		return
	}
	if err == nil {
		err = replaceFile(path, b)
	}
	if err != nil {
		m.log.Warn("the state file cannot be written", "file", path, "error", err)
		return
	}
	m.see(path)
}

// see takes the file as it is for what this memory knows of it.
func (m *Memory) see(path string) {
	info, _ := os.Stat(path)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path == path {
		m.seen = info
	}
}

// mayReplace looks at the file again where somebody else has changed it since it was seen, and says so once.
func (m *Memory) mayReplace(path string, seen os.FileInfo, alone bool) bool {
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) { // there was none, or it was removed
		m.mu.Lock()
		defer m.mu.Unlock()
		m.alone = m.alone && m.path != path
		return m.path == path
	}
	if err != nil || seen != nil && seen.Size() == now.Size() && seen.ModTime().Equal(now.ModTime()) { // not by inodes, which not every filesystem keeps
		return !alone
	}
	if _, _, err = readMemory(path); errors.Is(err, errDamaged) {
		setAside(path)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.path != path {
		return false
	}
	told := m.told
	m.seen, m.alone, m.told = now, notOurs(err), true
	switch {
	case m.alone:
		m.log.Error("the state file is left alone: what scaling learns is forgotten at its end", "file", path, "error", err)
	case !told:
		m.log.Warn("somebody else writes the state file too, and the last one wins: each sluice needs its own", "file", path)
	}
	return !m.alone
}
