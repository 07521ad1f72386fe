//go:build !linux

package process

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// adoptOrphans: only Linux can; elsewhere a descendant that leaves the group is out of reach.
func adoptOrphans() {}

func groupOfItsOwn() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }

func signalAll(pgid int, sig syscall.Signal) { _ = syscall.Kill(-pgid, sig) }

// lifeline is a connected pair of stream sockets that no other child inherits.
func lifeline() (ours, theirs int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fds[0])
		unix.CloseOnExec(fds[1])
	}
	return fds[0], fds[1], err
}
