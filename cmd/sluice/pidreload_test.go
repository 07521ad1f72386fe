package main

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// held asks whether the pid file at path names this sluice.
func (s *running) held(path string) bool {
	pid, err := livePID(path)
	return err == nil && pid == s.cmd.Process.Pid
}

// pidFiles are the names of all in the folder of the configuration that have to do with pid files.
func (s *running) pidFiles() string {
	s.t.Helper()
	entries, err := os.ReadDir(filepath.Dir(s.file))
	if err != nil {
		s.t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if strings.Contains(e.Name(), "pid") {
			names = append(names, e.Name())
		}
	}
	return strings.Join(names, " ")
}

// The pid file is the one that the configuration in force names, so that -s finds the sluice by it.
func TestPIDFileFollowsReloads(t *testing.T) {
	t.Parallel()
	s := start(t, "[[route]]\nrespond = \"hi\"\n")
	folder := filepath.Dir(s.file)
	at := func(name string) string { return strconv.Quote(filepath.Join(folder, name)) }
	for _, step := range []struct{ old, new, files string }{
		{at("sluice.pid"), at("b.pid"), "b.pid"},
		{at("b.pid"), `"off"`, ""},
		{`"off"`, at("c.pid"), "c.pid"},
		{at("c.pid"), strconv.Quote(folder + "/./c.pid"), "c.pid"},
		{`"hi"`, `"hello"`, "c.pid"},
	} {
		s.edit(step.old, step.new)
		s.signalReload()
		if got := s.pidFiles(); got != step.files || got != "" && !s.held(filepath.Join(folder, got)) {
			t.Fatalf("after %s: %q, want %q, of pid %d", step.new, got, step.files, s.cmd.Process.Pid)
		}
	}
	invoke(cmdSignal, nil, "-s", "reopen", "-c", s.file).is(t, exitOK)

	s.upgrade()
	s.edit("/./c.pid", "/d.pid")
	s.signalReload()
	if got := s.pidFiles(); got != "d.pid" || !s.held(filepath.Join(folder, got)) {
		t.Errorf("after a reload of the successor: %q", got)
	}
	invoke(cmdSignal, nil, "-s", "quit", "-c", s.file).is(t, exitOK)
	within(t, 15*time.Second, "the successor leaves no pid file", func() bool { return s.pidFiles() == "" })
}

// A reload that is refused, for the pid file or for something else, leaves the pid file and all else as it was.
func TestPIDFileOfARefusedReload(t *testing.T) {
	t.Parallel()
	s := start(t, "[[route]]\nrespond = \"hi\"\n")
	folder := filepath.Dir(s.file)
	own, others, third := filepath.Join(folder, "sluice.pid"), filepath.Join(folder, "others.pid"), filepath.Join(folder, "third.pid")
	before := must(t, func() ([]byte, error) { return os.ReadFile(s.file) })
	pid, said, _ := other(t, others)
	if said != "claimed" {
		t.Fatal(said)
	}
	refused := func(words string) {
		t.Helper()
		code, out, err := fetchPost(s.admin+"/api/v1/reload", "")
		if err != nil || code == 200 || !strings.Contains(out, words) {
			t.Errorf("no %q in: %d, %v %s", words, code, err, out)
		}
		if got := s.pidFiles(); got != "others.pid sluice.pid" || !s.held(own) || s.held(others) {
			t.Errorf("pid files %q", got)
		}
		if _, body, err := fetch(s.url); err != nil || body != "hi" {
			t.Errorf("%q, %v", body, err)
		}
		if g := s.status().Config.Generation; g != 1 {
			t.Errorf("generation %d", g)
		}
		s.write(string(before))
	}
	s.edit(own, others)
	s.edit(`"hi"`, `"hello"`)
	log := filepath.Join(folder, "own.log")
	s.edit("[[route]]", "log.file = "+strconv.Quote(log)+"\n[[route]]")
	refused("sluice runs already (pid " + strconv.Itoa(pid) + " holds " + others + ")")
	if _, err := os.Stat(log); err == nil {
		t.Error("the log of a refused configuration was opened")
	}

	s.edit(own, third)
	s.edit(`"hi"`, `"hello"`)
	s.edit(strings.TrimPrefix(s.admin, "http://"), strings.TrimPrefix(still(t, "").addr, "http://")) // taken
	refused("in use")

	s.edit(own, third)
	s.signalReload()
	if got := s.pidFiles(); got != "others.pid third.pid" || !s.held(third) {
		t.Errorf("pid files %q", got)
	}
}
