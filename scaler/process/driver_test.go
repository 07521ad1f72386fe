package process

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

// The test binary is sluice, its guards, the replicas and other sluices at once.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "guard":
			os.Exit(Guard(os.Args[2:]))
		case "replica":
			os.Exit(replicaMain(os.Args[2:]))
		case "owner":
			ownerMain(os.Args[2:])
		case "adopter":
			adopterMain()
		}
	}
	os.Exit(m.Run())
}

// replicaMain listens on the port args[0] and sends every connection its pid; args[1] is what it does besides.
func replicaMain(args []string) int {
	mode := ""
	if len(args) > 1 {
		mode = args[1]
	}
	switch mode {
	case "crash":
		fmt.Println("about to fail")
		return 3
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
	case "child", "left":
		if os.Getenv("SLEEPER") == "" { // a child in a session of its own, which nobody's group reaches
			c := exec.Command(os.Args[0], "replica", "0", "sleep")
			c.Env = append(os.Environ(), "SLEEPER=1")
			c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
			if err := c.Start(); err != nil {
				return 4
			}
			fmt.Println("child", c.Process.Pid)
		}
		if mode == "left" {
			return 5
		}
	case "burning": // its child is, in a session of its own
		c := exec.Command(os.Args[0], "replica", "0", "burn")
		c.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := c.Start(); err != nil {
			return 4
		}
	case "burn":
		for n := 0; ; n++ {
		}
	case "sleep":
		time.Sleep(time.Hour)
	}
	l, err := net.Listen("tcp", "127.0.0.1:"+args[0])
	if err != nil {
		fmt.Println(err)
		return 1
	}
	fmt.Println("hello from", os.Getenv("GREETING"), "on", os.Getenv("PORT"))
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		fmt.Fprintf(c, "%d", os.Getpid())
		c.Close()
	}
}

// ownerMain is a sluice with two replicas; it prints their pids and waits to be killed.
func ownerMain(args []string) {
	d := New(Options{Upstream: "demo", Binary: os.Args[0], Log: slog.New(slog.DiscardHandler), Config: config(args[0], time.Second)})
	if err := d.Scale(context.Background(), 2, nil); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	list, _ := d.List(context.Background())
	_ = json.NewEncoder(os.Stdout).Encode(list)
	time.Sleep(time.Minute)
}

// adopterMain is the sluice after a binary upgrade: the state stands in the environment, the files from 3 on.
func adopterMain() {
	d := New(Options{Upstream: "demo", Binary: os.Args[0], Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Config: config("", time.Second)})
	var files []*os.File
	n, _ := strconv.Atoi(os.Getenv("FILES"))
	for i := range n {
		files = append(files, os.NewFile(uintptr(3+i), "handed"))
	}
	if err := d.Adopt([]byte(os.Getenv("STATE")), files); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		switch word, arg, _ := strings.Cut(in.Text(), " "); word {
		case "scale":
			n, _ := strconv.Atoi(arg)
			if err := d.Scale(context.Background(), n, nil); err != nil {
				fmt.Println(err)
			}
		case "await": // until that many are running
			n, _ := strconv.Atoi(arg)
			for {
				list, _ := d.List(context.Background())
				if running(list) == n {
					_ = json.NewEncoder(os.Stdout).Encode(list)
					break
				}
				<-d.Changed()
			}
		case "die":
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
	}
	os.Exit(0)
}

func config(mode string, grace time.Duration) scaler.ProcessConfig {
	return scaler.ProcessConfig{
		Command: []string{"$SLUICE", "replica", "${PORT}", mode}, Env: map[string]string{"GREETING": "test"}, StopGrace: grace,
	}
}

func running(list []scaler.Replica) (n int) {
	for _, r := range list {
		if r.State == scaler.ReplicaRunning {
			n++
		}
	}
	return n
}

// lines is a log that can be waited for.
type lines struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Write(p)
	select {
	case l.more <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (l *lines) all() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// await waits for text and returns the line from there on.
func (l *lines) await(t *testing.T, text string) string {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		all := l.all()
		if _, rest, found := strings.Cut(all, text); found && strings.Contains(rest, "\n") {
			line, _, _ := strings.Cut(rest, "\n")
			return line
		}
		select {
		case <-l.more:
		case <-limit:
			t.Fatalf("the log never said %q:\n%s", text, all)
		}
	}
}

func newDriver(t *testing.T, cfg scaler.ProcessConfig) (*Driver, *lines) {
	t.Helper()
	log := &lines{more: make(chan struct{}, 1)}
	d := New(Options{Upstream: "demo", Binary: os.Args[0], Config: cfg, Log: slog.New(slog.NewTextHandler(log, nil))})
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		d.Close(ctx)
	})
	return d, log
}

func scale(t *testing.T, d *Driver, n int, victims ...string) []scaler.Replica {
	t.Helper()
	if err := d.Scale(context.Background(), n, victims); err != nil {
		t.Fatal(err)
	}
	list, _ := d.List(context.Background())
	return list
}

// until waits for the list to be as asked.
func until(t *testing.T, d *Driver, what string, ok func([]scaler.Replica) bool) []scaler.Replica {
	t.Helper()
	limit := time.After(10 * time.Second)
	for {
		list, _ := d.List(context.Background())
		if ok(list) {
			return list
		}
		select {
		case <-d.Changed():
		case <-limit:
			t.Fatalf("never %s: %+v", what, list)
		}
	}
}

// pidOf reads the pid from the name of a replica.
func pidOf(t *testing.T, id string) int {
	t.Helper()
	pid, err := strconv.Atoi(id[strings.LastIndexByte(id, '-')+1:])
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// ends waits until the process is gone (or a zombie that only its parent holds).
func ends(t *testing.T, pid int, within time.Duration) time.Duration {
	t.Helper()
	from := time.Now()
	for time.Since(from) < within {
		if !alive(pid) {
			return time.Since(from)
		}
		time.Sleep(5 * time.Millisecond) // not ours: nothing tells
	}
	t.Fatalf("process %d still there after %s", pid, within)
	return 0
}

func alive(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || !strings.Contains(string(b), ") Z ")
}

// answer is the pid that the replica at addr sends; it may still be about to listen.
func answer(t *testing.T, addr string) int {
	t.Helper()
	for from := time.Now(); time.Since(from) < 5*time.Second; time.Sleep(5 * time.Millisecond) {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			continue
		}
		b, _ := io.ReadAll(c)
		c.Close()
		pid, _ := strconv.Atoi(string(b))
		return pid
	}
	t.Fatalf("nobody answers at %s", addr)
	return 0
}

func TestStartAndStop(t *testing.T) {
	d, log := newDriver(t, config("", 5*time.Second))
	ctx, cancel := context.WithCancel(context.Background())
	out, done := make(chan []balancer.ServerSpec), make(chan struct{})
	go func() { defer close(done); _ = d.Run(ctx, out) }()
	if first := <-out; first == nil || len(first) != 0 {
		t.Fatalf("first set: %+v", first)
	}
	awaitSpecs := func(n int) []balancer.ServerSpec {
		for {
			if specs := <-out; len(specs) == n {
				return specs
			}
		}
	}
	inBackground := func(n int, victims ...string) {
		go func() {
			if err := d.Scale(ctx, n, victims); err != nil {
				t.Error(err)
			}
		}()
	}
	inBackground(3)
	specs := awaitSpecs(3)
	list := until(t, d, "three", func(l []scaler.Replica) bool { return len(l) == 3 })
	indexes := map[int]bool{}
	for _, r := range list {
		indexes[r.Index] = true
		pid := pidOf(t, r.ID)
		if got := answer(t, r.Addr); got != pid {
			t.Errorf("replica %s is process %d", r.ID, got)
		}
		if pgid, err := syscall.Getpgid(pid); err != nil || pgid != pid {
			t.Errorf("replica %s is in group %d, %v", r.ID, pgid, err)
		}
		if !slices.Contains(specs, balancer.ServerSpec{ID: r.ID, Addr: r.Addr}) {
			t.Errorf("discovery was not told of %s: %+v", r.ID, specs)
		}
		if r.State != scaler.ReplicaRunning || r.Asked.IsZero() || r.Outdated {
			t.Errorf("listed as %+v", r)
		}
	}
	if len(list) != 3 || !indexes[1] || !indexes[2] || !indexes[3] {
		t.Fatalf("list: %+v", list)
	}
	if line := log.await(t, "hello from test on "); !strings.Contains(line, "replica=demo-") {
		t.Errorf("output is logged as %q", line)
	}

	victim := list[1]
	inBackground(2, victim.ID)
	for _, s := range awaitSpecs(2) {
		if s.ID == victim.ID {
			t.Errorf("the victim is still a server")
		}
	}
	ends(t, pidOf(t, victim.ID), 3*time.Second)
	left := until(t, d, "two left", func(l []scaler.Replica) bool { return len(l) == 2 })

	// A victim is replaced when the number stays, and its ordinal is free again.
	replaced := scale(t, d, 2, left[0].ID)
	if running(replaced) != 2 {
		t.Errorf("after a replacement: %+v", replaced)
	}
	again := until(t, d, "two left", func(l []scaler.Replica) bool { return len(l) == 2 })
	if again[0].ID == left[0].ID || again[1].ID == left[0].ID {
		t.Errorf("%s was not replaced: %+v", left[0].ID, again)
	}

	// Asking again does nothing.
	if same := scale(t, d, 2); fmt.Sprint(same) != fmt.Sprint(again) {
		t.Errorf("asked again: %+v, was %+v", same, again)
	}
	cancel()
	<-done
}

func TestGraceThenKill(t *testing.T) {
	d, log := newDriver(t, config("stubborn", 300*time.Millisecond))
	list := scale(t, d, 1)
	log.await(t, "hello from")
	pid := pidOf(t, list[0].ID)
	scale(t, d, 0)
	took := ends(t, pid, 5*time.Second)
	if took < 200*time.Millisecond {
		t.Errorf("killed after %s, before its grace was over", took)
	}
	until(t, d, "empty", func(l []scaler.Replica) bool { return len(l) == 0 })
}

func TestCrashIsReported(t *testing.T) {
	d, log := newDriver(t, config("crash", time.Second))
	scale(t, d, 1)
	list := until(t, d, "failed", func(l []scaler.Replica) bool { return len(l) == 1 && l[0].State == scaler.ReplicaFailed })
	if list[0].Reason != "exit status 3" {
		t.Errorf("reason %q", list[0].Reason)
	}
	log.await(t, "about to fail")
	if len(d.specs()) != 0 {
		t.Error("a crashed replica is still a server")
	}
	if list = scale(t, d, 0); len(list) != 0 {
		t.Errorf("a failed replica that was listed is not cleared away: %+v", list)
	}
	d.Configure(config("", time.Second))
	list = scale(t, d, 1)
	answer(t, list[0].Addr)
	_ = syscall.Kill(pidOf(t, list[0].ID), syscall.SIGKILL)
	list = until(t, d, "failed", func(l []scaler.Replica) bool { return l[0].State == scaler.ReplicaFailed })
	if list[0].Reason != "ended by signal killed" {
		t.Errorf("reason %q", list[0].Reason)
	}
}

func TestCannotStart(t *testing.T) {
	d, _ := newDriver(t, scaler.ProcessConfig{Command: []string{"/nonexistent/server"}, StopGrace: time.Second})
	err := d.Scale(context.Background(), 1, nil)
	if !errors.Is(err, scaler.ErrStart) || !strings.Contains(err.Error(), "/nonexistent/server") {
		t.Errorf("error %v", err)
	}
	if list, _ := d.List(context.Background()); len(list) != 0 {
		t.Errorf("list %+v", list)
	}
}

func TestOutdated(t *testing.T) {
	d, _ := newDriver(t, config("", time.Second))
	scale(t, d, 1)
	d.Configure(config("stubborn", time.Second))
	list := scale(t, d, 2)
	if len(list) != 2 || !list[0].Outdated || list[1].Outdated {
		t.Errorf("list %+v", list)
	}
}

// Everything that descends from a replica goes with it, whatever session it is in.
func TestNothingIsLeftBehind(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux lets a guard adopt orphans")
	}
	for _, mode := range []string{"child", "left"} {
		t.Run(mode, func(t *testing.T) {
			d, log := newDriver(t, config(mode, time.Second))
			scale(t, d, 1)
			child, _, _ := strings.Cut(log.await(t, `msg="child `), `"`)
			pid, err := strconv.Atoi(child)
			if err != nil {
				t.Fatal(err)
			}
			if mode == "child" {
				scale(t, d, 0)
			}
			ends(t, pid, 5*time.Second)
		})
	}
}

func TestOwnerKilled(t *testing.T) {
	for _, mode := range []string{"", "stubborn"} {
		t.Run("mode="+mode, func(t *testing.T) {
			owner, list := own(t, mode)
			for _, r := range list {
				answer(t, r.Addr)
			}
			_ = owner.Process.Kill()
			_ = owner.Wait()
			for _, r := range list {
				ends(t, pidOf(t, r.ID), 3*time.Second) // the grace is one second
			}
		})
	}
}

// A guard that is killed takes its replica along, and the driver notices.
func TestGuardKilled(t *testing.T) {
	d, _ := newDriver(t, config("", time.Second))
	list := scale(t, d, 1)
	pid := answer(t, list[0].Addr)
	_ = syscall.Kill(parentOf(t, pid), syscall.SIGKILL)
	ends(t, pid, 3*time.Second)
	list = until(t, d, "failed", func(l []scaler.Replica) bool { return l[0].State == scaler.ReplicaFailed })
	if list[0].Reason != "its guard was killed" {
		t.Errorf("reason %q", list[0].Reason)
	}
}

// Even when guard and sluice are both beyond doing anything the kernel ends the replica.
func TestGuardKilledUnseen(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("needs PDEATHSIG")
	}
	owner, list := own(t, "")
	pid := answer(t, list[0].Addr)
	_ = owner.Process.Signal(syscall.SIGSTOP)
	_ = syscall.Kill(parentOf(t, pid), syscall.SIGKILL)
	ends(t, pid, 3*time.Second)
}

// own starts another sluice with two replicas.
func own(t *testing.T, mode string) (*exec.Cmd, []scaler.Replica) {
	t.Helper()
	owner := exec.Command(os.Args[0], "owner", mode)
	owner.Stderr = os.Stderr
	out, err := owner.StdoutPipe()
	if err := errors.Join(err, owner.Start()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = owner.Process.Kill()
		_ = owner.Wait()
	})
	var list []scaler.Replica
	if err := json.NewDecoder(out).Decode(&list); err != nil || len(list) != 2 {
		t.Fatal(list, err)
	}
	return owner, list
}

func parentOf(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Skip("needs /proc to find the guard")
	}
	parent, _ := strconv.Atoi(strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+2:]))[1])
	return parent
}

func TestPortClash(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	d, log := newDriver(t, config("", time.Second))
	d.pickPort = func() (int, error) { return other.Addr().(*net.TCPAddr).Port, nil }
	scale(t, d, 1)
	until(t, d, "forgotten", func(l []scaler.Replica) bool { return len(l) == 0 })
	log.await(t, "port was taken by another")
	d.pickPort = freePort
	list := scale(t, d, 1)
	answer(t, list[0].Addr)

	// A port that is always taken is a failure in the end.
	d.pickPort = func() (int, error) { return other.Addr().(*net.TCPAddr).Port, nil }
	for i := 0; ; i++ {
		scale(t, d, 2)
		list := until(t, d, "ended", func(l []scaler.Replica) bool { return running(l) == 1 })
		if len(list) == 2 {
			break
		}
		if i > clashTries {
			t.Fatal("never counted as failed")
		}
	}
}

func TestClose(t *testing.T) {
	d, log := newDriver(t, config("stubborn", time.Minute))
	list := scale(t, d, 2)
	log.await(t, "hello from")
	for _, r := range list {
		answer(t, r.Addr)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	d.Close(ctx)
	for _, r := range list {
		if alive(pidOf(t, r.ID)) {
			t.Errorf("%s survived Close", r.ID)
		}
	}
	if err := d.Scale(context.Background(), 1, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Scale after Close: %v", err)
	}
}

// adopter is another process that has adopted the replicas.
type adopter struct {
	cmd *exec.Cmd
	in  io.Writer
	out *json.Decoder
	log *lines
}

func (a *adopter) await(t *testing.T, n int) (list []scaler.Replica) {
	t.Helper()
	fmt.Fprintln(a.in, "await", n)
	if err := a.out.Decode(&list); err != nil {
		t.Fatal(err)
	}
	return list
}

func adopt(t *testing.T, files []*os.File, state []byte) *adopter {
	t.Helper()
	a := &adopter{cmd: exec.Command(os.Args[0], "adopter"), log: &lines{more: make(chan struct{}, 1)}}
	a.cmd.Env = append(os.Environ(), "STATE="+string(state), "FILES="+strconv.Itoa(len(files)))
	a.cmd.ExtraFiles, a.cmd.Stderr = files, a.log
	in, err1 := a.cmd.StdinPipe()
	out, err2 := a.cmd.StdoutPipe()
	if err := errors.Join(err1, err2, a.cmd.Start()); err != nil {
		t.Fatal(err)
	}
	a.in, a.out = in, json.NewDecoder(out)
	for _, f := range files {
		f.Close()
	}
	t.Cleanup(func() {
		in.Close()
		_ = a.cmd.Wait()
	})
	return a
}

func TestHandover(t *testing.T) {
	d, _ := newDriver(t, config("", time.Second))
	list := scale(t, d, 3)
	for _, r := range list {
		answer(t, r.Addr)
	}
	files, state := d.Handover()
	a := adopt(t, files, state)
	d.Close(context.Background()) // as the old process does at its end
	taken := a.await(t, 3)
	for i, r := range taken {
		if r.ID != list[i].ID || r.Addr != list[i].Addr || r.Index != list[i].Index || r.Outdated || !r.Asked.Equal(list[i].Asked) {
			t.Errorf("adopted %+v, was %+v", r, list[i])
		}
		if got := answer(t, r.Addr); got != pidOf(t, r.ID) {
			t.Errorf("%s is now process %d", r.ID, got)
		}
	}
	// The new process sees a crash of a process that is not its child, with its status.
	_ = syscall.Kill(pidOf(t, list[0].ID), syscall.SIGABRT)
	for _, r := range a.await(t, 2) {
		if r.ID == list[0].ID && (r.State != scaler.ReplicaFailed || r.Reason != "ended by signal aborted" && !strings.HasPrefix(r.Reason, "exit status")) {
			t.Errorf("crash after the handover: %+v", r)
		}
	}
	// It stops and starts them.
	fmt.Fprintln(a.in, "scale 1")
	one := a.await(t, 1)
	gone := slices.IndexFunc(one, func(r scaler.Replica) bool { return r.State == scaler.ReplicaRunning })
	for _, r := range list[1:] {
		if r.ID != one[gone].ID {
			ends(t, pidOf(t, r.ID), 3*time.Second)
		}
	}
	// And they end with it.
	fmt.Fprintln(a.in, "die")
	ends(t, pidOf(t, one[gone].ID), 3*time.Second)
}

func TestResume(t *testing.T) {
	d, log := newDriver(t, config("", time.Second))
	list := scale(t, d, 2)
	for _, r := range list {
		answer(t, r.Addr)
	}
	files, state := d.Handover()
	if err := d.Scale(context.Background(), 3, nil); !errors.Is(err, ErrClosed) {
		t.Errorf("Scale after Handover: %v", err)
	}
	a := adopt(t, files, state)
	a.await(t, 2)
	fmt.Fprintln(a.in, "die") // the new sluice fails
	_ = a.cmd.Wait()
	d.Resume()
	_ = syscall.Kill(pidOf(t, list[0].ID), syscall.SIGKILL)
	until(t, d, "one failed", func(l []scaler.Replica) bool { return running(l) == 1 })
	if list := scale(t, d, 2); running(list) != 2 {
		t.Errorf("after Resume: %+v", list)
	}
	scale(t, d, 0)
	log.await(t, "replica stopped")
}

func TestAdoptRefused(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	d, _ := newDriver(t, config("", time.Second))
	if err := d.Adopt([]byte(`[{"id":"x"}]`), []*os.File{r}); err == nil {
		t.Error("one file for a replica was taken")
	}
	if _, err := r.Stat(); err == nil {
		t.Error("the file was not closed")
	}
}
