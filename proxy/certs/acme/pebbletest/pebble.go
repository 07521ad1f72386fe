// Package pebbletest runs Pebble, a small ACME authority, for tests: on loopback, with a resolver of its own that knows every name as
// 127.0.0.1.
package pebbletest

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/proxy/certs/certstest"
)

// Options say where an authority looks for the answers to its challenges, and what it issues.
type Options struct {
	// HTTPPort and TLSPort stand for the ports 80 and 443 of every host.
	HTTPPort, TLSPort int
	// Validity is how long certificates are valid; default 90 days.
	Validity time.Duration
}

// Authority is a Pebble, running or not.
type Authority struct {
	// Directory is the URL of its directory, CA the file that vouches for its own certificate.
	Directory, CA string

	t          testing.TB
	bin        string
	folder     string
	management string
	names      *resolver
	said       Output
	stop       func()
}

// Prepare makes an authority that does not run yet. The test is skipped where there is no pebble in $PATH, and fails where
// SLUICE_TEST_REQUIRE names it.
func Prepare(t testing.TB, o Options) *Authority {
	t.Helper()
	bin, err := exec.LookPath("pebble")
	if err != nil {
		if slices.Contains(strings.Fields(os.Getenv("SLUICE_TEST_REQUIRE")), "pebble") {
			t.Fatalf("pebble is required: %v", err)
		}
		t.Skipf("no pebble on this machine: %v", err)
	}
	ports := FreePorts(t, 2)
	a := &Authority{t: t, bin: bin, folder: t.TempDir(), names: newResolver(t)}
	a.Directory = fmt.Sprintf("https://127.0.0.1:%d/dir", ports[0])
	a.management = fmt.Sprintf("127.0.0.1:%d", ports[1])
	a.CA = filepath.Join(a.folder, "ca.pem")
	vouches := certstest.New(t)
	cert, key := vouches.Write(a.folder, "own", certstest.Want{Hosts: []string{"127.0.0.1"}})
	if err := os.WriteFile(a.CA, vouches.PEM, 0o600); err != nil {
		t.Fatal(err)
	}
	validity := o.Validity
	if validity == 0 {
		validity = 90 * 24 * time.Hour
	}
	config, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": fmt.Sprintf("127.0.0.1:%d", ports[0]), "managementListenAddress": a.management,
		"certificate": cert, "privateKey": key, "httpPort": o.HTTPPort, "tlsPort": o.TLSPort, "keyAlgorithm": "ecdsa",
		"retryAfter": map[string]int{"authz": 1, "order": 1},
		"profiles":   map[string]any{"default": map[string]any{"description": "the only one", "validityPeriod": int(validity / time.Second)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(a.config(), config, 0o600); err != nil {
		t.Fatal(err)
	}
	return a
}

// Start runs an authority until the end of the test.
func Start(t testing.TB, o Options) *Authority {
	t.Helper()
	a := Prepare(t, o)
	a.Run()
	return a
}

func (a *Authority) config() string { return filepath.Join(a.folder, "pebble.json") }

// Run starts it and waits until it answers.
func (a *Authority) Run() {
	a.t.Helper()
	cmd := exec.Command(a.bin, "-config", a.config(), "-dnsserver", a.names.addr, "-strict")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	cmd.Stdout, cmd.Stderr = &a.said, &a.said
	if err := cmd.Start(); err != nil {
		a.t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	a.stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	a.t.Cleanup(func() {
		a.stop()
		if a.t.Failed() {
			a.t.Logf("pebble said:\n%s", a.said.String())
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if _, err := a.get("/roots/0"); err == nil {
			return
		} else if time.Now().After(deadline) {
			a.t.Fatalf("pebble does not answer: %v", err)
		}
	}
}

// Stop ends it before the test does.
func (a *Authority) Stop() { a.stop() }

func (a *Authority) get(path string) ([]byte, error) {
	vouches, err := os.ReadFile(a.CA)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(vouches)
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, DisableKeepAlives: true}}
	resp, err := client.Get("https://" + a.management + path)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// Roots are what vouches for the certificates that it issues, of which it makes new ones with each start.
func (a *Authority) Roots() *x509.CertPool {
	a.t.Helper()
	root, err := a.get("/roots/0")
	pool := x509.NewCertPool()
	if err != nil || !pool.AppendCertsFromPEM(root) {
		a.t.Fatalf("no root of pebble's: %v %s", err, root)
	}
	return pool
}

// Orders is how many certificates it was asked for.
func (a *Authority) Orders() int { return strings.Count(a.said.String(), "Added order ") }

// Asked are the names that it looked up, in order, each once.
func (a *Authority) Asked() []string { return a.names.names() }

// FreePorts are n ports of 127.0.0.1 that were free a moment ago.
func FreePorts(t testing.TB, n int) []int {
	t.Helper()
	ports := make([]int, n)
	for i := range ports {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close() // only once all are chosen
		ports[i] = ln.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// Output collects what several goroutines, or a process, write. The zero value is ready.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (b *Output) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

// String is what was written so far.
func (b *Output) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
