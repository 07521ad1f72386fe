package http1

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
)

func TestBadResponsesOverSockets(t *testing.T) {
	rows := append(badResponses[:len(badResponses):len(badResponses)], struct{ name, head string }{
		"101 not asked for", crlfs("HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: websocket\n\n"),
	}, struct{ name, head string }{"eleven interim", strings.Repeat("HTTP/1.1 103 x\r\n\r\n", 11) + okEmpty})
	for _, row := range rows {
		addr := script(t, answering(func(string) string { return row.head }))
		f, h := startRelay(t, addr)
		c := f.dial(t)
		c.send(getRoot)
		resp, _ := c.response("GET")
		for resp.StatusCode == 103 {
			resp, _ = c.response("GET")
		}
		var fault *ProtocolError
		if resp.StatusCode != 502 || !errors.As(h.last(), &fault) || fault.Reason != "bad_response" {
			t.Errorf("%s: %d, %v", row.name, resp.StatusCode, h.last())
		}
		eventually(t, "server connection closed", func() bool { return h.t.Live() == 0 })
		_ = c.Close()
	}
}

func TestInterimResponses(t *testing.T) {
	addr := script(t, answering(func(string) string {
		return "HTTP/1.1 100 Continue\r\n\r\n" + strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n", 9) + okBody("x")
	}))
	f, _ := startRelay(t, addr)
	c := f.dial(t)
	for range 2 {
		c.send(getRoot)
		for range 9 {
			if resp, _ := c.response("GET"); resp.StatusCode != 103 || resp.Header.Get("Link") == "" {
				t.Fatalf("%d", resp.StatusCode)
			}
		}
		if _, body := c.response("GET"); body != "x" {
			t.Errorf("%q", body)
		}
	}
	old := f.dial(t)
	old.send("GET / HTTP/1.0\r\nHost: a\r\n\r\n")
	if all, _ := old.rest(); strings.Contains(all, "103") {
		t.Errorf("%q", all)
	}
}

// A response that is cut anywhere is never shown as complete; one that is whole is, however it is cut into packets.
func TestCutResponses(t *testing.T) {
	for _, answer := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n0123456789",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n56789\r\n0\r\n\r\n",
	} {
		cut := 0
		addr := script(t, func(nc *client) {
			if _, err := nc.readHead(); err == nil {
				nc.send(answer[:cut])
			}
		})
		f, h := startRelay(t, addr)
		for cut = range len(answer) {
			c := f.dial(t)
			c.send(getRoot)
			resp, err := http.ReadResponse(c.r, nil)
			if err == nil && resp.StatusCode == 200 {
				if b, err := io.ReadAll(resp.Body); err == nil {
					t.Errorf("cut at %d of %q: taken for %q", cut, answer, b)
				}
			}
			_ = c.Close()
			if begun := cut > strings.Index(answer, "\r\n\r\n")+3; begun {
				var up ErrUpstream
				if err := h.last(); !errors.As(err, &up) || !errors.Is(err, ErrBodyCut) {
					t.Errorf("cut at %d: %v", cut, err)
				}
			} else if err := h.last(); !errors.Is(err, ErrServerClosed) {
				t.Errorf("cut at %d: %v", cut, err)
			}
		}
		cut = len(answer)
		c := f.dial(t)
		c.send(getRoot)
		if _, body := c.response("GET"); body != "0123456789" {
			t.Errorf("%q", body)
		}
	}
}

func TestBadChunksFromServer(t *testing.T) {
	for _, row := range badChunks {
		addr := script(t, func(nc *client) {
			if _, err := nc.readHead(); err == nil {
				nc.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + row.in)
				_ = nc.CloseWrite()
				_, _ = nc.rest()
			}
		})
		f, h := startRelay(t, addr)
		c := f.dial(t)
		c.send(getRoot)
		resp, err := http.ReadResponse(c.r, nil)
		if err == nil {
			_, err = io.ReadAll(resp.Body)
		}
		var up ErrUpstream
		if err == nil || !errors.As(h.last(), &up) {
			t.Errorf("%s: %v, %v", row.name, err, h.last())
		}
		_ = c.Close()
	}
}
