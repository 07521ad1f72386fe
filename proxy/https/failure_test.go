package https

import (
	"bufio"
	"crypto/tls"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sluice/proxy/http1"
)

func TestCleartextIsToldSo(t *testing.T) {
	w := newWorld(t, nil)
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	_ = nc.SetDeadline(time.Now().Add(20 * time.Second))
	// More than the record header, so that bytes are left that would make the close a reset.
	if _, err := io.WriteString(nc, "POST / HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4000\r\n\r\n"+strings.Repeat("x", 4000)); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(nc), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 400 || string(body) != plainAnswer || resp.Header.Get("X-Sluice-Reason") != "bad_request" {
		t.Errorf("%d %q %v", resp.StatusCode, body, err)
	}
	w.counted("", "cleartext")

	raw, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	_ = raw.SetDeadline(time.Now().Add(20 * time.Second))
	_, _ = raw.Write([]byte("SSH-2.0-x\r\n"))
	if b, _ := io.ReadAll(raw); strings.Contains(string(b), "HTTP") {
		t.Errorf("SSH is told %q", b)
	}
	w.counted("", "not_tls")
}

// steps is a connection that keeps what is done with it.
type steps struct {
	net.Conn
	done []string
}

func (s *steps) Write(p []byte) (int, error) {
	s.done = append(s.done, "write")
	return len(p), nil
}

func (s *steps) CloseWrite() error {
	s.done = append(s.done, "end")
	return nil
}

func (s *steps) Read([]byte) (int, error) {
	s.done = append(s.done, "read")
	return 0, io.EOF
}

func (s *steps) SetReadDeadline(time.Time) error { return nil }

// What the client has sent is read before the close, which would else be a reset that takes the answer away.
func TestCleartextIsReadToItsEnd(t *testing.T) {
	s := &steps{}
	New(slog.New(slog.DiscardHandler)).failed(s, &http1.Origin{}, tls.RecordHeaderError{RecordHeader: [5]byte([]byte("GET /"))})
	if got := strings.Join(s.done, " "); got != "write end read" {
		t.Error(got)
	}
}

func TestOtherFailuresAreCounted(t *testing.T) {
	w := newWorld(t, nil)
	if _, err := w.dial(&tls.Config{NextProtos: []string{"smtp"}}); err == nil {
		t.Error("let in with smtp")
	}
	w.counted("", "protocol")
	if _, err := w.dial(&tls.Config{ServerName: "b.example"}); err == nil {
		t.Error("the client believes a certificate for another")
	}
	w.counted("", "alert")
	nc, err := net.Dial("tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	w.counted("", "closed")
	w.cfg.Certificates = nil
	w.apply()
	if _, err := w.dial(&tls.Config{}); err == nil {
		t.Error("let in without any certificate")
	}
	w.counted("", "no_certificate")
	if said := w.log.String(); !strings.Contains(said, "level=DEBUG msg=\"handshake failed\"") || strings.Contains(said, "level=ERROR") || strings.Contains(said, "level=WARN") {
		t.Errorf("logged:\n%s", said)
	}
}
