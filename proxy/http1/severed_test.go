package http1

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A body that ends with its connection is whole under TLS only if the server has said so by its closure alert; the others say it themselves.
func TestBodyWithoutAClosureAlertIsCut(t *testing.T) {
	cfg := &tls.Config{Certificates: []tls.Certificate{ownCertificate(t)}}
	for _, row := range []struct {
		name, answer string
		alert, late  bool
		cut          bool
	}{
		{"alert", "HTTP/1.1 200 OK\r\n\r\nbody", true, false, false},
		{"later alert", "HTTP/1.1 200 OK\r\n\r\nbody", true, true, false},
		{"no alert", "HTTP/1.1 200 OK\r\n\r\nbody", false, false, true},
		{"later no alert", "HTTP/1.1 200 OK\r\n\r\nbody", false, true, true},
		{"no alert, HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\nbody", false, true, true},
		{"no alert, length", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody", false, false, false},
		{"no alert, chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", false, false, false},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			addr := script(t, func(nc *client) {
				s := tls.Server(nc.TCPConn, cfg)
				if _, err := s.Read(make([]byte, 4096)); err != nil {
					return
				}
				_, _ = io.WriteString(s, row.answer)
				if row.late {
					time.Sleep(20 * time.Millisecond)
				}
				if row.alert {
					_ = s.CloseWrite()
				}
				_ = nc.CloseWrite()
				_, _ = io.Copy(io.Discard, nc.TCPConn)
			})
			f, h := startRelay(t, addr)
			h.t.SetConfig(TransportConfig{Dial: func(ctx context.Context) (net.Conn, error) {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					return nil, err
				}
				return Secure(ctx, nc, &tls.Config{InsecureSkipVerify: true, MaxVersion: version})
			}})
			c := f.dial(t)
			c.send(getRoot)
			resp, err := http.ReadResponse(c.r, nil)
			var body []byte
			if err == nil {
				body, err = io.ReadAll(resp.Body)
			}
			if row.cut && (err == nil || !errors.Is(h.last(), ErrBodyCut)) || !row.cut && (err != nil || string(body) != "body" || h.failures() > 0) {
				t.Errorf("%s, %x: %q, %v; %v", row.name, version, body, err, h.last())
			}
		}
	}
}
