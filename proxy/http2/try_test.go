package http2

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
)

// What TryParts does not take at once is written later, and nothing of it is lost or comes twice.
func TestTryParts(t *testing.T) {
	result := make(chan error, 1)
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			result <- err
			return
		}
		parts := [][]byte{[]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n14\r\n"), []byte("0123456789abcdefghij"), []byte("\r\n0\r\n\r\n")}
		_ = s.SetWriteDeadline(time.Now().Add(patience)) // for a TryParts that waits
		n, err := s.TryParts(parts)
		if err == nil && n != len(parts[0])+10 {
			err = fmt.Errorf("took %d", n)
		}
		if n, again := s.TryParts([][]byte{parts[1][10:], parts[2]}); err == nil && (n != 0 || again != nil) {
			err = fmt.Errorf("took %d more, %v", n, again)
		}
		if err == nil {
			_, err = s.WriteParts([][]byte{parts[1][10:], parts[2]})
		}
		result <- err
	})
	c := dialRaw(t, addr, h2.Setting{ID: h2.SettingInitialWindowSize, Val: 10})
	c.headers(1, true, get("/")...)
	c.want("HEADERS 1 :status=200", `DATA 1 "0123456789"`)
	c.must(c.fr.WriteWindowUpdate(1, 100))
	c.want(`DATA 1 "abcdefghij"`, `DATA 1 end ""`)
	if err := pass(t, result, "the handler"); err != nil {
		t.Error(err)
	}
}

// A stream that does not wait is not in the way of those that do.
func TestTryPartsLeavesTheTurn(t *testing.T) {
	body := bytes.Repeat([]byte("x"), 2*defaultWindow)
	tried := make(chan int, 1)
	addr := startServer(t, Settings{}, nil, func(s *Stream) {
		defer s.Close()
		if _, _, err := readHead(s); err != nil {
			return
		}
		head := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(body))
		if s.ID() == 1 {
			n, _ := s.TryParts([][]byte{head, body})
			tried <- n
			<-s.link.written // until the connection ends
			return
		}
		_, _ = s.WriteParts([][]byte{head, body})
	})
	c := dialRaw(t, addr, h2.Setting{ID: h2.SettingInitialWindowSize, Val: 1 << 20})
	c.headers(1, true, get("/")...)
	if n := pass(t, tried, "the first stream"); n > defaultWindow+100 {
		t.Fatalf("took %d", n)
	}
	c.headers(3, true, get("/")...)
	c.must(c.fr.WriteWindowUpdate(0, 1<<20))
	c.await("DATA 3 end")
	c.nc.Close()
}
