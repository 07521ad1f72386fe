package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"sluice/config"
)

// nginx's flags stand in any order, with or without the word run.
func TestNginxHabits(t *testing.T) {
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "own.toml"), []byte("engine.kind = \"none\"\nlisten = [\"127.0.0.1:8081\"]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		args  []string
		code  int
		words string
	}{
		{[]string{"-t", "-p", folder, "-c", "own.toml"}, exitOK, "own.toml is valid"},
		{[]string{"-p", folder, "-c", "own.toml", "-t"}, exitOK, "own.toml is valid"},
		{[]string{"-c", "own.toml", "-t", "-g", "daemon off;", "-p", folder}, exitOK, "own.toml is valid"},
		{[]string{"run", "-p", folder, "-c", "own.toml", "-T"}, exitOK, "127.0.0.1:8081"},
		{[]string{"run", "-p", folder, "-c", "none.toml"}, exitFailed, "none.toml"},
		{[]string{"-t", "-e", "error.log", "-c", "own.toml", "-p", folder}, exitOK, "own.toml is valid"},
		{[]string{"check", "-p", folder, "-c", "own.toml", "-g", "daemon off;", "-e", "stderr"}, exitOK, "own.toml is valid"},
		{[]string{"-t", "-e", filepath.Join("none", "error.log"), "-c", "own.toml", "-p", folder}, exitFailed, "-e: none/error.log: there is no folder none"},
		{[]string{"-t", "-g", "nonsense on;"}, exitUsage, "nonsense on"},
		{[]string{"-t", "-q", "-p", folder, "-c", "none.toml"}, exitConfig, "none.toml"},
		{[]string{"check", "-c", "none.toml"}, exitConfig, "none.toml"},
		{[]string{"check", "-c", folder}, exitConfig, folder},
		{[]string{"-T", "-t", "-c", "own.toml", "-p", folder}, exitOK, "127.0.0.1:8081"},
		{[]string{"-tc", "own.toml"}, exitUsage, "-tc"},
		{[]string{"-c", "t", "-p", folder}, exitFailed, "open t: no such file"},
		{[]string{"check", "-h"}, exitOK, "usage: sluice check"},
		{[]string{"run", "--help"}, exitOK, "usage: sluice run"},
		{[]string{"-h"}, exitOK, "commands"},
		{[]string{"-c", "own.toml", "-v"}, exitOK, "sluice "},
		{[]string{"-p"}, exitUsage, "-p needs a folder"},
		{[]string{"run", "-p", filepath.Join(folder, "missing")}, exitUsage, "missing"},
		{[]string{"-g", "worker_processes 4;"}, exitUsage, "worker_processes 4"},
		{[]string{"-g"}, exitUsage, "-g needs directives"},
		{[]string{"-s", "jump"}, exitUsage, `"jump" is not reload`},
		{[]string{"-c", "own.toml", "-s"}, exitUsage, "needs an argument"},
		{[]string{"serve"}, exitUsage, `no command "serve"`},
	} {
		t.Chdir(t.TempDir())
		o := invoke(sluice, nil, row.args...)
		o.is(t, row.code, row.words)
		if t.Failed() {
			t.Fatalf("sluice %q: %+v", row.args, o)
		}
	}
	for _, quiet := range [][]string{{"-t", "-q"}, {"-q", "-t"}, {"-tq"}, {"-qt"}, {"check", "-q"}, {"-t", "-q", "-e", "error.log", "-g", "daemon off;"}} {
		t.Chdir(t.TempDir())
		if o := invoke(sluice, nil, append(quiet, "-p", folder, "-c", "own.toml")...); o != (outcome{}) {
			t.Errorf("sluice %q: %+v", quiet, o)
		}
	}
	if _, err := os.Stat(filepath.Join(folder, "error.log")); err == nil {
		t.Error("a check has made the error log")
	}
}

// A configuration that was named and is not there must not lead to the sluice with the default pid file.
func TestSignalsNeedTheNamedConfiguration(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	pid, said, _ := other(t, config.Default().PID)
	if said != "claimed" {
		t.Fatal(said)
	}
	folder, missing := t.TempDir(), filepath.Join(t.TempDir(), "none.toml")
	alone := must(t, func() (string, error) { return filepath.EvalSymlinks(folder) })
	free := nobody(t)
	for _, row := range []struct {
		args []string
		file string
	}{
		{[]string{"-c", missing}, missing},
		{[]string{"-c", missing, "--admin", free}, missing},
		{[]string{"-p", folder}, filepath.Join(alone, "config.toml")},
		{[]string{"-p", folder, "-c", "none.toml"}, "none.toml"},
		{[]string{"-p", folder, "--admin", "off"}, filepath.Join(alone, "config.toml")},
	} {
		for _, name := range []string{"reload", "quit", "stop", "reopen"} {
			t.Chdir(t.TempDir())
			words := row.file + ": no such file"
			if name == "reload" && slices.Contains(row.args, free) { // --admin is enough to ask
				words = "no sluice answers on " + free
			}
			invoke(sluice, nil, append([]string{"-s", name}, row.args...)...).is(t, exitFailed, words)
			if now, err := livePID(config.Default().PID); err != nil || now != pid {
				t.Fatalf("-s %s %q: the wrong sluice was told: %d, %v", name, row.args, now, err)
			}
		}
	}
	invoke(sluice, nil, "-p", folder, "status").is(t, exitFailed, "config.toml: no such file")
	t.Chdir(t.TempDir())
	invoke(sluice, nil, "-s", "reopen").is(t, exitOK)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if !gone(config.Default().PID, pid, ctx.Done()) {
		t.Error("without -c and -p the default pid file tells the sluice")
	}
}
