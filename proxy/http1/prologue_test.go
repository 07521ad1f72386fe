package http1

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// A kept connection serves only exchanges with the prologue that it began with, and begins with it once.
func TestPrologueBindsConnections(t *testing.T) {
	var conns atomic.Int32
	addr := script(t, func(nc *client) {
		n := conns.Add(1)
		first, err := nc.r.Peek(1)
		who := "nobody"
		if err == nil && first[0] == 'i' {
			line, _ := nc.r.ReadString('\n')
			who = strings.TrimSpace(line)
		}
		answering(func(head string) string {
			if !strings.HasPrefix(head, "GET / ") {
				return ""
			}
			return okBody(who + " " + strconv.Itoa(int(n)))
		})(nc)
	})
	tr := NewTransport(addr, TransportConfig{KeepAlive: time.Minute})
	defer tr.Close()
	var c Cancel
	ask := func(prologue string) string {
		t.Helper()
		c.Reset()
		if prologue != "" {
			c.Prologue = []byte(prologue)
		}
		u := exchange(t, tr, &c, getRoot)
		if _, err := u.ReadHead([]byte("GET")); err != nil {
			t.Fatal(err)
		}
		var b [64]byte
		n, _ := u.Body().Read(b[:])
		_, _ = u.Body().Read(b[n:]) // to its end
		u.Release(time.Now())
		for i := range c.Prologue { // it is the caller's again
			c.Prologue[i] = '!'
		}
		return string(b[:n])
	}
	for _, row := range []struct{ prologue, want string }{
		{"i am a\n", "i am a 1"}, {"i am b\n", "i am b 2"}, {"i am a\n", "i am a 1"}, {"", "nobody 3"}, {"i am b\n", "i am b 2"}, {"", "nobody 3"},
		{"i am c\n", "i am c 4"}, {"i am a\n", "i am a 1"},
	} {
		if got := ask(row.prologue); got != row.want {
			t.Errorf("%q: %q, not %q", row.prologue, got, row.want)
		}
	}
	if tr.Idle() != 4 {
		t.Errorf("%d kept", tr.Idle())
	}
}

// Those that are kept for a single client do not use up what all need: the oldest give way.
func TestBoundConnectionsGiveWay(t *testing.T) {
	before := bindable
	defer func() { bindable = before }()
	for _, row := range []struct {
		name           string
		maxIdle, share int
	}{{"too many kept", 3, 1 << 20}, {"too many open in the process", 100, 3}} {
		share := serversOpen.Load() + int64(row.share)
		bindable = func() int64 { return share }
		addr := script(t, func(nc *client) {
			_, _ = nc.r.ReadString('\n')
			answering(func(string) string { return okEmpty })(nc)
		})
		tr := NewTransport(addr, TransportConfig{KeepAlive: time.Minute, MaxIdle: row.maxIdle})
		var c Cancel
		ask := func(n int) bool {
			c.Prologue = []byte("i am " + strconv.Itoa(n) + "\n")
			u := exchange(t, tr, &c, getRoot)
			if _, err := u.ReadHead([]byte("GET")); err != nil {
				t.Fatal(err)
			}
			reused := u.Reused()
			u.Release(time.Now())
			return reused
		}
		for n := range 10 {
			ask(n)
		}
		if tr.Idle() != 3 || tr.Live() != 3 {
			t.Errorf("%s: %d kept, %d open", row.name, tr.Idle(), tr.Live())
		}
		if !ask(9) || !ask(7) || ask(0) {
			t.Errorf("%s: not the oldest gave way", row.name)
		}
		tr.Close()
	}
}
