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
	within(s.t, 20*time.Second, "a successor", func() bool {
		var err error
		pid, err = livePID(findContact(s.file).pid)
		return err == nil && pid != old
	})
	successor := must(s.t, func() (*os.Process, error) { return os.FindProcess(pid) })
	within(s.t, 20*time.Second, "the old one ends", func() bool { return ended(old) })
	s.cmd.Process = successor
	s.t.Cleanup(func() {
		if s.cmd.Process != successor { // it had one itself
			return
		}
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

// TestUpgradeWithPrefix: a relative -p means the same folder for the successor.
func TestUpgradeWithPrefix(t *testing.T) {
	t.Parallel()
	s := prepare(t, "[[route]]\nrespond = \"hi\"\n")
	folder, prefix := filepath.Split(filepath.Dir(s.file))
	s.wrap = []string{"sh", "-c", fmt.Sprintf(`cd "$0" && exec "$1" run -p %s -c config.toml`, prefix), folder}
	s.launch()
	s.waitReady()
	for range 2 {
		s.upgrade()
	}
}

// replace puts a shell script in the place of the binary at path, which runs by another name. The script's pid stands in
// the file it is given as $PID.
func replace(t *testing.T, path, script string) (pid func() int) {
	t.Helper()
	if err := os.Rename(path, path+".real"); err != nil {
		t.Fatal(err)
	}
	file := path + ".pid"
	if err := os.WriteFile(path+".new", fmt.Appendf(nil, "#!/bin/sh\necho $$ >%s\n%s\n", file, script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return func() (pid int) {
		text, _ := os.ReadFile(file)
		_, _ = fmt.Sscanf(string(text), "%d", &pid)
		return pid
	}
}

// TestSignalsDuringAnUpgrade: while a successor does not get ready, all signals do what they do otherwise, and TERM ends
// it and drains, without being taken for a second one.
func TestSignalsDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	for _, sig := range []syscall.Signal{syscall.SIGTERM, syscall.SIGQUIT} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			s := prepare(t, demo(`"--service-time", "3s"`, ""))
			logFile := filepath.Join(t.TempDir(), "log")
			s.edit(`log.access = "off"`, fmt.Sprintf("log = { access = \"off\", file = %q }", logFile))
			path := s.launchFrom()
			s.waitReplicas("demo", 1, 10*time.Second)
			replica := pidOf(t, s.upstream("demo").Servers[0].ID)
			pid := replace(t, path, "exec sleep 600")
			said := func(words string) func() bool {
				return func() bool {
					text, _ := os.ReadFile(logFile)
					return strings.Contains(string(text), words)
				}
			}

			s.signal(syscall.SIGUSR2)
			within(t, 10*time.Second, "a successor that never gets ready", func() bool { return pid() != 0 })
			first := pid()
			t.Cleanup(func() { _ = syscall.Kill(first, syscall.SIGKILL) })
			s.signal(syscall.SIGUSR2)
			within(t, 10*time.Second, "the second one is ignored", said("an upgrade is under way"))
			if pid() != first {
				t.Error("two successors")
			}
			s.edit("drain_timeout = \"5s\"", "drain_timeout = \"10s\"")
			s.signal(syscall.SIGHUP)
			within(t, 10*time.Second, "reloaded", func() bool { return s.status().Config.Generation == 2 })
			if err := os.Rename(logFile, logFile+".1"); err != nil {
				t.Fatal(err)
			}
			s.signal(syscall.SIGUSR1)
			within(t, 10*time.Second, "the log is opened again", func() bool { _, err := os.Stat(logFile); return err == nil })

			slow := make(chan string, 1)
			go func() {
				code, _, err := fetch(s.url)
				slow <- fmt.Sprint(code, err)
			}()
			within(t, 10*time.Second, "the request is in flight", func() bool { return s.upstream("demo").InFlight == 1 })
			s.signal(sig)
			within(t, 2*time.Second, "it shuts down", said("shutting down"))
			if !ended(first) {
				t.Error("the successor still runs")
			}
			if code := s.exitCode(10 * time.Second); code != exitOK {
				t.Errorf("exit code %d", code)
			}
			if got := <-slow; got != "200 <nil>" {
				t.Errorf("request in flight: %s", got)
			}
			within(t, 5*time.Second, "the replica ends", func() bool { return ended(replica) })
		})
	}
}

// TestReloadDuringAnUpgrade: the successor, which may have read the file before a reload, is told to read it again.
func TestReloadDuringAnUpgrade(t *testing.T) {
	t.Parallel()
	s := prepare(t, "log.access = \"off\"\n[[route]]\nrespond = \"old\"\n")
	path := s.launchFrom()
	gate := path + ".gate"
	pid := replace(t, path, fmt.Sprintf(`while [ ! -e %s ]; do sleep 0.05; done; exec %s.real "$@"`, gate, path))
	s.signal(syscall.SIGUSR2)
	within(t, 10*time.Second, "a successor that is not ready", func() bool { return pid() != 0 })
	waiting := pid()
	t.Cleanup(func() { _ = syscall.Kill(waiting, syscall.SIGKILL) })

	s.edit("\"old\"", "\"new\"")
	s.signal(syscall.SIGHUP)
	within(t, 10*time.Second, "reloaded", func() bool { _, body, _ := fetch(s.url); return body == "new" })
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s.succeeded()
	if s.cmd.Process.Pid != waiting {
		t.Fatalf("process %d serves, not %d", s.cmd.Process.Pid, waiting)
	}
	within(t, 10*time.Second, "the successor reads the file again", func() bool { return s.status().Config.Generation == 2 })
}

// TestRefusedUpgradeSaysWhy: what the successor finds wrong stands in the log of the one that goes on, and on standard
// error as ever.
func TestRefusedUpgradeSaysWhy(t *testing.T) {
	t.Parallel()
	logFile := filepath.Join(t.TempDir(), "log")
	s := start(t, fmt.Sprintf("log = { access = \"off\", file = %q }\n[[route]]\nrespond = \"hi\"\n", logFile))
	s.edit("respond", "respnd")
	s.signal(syscall.SIGUSR2)
	within(t, 10*time.Second, "the refusal in the log", func() bool {
		text, _ := os.ReadFile(logFile)
		return strings.Contains(string(text), "upgrade refused")
	})
	text := must(t, func() ([]byte, error) { return os.ReadFile(logFile) })
	for _, want := range []string{"exit status 3", s.file + ":7:1: ", "respnd"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in the log:\n%s", want, text)
		}
	}
	if said := s.log.String(); !strings.Contains(said, s.file+":7:1: ") {
		t.Errorf("standard error is without it:\n%s", said)
	}
	s.edit("respnd", "respond")
	s.upgrade()
}
