package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"sluice/proxy/http1"
	"sluice/scaler/process"
)

// A binary upgrade (SIGUSR2): the running sluice starts its successor from the same path, with the
// listening sockets and the lifetime pipes of its replicas as inherited files, and a list of what is
// what, and of what an operator has ordered, in the environment. When the successor has told, through
// one more pipe, that it takes requests, the old one drains and ends. Connections that nobody has
// accepted yet stay with the socket, so none is refused.

// envInheritance names the environment variable that carries the list.
const envInheritance = "SLUICE_INHERITANCE"

// firstInherited is the number of the first inherited file, after the three standard ones.
const firstInherited = 3

// upgradePatience bounds how long the successor may take to be ready.
const upgradePatience = time.Minute

// inheritance is the list. Files are counted from firstInherited, in this order: the pipe to tell
// readiness through, the listeners, those of admin, that of the metrics API, the files of each upstream's replicas.
type inheritance struct {
	PID        int      `json:"pid"`         // of the predecessor
	Listeners  []string `json:"listeners"`   // by configured address
	Admin      []string `json:"admin"`       // by configured address
	MetricsAPI []string `json:"metrics_api"` // by configured address
	Replicas   []legacy `json:"replicas"`
	Orders     []orders `json:"orders,omitempty"`
	Hears      bool     `json:"hears,omitempty"` // why the successor fails, through the pipe: an older sluice takes any byte for readiness
}

// taken is what a successor that is ready writes into the pipe. Anything else is why it fails, up to failureLimit bytes.
const (
	taken        = 1
	failureLimit = 4096
)

// legacy is one upstream's replicas.
type legacy struct {
	Upstream string `json:"upstream"`
	Files    int    `json:"files"`
	State    []byte `json:"state"`
}

// adoption is a legacy as the successor takes it over.
type adoption struct {
	state []byte
	files []*os.File
}

// succession is an upgrade that is under way.
type succession struct {
	giveUp  context.CancelFunc // ends the waiting, and with it the successor
	outcome chan handover      // gets one
}

// handover is what became of an upgrade. On an error this process goes on as if nothing had been.
type handover struct {
	successor *os.Process
	err       error
}

// beginUpgrade starts the successor, and waits aside until it is ready: signals are served meanwhile.
func (g *gateway) beginUpgrade() *succession {
	ctx, cancel := context.WithCancel(context.Background())
	s := &succession{cancel, make(chan handover, 1)}
	go func() {
		defer cancel()
		successor, err := g.upgrade(ctx)
		s.outcome <- handover{successor, err}
	}()
	return s
}

// ended gets the outcome. No upgrade has none.
func (s *succession) ended() <-chan handover {
	if s == nil {
		return nil
	}
	return s.outcome
}

// succeed lets the successor be the one that serves, and is the main process for the service manager: a reload that ended
// a moment ago has told that this one is.
func (g *gateway) succeed(successor *os.Process) {
	g.log.Info("a successor has taken over", "pid", successor.Pid)
	g.successor = successor
	g.admin.HandedOver()
	notifyMain(successor.Pid)
}

// leaveListeners lets the successor alone accept. It may have read the file before a reload that this process was asked
// for meanwhile, so it is asked too, once what that reload has opened here is closed.
func (g *gateway) leaveListeners() {
	g.mu.Lock()
	for _, ln := range g.listeners {
		ln.Close()
	}
	g.mu.Unlock()
	if g.reloads.Load() != g.bequest.Load() {
		_ = g.successor.Signal(syscall.SIGHUP)
	}
}

// upgrade starts the successor and waits until it is ready. When ctx ends before, the successor is ended.
func (g *gateway) upgrade(ctx context.Context) (successor *os.Process, err error) {
	if g.peers != nil && g.peers.serves { // g.peers never changes after the start
		return nil, errors.New("with [peers] service an address has one gateway: let the engine replace it (a rollout)")
	}
	g.freeze(true)
	var files []*os.File // for the successor; our copies are closed when it has its own
	defer func() {
		for _, f := range files {
			f.Close()
		}
		if err != nil {
			g.takeBack()
		}
	}()
	ready, tell, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer ready.Close()
	files = append(files, tell)
	list, err := g.bequeath(&files)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(list)
	if err != nil {
		return nil, err
	}
	g.bequest.Store(g.reloads.Load())
	g.logs.flush(ctx) // the successor writes to the same log
	successor, err = startSuccessor(append(os.Environ(), envInheritance+"="+string(text)), files)
	if err != nil {
		return nil, err
	}
	tell.Close()
	files = files[1:]
	if err := ready.SetReadDeadline(time.Now().Add(upgradePatience)); err != nil {
		return nil, err
	}
	defer context.AfterFunc(ctx, func() { _ = ready.SetReadDeadline(time.Unix(1, 0)) })()
	if said, err := hear(ready); err != nil {
		why := "it ended before it was ready"
		switch {
		case ctx.Err() != nil:
			why = "it was not ready yet"
		case errors.Is(err, os.ErrDeadlineExceeded):
			why = fmt.Sprintf("not ready within %s", upgradePatience)
		}
		_ = successor.Kill() // not asked to end, it would end the replicas
		if state, err := successor.Wait(); err == nil {
			why += ", " + state.String()
		}
		if said != "" {
			why += ": " + said
		}
		return nil, fmt.Errorf("successor (pid %d): %s", successor.Pid, why)
	}
	return successor, nil
}

// hear waits until the successor is ready. On an error, which is io.EOF when it has ended, said is what it told of the cause.
func hear(successor io.Reader) (said string, err error) {
	first := make([]byte, 1)
	if _, err := io.ReadFull(successor, first); err != nil || first[0] == taken {
		return "", err
	}
	rest, err := io.ReadAll(io.LimitReader(successor, failureLimit))
	if err == nil {
		err = io.EOF
	}
	return string(first) + string(rest), err
}

// startSuccessor starts the binary that is now where this one was started from, with the same arguments and the files.
// It does not go through os/exec, which would make the files blocking, and with them our own listeners, as both share
// one description.
func startSuccessor(env []string, files []*os.File) (*os.Process, error) {
	fds := []uintptr{0, 1, 2}
	for _, f := range files {
		raw, err := f.SyscallConn()
		if err == nil {
			err = raw.Control(func(fd uintptr) { fds = append(fds, fd) })
		}
		if err != nil {
			return nil, err
		}
	}
	path := startedFrom
	pid, err := syscall.ForkExec(path, append([]string{path}, os.Args[1:]...), &syscall.ProcAttr{Dir: startedIn, Env: env, Files: fds})
	runtime.KeepAlive(files)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", path, err)
	}
	return os.FindProcess(pid)
}

// bequeath lists what the successor gets and appends the files.
func (g *gateway) bequeath(files *[]*os.File) (inheritance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	list := inheritance{PID: os.Getpid(), Hears: true}
	for addr, ln := range g.listeners {
		socket, ok := ln.(interface{ File() (*os.File, error) }) // TCP and Unix listeners
		if !ok {
			continue
		}
		f, err := socket.File()
		if err != nil {
			return list, err
		}
		*files = append(*files, f)
		list.Listeners = append(list.Listeners, addr)
	}
	sockets, err := g.admin.Files()
	if err != nil {
		return list, err
	}
	for addr, f := range sockets {
		*files = append(*files, f)
		list.Admin = append(list.Admin, addr)
	}
	if sockets, err = g.metricsAPI.Files(); err != nil {
		return list, err
	}
	for addr, f := range sockets {
		*files = append(*files, f)
		list.MetricsAPI = append(list.MetricsAPI, addr)
	}
	for name, u := range g.upstreams {
		if u.source.processes == nil {
			continue
		}
		pipes, state := u.source.processes.Handover()
		*files = append(*files, pipes...)
		list.Replicas = append(list.Replicas, legacy{Upstream: name, Files: len(pipes), State: state})
	}
	list.Orders = g.ordersInForce()
	return list, nil
}

// freeze stops, or resumes, all scaling, and leaves the state file to the successor meanwhile.
func (g *gateway) freeze(on bool) {
	g.memory.Freeze(on)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frozen = on
	for _, u := range g.upstreams {
		if u.loop != nil {
			u.loop.Freeze(on)
		}
	}
}

// takeBack undoes bequeath: the successor has failed.
func (g *gateway) takeBack() {
	g.mu.Lock()
	for _, u := range g.upstreams {
		if u.source.processes != nil {
			u.source.processes.Resume()
		}
	}
	g.mu.Unlock()
	g.freeze(false)
}

// inherit takes over what an older sluice left in the environment, if one did.
func (g *gateway) inherit() error {
	text := os.Getenv(envInheritance)
	if text == "" {
		return nil
	}
	os.Unsetenv(envInheritance) // not for the replicas
	var list inheritance
	if err := json.Unmarshal([]byte(text), &list); err != nil {
		return fmt.Errorf("%s: %w", envInheritance, err)
	}
	next := uintptr(firstInherited)
	take := func(name string) *os.File {
		f := os.NewFile(next, name)
		syscall.CloseOnExec(int(next))
		next++
		return f
	}
	g.predecessor = take("predecessor")
	g.adopted, g.predecessorPID, g.predecessorHears = map[string]adoption{}, list.PID, list.Hears
	takeListeners := func(addrs []string, listener func(*os.File) (net.Listener, error)) (listeners, error) {
		all := listeners{}
		for _, addr := range addrs {
			f := take(addr)
			ln, err := listener(f)
			f.Close()
			if err != nil {
				return nil, fmt.Errorf("inherited listener %s: %w", addr, err)
			}
			all[addr] = ln
		}
		return all, nil
	}
	var err error
	if g.inherited, err = takeListeners(list.Listeners, http1.FileListener); err != nil {
		return err
	}
	own, err := takeListeners(list.Admin, net.FileListener)
	if err != nil {
		return err
	}
	g.admin.Inherit(own)
	if own, err = takeListeners(list.MetricsAPI, net.FileListener); err != nil {
		return err
	}
	g.metricsAPI.Inherit(own)
	for _, l := range list.Replicas {
		a := adoption{state: l.State}
		for i := range l.Files {
			a.files = append(a.files, take(l.Upstream+"/"+strconv.Itoa(i)))
		}
		g.adopted[l.Upstream] = a
	}
	g.orders = map[string]orders{}
	for _, o := range list.Orders {
		g.orders[o.Upstream] = o
	}
	return nil
}

// tellPredecessor says that this sluice takes requests, so that the older one may end.
func (g *gateway) tellPredecessor() {
	if g.predecessor == nil {
		return
	}
	if _, err := g.predecessor.Write([]byte{taken}); err != nil {
		g.log.Warn("the predecessor is gone", "error", err)
	}
	g.predecessor.Close()
	g.predecessor = nil
}

// tellFailure says to the predecessor, which has the log that people read, why this sluice does not take over.
func (g *gateway) tellFailure(why error) {
	if g.predecessor != nil && g.predecessorHears {
		text := why.Error()
		_, _ = g.predecessor.WriteString(text[:min(len(text), failureLimit)])
	}
}

// adopt makes the process driver of an upstream, with the replicas of an older sluice where it left some.
func (g *gateway) adopt(name string, opts process.Options) *process.Driver {
	a, ok := g.adopted[name]
	if !ok {
		return process.New(opts)
	}
	delete(g.adopted, name)
	driver := process.New(opts)
	if err := driver.Adopt(a.state, a.files); err != nil {
		g.log.Error("the replicas of the older sluice could not be taken over, new ones start", "upstream", name, "error", err)
	}
	return driver
}
