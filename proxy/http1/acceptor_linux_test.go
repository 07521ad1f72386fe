package http1

import (
	"context"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// An accepted connection knows the addresses that package net would tell.
func TestAcceptedAddresses(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		l, err := Listen(context.Background(), listen)
		if err != nil {
			if listen == "[::1]:0" {
				t.Logf("no IPv6: %v", err)
				continue
			}
			t.Fatal(err)
		}
		defer l.Close()
		acceptAtOnce(l)
		at := l.Addr().String()
		if listen == ":0" {
			_, port, _ := net.SplitHostPort(at)
			at = net.JoinHostPort("127.0.0.2", port) // not the one that it listens on, as that is any
		}
		client, err := net.Dial("tcp", at)
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if local, remote := nc.LocalAddr().String(), nc.RemoteAddr().String(); local != client.RemoteAddr().String() || remote != client.LocalAddr().String() {
			t.Errorf("%s: %s and %s, the client says %s and %s", listen, local, remote, client.RemoteAddr(), client.LocalAddr())
		}
	}
}

func TestAcceptorEnds(t *testing.T) {
	l, err := Listen(context.Background(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.(interface{ File() (*os.File, error) }).File()
	if err != nil {
		t.Fatal(err)
	}
	again, err := FileListener(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	_ = l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Now().Add(20 * time.Millisecond))
	if _, err := l.Accept(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
	_ = l.(interface{ SetDeadline(time.Time) error }).SetDeadline(time.Time{})
	ended := make(chan error, 1)
	go func() {
		_, err := l.Accept()
		ended <- err
	}()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
	// The socket lives as long as another listener has it.
	acceptAtOnce(again)
	client, err := net.Dial("tcp", again.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := again.Accept()
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
}
