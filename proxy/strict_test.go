package proxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// recorder is a server that keeps every byte it was sent and answers each whole request with "good".
type recorder struct {
	addr string
	mu   sync.Mutex // guards what follows
	raw  strings.Builder
	// Of each request: its target, and whether its body came to its end.
	begun, whole []string
}

func startRecorder(t testing.TB) *recorder {
	rec := &recorder{}
	rec.addr = rawServer(t, func(c net.Conn, _ *bufio.Reader, _ int) {
		r := bufio.NewReader(io.TeeReader(c, rec))
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			rec.note(&rec.begun, req.RequestURI)
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
			rec.note(&rec.whole, req.RequestURI)
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
		}
	})
	return rec
}

func (rec *recorder) Write(p []byte) (int, error) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.raw.Write(p)
}

func (rec *recorder) note(list *[]string, target string) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	*list = append(*list, target)
}

func (rec *recorder) bytes() string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return rec.raw.String()
}

func (rec *recorder) wholes() []string {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return append([]string(nil), rec.whole...)
}

// head is the head of the only request.
func (rec *recorder) head() string {
	head, _, _ := strings.Cut(rec.bytes(), "\r\n\r\n")
	return head
}

// raw sends bytes as they are. The other end may have closed already.
func (c *client) raw(s string) { _, _ = io.WriteString(c, s) }

// ends waits for the end of the connection and gives what came before it. It fails when the connection lives on.
func (c *client) ends() (rest string, reset bool) {
	c.g.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	b, err := io.ReadAll(c.r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.g.t.Error("the connection lives on")
	}
	return string(b), errors.Is(err, syscall.ECONNRESET)
}

// lives sends one more request and fails unless it is served on this connection.
func (c *client) lives() {
	c.g.t.Helper()
	if r := c.do("GET /next HTTP/1.1\nHost: x\n\n"); r.StatusCode != http.StatusOK || r.body != "good" {
		c.g.t.Errorf("the next request got %d %q", r.StatusCode, r.body)
	}
}
