package main

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/proxy"
)

// A log that cannot be opened is told with what named it.
func TestLogsThatCannotBeOpened(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	dangling := filepath.Join(folder, "dangling") // a check cannot tell
	if err := os.Symlink(filepath.Join(folder, "none", "x.log"), dangling); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct{ access, file, errorLog, want string }{
		{"json", dangling, "", "log.file: open " + dangling},
		{"off", dangling, "stderr", "log.file: open " + dangling},
		{"json", "", dangling, "-e: open " + dangling},
	} {
		_, err := newLogs(io.Discard).configure(proxy.LogConfig{Access: row.access, Level: "info", File: row.file}, row.errorLog)
		if err == nil || !strings.HasPrefix(err.Error(), row.want) {
			t.Errorf("%+v: %v", row, err)
		}
	}
	file := configured(t, "engine.kind = \"none\"\nlog.file = \"/none/such/x.log\"\n")
	invoke(cmdCheck, nil, "-c", file).is(t, exitConfig, file+":2:12: /none/such/x.log: there is no folder /none/such")
}
