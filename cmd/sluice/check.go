package main

import (
	"context"
	"fmt"

	"sluice/config"
)

// cmdCheck validates the configuration: exit 0 or 3, with every error and its position; one that cannot be read is not
// valid either. With -T it also prints the effective configuration.
func cmdCheck(_ context.Context, env Env, args []string) int {
	fs := newFlags(env, "check", "[-c FILE] [-p PREFIX] [-e ERRORLOG] [-g DIRECTIVES] [-T] [-q]")
	file := fs.String("c", "", "configuration `file`")
	dump := fs.Bool("T", false, "print the effective configuration")
	errorLog := fs.String("e", "", "error log `FILE` of the run that is meant; nothing is written to it")
	quiet := fs.Bool("q", false, "print nothing when it is valid")
	if code, done := parseFlags(fs, args); done {
		return code
	}
	if fs.NArg() > 0 {
		return fs.misused("unexpected %q: the file is named with -c", fs.Arg(0))
	}
	path, _ := configFile(env, *file)
	cfg, err := config.Load(path)
	if err != nil {
		if isInvalid(err) {
			return env.invalid(err)
		}
		return env.fail(exitConfig, "%v", err)
	}
	if *errorLog != "" && *errorLog != "stderr" {
		if err := config.Writable(*errorLog); err != nil {
			return env.fail(exitFailed, "-e: %v", err)
		}
	}
	if *dump {
		_, _ = env.Stdout.Write(cfg.Dump())
		return exitOK
	}
	if !*quiet {
		fmt.Fprintf(env.Stdout, "%s is valid: %d routes, %d upstreams\n", path, len(cfg.Routes), len(cfg.Upstreams))
		if err := writeACME(env.Stdout, cfg); err != nil {
			return env.fail(exitFailed, "%v", err)
		}
		e := chooseEngine(cfg, path)
		defer e.close()
		fmt.Fprintf(env.Stdout, "engine %s\n", e)
	}
	return exitOK
}
