package http2

import (
	"errors"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	h2 "golang.org/x/net/http2"
)

// A try gives up after a moment what the client's windows do not let through; what it did not take can be written later.
func TestTryWriteParts(t *testing.T) {
	type result struct {
		n    int
		err  error
		took time.Duration
	}
	results, proceed := make(chan result), make(chan bool)
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			return
		}
		try := func(p ...string) {
			parts := make([][]byte, len(p))
			for i := range p {
				parts[i] = []byte(p[i])
			}
			begun := time.Now()
			n, err := s.TryWriteParts(parts)
			results <- result{n, err, time.Since(begun)}
			<-proceed
		}
		head := "HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"
		_ = s.SetWriteDeadline(time.Now().Add(time.Minute))
		try(head, strings.Repeat("x", 150), strings.Repeat("y", 150))
		try(strings.Repeat("y", 100))
		_ = s.SetWriteDeadline(time.Unix(1, 0))
		try(strings.Repeat("y", 100))
		_ = s.SetWriteDeadline(time.Time{})
		try(strings.Repeat("y", 100))
		n, err := s.WriteParts([][]byte{[]byte(strings.Repeat("y", 100))})
		results <- result{n: n, err: err}
	})
	c := dialRaw(t, addr, h2.Setting{ID: h2.SettingInitialWindowSize, Val: 200})
	c.headers(1, true, get("/")...)
	c.await("SETTINGS 0 ack")
	headLen := len("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n")
	for i, want := range []result{{n: headLen + 200}, {}, {err: os.ErrDeadlineExceeded}, {}} {
		got := pass(t, results, "a try")
		if got.n != want.n || !errors.Is(got.err, want.err) || want.err == nil && got.err != nil {
			t.Errorf("try %d: %d bytes, %v", i, got.n, got.err)
		}
		if want.err == nil && got.took < tryTime {
			t.Errorf("try %d gave up after %v", i, got.took)
		}
		proceed <- true
	}
	c.want("HEADERS 1 :status=200 content-length=300", "DATA 1 150", "DATA 1 50")
	c.must(c.fr.WriteWindowUpdate(1, 100))
	c.want("DATA 1 end 100")
	if got := pass(t, results, "the rest"); got.n != 100 || got.err != nil {
		t.Errorf("%d bytes, %v", got.n, got.err)
	}
}

// A try that waits is ended by a reset, as any write.
func TestTryWritePartsAfterReset(t *testing.T) {
	ended := make(chan error, 1)
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			return
		}
		parts := [][]byte{[]byte("HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n"), []byte(strings.Repeat("x", 300))}
		_, err := s.TryWriteParts(parts)
		for rest := []byte(strings.Repeat("x", 100)); err == nil; {
			_, err = s.TryWriteParts([][]byte{rest})
		}
		ended <- err
	})
	c := dialRaw(t, addr, h2.Setting{ID: h2.SettingInitialWindowSize, Val: 200})
	c.headers(1, true, get("/")...)
	c.await("DATA 1 200")
	c.must(c.fr.WriteRSTStream(1, h2.ErrCodeCancel))
	if err := pass(t, ended, "the end"); !errors.Is(err, ErrReset) {
		t.Error(err)
	}
}

// Waiting is over with the earlier of the two: the try's moment and the deadline.
func TestDeadlineOfATry(t *testing.T) {
	for _, test := range []struct{ deadline, want time.Duration }{{0, tryTime}, {time.Minute, tryTime}, {tryTime / 2, tryTime / 2}} {
		synctest.Test(t, func(t *testing.T) {
			client, server := net.Pipe()
			defer client.Close()
			defer server.Close()
			l := &link{}
			l.init(server, 1<<16, 1<<16)
			s := l.newStream(1)
			s.send, s.message.state, s.message.left = 0, inData, 10
			if test.deadline > 0 {
				_ = s.SetWriteDeadline(time.Now().Add(test.deadline))
			}
			begun := time.Now()
			n, err := s.TryWriteParts([][]byte{[]byte("0123456789")})
			late := test.deadline > 0 && test.deadline < tryTime
			if d := time.Since(begun); n != 0 || d != test.want || late != (err != nil) {
				t.Errorf("deadline %v: %d bytes, %v after %v", test.deadline, n, err, d)
			}
		})
	}
}
