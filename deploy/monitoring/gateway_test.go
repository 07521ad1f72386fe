package monitoring_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/proxy/certs/certstest"
)

// built is the real program, built once for all tests that run it.
var built struct {
	once         sync.Once
	folder, path string
	err          error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if built.folder != "" {
		os.RemoveAll(built.folder)
	}
	os.Exit(code)
}

// binary is the path of sluice, built from this tree.
func binary(t *testing.T) string {
	t.Helper()
	built.once.Do(func() {
		if built.folder, built.err = os.MkdirTemp("", "sluice-monitoring-"); built.err != nil {
			return
		}
		built.path = filepath.Join(built.folder, "sluice")
		cmd := exec.Command("go", "build", "-o", built.path, "sluice/cmd/sluice")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("go build: %w\n%s", err, text)
		}
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.path
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

// within calls f until it is true, at most for 20 s.
func within(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

// process is a program under test; it is ended with the test.
type process struct {
	cmd    *exec.Cmd
	log    bytes.Buffer // read it when exited is closed
	exited chan struct{}
}

func run(t *testing.T, path string, args ...string) *process {
	t.Helper()
	p := &process{cmd: exec.Command(path, args...), exited: make(chan struct{})}
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.WaitDelay = 15 * time.Second // replicas of a killed sluice hold its output until they have ended
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.exited)
	}()
	t.Cleanup(func() {
		_ = p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.exited:
		case <-time.After(15 * time.Second):
			_ = p.cmd.Process.Kill()
			<-p.exited
			t.Errorf("%s did not end within 15 s of SIGTERM", filepath.Base(path))
		}
		if t.Failed() {
			t.Logf("%s said:\n%s", filepath.Base(path), &p.log)
		}
	})
	return p
}

// gateway is a running sluice with one route and one upstream, both named demo. Demo backends serve it, one or two by
// load; a small load makes it wait, refuse and scale. What its servers tell of themselves the test tells for them.
type gateway struct {
	*process
	t       *testing.T
	address string // of its metrics
	admin   string
}

func start(t *testing.T) *gateway {
	t.Helper()
	signals := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"models": [{"name": "m", "size": 1000}], "queue": 0, "tasks": 0, "running": 1, "cache": 0.5, "collections": 2, "pending": 0}`)
	}))
	t.Cleanup(signals.Close)
	folder := t.TempDir()
	addrs := freeAddrs(t, 4)
	listen, secure, admin, metrics := addrs[0], addrs[1], addrs[2], addrs[3]
	cert, key := certstest.New(t).Write(folder, "demo", certstest.Want{Hosts: []string{"demo.example"}})
	file := filepath.Join(folder, "config.toml")
	write(t, file, fmt.Sprintf(`
listen = [%q]
tls = { listen = [%q], certificates = [{ cert = %q, key = %q }] }
pid = %q
log.access = "off"
drain_timeout = "2s"
admin.listen = %q
metrics.listen = %q
engine.kind = "none" # other containers on this machine are none of its business
[[route]]
name = "demo"
upstream = "demo"
[upstream.demo]
process = { command = ["$SLUICE", "demo-backend", "--port", "$PORT", "--service-time", "20ms"] }
max_conns = 1
queue = { size = 2, timeout = "5s" }
health_check = { path = "/healthz", interval = "200ms" }
circuit_breaker = { failure_ratio = 0.9 }
scale = { min = 1, max = 2, queued_per_replica = 1, signals = { preset = "ollama", port = %s, path = "/", queue = "queue", task_queue = "tasks", running = "running", cache_usage = "cache", vector_collections = "collections", vector_pending_operations = "pending" } }
`, listen, secure, cert, key, filepath.Join(folder, "sluice.pid"), admin, metrics, signals.URL[strings.LastIndexByte(signals.URL, ':')+1:]))
	g := &gateway{process: run(t, binary(t), "run", "-c", file), t: t, address: metrics, admin: admin}
	within(t, "sluice is ready", func() bool {
		select {
		case <-g.exited:
			t.Fatalf("sluice ended: %v", g.cmd.ProcessState)
		default:
		}
		code, _, err := get("http://" + metrics + "/readyz")
		return err == nil && code == http.StatusOK
	})
	g.load("http://" + listen)
	return g
}

// load sends requests, more at a time than there are slots and places in the queue, until the test ends.
func (g *gateway) load(url string) {
	done := make(chan struct{})
	var senders sync.WaitGroup
	for range 6 {
		senders.Go(func() {
			for {
				select {
				case <-done:
					return
				case <-g.exited:
					return
				default:
				}
				if code, _, err := get(url); err != nil || code != http.StatusOK {
					time.Sleep(20 * time.Millisecond)
				}
			}
		})
	}
	g.t.Cleanup(func() {
		close(done)
		senders.Wait()
	})
}

func (g *gateway) metrics() string {
	g.t.Helper()
	code, text, err := get("http://" + g.address + "/metrics")
	if err != nil || code != http.StatusOK {
		g.t.Fatalf("metrics: %d, %v, %s", code, err, text)
	}
	return text
}

// kill ends sluice at once, and waits until its replicas have noticed.
func (g *gateway) kill() {
	g.t.Helper()
	_, text, err := get("http://" + g.admin + "/api/v1/status")
	if err != nil {
		g.t.Fatal(err)
	}
	var status struct {
		Upstreams []struct{ Servers []struct{ ID string } }
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil || len(status.Upstreams) != 1 || len(status.Upstreams[0].Servers) == 0 {
		g.t.Fatalf("status: %v in %s", err, text)
	}
	_ = g.cmd.Process.Kill()
	<-g.exited
	for _, server := range status.Upstreams[0].Servers {
		var pid int
		if _, err := fmt.Sscan(server.ID[strings.LastIndexByte(server.ID, '-')+1:], &pid); err != nil {
			g.t.Fatalf("no pid in %q", server.ID)
		}
		within(g.t, "replica "+server.ID+" ends", func() bool { return syscall.Kill(pid, 0) == syscall.ESRCH })
	}
}

// get reads url on a connection of its own.
func get(url string) (code int, body string, err error) {
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}
