package http1

import (
	"errors"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// deafen makes a connection drop whatever comes from now on, as if it was closed before that arrived.
func deafen(t *testing.T, c *net.TCPConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		t.Error(err)
		return
	}
	nothing := []unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}
	_ = raw.Control(func(fd uintptr) {
		err = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &nothing[0]})
	})
	if err != nil {
		t.Error(err)
	}
}

// A request that ran into an orderly close, and of which the server's kernel took nothing, can be sent again even when it is a POST;
// one that was taken cannot, though the server said nothing either.
func TestDeliveredTellsByAcknowledgement(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
	answered := make(chan struct{})
	deaf := make(chan struct{})
	closeNow := make(chan struct{})
	tr := NewTransport(script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send(okEmpty)
		<-answered // and the answer acknowledged
		deafen(t, nc.TCPConn)
		close(deaf)
		<-closeNow
	}), TransportConfig{})
	u := exchange(t, tr, nil, post)
	if _, err := u.ReadHead([]byte("POST")); err != nil {
		t.Fatal(err)
	}
	u.Release(time.Now())
	time.Sleep(10 * time.Millisecond)
	close(answered)
	<-deaf
	again, err := tr.Get(nil, time.Now())
	if err != nil || again != u {
		t.Fatal("not the kept connection")
	}
	if err := again.Send([]byte(post), nil); err != nil {
		t.Fatal(err)
	}
	go func() { // found in order, and closed by the server before it took the request
		for !again.Sent() {
			time.Sleep(time.Millisecond)
		}
		close(closeNow)
	}()
	if _, err := again.ReadHead([]byte("POST")); !errors.Is(err, ErrServerClosed) {
		t.Fatal(err)
	}
	if !again.Sent() || again.Delivered() || again.Begun() {
		t.Errorf("sent %v, delivered %v, begun %v", again.Sent(), again.Delivered(), again.Begun())
	}
	again.Close()

	tr = NewTransport(script(t, answering(func(head string) string {
		if requestPath(head) == "/" {
			return okEmpty
		}
		return "" // read, and closed without a word
	})), TransportConfig{})
	for range 2 {
		u = exchange(t, tr, nil, post)
		if _, err := u.ReadHead([]byte("POST")); err != nil {
			t.Fatal(err)
		}
		u.Release(time.Now())
	}
	u = exchange(t, tr, nil, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	if _, err := u.ReadHead([]byte("POST")); !errors.Is(err, ErrServerClosed) || !u.Delivered() || !u.Reused() {
		t.Errorf("%v, delivered %v", err, u.Delivered())
	}
	u.Close()
}
