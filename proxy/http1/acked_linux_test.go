package http1

import (
	"errors"
	"testing"
	"time"
)

// A request that ran into an orderly close, and of which the server's kernel took nothing, can be sent again even when it is a POST;
// one that was taken cannot, though the server said nothing either.
func TestDeliveredTellsByAcknowledgement(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"
	closeNow := make(chan struct{})
	closed := make(chan struct{})
	tr := NewTransport(script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send(okEmpty)
		<-closeNow
		_ = nc.Close()
		closed <- struct{}{}
	}), TransportConfig{})
	u := exchange(t, tr, nil, post)
	if _, err := u.ReadHead([]byte("POST")); err != nil {
		t.Fatal(err)
	}
	u.Release()
	again, err := tr.Get(nil) // found in order, and closed by the server right after
	if err != nil || again != u {
		t.Fatal("not the kept connection")
	}
	close(closeNow)
	<-closed
	time.Sleep(10 * time.Millisecond) // the FIN crosses loopback
	if err := again.Send([]byte(post), nil); err != nil {
		t.Fatal(err)
	}
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
		u.Release()
	}
	u = exchange(t, tr, nil, "POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
	if _, err := u.ReadHead([]byte("POST")); !errors.Is(err, ErrServerClosed) || !u.Delivered() || !u.Reused() {
		t.Errorf("%v, delivered %v", err, u.Delivered())
	}
	u.Close()
}
