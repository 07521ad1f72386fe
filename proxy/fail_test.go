package proxy

import (
	"fmt"
	"os"
	"syscall"
	"testing"

	"sluice/proxy/http1"
)

// What this machine is short of is said as that, and the server that could not be reached for it is
// not to blame.
func TestShortOfDescriptorsIsNotTheServersFault(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM, syscall.EADDRNOTAVAIL} {
		err := fmt.Errorf("%w: %w", http1.ErrConnect, os.NewSyscallError("socket", errno))
		if f := failures[reasonOf(err)]; f.Reason != ReasonConnLimited || f.Status != 503 {
			t.Errorf("%v: %d %s", errno, f.Status, f.Reason)
		}
		if o := outcome(err); !o.Neutral || o.Failed {
			t.Errorf("%v: %+v", errno, o)
		}
	}
	err := fmt.Errorf("%w: %w", http1.ErrConnect, os.NewSyscallError("connect", syscall.EHOSTUNREACH))
	if f := failures[reasonOf(err)]; f.Reason != ReasonConnectRefused || outcome(err).Neutral {
		t.Errorf("unreachable: %d %s", f.Status, f.Reason)
	}
}
