package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// peerProcess is a peer that the bench started.
type peerProcess struct {
	name   string
	port   int
	dir    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
}

// startPeer starts p on cpus with a folder of its own in dir, and waits until it answers.
func startPeer(ctx context.Context, p peer, program, dir string, backends []string, cpus []int) (*peerProcess, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	adminPort, err := freePort()
	if err != nil {
		return nil, err
	}
	own, err := os.MkdirTemp(dir, p.name+"-")
	if err != nil {
		return nil, err
	}
	args, err := p.configure(peerSettings{Port: port, AdminPort: adminPort, Backends: backends, Cores: len(cpus), Dir: own, Root: os.Geteuid() == 0})
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(own, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	proc := &peerProcess{name: p.name, port: port, dir: own, exited: make(chan struct{})}
	proc.cmd = exec.Command(program, args...)
	proc.cmd.Dir = own
	proc.cmd.Env = append(os.Environ(), "HOME="+own, "XDG_CONFIG_HOME="+own, "XDG_DATA_HOME="+own) // Caddy keeps things there
	proc.cmd.Stdout, proc.cmd.Stderr = log, log
	// A group of its own: Ctrl-C of the terminal is for the bench, and its workers can be ended with it.
	proc.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := startPinned(proc.cmd, cpus); err != nil {
		return nil, err
	}
	go func() {
		_ = proc.cmd.Wait()
		close(proc.exited)
	}()
	if err := proc.ready(ctx); err != nil {
		proc.stop()
		return nil, err
	}
	return proc, nil
}

// ready waits until requests are answered by the servers behind the peer, 15 s at most.
func (p *peerProcess) ready(ctx context.Context) error {
	var last error
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		if last = probe(p.port, "/healthz", 2); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.exited:
			return fmt.Errorf("%s ended: %s\n%s", p.name, p.cmd.ProcessState, p.tail())
		case <-time.After(20 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s does not answer: %w\n%s", p.name, last, p.tail())
}

// probe wants a 200 with a body of length bytes.
func probe(port int, path string, length int64) error {
	c, err := newClient("http://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(port))+path, 2*time.Second)
	if err != nil {
		return err
	}
	defer c.close()
	resp := fasthttp.AcquireResponse()
	defer fasthttp.ReleaseResponse(resp)
	n, err := c.do(c.newMessage("GET", 0, nil), resp, io.Discard)
	if err != nil {
		return err
	}
	if resp.StatusCode() != 200 || n != length {
		return fmt.Errorf("status %d, %d bytes", resp.StatusCode(), n)
	}
	return nil
}

// stop ends the peer by SIGTERM, after 5 s its whole group by SIGKILL, and removes its folder.
func (p *peerProcess) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(5 * time.Second):
	}
	// Workers, should any outlive their master.
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err == nil || errors.Is(err, syscall.EPERM) {
		<-p.exited
	}
	_ = os.RemoveAll(p.dir)
}

func (p *peerProcess) tail() string {
	b, _ := os.ReadFile(filepath.Join(p.dir, "log"))
	return string(bytes.TrimSpace(b[max(0, len(b)-2000):]))
}
