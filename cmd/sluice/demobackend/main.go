// Package demobackend is `sluice demo-backend`: a small server that behaves like a model server. It works on a
// bounded number of requests at a time, takes a configurable time for each, needs a while to start, streams
// tokens, and can be told to fail. The shipped config.toml, the tests and the benches use it.
//
// Paths (all others: work, then a short text that names the process):
//
//	POST /v1/chat/completions  OpenAI-style; "stream": true answers with server-sent events
//	GET  /v1/models            the one model it pretends to have
//	     /echo                 the request body back, streamed; X-Echo-Method, X-Echo-Target, X-Request-Id, X-Ledger-Id, X-Body-Sha256 (bodies up to 64 KiB of known length)
//	     /headers              JSON: method, target, header fields as received, length and SHA-256 of the body
//	GET  /ws                   WebSocket echo
//	GET  /healthz              200, or 503 while starting, draining or told to be unhealthy; also at --health-path
//	GET  /stats                JSON counters
//	     /fault?…              changes the faults of the running process; see faults.set
//
// Query parameters of every working path: work=DURATION replaces the service time. Of the short text also:
// bytes=N (size of the answer) and status=N.
package demobackend

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

// options are what the command line says.
type options struct {
	addr        string
	port        int
	id          string
	healthPath  string        // answers as /healthz does; "" = none
	concurrency int           // requests worked on at a time; 0 = no bound
	overflow    string        // "wait" or "503": what happens to a request beyond concurrency
	service     serviceTime   // of one request
	tokenTime   time.Duration // between two tokens of a stream
	tokens      int           // of an answer, unless the request has max_tokens
	startDelay  time.Duration // until it is ready
	startMode   string        // "503" or "closed": until it is ready
	warmup      time.Duration // after ready: how long it is slower; 0 = not at all
	warmupBy    float64       // factor on the service time at the beginning of warmup, falling to 1
	lameDuck    time.Duration // after SIGTERM: how long new connections are still taken
	grace       time.Duration // after SIGTERM: how long running requests may take; 0 = no bound
	ledger      string        // file to which every delivered request is appended; "" = none
	seed        uint64        // of service times and faults; 0 = random
	faults      faultRates
}

// Main runs the backend until SIGTERM or SIGINT, then finishes what runs. It returns the exit code: 0 drained,
// 1 could not listen, or requests were cut (second signal or --grace over), 2 wrong usage.
func Main(args []string, stdout, stderr io.Writer) int {
	opts, err := parse(args, stderr)
	if errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if err != nil {
		return 2
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if opts.startMode == "closed" {
		select {
		case <-time.After(opts.startDelay):
		case <-ctx.Done():
			return 0
		}
	}
	ln, err := net.Listen("tcp", opts.addr)
	if err != nil {
		fmt.Fprintf(stderr, "demo-backend: %v\n", err)
		return 1
	}
	s, err := newServer(opts, ln)
	if err != nil {
		fmt.Fprintf(stderr, "demo-backend: %v\n", err)
		return 1
	}
	fmt.Fprintf(stdout, "demo-backend %s listening on %s\n", opts.id, ln.Addr())
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	select {
	case err := <-served:
		fmt.Fprintf(stderr, "demo-backend: %v\n", err)
		return 1
	case <-ctx.Done():
	}
	again, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer cancel()
	if opts.grace > 0 {
		again, cancel = context.WithTimeout(again, opts.grace)
		defer cancel()
	}
	if cut := s.drain(again); cut > 0 {
		fmt.Fprintf(stderr, "demo-backend: %d connections cut\n", cut)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (options, error) {
	o := options{service: serviceTime{kind: "fixed", a: 200 * time.Millisecond}}
	fs := flag.NewFlagSet("sluice demo-backend", flag.ContinueOnError)
	fs.SetOutput(stderr)
	fs.IntVar(&o.port, "port", 8000, "port to listen on; 0 picks a free one, which is printed")
	fs.StringVar(&o.addr, "addr", "", "`address` to listen on, as host:port or only host; default 127.0.0.1, or every interface when this is process 1 of a container")
	fs.StringVar(&o.id, "id", "", "name in X-Backend; default host name and pid")
	fs.StringVar(&o.healthPath, "health-path", "", "`path` that answers as /healthz does, as that of the server this one stands in for")
	fs.IntVar(&o.concurrency, "concurrency", 4, "requests worked on at a time; 0 is no bound")
	fs.StringVar(&o.overflow, "overflow", "wait", "what happens to further requests: `wait` inside, or 503")
	fs.Var(&o.service, "service-time", "time per request: 200ms, exp:200ms (mean), lognormal:200ms,0.5 (median, sigma) or uniform:100ms-300ms")
	fs.DurationVar(&o.tokenTime, "token-time", 20*time.Millisecond, "time per token of a stream")
	fs.IntVar(&o.tokens, "tokens", 16, "tokens of an answer unless the request says max_tokens")
	fs.DurationVar(&o.startDelay, "start-delay", 0, "time from start to ready")
	fs.StringVar(&o.startMode, "start-mode", "503", "until ready: `503` to every request, or closed (not listening)")
	fs.DurationVar(&o.warmup, "warmup", 0, "slow start: time after ready in which requests take longer")
	fs.Float64Var(&o.warmupBy, "warmup-factor", 4, "how many times longer at the beginning of the warm-up")
	fs.DurationVar(&o.lameDuck, "lame-duck", 200*time.Millisecond, "after SIGTERM, time in which new connections are still taken")
	fs.DurationVar(&o.grace, "grace", 0, "after SIGTERM, longest time for running requests; 0 is no bound")
	fs.StringVar(&o.ledger, "ledger", os.Getenv("DEMO_BACKEND_LEDGER"), "`file` to append \"id method backend\" to for each delivered request with an X-Ledger-Id or X-Request-Id (default $DEMO_BACKEND_LEDGER)")
	fs.Uint64Var(&o.seed, "seed", 0, "seed of service times and faults; 0 is random")
	fs.Float64Var(&o.faults.fail, "fail-rate", 0, "share of requests answered with --fail-status")
	fs.IntVar(&o.faults.status, "fail-status", 500, "status of failed requests")
	fs.Float64Var(&o.faults.hang, "hang-rate", 0, "share of requests never answered")
	fs.Float64Var(&o.faults.close, "close-rate", 0, "share of requests whose connection is closed without an answer")
	fs.Uint64Var(&o.faults.crashAfter, "crash-after", 0, "the process dies on receiving this many requests; 0 is never")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	wrong := func(format string, v ...any) (options, error) {
		err := fmt.Errorf(format, v...)
		fmt.Fprintf(stderr, "demo-backend: %v\n", err)
		return o, err
	}
	switch {
	case fs.NArg() > 0:
		return wrong("unexpected argument %q", fs.Arg(0))
	case o.overflow != "wait" && o.overflow != "503":
		return wrong("--overflow %q: want wait or 503", o.overflow)
	case o.startMode != "503" && o.startMode != "closed":
		return wrong("--start-mode %q: want 503 or closed", o.startMode)
	case o.concurrency < 0 || o.tokens < 0:
		return wrong("--concurrency and --tokens are not negative")
	case o.faults.status < 200 || o.faults.status > 599:
		return wrong("--fail-status %d: want 200 to 599", o.faults.status)
	}
	o.addr = listenAddress(o.addr, o.port, os.Getpid())
	if o.id == "" {
		host, _ := os.Hostname()
		o.id = host + "-" + strconv.Itoa(os.Getpid())
	}
	return o, nil
}

// listenAddress joins --addr and --port. Process 1 of a container must be reachable from outside of it without
// being told; anything else stays on loopback unless --addr says otherwise.
func listenAddress(addr string, port, pid int) string {
	p := strconv.Itoa(port)
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	if addr == "" && pid != 1 {
		addr = "127.0.0.1"
	}
	return net.JoinHostPort(addr, p)
}
