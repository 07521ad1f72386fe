package http1

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// socketPath is a free path short enough for a socket.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "s")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

func isThere(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func TestListenOnUnixSocket(t *testing.T) {
	path := socketPath(t)
	l, err := Listen(context.Background(), "unix:"+path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o666 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// While somebody listens nobody else does, and the file is not removed.
	if _, err := Listen(context.Background(), "unix:"+path); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second listener: %v", err)
	}
	RemoveSocket("unix:" + path)
	if !isThere(path) {
		t.Fatal("removed under its listener")
	}
	// So it is while a successor has the same socket.
	f, err := l.(*net.UnixListener).File()
	if err != nil {
		t.Fatal(err)
	}
	successor, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	l.Close()
	RemoveSocket("unix:" + path)
	if !isThere(path) {
		t.Fatal("removed under a successor")
	}
	successor.Close()
	if !isThere(path) {
		t.Fatal("a close is not to remove it: this was not the last word")
	}
	// One that is left behind is replaced.
	if l, err = Listen(context.Background(), "unix:"+path); err != nil {
		t.Fatal(err)
	}
	l.Close()
	RemoveSocket("unix:" + path)
	if isThere(path) {
		t.Error("left behind")
	}
	RemoveSocket("unix:" + path)   // nothing there
	RemoveSocket("127.0.0.1:8080") // no file at all
}

func TestListenOnUnixSocketRefused(t *testing.T) {
	path := socketPath(t)
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(context.Background(), "unix:"+path); err == nil || !strings.Contains(err.Error(), "exists and is not a socket") {
		t.Errorf("a file: %v", err)
	}
	RemoveSocket("unix:" + path)
	if !isThere(path) {
		t.Error("a file was removed")
	}
	if _, err := Listen(context.Background(), "unix:"+path+".d/s"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no folder: %v", err)
	}
	// A socket of another kind is somebody's.
	datagrams, err := net.ListenPacket("unixgram", path+".d")
	if err != nil {
		t.Fatal(err)
	}
	defer datagrams.Close()
	if _, err := Listen(context.Background(), "unix:"+path+".d"); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("datagrams: %v", err)
	}
}
