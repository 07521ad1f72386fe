package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Dials run side by side, tell what they fail with, and panic in whoever asked for them; the goroutines that ran them are used again and
// end when nothing comes.
func TestDialing(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	addr, d, g := l.Addr().String(), &Dialer{}, newDialing()
	ctx := context.Background()
	var all sync.WaitGroup
	for range 4 * maxSpareDials {
		all.Go(func() {
			nc, err := g.dial(ctx, d, addr)
			if err != nil {
				t.Error(err)
				return
			}
			if nc.RemoteAddr().String() != addr {
				t.Errorf("connected to %v", nc.RemoteAddr())
			}
			_ = nc.Close()
		})
	}
	all.Wait()
	func() {
		defer func() {
			if why, _ := recover().(string); !strings.Contains(why, "while dialing") || !strings.Contains(why, "Dialer") {
				t.Errorf("panic %q", why)
			}
		}()
		_, _ = g.dial(ctx, nil, addr)
	}()
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := g.dial(ended, d, addr); err == nil {
		t.Error("a dial that was given up has made a connection")
	}
	_ = l.Close()
	if _, err := g.dial(ctx, d, addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("%v", err)
	}
	waited := false
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		n := g.spare.Load()
		if waited = waited || n > 0; waited && n == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d goroutines still wait", n)
		}
	}
}
