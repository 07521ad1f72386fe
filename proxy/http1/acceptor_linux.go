package http1

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// acceptor is a TCP listener that gives acceptedConns. One goroutine accepts at a time.
type acceptor struct {
	file  *os.File
	raw   syscall.RawConn
	addr  net.Addr
	local netip.AddrPort // of what it accepts; not valid: to be asked for

	accept func(fd uintptr) bool // acceptFD, made once
	fd     int
	remote netip.AddrPort
	err    error
}

// accepting gives a listener on the socket of l that accepts for less, and closes l; or l where there is none.
func accepting(l net.Listener) (net.Listener, error) {
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return l, nil
	}
	defer tcp.Close()
	file, err := tcp.File()
	if err != nil {
		return nil, err
	}
	a := &acceptor{file: file, addr: tcp.Addr()}
	if a.raw, err = file.SyscallConn(); err == nil {
		err = file.SetReadDeadline(time.Time{}) // fails if the poller has not taken it
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	if own := addrPort(a.addr); !own.Addr().IsUnspecified() {
		a.local = own
	}
	a.accept = a.acceptFD
	return a, nil
}

// Accept implements net.Listener.
func (a *acceptor) Accept() (net.Conn, error) {
	if err := a.raw.Read(a.accept); err != nil {
		return nil, closedListener(err)
	}
	if a.err != nil {
		return nil, a.err
	}
	local := a.local
	if !local.IsValid() {
		local = localAddr(a.fd)
	}
	return newAcceptedConn(a.fd, local, a.remote), nil
}

// acceptFD is a RawConn.Read callback: false waits for a connection.
func (a *acceptor) acceptFD(fd uintptr) bool {
	var from unix.RawSockaddrAny
	for {
		size := uint32(unsafe.Sizeof(from))
		n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(&from)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0, 0)
		switch errno {
		case 0:
			a.fd, a.remote, a.err = int(n), socketAddr(n, &from), nil
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
			continue
		default:
			a.err = os.NewSyscallError("accept4", errno)
		}
		return true
	}
}

func localAddr(fd int) netip.AddrPort {
	var own unix.RawSockaddrAny
	size := uint32(unsafe.Sizeof(own))
	_, _, _ = syscall.RawSyscall(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(&own)), uintptr(unsafe.Pointer(&size)))
	return socketAddr(uintptr(fd), &own)
}

// socketAddr is the address in sa, which the socket fd gave; IPv4 is never in its IPv6 form. Not valid when it is none of TCP.
func socketAddr(fd uintptr, sa *unix.RawSockaddrAny) netip.AddrPort {
	switch sa.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), hostOrder(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(sa))
		addr := netip.AddrFrom16(in.Addr).Unmap()
		if in.Scope_id != 0 && addr.Is6() {
			addr = addr.WithZone(zone(fd, in.Scope_id))
		}
		return netip.AddrPortFrom(addr, hostOrder(in.Port))
	}
	return netip.AddrPort{}
}

func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&port))[:])
}

// zone is the name of the interface that a link-local address is valid on. The socket is asked: net.InterfaceByIndex reads all that
// the system has, for each connection.
func zone(fd uintptr, index uint32) string {
	var r unix.Ifreq
	r.SetUint32(index)
	if unix.IoctlIfreq(int(fd), unix.SIOCGIFNAME, &r) == nil {
		return r.Name()
	}
	return strconv.FormatUint(uint64(index), 10)
}

// Addr implements net.Listener.
func (a *acceptor) Addr() net.Addr { return a.addr }

// Close implements net.Listener.
func (a *acceptor) Close() error { return closedListener(a.file.Close()) }

// SetDeadline bounds Accept.
func (a *acceptor) SetDeadline(t time.Time) error { return closedListener(a.file.SetReadDeadline(t)) }

// SyscallConn implements syscall.Conn.
func (a *acceptor) SyscallConn() (syscall.RawConn, error) { return a.raw, nil }

// File gives the socket once more, as that of net.TCPListener.
func (a *acceptor) File() (file *os.File, err error) {
	controlErr := a.raw.Control(func(fd uintptr) {
		var again int
		if again, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0); err == nil {
			file = os.NewFile(uintptr(again), "listener")
		}
	})
	if controlErr != nil {
		return nil, closedListener(controlErr)
	}
	return file, os.NewSyscallError("fcntl", err)
}

// closedListener is net.ErrClosed for errors of a closed file.
func closedListener(err error) error {
	if err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		return err
	}
	return net.ErrClosed
}
