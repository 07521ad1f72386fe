// Command bench drives and measures sluice: `go run ./bench load URL` generates load, `go run ./bench demo`
// shows the shipped configuration scaling, `go run ./bench soak` breaks things under load and counts what got lost,
// `go run ./bench scale` simulates scaling policies on a trace, `go run ./bench live` replays one through real gateways.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

const usage = `usage: go run ./bench COMMAND [flags]

  load [flags] URL   generate load and measure it
  demo [flags]       build sluice, start it with config.toml and watch it scale for about a minute
  soak [flags]       load with faults; joins the ledgers of client and backends
  scale [flags]      replay a trace against scaling policies, the product's own law among them
  live [flags]       replay a trace, sped up, through real gateways: scaling beside fixed numbers of replicas
  peers [flags]      sluice beside nginx, HAProxy, Caddy and Traefik: processor time per request, latency, memory

COMMAND -h lists the flags. Exit codes: 0 ok, 1 failed at run time or the claim did not hold, 2 wrong usage.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// commands are called with the arguments after their name; ctx ends with Ctrl-C.
var commands = map[string]func(ctx context.Context, args []string, stdout, stderr io.Writer) int{
	"load":  loadCommand,
	"demo":  demoCommand,
	"soak":  soakCommand,
	"scale": scaleCommand,
	"live":  liveCommand,
	"peers": peersCommand,
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return 2
	}
	if c, ok := commands[args[0]]; ok {
		return c(ctx, args[1:], stdout, stderr)
	}
	switch args[0] {
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return 0
	}
	fmt.Fprintf(stderr, "bench: unknown command %q\n\n%s", args[0], usage)
	return 2
}
