package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// gateway is a sluice that the bench started.
type gateway struct {
	binary string
	log    string // file with its output
	cmd    *exec.Cmd
	exited chan struct{} // closed when the process has ended

	http  *http.Client
	token string
}

// startGateway starts binary with the configuration file. Its output goes to a file in dir.
func startGateway(binary, configFile, dir string, s settings) (*gateway, error) {
	g := &gateway{binary: binary, log: filepath.Join(dir, "sluice.log"), exited: make(chan struct{}), token: s.token}
	log, err := os.OpenFile(g.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	g.cmd = exec.Command(binary, "run", "-c", configFile)
	g.cmd.Stdout, g.cmd.Stderr = log, log
	// Ctrl-C of the terminal is for the bench, which then stops sluice in order.
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := g.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		_ = g.cmd.Wait() // the exit code is read from ProcessState
		close(g.exited)
	}()
	addr := s.admin
	g.http = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			if path, ok := strings.CutPrefix(addr, "unix:"); ok {
				return new(net.Dialer).DialContext(ctx, "unix", path)
			}
			return new(net.Dialer).DialContext(ctx, "tcp", addr)
		},
	}}
	return g, nil
}

// ready waits until /readyz says so; it fails when the process ends or after a minute.
func (g *gateway) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for {
		if err := g.call(ctx, "GET", "/readyz", nil, nil); err == nil {
			return nil
		} else if ctx.Err() != nil {
			return fmt.Errorf("sluice did not become ready: %w\n%s", err, g.tail())
		}
		select {
		case <-g.exited:
			return fmt.Errorf("sluice ended with exit code %d\n%s", g.cmd.ProcessState.ExitCode(), g.tail())
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// call asks the admin API; in and out are JSON, nil is none.
func (g *gateway) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://sluice"+path, body)
	if err != nil {
		return err
	}
	req.Host = "localhost"
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if g.token != "" {
		req.Header.Set("Authorization", "Bearer "+g.token)
	}
	resp, err := g.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode/100 != 2 {
		return fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, bytes.TrimSpace(b))
	}
	if out != nil {
		return json.Unmarshal(b, out)
	}
	return nil
}

// upstreamStatus is one upstream of GET /api/v1/status, as far as it is shown.
type upstreamStatus struct {
	Name     string `json:"name"`
	Wanted   int    `json:"wanted"`
	Ready    int    `json:"ready"`
	Starting int    `json:"starting"`
	Draining int    `json:"draining"`
	Min      int    `json:"min"`
	Max      int    `json:"max"`
	InFlight int    `json:"in_flight"`
	Queue    int    `json:"queue"`
	Reason   string `json:"reason"`
	Servers  []struct {
		ID    string `json:"id"`
		Addr  string `json:"addr"`
		State string `json:"state"`
	} `json:"servers"`
}

// replicas is how many there are in any state.
func (u upstreamStatus) replicas() int { return u.Ready + u.Starting + u.Draining }

func (g *gateway) status(ctx context.Context, upstream string) (upstreamStatus, error) {
	var doc struct {
		Upstreams []upstreamStatus `json:"upstreams"`
	}
	if err := g.call(ctx, "GET", "/api/v1/status", nil, &doc); err != nil {
		return upstreamStatus{}, err
	}
	for _, u := range doc.Upstreams {
		if u.Name == upstream {
			return u, nil
		}
	}
	return upstreamStatus{}, fmt.Errorf("status: no upstream %q", upstream)
}

// stop ends sluice by SIGTERM to its pid, after grace by SIGKILL, and then looks for replicas that outlived it,
// which it kills. An error says what did not go in order.
func (g *gateway) stop(grace time.Duration) error {
	var errs []error
	if err := g.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		errs = append(errs, err)
	}
	select {
	case <-g.exited:
	case <-time.After(grace):
		g.cmd.Process.Kill()
		<-g.exited
		errs = append(errs, fmt.Errorf("sluice did not end within %v of SIGTERM", grace))
	}
	if code := g.cmd.ProcessState.ExitCode(); code != 0 && len(errs) == 0 {
		errs = append(errs, fmt.Errorf("sluice ended with exit code %d\n%s", code, g.tail()))
	}
	// A replica's guard needs a moment to see that sluice is gone.
	var left []int
	for end := time.Now().Add(3 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if left = processesOf(g.binary); len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	for _, pid := range left {
		errs = append(errs, fmt.Errorf("process %d of a replica was left behind", pid))
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return errors.Join(errs...)
}

// processesOf lists the living processes whose command line names binary, a path that no one else uses.
func processesOf(binary string) (pids []int) {
	if runtime.GOOS != "linux" {
		out, _ := exec.Command("ps", "-axo", "pid=,command=").Output()
		for line := range strings.Lines(string(out)) {
			pid, command, _ := strings.Cut(strings.TrimSpace(line), " ")
			if n, err := strconv.Atoi(pid); err == nil && strings.Contains(command, binary) {
				pids = append(pids, n)
			}
		}
		return pids
	}
	files, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil || !bytes.Contains(b, []byte(binary)) {
			continue
		}
		if n, err := strconv.Atoi(filepath.Base(filepath.Dir(f))); err == nil && n != os.Getpid() {
			pids = append(pids, n)
		}
	}
	return pids
}

// tail is the end of the gateway's log.
func (g *gateway) tail() string {
	b, err := os.ReadFile(g.log)
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(b)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-15):], "\n  ")
}
