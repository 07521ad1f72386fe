package discovery

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// answerer is a server whose connections begin with prologue, and tells what it saw: of a probe without a request "".
func answerer(t *testing.T, network, prologue string) (addr string, seen chan string) {
	t.Helper()
	listen := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "s")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { os.RemoveAll(dir) })
		listen = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, listen)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	seen = make(chan string, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			r := bufio.NewReader(c)
			began := make([]byte, len(prologue))
			if _, err := io.ReadFull(r, began); err != nil || string(began) != prologue {
				t.Errorf("began with %q, %v", began, err)
			}
			host := ""
			if req, err := http.ReadRequest(r); err == nil {
				host = req.Host
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
			} else if err != io.EOF {
				t.Error(err)
			}
			_ = c.Close()
			seen <- host
		}
	}()
	if network == "unix" {
		return "unix:" + l.Addr().String(), seen
	}
	return l.Addr().String(), seen
}

func TestCheckOverUnixSocketAndWithPrologue(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, prologue := range []string{"", "PROXY UNKNOWN\r\n"} {
			addr, seen := answerer(t, network, prologue)
			host := addr
			if network == "unix" {
				host = "localhost"
			}
			for _, tt := range []struct {
				hc   HealthConfig
				host string
			}{{HealthConfig{Path: "/"}, host}, {HealthConfig{Path: "/", Host: "a"}, "a"}, {HealthConfig{}, ""}} {
				tt.hc.Prologue = prologue
				if err := probeOnce(t, tt.hc, addr); err != nil {
					t.Errorf("%s, %+v: %v", network, tt.hc, err)
				}
				if got := <-seen; got != tt.host {
					t.Errorf("%s, %q: Host %q, not %q", network, prologue, got, tt.host)
				}
			}
		}
	}
}

// A port of its own for health checks is asked plainly, as with HAProxy.
func TestCheckOfAnotherPortHasNoPrologue(t *testing.T) {
	addr, seen := answerer(t, "tcp", "")
	port := 0
	if a, err := net.ResolveTCPAddr("tcp", addr); err == nil {
		port = a.Port
	}
	if err := probeOnce(t, HealthConfig{Path: "/", Port: port, Prologue: "PROXY UNKNOWN\r\n"}, "127.0.0.1:1"); err != nil {
		t.Error(err)
	}
	<-seen
}

func TestCheckSaysWhatAilsASocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gone")
	err := probeOnce(t, HealthConfig{Path: "/"}, "unix:"+path)
	if got := errorText(err); !strings.HasPrefix(got, "connect unix:/") || !strings.HasSuffix(got, "no such file or directory") {
		t.Error(got)
	}
}
