package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// HTTP/2 without encryption comes in on the same listener, is routed, limited and logged as any request, and survives SIGTERM
// under way.
func TestHTTP2(t *testing.T) {
	t.Parallel()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip(err)
	}
	slow := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if r.URL.Path == "/slow" {
			close(slow)
			time.Sleep(500 * time.Millisecond)
		}
		fmt.Fprintf(w, "%s %s %s for %s %q", r.Proto, r.Method, r.URL.Path, r.Header.Get("X-Forwarded-For"), body)
	}))
	defer server.Close()
	s := start(t, `
[[route]]
path = "/"
upstream = "app"
max_body = "1KiB"
[upstream.app]
servers = ["`+strings.TrimPrefix(server.URL, "http://")+`"]
`)
	ask := func(args ...string) (string, error) {
		out, err := exec.Command(curl, append([]string{"-sS", "-m", "10", "--http2-prior-knowledge", "-w", " HTTP/%{http_version} %{http_code}"}, args...)...).CombinedOutput()
		return string(out), err
	}
	tests := []struct {
		want string
		args []string
	}{
		{`HTTP/1.1 GET /a for 127.0.0.1 "" HTTP/2 200`, []string{s.url + "/a"}},
		{`HTTP/1.1 POST /b for 127.0.0.1 "hello" HTTP/2 200`, []string{"-d", "hello", s.url + "/b"}},
		{` HTTP/2 413`, []string{"-d", strings.Repeat("x", 2000), s.url + "/c"}},
		{` HTTP/2 431`, []string{"-H", "A: " + strings.Repeat("x", 40<<10), s.url + "/d"}},
	}
	for _, test := range tests {
		if got, err := ask(test.args...); err != nil || !strings.HasSuffix(got, test.want) {
			t.Errorf("%.40q: %q, %v", test.args, got, err)
		}
	}
	answer := make(chan string, 1)
	go func() {
		got, err := ask(s.url + "/slow")
		answer <- fmt.Sprint(got, err)
	}()
	<-slow
	s.signal(syscall.SIGTERM)
	if got := <-answer; !strings.HasSuffix(got, "HTTP/2 200<nil>") {
		t.Errorf("while sluice ended: %s", got)
	}
	if code := s.exitCode(15 * time.Second); code != 0 {
		t.Errorf("exit code %d", code)
	}
	if !strings.Contains(s.log.String(), `"path":"/b","proto":"HTTP/2.0"`) {
		t.Error("the access log does not tell of HTTP/2")
	}
	if !strings.Contains(s.log.String(), `"status":431,"reason":"header_too_large"`) {
		t.Error("the access log does not tell of the head that was too large")
	}
}

// A client and a listener with TLS agree on HTTP/2, and on HTTP/1.1 with a client that knows no more.
func TestHTTP2OverTLS(t *testing.T) {
	t.Parallel()
	s := startTLS(t, "", toBackend(backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %d bytes", r.Header.Get("X-Forwarded-Proto"), r.Host, len(body))
	})))
	file := filepath.Join(s.folder, "upload")
	if err := os.WriteFile(file, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for want, args := range map[string][]string{
		"https a.example 0 bytes HTTP/2":       {"--http2"},
		"https a.example 0 bytes HTTP/1.1":     {"--http1.1"},
		"https a.example 1048576 bytes HTTP/2": {"--http2", "-T", file},
	} {
		got, err := s.curl(s.tls, append(args, "-w", " HTTP/%{http_version}", "https://a.example/")...)
		if got != want || err != nil {
			t.Errorf("%q, %v, want %q", got, err, want)
		}
	}
}
