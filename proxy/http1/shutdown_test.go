package http1

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Clients that keep their connections and send without a pause lose nothing while the server shuts down.
func TestShutdownUnderLoadLosesNothing(t *testing.T) {
	var served atomic.Int64
	f := startFront(t, &Server{KeepAlive: time.Minute, Grace: 300 * time.Millisecond, Handler: handlerFunc(func(c *Conn) {
		served.Add(1)
		reply(c, "ok")
	})})
	var sent, ok, lost atomic.Int64
	var wg sync.WaitGroup
	stopped := make(chan struct{}) // no new connections once the listener is closed
	for range 16 {
		wg.Go(func() {
			for {
				select {
				case <-stopped:
					return
				default:
				}
				nc, err := net.Dial("tcp", f.addr)
				if err != nil {
					return // refused: nothing was sent
				}
				r := bufio.NewReader(nc)
				for {
					sent.Add(1)
					if _, err := nc.Write([]byte(getRoot)); err != nil {
						lost.Add(1)
						break
					}
					resp, err := http.ReadResponse(r, nil)
					if err != nil {
						lost.Add(1)
						t.Log(err)
						break
					}
					_ = resp.Body.Close()
					ok.Add(1)
					if resp.Close {
						break
					}
				}
				_ = nc.Close()
			}
		})
	}
	eventually(t, "load", func() bool { return served.Load() > 200 })
	// Half of the grace under full load with new connections, then clients make no new ones.
	time.AfterFunc(150*time.Millisecond, func() { close(stopped) })
	if err := f.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if err := <-f.done; err != nil {
		t.Error(err)
	}
	if lost.Load() != 0 || sent.Load() != ok.Load() || ok.Load() != served.Load() {
		t.Errorf("sent %d, ok %d, served %d, lost %d", sent.Load(), ok.Load(), served.Load(), lost.Load())
	}
}

func TestShutdownGivesIdleConnectionsAChance(t *testing.T) {
	f := startFront(t, &Server{KeepAlive: time.Minute, Grace: 150 * time.Millisecond, Handler: handlerFunc(func(c *Conn) { reply(c, "") })})
	quiet, late := f.dial(t), f.dial(t)
	for _, c := range []*client{quiet, late} {
		c.send(getRoot)
		c.response("GET")
	}
	down := make(chan error, 1)
	go func() { down <- f.Shutdown(t.Context()) }()
	eventually(t, "draining", f.draining.Load)
	late.send(getRoot)
	if resp, _ := late.response("GET"); resp.StatusCode != 200 || !resp.Close {
		t.Errorf("%d, close %v", resp.StatusCode, resp.Close)
	}
	late.wantClosed()
	quiet.wantClosed()
	if err := <-down; err != nil {
		t.Error(err)
	}
	if _, err := net.Dial("tcp", f.addr); err == nil {
		t.Error("still listening")
	}
}

func TestShutdownWaitsForRequestsThenCuts(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	var gone atomic.Bool
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {
		c.SetGone(func() { gone.Store(true) })
		entered <- struct{}{}
		<-release
		reply(c, "")
	})})
	c := f.dial(t)
	c.send(getRoot)
	<-entered
	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	err := f.Shutdown(ctx)
	var cut *CutError
	if !errors.As(err, &cut) || cut.Conns != 1 {
		t.Error(err)
	}
	if !gone.Load() {
		t.Error("the handler was not told")
	}
	if _, err := c.rest(); !isReset(err) {
		t.Error(err)
	}
	close(release)
}

func TestShutdownOfAnIdleServerIsQuick(t *testing.T) {
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {})})
	eventually(t, "listening", func() bool { f.mu.Lock(); defer f.mu.Unlock(); return len(f.listeners) == 1 })
	start := time.Now()
	if err := f.Shutdown(t.Context()); err != nil || time.Since(start) > time.Second {
		t.Error(err, time.Since(start))
	}
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Serve(l); err != nil {
		t.Error("Serve after Shutdown:", err)
	}
}

func ExampleCutError() {
	fmt.Println(&CutError{Conns: 2})
	// Output: http1: 2 connections cut at the end of the drain
}

// A connection that waits for a request, or is just being closed for none that came, is not cut: nor one that is still being opened, nor
// one of HTTP/2 without requests.
func TestShutdownCountsWhatIsUnderWay(t *testing.T) {
	const grace = 50 * time.Millisecond
	for range 20 { // Grace and the context end together
		f := startFront(t, &Server{KeepAlive: time.Minute, Grace: grace, Handler: handlerFunc(func(c *Conn) { reply(c, "") })})
		for range 20 {
			c := f.dial(t)
			c.send(getRoot)
			c.response("GET")
		}
		ctx, stop := context.WithTimeout(t.Context(), grace)
		if err := f.Shutdown(ctx); err != nil {
			t.Fatal(err)
		}
		stop()
	}
	opening := make(chan bool)
	f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) {})})
	c := f.dialNarrowTo(t, func(nc net.Conn, _ *Origin) (net.Conn, error) {
		opening <- true
		_, err := nc.Read(make([]byte, 1))
		return nc, err
	})
	<-opening
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := f.Shutdown(ctx); err != nil {
		t.Errorf("while it is opened: %v", err)
	}
	_ = c.Close()
	for _, over := range []string{"HTTP/2", "HTTP/2 over TLS"} {
		f := startFront(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "") })})
		c := dialOver(t, f, over)
		c.get(t)
		_, _ = c.answer(t)
		eventually(t, "answered", func() bool { return !underWay(f) })
		if err := f.Shutdown(ctx); err != nil {
			t.Errorf("%s: %v", over, err)
		}
	}
}

// underWay tells that a connection is busy.
func underWay(f *front) (busy bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.mu.Lock()
		busy = busy || c.carrier == nil || c.carrier.busy()
		c.mu.Unlock()
	}
	return busy
}
