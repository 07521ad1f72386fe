package scaler

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What is no state file stays as it is, whatever state_file says; what is one is replaced where it is.
func TestStateFileReplacesNothingElse(t *testing.T) {
	const ours, other = `{"version":1,"upstreams":{}}`, `{"version":1,"upstreams":{"x":`
	text := func(s string) func(string) error {
		return func(path string) error { return os.WriteFile(path, []byte(s), 0o600) }
	}
	link := func(target string) func(string) error {
		return func(path string) error { return os.Symlink(target, path) }
	}
	for name, row := range map[string]struct {
		make    func(path string) error
		said    string
		written string // the file that holds what was learned; "" is none
		kept    string // of the damaged file
	}{
		"none":             {func(string) error { return nil }, "no state file yet", "state", ""},
		"ours":             {text(ours), "", "state", ""},
		"empty":            {text(""), "no state file yet", "state", ""},
		"damaged":          {text(other), "cannot be read", "state", other},
		"a configuration":  {text("[[route]]\n"), "it is no file of ours", "", ""},
		"other JSON":       {text(`{"a": 1}`), "it is no file of ours", "", ""},
		"a newer version":  {text(`{"version":2,"upstreams":{}}`), "it has version 2", "", ""},
		"a FIFO":           {func(path string) error { return unix.Mkfifo(path, 0o600) }, "it is no regular file", "", ""},
		"a folder":         {func(path string) error { return os.Mkdir(path, 0o700) }, "it is no regular file", "", ""},
		"a link":           {link("folder/ours"), "", "folder/ours", ""},
		"a link to none":   {link("folder/none"), "no state file yet", "folder/none", ""},
		"a link to a FIFO": {link("folder/fifo"), "it is no regular file", "", ""},
		"a link to itself": {link("state"), "too many levels", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			path := filepath.Join(folder, "state")
			if err := os.Mkdir(filepath.Join(folder, "folder"), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := unix.Mkfifo(filepath.Join(folder, "folder", "fifo"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, "folder", "ours"), []byte(ours), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := row.make(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			content := func(path string) string {
				if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
					return ""
				}
				b, _ := os.ReadFile(path)
				return string(b)
			}
			was := content(path)
			var out bytes.Buffer
			m := NewMemory(slog.New(slog.NewTextHandler(&out, nil)))
			m.Configure(path)
			m.saved = time.Unix(5, 0) // not time to write yet
			m.keep("a", Learned{Clock: 5}, time.Unix(10, 0))
			m.Save()
			if said := out.String(); !strings.Contains(said, row.said) || strings.Count(said, "\n") > 1 || row.said == "" && said != "" {
				t.Errorf("said %q", said)
			}
			if row.written != "" && !strings.Contains(content(filepath.Join(folder, row.written)), `"a"`) {
				t.Errorf("%s: %.80q", row.written, content(filepath.Join(folder, row.written)))
			}
			after, _ := os.Lstat(path)
			if row.written == "" && (!os.SameFile(before, after) || content(path) != was) {
				t.Errorf("it was replaced: %v, %.80q", after.Mode(), content(path))
			}
			if before != nil && before.Mode().Type() != after.Mode().Type() {
				t.Errorf("%v was made %v", before.Mode(), after.Mode())
			}
			if got := content(path + ".bad"); got != row.kept {
				t.Errorf("kept aside %q", got)
			}
		})
	}
}

// What takes the place of the file later is not replaced either.
func TestStateFileGivesWay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	var out bytes.Buffer
	m := NewMemory(slog.New(slog.NewTextHandler(&out, nil)))
	m.Configure(path)
	m.keep("a", Learned{Clock: 5}, time.Unix(10, 0))
	m.Save()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	m.Save()
	if info, err := os.Lstat(path); err != nil || info.Mode().IsRegular() || !strings.Contains(out.String(), "it is no regular file") {
		t.Errorf("%v, %v; said %q", info.Mode(), err, out.String())
	}
}

// Two sluices with one file are told so, once each; two that follow each other are not.
func TestStateFileOfTwo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	var out bytes.Buffer
	begin := func() *Memory {
		m := NewMemory(slog.New(slog.NewTextHandler(&out, nil)))
		m.Configure(path)
		m.saved = time.Unix(5, 0) // not time to write yet
		return m
	}
	writes := func(m *Memory, name, said string) {
		t.Helper()
		out.Reset()
		m.keep(name, Learned{Clock: 5}, time.Unix(10, 0))
		m.Save()
		if got := out.String(); !strings.Contains(got, said) || (got == "") != (said == "") || strings.Count(got, "\n") > 1 {
			t.Errorf("%s: said %q, not %q", name, got, said)
		}
		if b, err := os.ReadFile(path); err != nil || !strings.Contains(string(b), `"`+name+`"`) {
			t.Errorf("%s is not in the file: %v", name, err)
		}
	}
	const others = "somebody else writes the state file too"
	first, second := begin(), begin()
	writes(first, "a", "")
	writes(first, "aa", "")
	writes(second, "b", others)
	writes(second, "bb", "")
	writes(first, "aaa", others)
	writes(second, "bbb", "")

	first = begin()
	first.keep("c", Learned{Clock: 5}, time.Unix(10, 0))
	first.Freeze(true) // for its successor
	second = begin()
	if second.recall("c").Clock != 5 {
		t.Error("the successor does not know what was learned a moment ago")
	}
	writes(second, "d", "")
	first.keep("e", Learned{Clock: 5}, time.Unix(1000, 0))
	first.Save()
	if b, _ := os.ReadFile(path); strings.Contains(string(b), `"e"`) {
		t.Error("the predecessor has written")
	}
	writes(second, "dd", "")
	first.Freeze(false) // it has failed
	writes(first, "f", "")

	if err := os.WriteFile(path, []byte(`{"version":2}`), 0o600); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	first.Save()
	first.Save()
	if b, _ := os.ReadFile(path); string(b) != `{"version":2}` || strings.Count(out.String(), "it has version 2") != 1 {
		t.Errorf("a newer sluice has written the file: %.80q, said %q", b, out.String())
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	writes(first, "g", "")
	writes(first, "gg", "")
}
