package http1

import (
	"errors"
	"net"
	"testing"
	"time"
)

func TestDialErrors(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	tr := NewTransport(l.Addr().String(), TransportConfig{Connect: time.Second})
	if _, err := tr.Get(nil, time.Now()); !errors.Is(err, ErrConnectRefused) {
		t.Error(err)
	}
	var c Cancel
	c.Cancel()
	if _, err := tr.Get(&c, time.Now()); err != ErrCanceled {
		t.Error(err)
	}
	tr.Close()
	if _, err := tr.Get(nil, time.Now()); err != ErrClosed {
		t.Error(err)
	}
	if _, err := NewTransport("127.0.0.1:bad", TransportConfig{}).Get(nil, time.Now()); !errors.Is(err, ErrConnect) {
		t.Error(err)
	}
}

// fullListener accepts nothing and has a full backlog, so that a dial hangs.
func fullListener(t *testing.T) string {
	t.Helper()
	l := listenBacklog(t, 0)
	for range 8 {
		nc, err := net.DialTimeout("tcp", l, 50*time.Millisecond)
		if err != nil {
			return l
		}
		t.Cleanup(func() { _ = nc.Close() })
	}
	t.Skip("the system takes more connections than the backlog says")
	return ""
}

func TestDialTimeoutAndCancel(t *testing.T) {
	addr := fullListener(t)
	tr := NewTransport(addr, TransportConfig{Connect: 50 * time.Millisecond})
	if _, err := tr.Get(nil, time.Now()); !errors.Is(err, ErrConnectTimeout) {
		t.Error(err)
	}
	tr.SetConfig(TransportConfig{Connect: time.Minute})
	var c Cancel
	time.AfterFunc(20*time.Millisecond, c.Cancel)
	if _, err := tr.Get(&c, time.Now()); err != ErrCanceled {
		t.Error(err)
	}
	if tr.Live() != 0 {
		t.Errorf("%d connections", tr.Live())
	}
}
