package http1

import (
	"errors"
	"testing"
	"time"
)

// The prologue is no part of a request: what a server's kernel took of it delivers none. See TestDeliveredTellsByAcknowledgement.
func TestPrologueIsNoDelivery(t *testing.T) {
	closeNow, closed := make(chan struct{}), make(chan struct{})
	tr := NewTransport(script(t, func(nc *client) {
		if _, err := nc.readHead(); err != nil {
			return
		}
		nc.send(okEmpty)
		<-closeNow
		_ = nc.Close()
		close(closed)
	}), TransportConfig{})
	defer tr.Close()
	c := Cancel{Prologue: []byte("i am a\n")}
	u := exchange(t, tr, &c, getRoot)
	if !u.Reused() && u.base != 0 {
		t.Errorf("%d bytes of the prologue are counted", u.base)
	}
	if _, err := u.ReadHead([]byte("GET")); err != nil {
		t.Fatal(err)
	}
	u.Release(time.Now())
	again, err := tr.Get(&c, time.Now())
	if err != nil || again != u {
		t.Fatal("not the kept connection")
	}
	defer again.Close()
	close(closeNow)
	<-closed
	time.Sleep(10 * time.Millisecond) // the FIN crosses loopback
	err = again.Send([]byte(getRoot), nil)
	if err == nil {
		_, err = again.ReadHead([]byte("GET"))
	}
	if !errors.Is(err, ErrServerClosed) || again.Delivered() {
		t.Errorf("%v, delivered %v", err, again.Delivered())
	}
}
