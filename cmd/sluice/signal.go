package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"
)

// cmdSignal is nginx's -s. args hold the flags themselves: -s reload -c FILE.
func cmdSignal(ctx context.Context, env Env, args []string) int {
	fs := newFlags(env, "-s", "reload|quit|stop|reopen [-c FILE]")
	var f clientFlags
	f.register(fs.FlagSet)
	what := fs.String("s", "", "`SIGNAL`: reload, quit (finish what is in flight), stop (at once) or reopen (logs)")
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() > 0 {
		return fs.misused("unexpected %q", fs.Arg(0))
	}
	var sig syscall.Signal
	switch *what {
	case "reload":
		return reload(ctx, env, f)
	case "quit":
		sig = syscall.SIGQUIT
	case "stop":
		sig = syscall.SIGTERM
	case "reopen":
		sig = syscall.SIGUSR1
	default:
		return fs.misused("%q is not reload, quit, stop or reopen", *what)
	}
	at, err := f.contact(env)
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	pid, err := at.livePID()
	if err == nil {
		err = syscall.Kill(pid, sig)
	}
	if err == nil && *what == "stop" {
		err = stopped(ctx, at.pid, pid)
	}
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	return exitOK
}

// stopped waits for a sluice that was told to end, and tells it a second time, which ends its drain.
func stopped(ctx context.Context, path string, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	first, cancelFirst := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancelFirst()
	if gone(path, pid, first.Done()) {
		return nil
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return err
	}
	if !gone(path, pid, ctx.Done()) {
		return fmt.Errorf("sluice (pid %d) was told to stop and is still there", pid)
	}
	return nil
}

// gone waits until the sluice that held path is not there any more; false when done came first.
func gone(path string, pid int, done <-chan struct{}) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if now, err := livePID(path); err != nil || now != pid {
			return true
		}
		select {
		case <-tick.C:
		case <-done:
			return false
		}
	}
}
