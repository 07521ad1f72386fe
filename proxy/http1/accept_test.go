package http1

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// failingListener fails its first accepts as a process without descriptors does.
type failingListener struct {
	net.Listener
	left atomic.Int32
	err  error
}

func (l *failingListener) Accept() (net.Conn, error) {
	if l.left.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", l.err)}
	}
	return l.Listener.Accept()
}

func TestAcceptSurvivesLackOfDescriptors(t *testing.T) {
	for _, errno := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED} {
		inner, err := Listen(context.Background(), "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l := &failingListener{Listener: inner, err: errno}
		l.left.Store(8)
		f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "ok") })}, l)
		c := f.dial(t)
		c.send(getRoot)
		if resp, body := c.response("GET"); resp.StatusCode != 200 || body != "ok" {
			t.Errorf("%v: %d", errno, resp.StatusCode)
		}
	}
	inner, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &failingListener{Listener: inner, err: syscall.EBADF}
	l.left.Store(1)
	f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) {})}, l)
	if err := <-f.done; err == nil {
		t.Error("an error that will not pass was swallowed")
	}
}

// With every descriptor taken, a client is told so instead of being left to wait.
func TestRefusalWithoutDescriptors(t *testing.T) {
	inner, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &failingListener{Listener: inner, err: syscall.EMFILE}
	l.left.Store(1)
	f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "ok") })}, l)
	c := f.dial(t) // the accept for the refusal succeeds, as it does when the spare descriptor was given up
	c.send(getRoot)
	resp, _ := c.response("GET")
	if resp.StatusCode != 503 || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d", resp.StatusCode)
	}
	c = f.dial(t)
	c.send(getRoot)
	if resp, _ := c.response("GET"); resp.StatusCode != 200 {
		t.Errorf("%d", resp.StatusCode)
	}
}

// shortListener has a descriptor for every other accept only, the one that is kept for refusals.
type shortListener struct {
	net.Listener
	full    atomic.Bool
	accepts atomic.Int32
}

func (l *shortListener) Accept() (net.Conn, error) {
	if l.full.Load() && l.accepts.Add(1)%2 == 1 {
		return nil, &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	}
	return l.Listener.Accept()
}

// A storm of connections is refused about as fast as it comes, not one a second.
func TestRefusalsKeepUpWithAStorm(t *testing.T) {
	inner, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &shortListener{Listener: inner}
	l.full.Store(true)
	f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) { reply(c, "ok") })}, l)
	t.Cleanup(func() { // before the server is shut down
		l.full.Store(false)
		if c, err := net.Dial("tcp", inner.Addr().String()); err == nil {
			c.Close()
		}
	})
	begun := time.Now()
	for range 20 {
		c := f.dial(t)
		c.send(getRoot)
		if resp, _ := c.response("GET"); resp.StatusCode != 503 {
			t.Fatalf("%d", resp.StatusCode)
		}
	}
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("20 refusals took %s", took)
	}
}

func TestNamedListenerAndAddresses(t *testing.T) {
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := serveOn(t, &Server{Handler: handlerFunc(func(c *Conn) {
		reply(c, c.Listener()+" "+c.RemoteAddr().String()+" "+c.LocalAddr().String())
	})}, NamedListener{Listener: l, Name: ":8080"})
	c := f.dial(t)
	c.send(getRoot)
	if _, body := c.response("GET"); body != ":8080 "+c.LocalAddr().String()+" "+f.addr {
		t.Errorf("%q", body)
	}
}
