package process

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/scaler"
)

const (
	startTimeout = 10 * time.Second // until the guard has told the pid
	clashTries   = 3
	clashWithin  = 5 * time.Second // an end later than this is not for want of the port
	logLineMost  = 8 << 10         // bytes; a longer line is cut into several
)

// replica is one process with its guard.
type replica struct {
	id        string
	index     int
	pid       int // of the command, which leads its group
	port      int
	asked     time.Time
	print     string // fingerprint of its declaration
	line, out *os.File
	reader    *bufio.Reader // of line
	gone      chan struct{} // closed when guard and command are gone
	pause     chan struct{} // counts the readers that have paused for a Handover
	state     string
	reason    string
	listed    bool // failed and seen by List
}

func (r *replica) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

func (r *replica) live() bool {
	return r.state == scaler.ReplicaStarting || r.state == scaler.ReplicaRunning
}

// order writes one byte to the guard. When that fails the guard is gone or going.
func (r *replica) order(b byte) { _, _ = r.line.Write([]byte{b}) }

// start runs one guard and its command, and waits for the pid.
func (d *Driver) start(ctx context.Context, index int) error {
	port, err := d.pickPort()
	if err != nil {
		return fmt.Errorf("%w: no free port: %w", scaler.ErrStart, err)
	}
	d.mu.Lock()
	cfg := d.cfg
	r := &replica{index: index, port: port, asked: time.Now(), print: d.print}
	d.mu.Unlock()
	cmd, err := d.spawn(r, cfg)
	if err != nil {
		return fmt.Errorf("%w: %w", scaler.ErrStart, err)
	}
	go func() { _ = cmd.Wait() }() // its end is seen on the line
	if err := r.hello(ctx); err != nil {
		r.line.Close() // the guard ends what it may have started
		r.out.Close()
		return err
	}
	r.id = fmt.Sprintf("%s-%d-%d", d.upstream, index, r.pid)
	r.state = scaler.ReplicaRunning
	d.mu.Lock()
	d.replicas = append(d.replicas, r)
	d.mu.Unlock()
	d.follow(r)
	d.log.Info("replica started", "replica", r.id, "addr", r.addr())
	d.tell()
	return nil
}

// spawn starts the guard with its end of the lifeline as file descriptor 3.
func (d *Driver) spawn(r *replica, cfg scaler.ProcessConfig) (*exec.Cmd, error) {
	ours, theirs, err := lifeline()
	if err != nil {
		return nil, err
	}
	theirEnd := os.NewFile(uintptr(theirs), "lifeline")
	defer theirEnd.Close()
	if err := r.hold(ours); err != nil {
		return nil, err
	}
	out, in, err := os.Pipe()
	if err != nil {
		r.line.Close()
		return nil, err
	}
	defer in.Close()
	r.out = out

	expand := d.expander(r.port)
	args := []string{"guard", "-grace", cfg.StopGrace.String(), "--"}
	for _, a := range cfg.Command {
		args = append(args, expand(a))
	}
	cmd := exec.Command(d.binary, args...)
	cmd.Dir, cmd.Env = cfg.Dir, environment(cfg.Env, r.port, expand)
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = in, in, []*os.File{theirEnd}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // out of reach of the terminal's signals
	if err := cmd.Start(); err != nil {
		r.line.Close()
		r.out.Close()
		return nil, err
	}
	return cmd, nil
}

// hold makes fd the replica's end of the lifeline, with deadlines.
func (r *replica) hold(fd int) error {
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return err
	}
	r.line = os.NewFile(uintptr(fd), "lifeline")
	r.reader = bufio.NewReader(r.line)
	r.gone = make(chan struct{})
	return nil
}

var variables = regexp.MustCompile(`\$(PORT|SLUICE)\b|\$\{(PORT|SLUICE)\}`)

// expander replaces $PORT and $SLUICE, with or without braces, and nothing else.
func (d *Driver) expander(port int) func(string) string {
	return func(s string) string {
		return variables.ReplaceAllStringFunc(s, func(name string) string {
			if strings.Contains(name, "PORT") {
				return strconv.Itoa(port)
			}
			return d.binary
		})
	}
}

// environment is sluice's own without what systemd means for sluice alone, then PORT, then what is declared.
func environment(add map[string]string, port int, expand func(string) string) []string {
	var env []string
	for _, kv := range os.Environ() {
		switch name, _, _ := strings.Cut(kv, "="); name {
		case "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_PID", "WATCHDOG_USEC":
		default:
			env = append(env, kv)
		}
	}
	env = append(env, "PORT="+strconv.Itoa(port))
	for k, v := range add {
		env = append(env, k+"="+expand(v))
	}
	return env
}

// hello waits for the guard's first word.
func (r *replica) hello(ctx context.Context) error {
	_ = r.line.SetReadDeadline(time.Now().Add(startTimeout))
	defer context.AfterFunc(ctx, func() { _ = r.line.SetReadDeadline(time.Now()) })()
	text, err := r.reader.ReadString('\n')
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		b, _ := io.ReadAll(io.LimitReader(r.quick(), 512))
		return fmt.Errorf("%w: its guard did not report: %w %s", scaler.ErrStart, err, strings.TrimSpace(string(b)))
	}
	word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
	if word != "pid" {
		return fmt.Errorf("%w: %s", scaler.ErrStart, rest)
	}
	r.pid, err = strconv.Atoi(rest)
	return errors.Join(err, r.line.SetReadDeadline(time.Time{}))
}

// quick reads what is there of the output, without waiting for more.
func (r *replica) quick() io.Reader {
	_ = r.out.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	return r.out
}

// follow reads the line and the output in goroutines of their own.
func (d *Driver) follow(r *replica) {
	r.pause = make(chan struct{}, 2)
	go d.await(r)
	go d.copyOutput(r)
}

// await reads the guard's word about the end of the command, and its own.
func (d *Driver) await(r *replica) {
	why := ""
	for {
		text, err := r.reader.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			r.pause <- struct{}{}
			return
		}
		if err != nil {
			break
		}
		word, rest, _ := strings.Cut(strings.TrimSpace(text), " ")
		switch n, _ := strconv.Atoi(rest); word {
		case "exit":
			why = "exit status " + rest
		case "signal":
			why = "ended by signal " + syscall.Signal(n).String()
		}
		d.ended(r, why)
	}
	if why == "" { // the guard was killed: what it guarded goes at once
		_ = syscall.Kill(-r.pid, syscall.SIGKILL)
		d.ended(r, "its guard was killed")
	}
	r.line.Close()
	close(r.gone)
}

// ended takes the end of the command: asked for, a failure, or a port that somebody took between our look
// and the command's. The last is nobody's fault: the replica is forgotten, and the next Scale starts another
// on another port.
func (d *Driver) ended(r *replica, why string) {
	d.mu.Lock()
	clash := r.live() && strings.HasPrefix(why, "exit") && d.clashes < clashTries && time.Since(r.asked) < clashWithin && taken(r.addr())
	if r.state == scaler.ReplicaStopping || clash {
		d.replicas = slices.DeleteFunc(d.replicas, func(other *replica) bool { return other == r })
	} else {
		r.state, r.reason = scaler.ReplicaFailed, why
	}
	if clash {
		d.clashes++
	} else {
		d.clashes = 0
	}
	state := r.state
	d.mu.Unlock()
	switch {
	case clash:
		d.log.Info("replica gone because its port was taken by another", "replica", r.id, "addr", r.addr())
	case state == scaler.ReplicaStopping:
		d.log.Info("replica stopped", "replica", r.id, "reason", why)
	default:
		d.log.Warn("replica ended", "replica", r.id, "reason", why)
	}
	d.tell()
}

// taken reports whether somebody listens on addr.
func taken(addr string) bool {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		l.Close()
	}
	return errors.Is(err, syscall.EADDRINUSE)
}

// stop tells the guard to end the command: SIGTERM, grace, SIGKILL. The caller holds d.mu.
func (d *Driver) stop(r *replica) {
	r.state = scaler.ReplicaStopping
	r.order(tellStop)
}

// copyOutput copies the output into the log, line by line.
func (d *Driver) copyOutput(r *replica) {
	log := d.output.With("replica", r.id)
	in := bufio.NewReaderSize(r.out, logLineMost)
	for {
		line, err := in.ReadSlice('\n')
		if text := strings.TrimRight(string(line), "\r\n"); text != "" {
			log.Info(text)
		}
		switch {
		case err == nil, errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, os.ErrDeadlineExceeded):
			r.pause <- struct{}{}
			return
		default:
			r.out.Close()
			r.pause <- struct{}{} // as good as paused, for ever
			return
		}
	}
}
