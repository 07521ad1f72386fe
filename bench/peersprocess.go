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
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// peerProcess is a peer that the bench started.
type peerProcess struct {
	name   string
	port   int // HTTP/1.1 in cleartext, always there
	front  int // where the load goes
	dir    string
	cmd    *exec.Cmd
	exited chan struct{} // closed when it has ended
}

// start starts p on the proxy's cores with a folder of its own and what w asks for, and waits until it answers.
func (b *peersBench) start(ctx context.Context, p peer, w workload) (*peerProcess, error) {
	s := usual
	s.Backends, s.OtherServers, s.Cores, s.Root, s.Certificate, s.HTTP2Directive = b.backend.addrs, b.backend.others, len(b.cores.proxy), os.Geteuid() == 0, b.certificate, b.http2Directive
	if w.kind == held {
		s.Clients, s.Connections, s.Descriptors, s.Slots = w.connections+100, descriptorsFor(w.connections), b.descriptors, w.connections
	}
	ports := []*int{&s.Port, &s.AdminPort}
	front := &s.Port
	switch {
	case w.tls:
		front = &s.TLSPort
	case w.kind == multiplexed:
		front = &s.H2CPort
	}
	if front != &s.Port {
		ports = append(ports, front)
	}
	free, err := freePorts(len(ports))
	if err != nil {
		return nil, err
	}
	for i, port := range ports {
		*port = free[i]
	}
	if s.Dir, err = os.MkdirTemp(b.dir, p.name+"-"); err != nil {
		return nil, err
	}
	args, err := p.configure(s)
	if err != nil {
		return nil, err
	}
	log, err := os.Create(filepath.Join(s.Dir, "log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	proc := &peerProcess{name: p.name, port: s.Port, front: *front, dir: s.Dir, exited: make(chan struct{})}
	proc.cmd = exec.Command(b.programs[p.name], args...)
	proc.cmd.Dir = s.Dir
	proc.cmd.Env = append(os.Environ(), "HOME="+s.Dir, "XDG_CONFIG_HOME="+s.Dir, "XDG_DATA_HOME="+s.Dir) // Caddy keeps things there
	if file := filepath.Join(s.Dir, "openssl.cnf"); slices.Contains(p.files, "openssl.cnf") {
		proc.cmd.Env = append(proc.cmd.Env, "OPENSSL_CONF="+file)
	}
	proc.cmd.Stdout, proc.cmd.Stderr = log, log
	// A group of its own: Ctrl-C of the terminal is for the bench, and its workers can be ended with it.
	proc.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := startPinned(proc.cmd, b.cores.proxy); err != nil {
		return nil, err
	}
	go func() {
		_ = proc.cmd.Wait()
		close(proc.exited)
	}()
	err = proc.ready(ctx)
	if err == nil && p.others > 0 {
		err = proc.settled(ctx)
	}
	if err != nil {
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

// settled waits until the peer, without a request, needs less than a twentieth of a processor: it has a large configuration, and
// thousands of servers to probe for the first time. 15 s at most.
func (p *peerProcess) settled(ctx context.Context) error {
	const pause = 200 * time.Millisecond
	last := peerUsage{cpu: -time.Hour}
	for end := time.Now().Add(15 * time.Second); time.Now().Before(end); {
		now, err := readUsage(p.cmd.Process.Pid)
		if err != nil || now.cpu-last.cpu < pause/20 {
			return err
		}
		last = now
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pause):
		}
	}
	return fmt.Errorf("%s does not come to rest", p.name)
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
