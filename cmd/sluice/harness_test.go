package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaries are the real programs, built once for all tests that run them.
var binaries struct {
	once   sync.Once
	folder string
	err    error
}

func TestMain(m *testing.M) {
	flag.Parse()
	// Those that run beside others wait for engines most of the time, whatever the machine's size.
	if n := runtime.GOMAXPROCS(0); n < 4 {
		_ = flag.Set("test.parallel", "4")
	}
	code := m.Run()
	if binaries.folder != "" {
		os.RemoveAll(binaries.folder)
	}
	os.Exit(code)
}

// binary is the path of sluice, bench or hog, built from this tree.
func binary(t *testing.T, name string) string {
	t.Helper()
	binaries.once.Do(func() {
		if binaries.folder, binaries.err = os.MkdirTemp("", "sluice-test-"); binaries.err != nil {
			return
		}
		for out, pkg := range map[string]string{"sluice": "sluice/cmd/sluice", "bench": "sluice/bench", "hog": "sluice/cmd/sluice/testdata/hog"} {
			cmd := exec.Command("go", "build", "-o", filepath.Join(binaries.folder, out), pkg)
			cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
			if text, err := cmd.CombinedOutput(); err != nil {
				binaries.err = fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
				return
			}
		}
	})
	if binaries.err != nil {
		t.Fatal(binaries.err)
	}
	return filepath.Join(binaries.folder, name)
}

// running is one sluice process under test.
type running struct {
	t      *testing.T
	cmd    *exec.Cmd
	file   string // its config.toml
	url    string // of its listener
	admin  string // of its admin API
	log    *lockedBuffer
	exited chan struct{}
	wrap   []string // put before its command line

	stdout, stderr *os.File // nil: log
}

// lockedBuffer collects what a process writes.
type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// freeAddrs are loopback addresses with n different ports that were free a moment ago.
func freeAddrs(t *testing.T, n int) []string {
	t.Helper()
	addrs := make([]string, n)
	for i := range addrs {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close() // only once all are chosen
		addrs[i] = ln.Addr().String()
	}
	return addrs
}

// start runs sluice with this configuration, to which the listeners and a pid file are added, and waits
// until it is ready. It is ended with the test.
func start(t *testing.T, config string) *running {
	t.Helper()
	s := prepare(t, config)
	s.launch()
	s.waitReady()
	return s
}

// prepare writes the configuration without starting anything.
func prepare(t *testing.T, config string) *running {
	t.Helper()
	folder := t.TempDir()
	addrs := freeAddrs(t, 2)
	listen, admin := addrs[0], addrs[1]
	s := &running{t: t, file: filepath.Join(folder, "config.toml"), url: "http://" + listen, admin: "http://" + admin}
	s.head(folder, listen, admin, config)
	return s
}

func (s *running) head(folder, listen, admin, config string) {
	if !strings.Contains(config, "engine") { // containers of other tests may bear labels
		config = "engine.kind = \"none\"\n" + config
	}
	s.write(fmt.Sprintf("listen = [%q]\npid = %q\nadmin.listen = %q\n%s", listen, filepath.Join(folder, "sluice.pid"), admin, config))
}

func (s *running) write(config string) {
	s.t.Helper()
	if err := os.WriteFile(s.file, []byte(config), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// edit changes the configuration file in place.
func (s *running) edit(old, new string) {
	s.t.Helper()
	text, err := os.ReadFile(s.file)
	if err != nil {
		s.t.Fatal(err)
	}
	if !strings.Contains(string(text), old) {
		s.t.Fatalf("%q is not in the configuration", old)
	}
	s.write(strings.ReplaceAll(string(text), old, new))
}

func (s *running) launch() {
	s.t.Helper()
	s.log, s.exited = &lockedBuffer{}, make(chan struct{})
	args := append(slices.Clone(s.wrap), binary(s.t, "sluice"), "run", "-c", s.file)
	s.cmd = exec.Command(args[0], args[1:]...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if s.stdout != nil {
		s.cmd.Stdout = s.stdout
	}
	if s.stderr != nil {
		s.cmd.Stderr = s.stderr
	}
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	cmd, exited := s.cmd, s.exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	s.t.Cleanup(func() {
		if s.t.Failed() {
			s.t.Logf("sluice said:\n%s", s.log)
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(15 * time.Second):
			_ = cmd.Process.Kill()
			s.t.Errorf("sluice did not end within 15 s of SIGTERM:\n%s", s.log)
		}
	})
}

func must[T any](t *testing.T, f func() (T, error)) T {
	t.Helper()
	v, err := f()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// within calls f until it is true, at most for limit.
func within(t *testing.T, limit time.Duration, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		if f() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
	}
}

func (s *running) waitReady() {
	s.t.Helper()
	within(s.t, 20*time.Second, "sluice ready", func() bool {
		select {
		case <-s.exited:
			s.t.Fatalf("sluice ended with %d:\n%s", s.cmd.ProcessState.ExitCode(), s.log)
		default:
		}
		code, _, err := fetch(s.admin + "/readyz")
		return err == nil && code == http.StatusOK
	})
}

// fetch gets url on a connection of its own.
func fetch(url string) (code int, body string, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// fetchPost sends a JSON body.
func fetchPost(url, body string) (code int, answer string, err error) {
	resp, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// statusOf is the part of the status that tests look at.
type statusOf struct {
	Config struct {
		Generation int
		Error      string
	}
	Upstreams []upstreamStatus
}

type upstreamStatus struct {
	Name                              string
	Wanted, Ready, Starting, Draining int
	InFlight                          int `json:"in_flight"`
	Queue                             int
	Reason, Failure                   string
	Notes                             []struct{ Name, Why string }
	Servers                           []serverStatus
}

type serverStatus struct {
	ID, Addr, State, Reason string
	InFlight                int `json:"in_flight"`
	Slots                   int
	Learned                 bool
}

func (s *running) status() (st statusOf) {
	s.t.Helper()
	code, body, err := fetch(s.admin + "/api/v1/status")
	if err != nil || code != http.StatusOK {
		s.t.Fatalf("status: %d, %v, %s", code, err, body)
	}
	if err := json.Unmarshal([]byte(body), &st); err != nil {
		s.t.Fatalf("status: %v in %s", err, body)
	}
	return st
}

// upstream is the status of the one with that name.
func (s *running) upstream(name string) upstreamStatus {
	s.t.Helper()
	for _, u := range s.status().Upstreams {
		if u.Name == name {
			return u
		}
	}
	s.t.Fatalf("no upstream %s in the status", name)
	return upstreamStatus{}
}

// waitReplicas waits until n servers of the upstream are ready, and no others are there.
func (s *running) waitReplicas(name string, n int, limit time.Duration) {
	s.t.Helper()
	within(s.t, limit, fmt.Sprintf("%d ready servers of %s", n, name), func() bool {
		u := s.upstream(name)
		return u.Ready == n && len(u.Servers) == n
	})
}

// signal sends sig to the process.
func (s *running) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatal(err)
	}
}

// exitCode waits for the end.
func (s *running) exitCode(limit time.Duration) int {
	s.t.Helper()
	select {
	case <-s.exited:
	case <-time.After(limit):
		s.t.Fatalf("still running after %s:\n%s", limit, s.log)
	}
	return s.cmd.ProcessState.ExitCode()
}

// ledger is what `bench load --json` counts.
type ledger struct {
	Sent, OK, Refused, Failed int
	P99                       float64 `json:"p99_ms"`
	Status                    map[string]int
	Reasons                   map[string]int
}

// load runs the load generator and returns what it counted once it has ended; wait for it.
func load(t *testing.T, args ...string) (wait func() ledger) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(binary(t, "bench"), append([]string{"load", "--json"}, args...)...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() (l ledger) {
		t.Helper()
		<-done // its exit code says what the ledger says
		if err := json.Unmarshal(out.Bytes(), &l); err != nil {
			t.Fatalf("bench load: %v\n%s%s", err, &out, &errs)
		}
		return l
	}
}

// lostNothing fails the test unless every request was answered by a server or refused with a reason.
func (l ledger) lostNothing(t *testing.T) {
	t.Helper()
	if l.Failed != 0 || l.Sent == 0 || l.Sent != l.OK+l.Refused {
		t.Errorf("ledger: %+v", l)
	}
}

// commandOutput runs sluice with args to its end.
func commandOutput(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.Command(binary(t, "sluice"), args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// takesMinutes marks a test that takes minutes of an engine's time. It runs where SLUICE_TEST_REQUIRE names "long", so that
// `go test ./...` keeps to the ten minutes that Go gives a package.
func takesMinutes(t *testing.T) {
	t.Helper()
	if !slices.Contains(strings.Fields(os.Getenv("SLUICE_TEST_REQUIRE")), "long") {
		t.Skip("takes minutes: it runs where SLUICE_TEST_REQUIRE names long")
	}
}

// requireEngine skips the test where there is no such engine, and fails it where SLUICE_TEST_REQUIRE
// names it.
func requireEngine(t *testing.T, name string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	for required := range strings.FieldsSeq(os.Getenv("SLUICE_TEST_REQUIRE")) {
		if required == name {
			t.Fatalf("%s is required: %v", name, err)
		}
	}
	t.Skipf("no %s on this machine: %v", name, err)
}

// pin holds the number of replicas.
func (s *running) pin(upstream string, n int) {
	s.t.Helper()
	if code, said, err := fetchPost(s.admin+"/api/v1/upstreams/"+upstream+"/scale", fmt.Sprintf(`{"replicas": %d}`, n)); code != http.StatusOK {
		s.t.Fatalf("scale: %d, %v %s", code, err, said)
	}
}

// noted asks whether a note of the upstream has these words.
func (s *running) noted(name, words string) func() bool {
	return func() bool {
		for _, note := range s.upstream(name).Notes {
			if strings.Contains(note.Why, words) {
				return true
			}
		}
		return false
	}
}
