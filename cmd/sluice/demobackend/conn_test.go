package demobackend

import (
	"io"
	"net"
	"testing"
	"time"
)

// accepted returns both ends of a connection of a tracker.
func accepted(t *testing.T) (client net.Conn, server *conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tr := newTracker(ln)
	client, err = net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := tr.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close(); nc.Close(); ln.Close() })
	return client, nc.(*conn)
}

// A request that arrived before the connection was told to close is read all the same.
func TestDrainReadsWhatHasArrived(t *testing.T) {
	client, c := accepted(t)
	if _, err := client.Write([]byte("GET")); err != nil {
		t.Fatal(err)
	}
	await(t, "bytes at the server", func() bool {
		n := 0
		if err := c.raw.Read(func(fd uintptr) bool { n = peek(fd); return true }); err != nil {
			t.Fatal(err)
		}
		return n > 0
	})
	c.t.drain()
	p := make([]byte, 8)
	if n, err := c.Read(p); err != nil || string(p[:n]) != "GET" {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	// The rest of it is waited for, until it is answered.
	time.AfterFunc(20*time.Millisecond, func() { client.Write([]byte(" /")) })
	c.nudge()
	if n, err := c.Read(p); err != nil || string(p[:n]) != " /" {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	c.t.idle(c)
	if n, err := c.Read(p); n != 0 || err != io.EOF {
		t.Errorf("idle while draining: read %d, %v; want EOF", n, err)
	}
}

func TestDrainWakesIdleConnection(t *testing.T) {
	_, c := accepted(t)
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	c.t.drain()
	if err := <-ended; err != io.EOF {
		t.Errorf("read ended with %v, want EOF", err)
	}
	if c.t.open() != 1 {
		t.Errorf("%d open, want 1", c.t.open())
	}
	c.Close()
	if c.t.open() != 0 {
		t.Errorf("%d open after Close", c.t.open())
	}
}

func TestClientLeftIsSeen(t *testing.T) {
	client, c := accepted(t)
	if c.left() {
		t.Error("left while it is there")
	}
	client.Close()
	await(t, "the client has left", c.left)
}
