package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// init lets this binary be the other sluice of a test: it claims the pid file, says so, and lives until its
// standard input ends or a signal ends it.
func init() {
	if path := os.Getenv("SLUICE_TEST_CLAIM"); path != "" {
		p, err := claimPID(path, 0)
		if err != nil {
			fmt.Println("refused:", err)
			os.Exit(1)
		}
		told := make(chan os.Signal, 1)
		signal.Notify(told, syscall.SIGUSR1, syscall.SIGHUP) // the others that sluice knows end a program by themselves; HUP not under nohup
		go func() { <-told; os.Exit(0) }()
		fmt.Println("claimed")
		_, _ = bufio.NewReader(os.Stdin).ReadByte()
		p.Release()
		os.Exit(0)
	}
}

// other starts another sluice that claims path. said is its first line; end ends it with a signal.
func other(t *testing.T, path string) (pid int, said string, end func(syscall.Signal)) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "SLUICE_TEST_CLAIM="+path)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said, _ = bufio.NewReader(out).ReadString('\n')
	var once sync.Once
	end = func(sig syscall.Signal) {
		once.Do(func() {
			if sig == 0 {
				in.Close()
			} else {
				_ = cmd.Process.Signal(sig)
			}
			_ = cmd.Wait()
		})
	}
	t.Cleanup(func() { end(syscall.SIGKILL) })
	return cmd.Process.Pid, strings.TrimSpace(said), end
}

func TestPIDFileOfALiveSluice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.pid")
	pid, said, end := other(t, path)
	if said != "claimed" {
		t.Fatal(said)
	}
	if got, err := livePID(path); err != nil || got != pid {
		t.Errorf("livePID %d, %v; want %d", got, err, pid)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o644 {
		t.Error(info.Mode(), err)
	}
	if _, err := claimPID(path, 0); err == nil || !strings.Contains(err.Error(), "pid "+strconv.Itoa(pid)) {
		t.Errorf("claimed a live sluice's file: %v", err)
	}
	end(0)
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if _, err := livePID(path); err == nil || !strings.Contains(err.Error(), "no pid file") {
		t.Error(err)
	}
}

func TestPIDFileLeftBehind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.pid")
	_, _, end := other(t, path)
	end(syscall.SIGKILL)
	if _, err := livePID(path); err == nil || !strings.Contains(err.Error(), "left behind") {
		t.Error(err)
	}
	p, err := claimPID(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := os.ReadFile(path); string(b) != strconv.Itoa(os.Getpid())+"\n" {
		t.Errorf("it holds %q", b)
	}
	p.Release()
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A pid that the system has given to another process since is not sluice's.
func TestPIDOfAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.pid")
	sleeper := exec.Command("sleep", "60")
	if err := sleeper.Start(); err != nil {
		t.Skip(err)
	}
	defer func() { _ = sleeper.Process.Kill(); _ = sleeper.Wait() }()
	if err := os.WriteFile(path, []byte(strconv.Itoa(sleeper.Process.Pid)), 0o644); err != nil {
		t.Fatal(err)
	}
	if pid, err := livePID(path); err == nil {
		t.Errorf("took process %d for a sluice", pid)
	}
}

func TestPIDFileRefusesLinks(t *testing.T) {
	dir := t.TempDir()
	precious, path := filepath.Join(dir, "precious"), filepath.Join(dir, "sluice.pid")
	if err := os.WriteFile(precious, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(precious, path); err != nil {
		t.Fatal(err)
	}
	if _, err := claimPID(path, 0); err == nil {
		t.Error("claimed a link")
	}
	if _, err := livePID(path); err == nil {
		t.Error("read through a link")
	}
	if b, _ := os.ReadFile(precious); string(b) != "keep" {
		t.Errorf("it holds %q", b)
	}
}

// Of many that start at once on a file that a crash left behind, exactly one gets it.
func TestPIDFileRace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.pid")
	if err := os.WriteFile(path, []byte("4194305\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for range 20 {
		var wg sync.WaitGroup
		var mu sync.Mutex
		var claimed []*pidFile
		for range 16 { // locks belong to open files, so goroutines compete as processes do
			wg.Go(func() {
				if p, err := claimPID(path, 0); err == nil {
					mu.Lock()
					claimed = append(claimed, p)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if len(claimed) != 1 {
			t.Fatalf("%d got it", len(claimed))
		}
		if pid, err := livePID(path); err != nil || pid != os.Getpid() {
			t.Fatal(pid, err)
		}
		_ = claimed[0].file.Close() // as a crash does
	}
}

// One that opened the file a crash left behind, and was then overtaken, must not replace the winner's.
func TestPIDFileOvertaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.pid")
	if err := os.WriteFile(path, []byte("4194305\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	stale, err := openPID(path)
	if err != nil {
		t.Fatal(err)
	}
	defer stale.Close()
	winner, err := claimPID(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer winner.Release()
	own, err := lockedPID(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	if again, err := (&pidFile{path, own}).replace(stale, 0); err == nil || !again {
		t.Errorf("replaced the winner's file: %v, %v", again, err)
	}
	if !samePath(winner.file, path) {
		t.Error("the winner's file is gone")
	}
}

func TestPIDFileSuccessor(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.pid")
	pid, _, end := other(t, path)
	if _, err := claimPID(path, pid+1); err == nil {
		t.Fatal("claimed from a stranger")
	}
	p, err := claimPID(path, pid)
	if err != nil {
		t.Fatal(err)
	}
	end(0) // it releases what is no longer its own
	if got, err := livePID(path); err != nil || got != os.Getpid() {
		t.Errorf("livePID %d, %v", got, err)
	}
	p.Release()
	if _, err := os.Stat(path); !os.IsNotExist(err) {
		t.Error("still there")
	}
}

func TestStop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sluice.pid")
	pid, _, end := other(t, path)
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := stopped(ctx, path, pid); err != nil {
		t.Error(err)
	}
	end(0)
	stuck, cancelStuck := context.WithTimeout(context.Background(), 150*time.Millisecond)
	defer cancelStuck()
	own, err := claimPID(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer own.Release()
	if gone(path, os.Getpid(), stuck.Done()) {
		t.Error("a sluice that lives counts as gone")
	}
}

// Who may write a pid file must not lead root to signal a process of another user.
func TestPIDFileOfAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a file away")
	}
	path := filepath.Join(t.TempDir(), "sluice.pid")
	p, err := claimPID(path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release()
	if err := os.Chown(path, 65534, 65534); err != nil {
		t.Skip(err)
	}
	if pid, err := livePID(path); err == nil || !strings.Contains(err.Error(), "belongs to user 65534") {
		t.Errorf("believed it: %d, %v", pid, err)
	}
}

func TestNoPIDFile(t *testing.T) {
	p, err := claimPID("off", 0)
	if p != nil || err != nil {
		t.Error(p, err)
	}
	p.Release()
	if _, err := livePID("off"); err == nil {
		t.Error("found a sluice without a pid file")
	}
	if _, err := claimPID(filepath.Join(t.TempDir(), "no", "such", "folder", "x.pid"), 0); err == nil {
		t.Error("no error for a folder that is not there")
	}
}
