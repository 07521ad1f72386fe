package http1

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
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
		client, nc := connectTo(t, l, at, "")
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
	connectTo(t, again, again.Addr().String(), "")
}

// The zone of a link-local address is its interface, as package net names it, and costs next to nothing: it is asked for with each
// connection.
func TestAcceptedZone(t *testing.T) {
	all, err := net.Interfaces()
	if err != nil || len(all) == 0 {
		t.Fatalf("%v, %v", all, err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	given := func(index int) (ap netip.AddrPort) {
		var sa unix.RawSockaddrAny
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(&sa))
		in.Family, in.Addr, in.Scope_id = unix.AF_INET6, [16]byte{0xfe, 0x80, 15: 1}, uint32(index)
		_ = raw.Control(func(fd uintptr) { ap = socketAddr(fd, &sa) })
		return ap
	}
	for _, i := range all {
		if want := (&net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: i.Name}).AddrPort(); given(i.Index) != want {
			t.Errorf("%v, not %v", given(i.Index), want)
		}
	}
	if got := given(1 << 30).Addr().Zone(); got != "1073741824" {
		t.Errorf("zone %q of no interface", got)
	}
	if n := testing.AllocsPerRun(100, func() { given(all[0].Index) }); n > 10 {
		t.Errorf("%v allocations", n)
	}
}
