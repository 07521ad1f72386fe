package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// requireH2load is requirePeer for the load of HTTP/2.
func requireH2load(t *testing.T) string {
	t.Helper()
	path, err := findH2load()
	if err == nil {
		return path
	}
	if slices.Contains(strings.Fields(os.Getenv("SLUICE_TEST_REQUIRE")), "h2load") {
		t.Fatalf("h2load is required: %v", err)
	}
	t.Skip(err)
	return ""
}

func TestPeersMeasuresHTTP2(t *testing.T) {
	requireH2load(t)
	checkRows(t, installed(t), "h2,h2c", "cpu_us", "ratio", "rps", "busy", "p50_ms", "p99_ms", "rss_kib")
}

// h2load against nginx: what it is asked for that is not there is found, whatever its exit code.
func TestH2loadAnswersAreChecked(t *testing.T) {
	h2load, program := requireH2load(t), requirePeer(t, "nginx")
	b := &peersBench{duration: 100 * time.Millisecond, dir: t.TempDir(), cores: requireCores(t), h2load: h2load,
		programs: map[string]string{"nginx": program}, http2Directive: hasHTTP2Directive(t.Context(), program)}
	var err error
	if b.certificate, err = makeCertificate(b.dir); err != nil {
		t.Fatal(err)
	}
	if b.backend, err = startBackend(); err != nil {
		t.Fatal(err)
	}
	defer b.backend.stop()
	w := workload{name: "h2", kind: multiplexed, connections: 2, streams: 2, target: "/1k", answer: 1 << 10, tls: true}
	proc, err := b.start(t.Context(), *findPeer("nginx"), w)
	if err != nil {
		t.Fatal(err)
	}
	defer proc.stop()
	f, err := b.h2loadRun(t.Context(), proc, w, 40, 100)
	if err != nil || f.requests != 40 || f.latency.TotalCount() != 40 {
		t.Errorf("%+v, %v", f, err)
	}
	w.target = "/nothing"
	if _, err := b.h2loadRun(t.Context(), proc, w, 40, 0); err == nil || !strings.Contains(err.Error(), "40 4xx") {
		t.Error(err)
	}
	w.target, w.answer = "/1k", 1000
	if _, err := b.h2loadRun(t.Context(), proc, w, 40, 0); err == nil || !strings.Contains(err.Error(), "40960 bytes") {
		t.Error(err)
	}
	proc.stop()
	if _, err := b.h2loadRun(t.Context(), proc, w, 40, 0); err == nil {
		t.Error("nobody was there to answer")
	}
}

func TestReadH2load(t *testing.T) {
	const right = `starting benchmark...
spawning thread #0: 2 total client(s). 100 total requests
TLS Protocol: TLSv1.3
Cipher: TLS_AES_128_GCM_SHA256
Server Temp Key: X25519 253 bits
Application protocol: h2
progress: 10% done

finished in 8.35ms, 11975.09 req/s, 12.10MB/s
requests: 100 total, 100 started, 100 done, 100 succeeded, 0 failed, 0 errored, 0 timeout
status codes: 100 2xx, 0 3xx, 0 4xx, 0 5xx
traffic: 103.50KB (105984) total, 1.07KB (1096) headers (space savings 92.00%), 100.00KB (102400) data
`
	secure := workload{tls: true, answer: 1 << 10}
	for name, c := range map[string]struct {
		w        workload
		old, new string
		want     string
	}{
		"right":                   {secure, "", "", ""},
		"some refused":            {secure, "100 2xx, 0 3xx, 0 4xx, 0 5xx", "98 2xx, 0 3xx, 0 4xx, 2 5xx", "98 2xx, 0 3xx, 0 4xx, 2 5xx"},
		"some redirected":         {secure, "100 2xx, 0 3xx", "99 2xx, 1 3xx", "99 2xx, 1 3xx"},
		"fewer than asked":        {secure, "100 done, 100 succeeded, 0 failed, 0 errored", "99 done, 99 succeeded, 1 failed, 1 errored", "of 100 requests 99"},
		"a short body":            {secure, "(102400) data", "(102399) data", "102399 bytes together instead of 102400"},
		"HTTP/1.1":                {secure, "protocol: h2", "protocol: http/1.1", `protocol "http/1.1" instead of h2`},
		"TLS 1.2":                 {secure, "TLSv1.3", "TLSv1.2", `"TLSv1.2" instead of "TLSv1.3"`},
		"TLS where there is none": {workload{answer: 1 << 10}, "protocol: h2", "protocol: h2c", `"TLSv1.3" instead of ""`},
		"without TLS":             {workload{answer: 1 << 10}, "TLS Protocol: TLSv1.3\nCipher: TLS_AES_128_GCM_SHA256\nServer Temp Key: X25519 253 bits\nApplication protocol: h2\n", "Application protocol: h2c\n", ""},
		"no time":                 {secure, "finished in 8.35ms", "finished in", "no time"},
		"no statuses":             {secure, "status codes:", "codes:", "of 100 requests"},
	} {
		t.Run(name, func(t *testing.T) {
			report := strings.Replace(right, c.old, c.new, 1)
			f, err := readH2load(report, c.w, 100)
			if c.want == "" {
				if err != nil || f.requests != 100 || f.took != 8350*time.Microsecond {
					t.Errorf("%+v, %v", f, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
	if _, err := readH2load("", secure, 100); err == nil {
		t.Error("an empty report")
	}
}

func TestH2loadLog(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	for log, ok := range map[string]bool{
		"1\t200\t700\n2\t200\t900\n":               true,
		"1\t200\t700\t9\n2\t200\t900\tmore\n":      true,
		"1\t200\t700\n":                            false,
		"1\t200\t700\n2\t200\n":                    false,
		"1\t200\t700\n2\t200\tlong\n":              false,
		"1\t200\t700\n2\t200\t900\n3\t200\t1000\n": false,
	} {
		if err := os.WriteFile(file, []byte(log), 0o600); err != nil {
			t.Fatal(err)
		}
		f := loadFigures{requests: 2}
		if err := f.readLog(file); (err == nil) != ok || ok && quantile(f.latency, 99) < 800*time.Microsecond {
			t.Errorf("%q: %v", log, err)
		}
	}
}

// Without h2load its rows are left out, and the package that has it is named.
func TestWithoutH2load(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	b := &peersBench{}
	var log bytes.Buffer
	found, err := b.findLoad(workloads, &log)
	if err != nil || !strings.Contains(log.String(), "without h2c: h2load is not installed: apt-get install --no-install-recommends nghttp2-client") {
		t.Errorf("%v\n%s", err, log.String())
	}
	if len(found) != len(workloads)-2 || slices.ContainsFunc(found, func(w workload) bool { return w.kind == multiplexed }) {
		t.Errorf("%v", found)
	}
	if _, err := b.findLoad([]workload{{name: "h2", kind: multiplexed}}, &log); err == nil {
		t.Error("nothing is left to measure")
	}
}

func TestNginxHTTP2Directive(t *testing.T) {
	program := filepath.Join(t.TempDir(), "nginx")
	for version, want := range map[string]bool{
		"nginx/1.22.1": false, "nginx/1.25.0": false, "nginx/1.25.1": true, "nginx/1.26.3 (Debian)": true, "nginx/2.0.0": true, "something": false,
	} {
		if err := os.WriteFile(program, []byte("#!/bin/sh\necho 'nginx version: "+version+"' >&2\n"), 0o700); err != nil {
			t.Fatal(err)
		}
		if got := hasHTTP2Directive(t.Context(), program); got != want {
			t.Errorf("%s: %v", version, got)
		}
	}
}
