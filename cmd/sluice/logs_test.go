package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

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

// A reload that is refused for something that is looked at after the logs leaves them as they were.
func TestRefusedReloadLeavesTheLogs(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	before, after := filepath.Join(folder, "before.log"), filepath.Join(folder, "after.log")
	busy := must(t, func() (net.Listener, error) { return net.Listen("tcp", "127.0.0.1:0") })
	defer busy.Close()
	s := start(t, fmt.Sprintf("log = { access = \"json\", file = %q }\n[[route]]\nrespond = \"hi\"\n", before))
	s.edit(before, after)
	s.edit("admin.listen", fmt.Sprintf("metrics.listen = %q\nadmin.listen", busy.Addr()))
	s.signal(syscall.SIGHUP)
	within(t, 5*time.Second, "refused", func() bool { return strings.Contains(s.status().Config.Error, "address already in use") })
	if _, _, err := fetch(s.url + "/later"); err != nil {
		t.Fatal(err)
	}
	within(t, 5*time.Second, "both logs are where they were", func() bool {
		text, err := os.ReadFile(before)
		return err == nil && strings.Contains(string(text), "/later") && strings.Contains(string(text), "address already in use")
	})
	if text, _ := os.ReadFile(after); len(text) > 0 {
		t.Errorf("the log that was refused: %s", text)
	}
}
