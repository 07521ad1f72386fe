package main

import (
	"os"
	"path/filepath"
	"testing"
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
}
