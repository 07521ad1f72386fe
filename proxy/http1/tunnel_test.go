package http1

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const (
	upgradeRequest = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
	upgradeAnswer  = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n"
)

// echoing grants the upgrade and sends back what comes, with the bytes in early at once behind its head.
func echoing(early string) func(nc *client) {
	return func(nc *client) {
		head, err := nc.readHead()
		if err != nil {
			return
		}
		if !strings.Contains(head, "Upgrade: websocket") || strings.Contains(head, "Sec-WebSocket-Protocol") {
			nc.t.Errorf("head %q", head)
		}
		nc.send(upgradeAnswer + early)
		_, _ = io.Copy(nc, nc.r)
	}
}

func upgrade(t *testing.T, c *client, behind string) {
	t.Helper()
	c.send(upgradeRequest + behind)
	head, err := c.readHead()
	if err != nil || !strings.HasPrefix(head, "HTTP/1.1 101 ") || !strings.Contains(head, "Upgrade: websocket\r\n") || strings.Contains(head, "Content-Length") {
		t.Fatalf("%q, %v", head, err)
	}
}

func (c *client) expect(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c.r, got); err != nil || string(got) != want {
		c.t.Fatalf("%q of %q, %v", got[:n], want, err)
	}
}

func TestTunnel(t *testing.T) {
	f, h := startRelay(t, script(t, echoing("early bird ")))
	c := f.dial(t)
	upgrade(t, c, "sent at once ") // bytes read already on both sides are passed on
	for _, want := range []string{"early bird ", "sent at once "} {
		c.expect(want)
	}
	for range 3 {
		c.send("ping")
		c.expect("ping")
	}
	if _, active := f.Conns(); active != 1 {
		t.Errorf("%d active", active)
	}
	c.send("last words")
	_ = c.CloseWrite()
	if rest, err := c.rest(); rest != "last words" || err != nil {
		t.Errorf("%q, %v", rest, err)
	}
	eventually(t, "both ends closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
}

func TestTunnelIdle(t *testing.T) {
	f, h := startRelay(t, script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send(upgradeAnswer)
		for range 8 { // one direction alone keeps the tunnel
			nc.send("x")
			time.Sleep(100 * time.Millisecond)
		}
		_, _ = nc.rest()
	}))
	h.idle = 600 * time.Millisecond // half a second more than the pauses of the one direction
	c := f.dial(t)
	upgrade(t, c, "")
	start := time.Now()
	rest, _ := c.rest()
	if rest != "xxxxxxxx" || time.Since(start) < 800*time.Millisecond {
		t.Errorf("%q after %v", rest, time.Since(start))
	}
	eventually(t, "both ends closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
}

func TestTunnelIsDrainedThenToldToGo(t *testing.T) {
	f, _ := startRelay(t, script(t, echoing("")))
	c := f.dial(t)
	upgrade(t, c, "")
	ctx, stop := context.WithCancel(t.Context())
	down := make(chan error, 1)
	go func() { down <- f.Shutdown(ctx) }()
	eventually(t, "draining", f.draining.Load)
	c.send("\x82\x0astill here")
	c.expect("\x82\x0astill here")
	stop()
	var cut *CutError
	if err := <-down; !errors.As(err, &cut) || cut.Conns != 1 {
		t.Error(err)
	}
	if rest, _ := c.rest(); rest != string(goingAway) {
		t.Errorf("%q", rest)
	}
}

// A refused upgrade is a response like any other.
func TestUpgradeRefused(t *testing.T) {
	f, _ := startRelay(t, script(t, answering(func(string) string { return "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno" })))
	c := f.dial(t)
	for range 2 {
		c.send(upgradeRequest)
		if resp, body := c.response("GET"); resp.StatusCode != 403 || body != "no" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
	}
}

func TestTunnelServerEndsFirst(t *testing.T) {
	f, h := startRelay(t, script(t, func(nc *client) {
		if _, err := nc.readHead(); err == nil {
			nc.send(upgradeAnswer + "bye")
		}
	}))
	c := f.dial(t)
	upgrade(t, c, "")
	c.expect("bye")
	if _, err := bufio.NewReader(c).ReadByte(); err == nil {
		t.Error("not ended")
	}
	_ = c.Close()
	eventually(t, "both ends closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
}

// A server that is to be stopped is left: its clients get close code 1001 between two frames, and their answer reaches it.
func TestTunnelLeavesItsServer(t *testing.T) {
	half, rest := make(chan bool), make(chan bool)
	answer := make(chan string, 1)
	f, h := startRelay(t, script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send(upgradeAnswer + "\x82\x05abcde\x82\x05fgh")
		close(half)
		<-rest
		nc.send("ij\x82\x05klmno")
		got := make([]byte, 8)
		n, _ := io.ReadFull(nc.r, got)
		answer <- string(got[:n])
	}))
	c := f.dial(t)
	upgrade(t, c, "")
	<-half
	c.expect("\x82\x05abcde\x82\x05fgh")
	if n := h.t.EndTunnels(); n != 1 {
		t.Errorf("%d tunnels", n)
	}
	close(rest)
	c.expect("ij")
	told, err := c.rest() // the frame after it may have come with it
	if told = strings.TrimPrefix(told, "\x82\x05klmno"); told != string(goingAway) || err != nil {
		t.Errorf("%q, %v", told, err)
	}
	closing := "\x88\x82\x00\x00\x00\x00\x03\xe9"
	c.send(closing)
	_ = c.CloseWrite()
	if got := <-answer; got != closing {
		t.Errorf("the server got %q", got)
	}
	eventually(t, "both ends closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
	if n := h.t.EndTunnels(); n != 0 {
		t.Errorf("%d tunnels are left", n)
	}
}

// A frame that never ends is cut, which shows.
func TestTunnelLeavesAnywayWithinReason(t *testing.T) {
	for _, begun := range []string{"\x82\x05ab", "\x82\x02ab"} {
		f, h := startRelay(t, script(t, func(nc *client) {
			if _, err := nc.readHead(); err != nil {
				return
			}
			nc.send(upgradeAnswer + begun)
			_, _ = nc.rest()
		}))
		c := f.dial(t)
		upgrade(t, c, "")
		c.expect(begun)
		h.t.EndTunnels()
		rest, err := c.rest()
		if whole := begun[1] == 2; (rest == string(goingAway) && err == nil) != whole {
			t.Errorf("%q: %q, %v", begun, rest, err)
		}
		_ = c.Close()
		eventually(t, "both ends closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
	}
}

// tripping is a connection whose Read panics behind the bytes "trip".
type tripping struct{ net.Conn }

func (c tripping) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if strings.HasSuffix(string(p[:n]), "trip") {
		panic("out of order")
	}
	return n, err
}

// A panic in the direction from the server ends the tunnel, as one in the other does.
func TestTunnelSurvivesPanics(t *testing.T) {
	addr := script(t, echoing(""))
	f, h := startRelay(t, addr)
	h.t.SetConfig(TransportConfig{Idle: 5 * time.Second, Dial: func(ctx context.Context) (net.Conn, error) {
		nc, err := Connect(ctx, addr, time.Second)
		return tripping{nc}, err
	}})
	c := f.dial(t)
	upgrade(t, c, "")
	c.send("ping")
	c.expect("ping")
	c.send("trip")
	if got, _ := c.rest(); got != "" {
		t.Errorf("%q", got)
	}
	eventually(t, "both ends closed", func() bool { open, _ := f.Conns(); return open == 0 && h.t.Live() == 0 })
}
