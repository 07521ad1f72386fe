package peers

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/balancer"
)

// childEnv makes the test binary one gateway: the folder of the group.
const childEnv = "SLUICE_TEST_PEERS_DIR"

func TestMain(m *testing.M) {
	if dir := os.Getenv(childEnv); dir != "" {
		gatewayProcess(dir)
		return
	}
	os.Exit(m.Run())
}

// gatewayProcess is a gateway that writes a line into the witness as often as it may act.
func gatewayProcess(dir string) {
	id := fmt.Sprint(os.Getpid())
	var group *Group
	ready := make(chan struct{})
	d, err := JoinDir(dir, id, func() []byte { <-ready; return group.Report() })
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	group = NewGroup(Options{ID: id, Membership: d, Lease: NewFileLease(filepath.Join(dir, "lease"), quiet()), Changed: func(bool, int) {}, Log: quiet()})
	group.Share(balancer.NewUpstream("api", balancer.DefaultConfig()))
	close(ready)
	go group.Run(context.Background(), nil)
	witness, err := os.OpenFile(filepath.Join(dir, "witness"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		os.Exit(1)
	}
	for ; ; time.Sleep(5 * time.Millisecond) {
		// The lock is never waited for: one that is stopped is so either before it has it, or after.
		if lock(witness) != nil {
			continue
		}
		if _, done, err := group.Act(context.Background()); err == nil {
			_, _ = fmt.Fprintln(witness, group.term.Load().Number(), id, group.Members())
			done()
		}
		_ = flock(witness, syscall.LOCK_UN)
	}
}

// processes are gateways in one folder.
type processes struct {
	t   *testing.T
	dir string
}

func (p processes) start() *exec.Cmd {
	p.t.Helper()
	self, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+p.dir)
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd
}

// line is one act.
type line struct {
	term    uint64
	pid     int
	members int
}

// acts reads the witness and checks it: terms only grow, and each is one gateway's.
func (p processes) acts() (all []line) {
	p.t.Helper()
	f, err := os.Open(filepath.Join(p.dir, "witness"))
	if os.IsNotExist(err) {
		return nil
	}
	if err != nil {
		p.t.Fatal(err)
	}
	defer f.Close()
	owner := map[uint64]int{}
	last := uint64(0)
	for s := bufio.NewScanner(f); s.Scan(); {
		var l line
		if _, err := fmt.Sscan(s.Text(), &l.term, &l.pid, &l.members); err != nil {
			continue // being written
		}
		if was, known := owner[l.term]; l.term < last || known && was != l.pid {
			p.t.Fatalf("term %d of %d after term %d, which was of %d", l.term, l.pid, last, owner[last])
		}
		owner[l.term], last = l.pid, l.term
		all = append(all, l)
	}
	return all
}

// await waits for an act that f accepts, written after the first skip ones.
func (p processes) await(limit time.Duration, skip int, what string, f func(line) bool) line {
	p.t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if all := p.acts(); len(all) > skip {
			for _, l := range all[skip:] {
				if f(l) {
					return l
				}
			}
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

// signal sends sig while nobody is in the middle of an act, and says how many acts there were.
func (p processes) signal(cmd *exec.Cmd, sig os.Signal) (acts int) {
	p.t.Helper()
	witness, err := os.OpenFile(filepath.Join(p.dir, "witness"), os.O_WRONLY, 0)
	if err != nil {
		p.t.Fatal(err)
	}
	defer witness.Close()
	for lock(witness) != nil {
		time.Sleep(100 * time.Microsecond)
	}
	acts = len(p.acts())
	if err := cmd.Process.Signal(sig); err != nil {
		p.t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond) // it takes effect
	return acts
}

func TestProcesses(t *testing.T) {
	if testing.Short() {
		t.Skip("real processes and their time limits take half a minute")
	}
	p := processes{t, t.TempDir()}
	byPID := map[int]*exec.Cmd{}
	start := func() {
		cmd := p.start()
		byPID[cmd.Process.Pid] = cmd
	}
	start()
	start()
	start()
	l := p.await(10*time.Second, 0, "one acts and knows of three", func(l line) bool { return l.members == 3 })

	// Killed: the kernel releases its lock.
	n := p.signal(byPID[l.pid], syscall.SIGKILL)
	killed := l.pid
	from := time.Now()
	l = p.await(10*time.Second, n, "another acts after the first was killed", func(next line) bool { return next.pid != killed && next.term > l.term })
	t.Logf("killed: a new one after %s", time.Since(from).Round(time.Millisecond))
	_ = byPID[killed].Wait()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		left, err := filepath.Glob(filepath.Join(p.dir, fmt.Sprint(killed, ".*")))
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("it left %v, %v", left, err)
		}
		if len(left) == 0 {
			break
		}
	}
	p.await(5*time.Second, len(p.acts()), "the dead one is no member", func(l line) bool { return l.members == 2 })

	// Stopped: another takes over, and the stopped one, when it goes on, acts no more.
	start()
	p.await(10*time.Second, len(p.acts()), "three again", func(l line) bool { return l.members == 3 })
	stopped := byPID[l.pid]
	n = p.signal(stopped, syscall.SIGSTOP)
	from = time.Now()
	next := p.await(10*time.Second, n, "another acts while the first is stopped", func(next line) bool { return next.pid != l.pid && next.term > l.term })
	t.Logf("stopped: a new one after %s", time.Since(from).Round(time.Millisecond))
	if next.members != 3 {
		t.Errorf("a stopped gateway is a member as long as it lives; there are %d", next.members)
	}
	n = p.signal(stopped, syscall.SIGCONT)
	for until := time.Now().Add(4 * time.Second); time.Now().Before(until); time.Sleep(100 * time.Millisecond) {
		for _, after := range p.acts()[n:] {
			if after.pid != next.pid {
				t.Fatalf("%d acts, %d has the lease", after.pid, next.pid)
			}
		}
	}

	// Stopped for a moment only: it stays the one.
	holder := byPID[next.pid]
	n = p.signal(holder, syscall.SIGSTOP)
	time.Sleep(1500 * time.Millisecond)
	p.signal(holder, syscall.SIGCONT)
	if l := p.await(10*time.Second, n, "an act after a short stop", func(line) bool { return true }); l.pid != next.pid || l.term != next.term {
		t.Errorf("after a stop of 1.5 s %+v acts, it was %+v", l, next)
	}
}

func TestDir(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run")
	a, err := JoinDir(path, "a", func() []byte { return []byte("report of a") })
	if err != nil {
		t.Fatal(err)
	}
	defer a.Leave()
	if _, err := JoinDir(path, "a", nil); err == nil {
		t.Error("two gateways of one name")
	}
	b, err := JoinDir(path, "b", func() []byte { return []byte(strings.Repeat("b", 1<<20)) })
	if err != nil {
		t.Fatal(err)
	}
	// What a killed one leaves: files that nobody has locked.
	for _, name := range []string{"dead.gateway", "dead.sock"} {
		if err := os.WriteFile(filepath.Join(path, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	members := func() string {
		ids, err := a.Members(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(ids, " ")
	}
	if got := members(); got != "a b" {
		t.Errorf("members %q", got)
	}
	if _, err := os.Stat(filepath.Join(path, "dead.sock")); !os.IsNotExist(err) {
		t.Errorf("the dead one's socket: %v", err)
	}
	if report, err := b.Fetch(t.Context(), "a"); err != nil || string(report) != "report of a" {
		t.Errorf("%q %v", report, err)
	}
	if report, err := a.Fetch(t.Context(), "b"); err != nil || len(report) != 1<<20 {
		t.Errorf("%d bytes, %v", len(report), err)
	}
	info, err := os.Stat(filepath.Join(path, "a.sock"))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("socket %v, %v", info.Mode(), err)
	}
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if d, err := JoinDir(open, "x", nil); err == nil {
		d.Leave()
		t.Error("joined in a folder that everybody can write to")
	}
	b.Leave()
	if got := members(); got != "a" {
		t.Errorf("members %q after b left", got)
	}
	if _, err := a.Fetch(t.Context(), "b"); err == nil {
		t.Error("one that left answers")
	}
}
