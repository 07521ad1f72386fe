package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	h2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"sluice/balancer"
)

const (
	shortIdle = 400 * time.Millisecond
	// idleMost is by when a silence of shortIdle is over: an eighth later, and as much again for a busy machine as before it is twice as long.
	idleMost = shortIdle * 7 / 4
)

// impatient is up with a short timeouts.idle, and one attempt.
func impatient(up UpstreamConfig) UpstreamConfig {
	up.Timeouts.Idle, up.Timeouts.FirstByte = shortIdle, 5*time.Second
	up.Retry.Attempts = 0
	return up
}

// wantsUntaken sends a request whose body the server does not take.
func wantsUntaken(t *testing.T, g *gateway, head, body string) {
	t.Helper()
	c := g.dial()
	defer c.Close()
	begun := time.Now()
	go func() { _, _ = io.WriteString(c, strings.ReplaceAll(head, "\n", "\r\n")+body) }()
	r := &response{Response: c.head("POST")}
	took := time.Since(begun)
	b, _ := io.ReadAll(r.Body)
	if r.body = string(b); !strings.HasPrefix(r.body, "The server did not take the request") {
		t.Errorf("%q", r.body)
	}
	if r.wants(t, 504, ReasonIdleTimeout); took < shortIdle || took > idleMost {
		t.Errorf("after %v", took)
	}
}

// A server that stops taking a request is cut when it was silent for timeouts.idle, however it is reached; the time for its answer does
// not begin then.
func TestServerThatTakesNoBody(t *testing.T) {
	const size = 16 << 20
	body := strings.Repeat("x", size)
	for _, r := range reaches {
		t.Run(r.name, func(t *testing.T) {
			goOn := make(chan bool)
			addr, up := r.start(t, func(http.ResponseWriter, *http.Request) { <-goOn })
			t.Cleanup(func() { close(goOn) })
			g := newGateway(t, balancer.DefaultConfig(), impatient(up), one(RouteConfig{}), addr)
			wantsUntaken(t, g, fmt.Sprintf("POST / HTTP/1.1\nHost: x\nContent-Length: %d\n\n", size), body)
			wantsUntaken(t, g, "POST / HTTP/1.1\nHost: x\nTransfer-Encoding: chunked\n\n", strings.Repeat(fmt.Sprintf("10000\r\n%s\r\n", body[:0x10000]), size>>16))
		})
	}
	t.Run("no window", func(t *testing.T) {
		addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
			if _, err := io.ReadFull(r, make([]byte, len(h2.ClientPreface))); err != nil {
				return
			}
			fr := h2.NewFramer(c, r)
			fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
			_ = fr.WriteSettings(h2.Setting{ID: h2.SettingInitialWindowSize, Val: 0})
			for nextRequest(fr) != 0 {
			}
		})
		g := newGateway(t, balancer.DefaultConfig(), impatient(h2c()), one(RouteConfig{}), addr)
		wantsUntaken(t, g, "POST / HTTP/1.1\nHost: x\nContent-Length: 5\n\n", "hello")
	})
}

// A server that answers while it takes nothing of the request is not silent.
func TestAnswerOfAServerThatTakesNoBody(t *testing.T) {
	const events = 12
	addr := rawServer(t, func(c net.Conn, r *bufio.Reader, _ int) {
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", events)
		for range events {
			time.Sleep(shortIdle / 4)
			_, _ = io.WriteString(c, "x")
		}
	})
	g := newGateway(t, balancer.DefaultConfig(), impatient(DefaultUpstreamConfig()), one(RouteConfig{}), addr)
	c := g.dial()
	defer c.Close()
	go func() {
		_, _ = fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", 16<<20, strings.Repeat("x", 16<<20))
	}()
	r := c.head("POST")
	if b, err := io.ReadAll(r.Body); r.StatusCode != 200 || len(b) != events || err != nil {
		t.Errorf("%d %q %v", r.StatusCode, b, err)
	}
}
