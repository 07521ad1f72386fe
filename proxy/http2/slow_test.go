package http2_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sluice/proxy/http1"
)

// A client that takes its time holds no server, as over HTTP/1.1: the response is read ahead, and none of it is lost.
func TestSlowClientHoldsNoServer(t *testing.T) {
	random := rand.NewChaCha8([32]byte{1})
	body := make([]byte, 900<<10) // more than the client's window, less than what is read ahead
	_, _ = random.Read(body)
	for _, framing := range []string{"length", "chunked"} {
		want := body
		if framing == "chunked" {
			want = body[:200<<10]
		}
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if framing == "length" {
				w.Header().Set("Content-Length", strconv.Itoa(len(want)))
			}
			_, _ = w.Write(want)
		}))
		defer server.Close()
		transport := http1.NewTransport(strings.TrimPrefix(server.URL, "http://"), http1.TransportConfig{Connect: time.Second, Idle: 5 * time.Second})
		defer transport.Close()
		var free atomic.Bool
		_, addr, _ := startFront(t, func(c *http1.Conn) {
			var cancel http1.Cancel
			c.SetGone(cancel.Cancel)
			u, err := transport.Get(&cancel, time.Now())
			if err != nil {
				c.Abort()
				return
			}
			held := true
			release := func() {
				u.Release(time.Now())
				held = false
				free.Store(true)
			}
			if err = u.Send([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), c.Body()); err == nil {
				_, err = u.ReadHead([]byte("GET"))
			}
			if err == nil {
				err = c.WriteHead([]byte("HTTP/1.1 200 OK\r\n"), u.Body().Remaining())
			}
			if err == nil {
				u.WhenWhole(release)
				_, err = c.CopyBody(u, 5*time.Second, nil)
			}
			if err == nil {
				err = c.Finish(nil)
			}
			if err != nil {
				c.Abort()
			}
			if held {
				u.Close()
			}
		})
		client := newClient(t)
		client.Transport.(*http.Transport).HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerStream: 64 << 10, MaxReceiveBufferPerConnection: 64 << 10}
		r, _ := http.NewRequestWithContext(context.Background(), "GET", "http://"+addr, nil)
		resp, err := client.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		for end := time.Now().Add(5 * time.Second); !free.Load(); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: the server is held", framing)
			}
		}
		got, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || sha256.Sum256(got) != sha256.Sum256(want) {
			t.Errorf("%s: %d bytes of %d, %v, equal: %v", framing, len(got), len(want), err, bytes.Equal(got, want))
		}
	}
}
