//go:build !linux || race

package http1

import (
	"io"
	"syscall"
)

// recv reads once: EAGAIN when nothing is there, io.EOF at the end of the stream. n > 0 comes without error.
func recv(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err := syscall.Read(int(fd), p)
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return 0, err
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// send writes once: EAGAIN when nothing can be taken.
func send(fd uintptr, p []byte) (n int, err error) {
	for {
		n, err := syscall.Write(int(fd), p)
		switch err {
		case nil:
			return n, nil
		case syscall.EINTR:
		default:
			return 0, err
		}
	}
}

// sendParts writes parts, one after the other.
func sendParts(fd uintptr, parts *[3][]byte) (n int, err error) {
	for _, p := range parts {
		if len(p) == 0 {
			continue
		}
		took, err := send(fd, p)
		n += took
		if err != nil && n == 0 {
			return 0, err
		}
		if err != nil || took < len(p) {
			break
		}
	}
	return n, nil
}

// peekFD looks at what a read would give, without waiting and without taking it.
func peekFD(fd int) peekResult {
	var one [1]byte
	for {
		n, _, err := syscall.Recvfrom(fd, one[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case err == syscall.EINTR:
		case err == syscall.EAGAIN:
			return peekQuiet
		case err != nil || n == 0:
			return peekEnd
		default:
			return peekData
		}
	}
}
