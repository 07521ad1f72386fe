// Command sluice is a layer-7 load balancer with built-in scaling.
package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sluice/cmd/sluice/demobackend"
	"sluice/scaler/process"
)

func main() { os.Exit(sluice(context.Background(), osEnv(), os.Args[1:])) }

const usage = `usage: sluice [run] [-c FILE] [-p PREFIX] [-e ERRORLOG] [-g DIRECTIVES]
       sluice COMMAND [arguments]

commands
  run              run in the foreground (the default)
  check            validate the configuration; also -t, -T to print it, -q to say nothing when it is valid
  status           what is running: upstreams, servers, replicas, queues
  scale            pin the number of replicas of an upstream, or give it back to the scaler
  drain, enable    take a server out of use, and back
  explain          which route, limits and server a request would get
  scaler           hold the engine's socket for gateways that have none (engine.scaler)
  reload           make the running sluice read its configuration again
  healthcheck      exit 0 when the running sluice is ready
  demo-backend     a small model-server-like backend
  version          version, Go version and commit; also -v

signals of a running sluice, also by -s reload|quit|stop|reopen
  HUP reload, QUIT and TERM drain and end, TERM twice ends at once, USR1 reopens logs, USR2 upgrades the binary
`

// sluice runs one command and returns its exit code. What was asked for and could not be written was not done.
func sluice(ctx context.Context, env Env, args []string) int {
	out := &output{to: env.Stdout}
	env.Stdout = out
	code := runCommand(ctx, env, args)
	if code == exitOK && out.err != nil {
		return env.fail(exitFailed, "the output could not be written: %v", out.err)
	}
	return code
}

func runCommand(ctx context.Context, env Env, args []string) int {
	args, code, done := nginxHabits(ctx, &env, args)
	if done {
		return code
	}
	name, rest := "run", args
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		name, rest = args[0], args[1:]
	}
	switch name {
	case "run":
		return cmdRun(ctx, env, rest)
	case "check":
		return cmdCheck(ctx, env, rest)
	case "scaler":
		return cmdScaler(ctx, env, rest)
	case "demo-backend":
		return demobackend.Main(rest, env.Stdout, env.Stderr)
	case "guard":
		return process.Guard(rest)
	case "help":
		fmt.Fprint(env.Stdout, usage)
		return exitOK
	}
	if run := clientCommands[name]; run != nil {
		return run(ctx, env, rest)
	}
	fmt.Fprintf(env.Stderr, "sluice: no command %q\n\n%s", name, usage)
	return exitUsage
}

// nginxHabits does what nginx's own flags ask for, which stand in any order, also behind run and check: -p changes
// the folder and -g is taken apart; then -t, -T, -s, -v, -V and -h do their work, or the rest goes on.
func nginxHabits(ctx context.Context, env *Env, args []string) (rest []string, code int, done bool) {
	if len(args) > 0 && (args[0] == "run" || args[0] == "check") {
		rest, args = args[:1:1], args[1:]
	} else if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		return args, 0, false
	}
	named := len(rest)
	var instead func(args []string) int
	for len(args) > 0 {
		flag := args[0]
		args = args[1:]
		if letters, ok := strings.CutPrefix(flag, "-"); ok && len(letters) > 1 && strings.Trim(letters, "?hqtTvV") == "" { // -tq is -t -q
			for _, letter := range letters {
				args = append([]string{"-" + string(letter)}, args...)
			}
			continue
		}
		value, given := "", len(args) > 0
		if given {
			value = args[0]
		}
		switch flag {
		case "-t", "--t":
			instead = func(args []string) int { return cmdCheck(ctx, *env, args) }
		case "-T", "--T":
			instead = func(args []string) int { return cmdCheck(ctx, *env, args) }
			rest = append(rest, flag)
		case "-s", "--s":
			instead = func(args []string) int { return cmdSignal(ctx, *env, args) }
			rest = append(rest, flag)
		case "-v", "--v", "-V", "--V", "-version", "--version":
			instead = func([]string) int { return cmdVersion(ctx, *env, nil) }
		case "-h", "--h", "-help", "--help", "-?":
			if named > 0 { // run and check tell their own
				rest = append(rest, flag)
				continue
			}
			fmt.Fprint(env.Stdout, usage)
			return nil, exitOK, true
		case "-p", "--p":
			if !given {
				return nil, env.fail(exitUsage, "-p needs a folder"), true
			}
			args = args[1:]
			if startedIn == "" {
				startedIn, _ = os.Getwd()
			}
			err := os.Chdir(value)
			if err == nil {
				env.prefix, err = os.Getwd()
			}
			if err != nil {
				return nil, env.fail(exitUsage, "-p: %v", err), true
			}
		case "-g", "--g":
			if !given {
				return nil, env.fail(exitUsage, "-g needs directives"), true
			}
			args = args[1:]
			if directive := unknownDirective(value); directive != "" {
				return nil, env.fail(exitUsage, "-g: the directive %q is not known; only \"daemon off;\" is", directive), true
			}
		default:
			rest = append(rest, flag)
		}
	}
	if instead != nil {
		return nil, instead(rest[named:]), true
	}
	return rest, 0, false
}

// unknownDirective is the first of the ;-separated directives that sluice does not know.
func unknownDirective(directives string) string {
	for d := range strings.SplitSeq(directives, ";") {
		if words := strings.Fields(d); len(words) > 0 && strings.Join(words, " ") != "daemon off" {
			return strings.Join(words, " ")
		}
	}
	return ""
}

// startedFrom is where this process was started from. It is looked up before anything can change it: once the
// binary is renamed, to put another one in its place, the system tells the new name only, and -p leaves the folder.
var startedFrom = ownPath()

// startedIn is the folder that -p has left, where a successor with the same arguments starts; "" is the present one.
var startedIn string

// ownPath is absolute and keeps links as the command line has them, since a link may lead to another version later.
func ownPath() string {
	running := executable()
	path, err := exec.LookPath(os.Args[0])
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return running
	}
	a, err := os.Stat(path)
	if err != nil {
		return running
	}
	if b, err := os.Stat(running); err == nil && !os.SameFile(a, b) {
		return running // the command line names something else
	}
	return path
}

// executable is the path of the running binary, whatever it is called by now.
func executable() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return path
}

// discardLog is for commands that say everything on standard output.
func discardLog() *slog.Logger { return slog.New(slog.NewTextHandler(io.Discard, nil)) }
