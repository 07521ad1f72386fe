package process

import (
	"bufio"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// What goes over the lifeline: to the guard single bytes, from it lines "pid N", "failed WHY", "exit N" or
// "signal N". The line's end means stop.
const (
	lifelineFD = 3
	tellStop   = 'T'
	tellKill   = 'K'
)

// Guard is the hidden command `sluice guard -grace 10s -- COMMAND ARG…`. It runs the command in a process
// group of its own until that ends, until it is told to stop, or until the lifeline (file descriptor 3)
// closes, and leaves nothing of it behind: SIGTERM to all that descends from the command, then after the
// grace SIGKILL. It returns the command's exit code, 128 and the signal when it was killed, 127 when it could
// not be started, 2 for wrong usage.
func Guard(args []string) int {
	flags := flag.NewFlagSet("guard", flag.ContinueOnError)
	grace := flags.Duration("grace", 10*time.Second, "from SIGTERM to SIGKILL")
	if err := flags.Parse(args); err != nil || flags.NArg() == 0 {
		return 2
	}
	// The command must not inherit the lifeline, or it would keep itself alive.
	syscall.CloseOnExec(lifelineFD)
	line := os.NewFile(lifelineFD, "lifeline")
	if line == nil {
		return 2
	}
	if _, err := line.Stat(); err != nil {
		fmt.Fprintln(os.Stderr, "guard: this command is for sluice's own use: no lifeline on file descriptor 3")
		return 2
	}
	// Those who press ^C or stop a unit mean sluice; it decides about its replicas.
	// Caught and dropped, not ignored: that the command would inherit.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGINT, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGPIPE, syscall.SIGUSR1, syscall.SIGUSR2)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	runtime.LockOSThread() // the kernel's word "parent" in PDEATHSIG means this thread
	adoptOrphans()

	pid, err := start(flags.Args())
	if err != nil {
		fmt.Fprintf(line, "failed %v\n", err)
		return 127
	}
	fmt.Fprintf(line, "pid %d\n", pid)
	return watch(pid, *grace, line, term)
}

func start(argv []string) (pid int, err error) {
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return 0, err
	}
	pid, err = syscall.ForkExec(path, argv, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}, Sys: groupOfItsOwn(),
	})
	if err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	return pid, nil
}

// watch stays until nothing of the group pid is left.
func watch(pid int, grace time.Duration, line *os.File, term <-chan os.Signal) int {
	orders, ended, alone := make(chan byte), make(chan syscall.WaitStatus, 1), make(chan struct{})
	go listen(line, orders)
	go reap(pid, ended, alone)

	code := 0
	var kill, poll <-chan time.Time // set once it is to end
	stop := func() {
		if kill == nil {
			signalAll(pid, syscall.SIGTERM)
			kill, poll = time.After(grace), time.Tick(50*time.Millisecond)
		}
	}
	killed, childless := false, false
	for {
		select {
		case order := <-orders:
			if order == tellKill {
				kill, poll = time.After(0), time.Tick(50*time.Millisecond)
			} else {
				stop()
			}
		case <-term:
			stop()
		case <-kill:
			killed = true
			signalAll(pid, syscall.SIGKILL)
		case status := <-ended:
			if status.Signaled() {
				code = 128 + int(status.Signal())
				fmt.Fprintf(line, "signal %d\n", status.Signal())
			} else {
				code = status.ExitStatus()
				fmt.Fprintf(line, "exit %d\n", code)
			}
			stop() // what it left behind goes as well
		case <-alone:
			childless, alone = true, nil
		case <-poll:
			if killed {
				signalAll(pid, syscall.SIGKILL) // whoever became an orphan only now
			}
		}
		if childless && !groupLives(pid) {
			return code
		}
	}
}

// listen passes on what sluice says; the end of the line is an order to stop.
func listen(line io.Reader, orders chan<- byte) {
	in := bufio.NewReader(line)
	for {
		order, err := in.ReadByte()
		if err != nil {
			orders <- tellStop
			return
		}
		orders <- order
	}
}

// reap waits for every child: the command, and what it orphaned.
func reap(pid int, ended chan<- syscall.WaitStatus, alone chan<- struct{}) {
	for {
		var status syscall.WaitStatus
		got, err := syscall.Wait4(-1, &status, 0, nil)
		switch {
		case err == syscall.EINTR:
		case err != nil: // ECHILD
			close(alone)
			return
		case got == pid:
			ended <- status
		}
	}
}

// groupLives reports whether any process of the group is there.
func groupLives(pgid int) bool { return syscall.Kill(-pgid, 0) != syscall.ESRCH }
