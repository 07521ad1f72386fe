package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Env is what a command sees of the world.
type Env struct {
	Stdout, Stderr io.Writer
	Getenv         func(string) string
	prefix         string // the folder of -p, from the root; "" without
}

func osEnv() Env { return Env{Stdout: os.Stdout, Stderr: os.Stderr, Getenv: os.Getenv} }

// Exit codes; scripts rely on them.
const (
	exitOK     = 0
	exitFailed = 1 // at run time
	exitUsage  = 2
	exitConfig = 3 // the configuration is invalid
	exitCut    = 4 // requests were cut at the drain deadline
)

// command is one of sluice's commands. args are what follows its name; the result is the exit code.
type command func(ctx context.Context, env Env, args []string) int

// clientCommands talk to a running sluice, or about it.
var clientCommands = map[string]command{
	"status":      cmdStatus,
	"scale":       cmdScale,
	"drain":       cmdDrain,
	"enable":      cmdEnable,
	"reload":      cmdReload,
	"explain":     cmdExplain,
	"healthcheck": cmdHealthcheck,
	"version":     cmdVersion,
}

// configFile is the configuration that is meant: the flag -c, else $SLUICE_CONFIG, else config.toml, in the folder
// of -p. named is false when no flag or variable tells it: then it need not exist for every command.
func configFile(env Env, flag string) (path string, named bool) {
	if flag != "" {
		return flag, true
	}
	if path := env.Getenv("SLUICE_CONFIG"); path != "" {
		return path, true
	}
	return filepath.Join(env.prefix, "config.toml"), env.prefix != ""
}

// fail tells what went wrong in one line, or as many as the error has.
func (e Env) fail(code int, format string, args ...any) int {
	fmt.Fprintf(e.Stderr, "sluice: "+format+"\n", args...)
	return code
}

// invalid tells the mistakes of a configuration with nothing before them: each begins with file:line:column, for
// editors and scripts to read.
func (e Env) invalid(err error) int {
	fmt.Fprintln(e.Stderr, err)
	return exitConfig
}

// output is a command's standard output, and remembers the first write that failed: most commands only print, and what
// prints has no way to say so.
type output struct {
	to  io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// flags are those of one command.
type flags struct {
	*flag.FlagSet
	env      Env
	synopsis string
}

// newFlags makes the flags of one command; synopsis is what may follow its name, for the help.
func newFlags(env Env, name, synopsis string) *flags {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	return &flags{fs, env, synopsis}
}

// parseFlags reads flags before, between and after the arguments, as `sluice scale api 3 --for 1h` has them;
// fs.Args are then the arguments. When done is true the command ends with code: help was asked for, or the
// usage was wrong.
func parseFlags(fs *flags, args []string) (code int, done bool) {
	var rest []string
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(fs.env.Stdout, "usage: sluice %s %s\n", fs.Name(), fs.synopsis)
			fs.SetOutput(fs.env.Stdout)
			fs.PrintDefaults()
			return exitOK, true
		}
		if err != nil {
			if at := len(args) - fs.NArg() - 1; undefinedNumber(args, at) && strings.HasPrefix(err.Error(), "flag provided but not defined") {
				rest, args = append(rest, args[at]), args[at+1:]
				continue
			}
			return fs.misused("%v", err), true
		}
		if fs.NArg() == 0 {
			return exitOK, fs.Parse(append([]string{"--"}, rest...)) != nil
		}
		rest = append(rest, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

// undefinedNumber tells that an argument is a number below 0: no flag is called so.
func undefinedNumber(args []string, at int) bool {
	if at < 0 {
		return false
	}
	_, err := strconv.Atoi(args[at])
	return err == nil
}

// misused tells what is wrong with the arguments, and how they should be.
func (fs *flags) misused(format string, args ...any) int {
	return fs.env.fail(exitUsage, "%s\nusage: sluice %s %s", fmt.Sprintf(format, args...), fs.Name(), fs.synopsis)
}
