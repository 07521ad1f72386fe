package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// launchFrom copies sluice into a folder of its own and starts it there by a relative path. It returns the copy's path.
func (s *running) launchFrom() (path string) {
	s.t.Helper()
	path = filepath.Join(s.t.TempDir(), "sluice")
	s.copyBinary(path)
	s.wrap = []string{"sh", "-c", `cd "$0" && shift && exec ./sluice "$@"`, filepath.Dir(path)}
	s.launch()
	s.waitReady()
	return path
}

// copyBinary makes another file of sluice. The file is never open here: a process that another test starts would
// hold it, and what somebody may write to is not run.
func (s *running) copyBinary(path string) {
	s.t.Helper()
	if said, err := exec.Command("cp", binary(s.t, "sluice"), path).CombinedOutput(); err != nil {
		s.t.Fatalf("cp: %v %s", err, said)
	}
}

// filedPID is the pid in the pid file; 0 while there is none.
func (s *running) filedPID() (pid int) {
	text, err := os.ReadFile(strings.TrimSuffix(s.file, "config.toml") + "sluice.pid")
	if err == nil {
		_, _ = fmt.Sscanf(string(text), "%d", &pid)
	}
	return pid
}

// upgrade sends USR2 and waits until the successor serves and the old one has ended.
func (s *running) upgrade() {
	s.t.Helper()
	s.signal(syscall.SIGUSR2)
	s.succeeded()
}

// succeeded waits for the successor, which is ended with the test.
func (s *running) succeeded() {
	s.t.Helper()
	old, pid := s.cmd.Process.Pid, 0
	within(s.t, 20*time.Second, "a successor", func() bool { pid = s.filedPID(); return pid != 0 && pid != old })
	successor := must(s.t, func() (*os.Process, error) { return os.FindProcess(pid) })
	within(s.t, 20*time.Second, "the old one ends", func() bool { return ended(old) })
	s.cmd.Process = successor
	s.t.Cleanup(func() {
		_ = successor.Signal(syscall.SIGTERM)
		within(s.t, 15*time.Second, "the successor ends", func() bool { return ended(pid) })
	})
	s.waitAdmin()
}

// ended reports that the process runs no longer.
func ended(pid int) bool { return isZombie(pid) || syscall.Kill(pid, 0) != nil }

// TestUpgradeTakesTheBinaryInItsPlace: the old binary was renamed and a new one put where it was, again and again.
func TestUpgradeTakesTheBinaryInItsPlace(t *testing.T) {
	t.Parallel()
	s := prepare(t, "[[route]]\nrespond = \"hi\"\n")
	path := s.launchFrom()
	for i := range 3 {
		if err := os.Rename(path, fmt.Sprintf("%s.old%d", path, i)); err != nil {
			t.Fatal(err)
		}
		s.copyBinary(path)
		s.upgrade()
		wanted := must(t, func() (os.FileInfo, error) { return os.Stat(path) })
		runs := must(t, func() (os.FileInfo, error) { return os.Stat(fmt.Sprintf("/proc/%d/exe", s.cmd.Process.Pid)) })
		if !os.SameFile(wanted, runs) {
			name, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.cmd.Process.Pid))
			t.Fatalf("upgrade %d: %s runs, not %s", i+1, name, path)
		}
	}
}

// TestUpgradeFollowsTheLink: sluice is started by a link, which leads to another version when it is upgraded.
func TestUpgradeFollowsTheLink(t *testing.T) {
	t.Parallel()
	s := prepare(t, "[[route]]\nrespond = \"hi\"\n")
	folder := t.TempDir()
	link := filepath.Join(folder, "sluice")
	for i := range 3 {
		version := filepath.Join(folder, fmt.Sprint("sluice-", i))
		s.copyBinary(version)
		if err := os.Symlink(version, link+".new"); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link+".new", link); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			s.wrap = []string{"sh", "-c", `cd "$0" && shift && exec ./sluice "$@"`, folder}
			s.launch()
			s.waitReady()
		} else {
			s.upgrade()
		}
		if runs, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", s.cmd.Process.Pid)); runs != version {
			t.Fatalf("%s runs, not %s", runs, version)
		}
	}
}
