package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"sluice/cmd/sluice/demobackend"
)

// cmdHealthcheck is for a container's HEALTHCHECK: it says nothing when all is well.
func cmdHealthcheck(ctx context.Context, env Env, args []string) int {
	fs := newFlags(env, "healthcheck", "[-c FILE] [--admin ADDRESS] [--token TOKEN] [--timeout 3s]")
	var f clientFlags
	f.register(fs.FlagSet)
	timeout := fs.Duration("timeout", 3*time.Second, "how long to wait for the answer")
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() > 0 || *timeout <= 0 {
		return fs.misused("no arguments and a timeout above 0 are needed")
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	if args, ok := containerCommand(); ok && len(args) > 0 && args[0] == "demo-backend" {
		if err := demobackend.Check(ctx, args[1:]); err != nil {
			fmt.Fprintf(env.Stdout, "%v\n", err)
			return exitFailed
		}
		return exitOK
	}
	at, err := f.contact(env)
	if err != nil {
		return env.fail(exitFailed, "%v", err)
	}
	listen := at.admin.Listen
	if listen == "off" || listen == "" { // readiness is on the read-only listener too
		listen = at.metrics.Listen
	}
	if listen == "off" || listen == "" {
		return env.fail(exitFailed, "neither [admin] nor [metrics] listens in %s: there is nothing to ask", at.file)
	}
	if _, err := newAdminClient(listen, at.admin.Token).call(ctx, "GET", "/readyz", nil); err != nil {
		fmt.Fprintf(env.Stdout, "%v\n", err) // engines keep a check's standard output
		return exitFailed
	}
	return exitOK
}

// containerCommand is the command that a container of the sluice image runs, as its HEALTHCHECK is the same
// whichever it is. ok is false where process 1 is not sluice.
func containerCommand() (args []string, ok bool) {
	text, err := os.ReadFile("/proc/1/cmdline")
	if err != nil {
		return nil, false
	}
	words := strings.Split(strings.TrimRight(string(text), "\x00"), "\x00")
	return words[1:], filepath.Base(words[0]) == "sluice"
}
