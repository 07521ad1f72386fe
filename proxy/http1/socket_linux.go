//go:build !race

package http1

import (
	"io"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The system calls of the data path. Sockets never block, so the scheduler is not told (RawSyscall): there is nothing that another
// goroutine could use the processor for meanwhile, and the runtime's monitor, which otherwise looks after processors in system calls
// every 20 µs, stays asleep. recvfrom and sendto save the way through the file layer, and MSG_NOSIGNAL the signal of a broken pipe.
//
// The plain version is in socket_plain.go; the race detector needs it, to see what a read and a write put in order.

// recv reads once: EAGAIN when nothing is there, io.EOF at the end of the stream. n > 0 comes without error.
func recv(fd uintptr, p []byte) (n int, err error) {
	for {
		r, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), 0, 0, 0)
		switch {
		case errno == syscall.EINTR:
		case errno != 0:
			return 0, errno
		case r == 0:
			return 0, io.EOF
		default:
			return int(r), nil
		}
	}
}

// send writes once: EAGAIN when nothing can be taken.
func send(fd uintptr, p []byte) (n int, err error) {
	for {
		r, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// sendParts writes parts, one after the other, with one call.
func sendParts(fd uintptr, parts *[3][]byte) (n int, err error) {
	var vec [len(parts)]unix.Iovec
	used := 0
	for _, p := range parts {
		if len(p) > 0 {
			vec[used].Base = unsafe.SliceData(p)
			vec[used].SetLen(len(p))
			used++
		}
	}
	if used == 1 && len(parts[0]) > 0 {
		return send(fd, parts[0])
	}
	var message unix.Msghdr
	message.Iov = &vec[0]
	message.SetIovlen(used)
	for {
		r, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&message)), syscall.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(r), nil
		case syscall.EINTR:
		default:
			return 0, errno
		}
	}
}

// peekFD looks at what a read would give, without waiting and without taking it.
func peekFD(fd int) peekResult {
	var one [1]byte
	for {
		r, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd), uintptr(unsafe.Pointer(&one)), 1, syscall.MSG_PEEK|syscall.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == syscall.EINTR:
		case errno == syscall.EAGAIN:
			return peekQuiet
		case errno != 0 || r == 0:
			return peekEnd
		default:
			return peekData
		}
	}
}
