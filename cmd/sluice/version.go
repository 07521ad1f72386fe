package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
)

// version is set by the linker: -X main.version=….
var version = "dev"

func cmdVersion(_ context.Context, env Env, args []string) int {
	fs := newFlags(env, "version", "")
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() > 0 {
		return fs.misused("unexpected %q", fs.Arg(0))
	}
	fmt.Fprintln(env.Stdout, versionText())
	return exitOK
}

func versionText() string {
	return fmt.Sprintf("sluice %s, commit %s, %s, %s/%s", version, commit(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
}

// commit is what the go command recorded when it built this binary from a checkout.
func commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	rev, changed := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			rev = s.Value[:min(len(s.Value), 12)]
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = "+changes"
		}
	}
	return rev + changed
}
