package config

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// Files that a start could not make are found by a check, with their place.
func TestFilesToWrite(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(t.TempDir(), "none"))
	if err := os.WriteFile("file", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir("logs", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo("fifo", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("a.toml", nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("a.toml", "link"); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ text, want string }{
		{`scale.state_file = "none/state.json"`, `a.toml:1:20: none/state.json: there is no folder none`},
		{`scale.state_file = "logs"`, `a.toml:1:20: logs: it is a folder`},
		{"[scale]\nstate_file = \"fifo\"", `a.toml:2:14: fifo: it is no regular file`},
		{"[scale]\nstate_file = \"./a.toml\"", `a.toml:2:14: ./a.toml: it is the configuration itself`},
		{`scale.state_file = "link"`, `a.toml:1:20: link: it is the configuration itself`},
		{`scale.state_file = "file"`, ""},
		{`scale.state_file = "new.json"`, ""},
		{`scale.state_file = ""`, ""},
		{`log.file = "none/sluice.log"`, `a.toml:1:12: none/sluice.log: there is no folder none`},
		{"[log]\naccess = \"off\"\nfile = \"/none/such/sluice.log\"", `a.toml:3:8: /none/such/sluice.log: there is no folder /none/such`},
		{`log.file = "file/sluice.log"`, `a.toml:1:12: file/sluice.log: file is no folder`},
		{`log.file = "file/x/sluice.log"`, `a.toml:1:12: file/x/sluice.log: file/x is no folder`},
		{`log.file = "logs"`, `a.toml:1:12: logs: it is a folder`},
		{`pid = "none/sluice.pid"`, `a.toml:1:7: none/sluice.pid: there is no folder none`},
		{`pid = "file/sluice.pid"`, `a.toml:1:7: file/sluice.pid: file is no folder`},
		{`log.file = "file"`, ""},
		{`log.file = "logs/sluice.log"`, ""},
		{`log.file = "new.log"`, ""},
		{`log.file = ""`, ""},
		{`log.file = "/dev/null"`, ""},
		{`pid = "logs/sluice.pid"`, ""},
		{`pid = "off"`, ""},
		{`pid = ` + strconv.Quote(Default().PID), ""}, // run does without
	} {
		_, err := Parse("a.toml", []byte(c.text))
		errs, _ := err.(Errors)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s\n%v", c.text, err)
		case c.want != "" && (len(errs) != 1 || !strings.HasPrefix(errs[0].Error(), c.want)):
			t.Errorf("%s\n%v\nwant one error: %s", c.text, err, c.want)
		}
		if err := os.WriteFile("scaler.toml", []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := LoadForScaler("scaler.toml"); err != nil {
			t.Errorf("%s\nthe scaler, which writes neither: %v", c.text, err)
		}
	}
}
