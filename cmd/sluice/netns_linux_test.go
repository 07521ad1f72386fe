package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// netns is a network namespace of the test's own: what listens on fixed ports, makes bridges of fixed
// names or routes of its own does so there.
type netns struct {
	t    *testing.T
	name string
}

func newNetns(t *testing.T) netns {
	t.Helper()
	n := netns{t, fmt.Sprintf("slu%06x", rand.Uint32()&0xffffff)}
	ip(t, "netns add "+n.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", n.name).Run() })
	n.ip("link set lo up")
	return n
}

// ip runs an ip command.
func ip(t *testing.T, args string) {
	t.Helper()
	if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v: %s", args, err, out)
	}
}

// ip runs an ip command in n.
func (n netns) ip(args string) {
	n.t.Helper()
	ip(n.t, "-n "+n.name+" "+args)
}

// path of the namespace's file.
func (n netns) path() string { return "/var/run/netns/" + n.name }

// wrap is what makes a command run in n.
func (n netns) wrap() []string { return []string{"nsenter", "--net=" + n.path()} }

// dial connects to addr in n.
func (n netns) dial(addr string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		file, openErr := os.Open(n.path())
		if err = openErr; err != nil {
			return
		}
		defer file.Close()
		if err = unix.Setns(int(file.Fd()), unix.CLONE_NEWNET); err == nil {
			conn, err = net.Dial("tcp", addr)
		}
	}()
	<-done
	return conn, err
}

// forward makes url, whose address something in n listens on, reachable for the test.
func (n netns) forward(url string) {
	n.t.Helper()
	addr := strings.TrimPrefix(url, "http://")
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			in, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer in.Close()
				out, err := n.dial(addr)
				if err != nil {
					return
				}
				defer out.Close()
				go func() {
					_, _ = io.Copy(out, in)
					_ = out.(*net.TCPConn).CloseWrite()
				}()
				_, _ = io.Copy(in, out)
			}()
		}
	}()
}
