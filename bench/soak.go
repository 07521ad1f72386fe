package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// soakResult is what `soak --json` prints.
type soakResult struct {
	balance
	Faults    map[string]int   `json:"faults"` // how often each was done
	Reasons   map[string]int64 `json:"reasons"`
	Errors    map[string]int64 `json:"errors"`
	P50       float64          `json:"p50_ms"`
	P99       float64          `json:"p99_ms"`
	DurationS float64          `json:"duration_s"`
	Seed      uint64           `json:"seed"`
	Problems  []string         `json:"problems"` // faults that could not be done, a gateway that did not end well
}

// target is what a soak is run against.
type target struct {
	url    string
	book   string // file to which the servers write what was delivered to them
	faults map[string]func(context.Context, *rand.Rand) error
	// struck tells whether the server that calls itself so in X-Backend was killed or frozen; nil: none ever is.
	struck func(backend string) bool
	// calm undoes what faults have left behind; stop ends the target and says what was wrong.
	calm func(context.Context) error
	stop func() error
}

func soakCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	c := newCommand("soak", "[flags]", stdout, stderr)
	duration := c.Duration("duration", 30*time.Second, "how long requests are sent")
	faults := c.String("faults", "reload,kill,scale,stop", "`faults`, separated by commas: reload (configuration), kill (-9 of a replica), scale (pin up and down), stop (SIGSTOP of a replica for 3s); none for no fault")
	every := c.Duration("every", 2*time.Second, "time between two faults")
	control := c.Bool("control", false, "run against fasthttp's own Shutdown instead of sluice: the soak must then fail")
	concurrency := c.Int("concurrency", 16, "requests under way")
	seed := c.Uint64("seed", 0, "`seed` of faults and requests; 0 is random")
	if code, ok := c.parse(args); !ok {
		return code
	}
	if c.NArg() > 0 || *duration <= 0 || *every <= 0 || *concurrency < 1 {
		return c.wrong("want no arguments; --duration, --every and --concurrency are above 0")
	}
	if *seed == 0 {
		*seed = rand.Uint64() >> 12 // few enough digits for every reader of JSON
	}
	known := []string{"reload", "kill", "scale", "stop"}
	if *control {
		*faults, known = "shutdown", []string{"shutdown"}
	}
	var names []string
	for name := range strings.SplitSeq(*faults, ",") {
		if name = strings.TrimSpace(name); name == "" || name == "none" {
			continue
		}
		if !strings.Contains(" "+strings.Join(known, " ")+" ", " "+name+" ") {
			return c.wrong("unknown fault %q; there are %s", name, strings.Join(known, ", "))
		}
		names = append(names, name)
	}
	w, err := newWorkshop()
	if err != nil {
		return c.failed(err)
	}
	defer w.close()
	var t *target
	if *control {
		t, err = startControl(w.dir)
	} else {
		t, err = startSoakGateway(ctx, w, stderr)
	}
	if err != nil {
		return c.failed(err)
	}
	r, err := soak(ctx, t, soakPlan{duration: *duration, every: *every, faults: names, workers: *concurrency, seed: *seed}, stderr)
	if err != nil {
		return c.failed(err)
	}
	return c.report(r, r.clean() && len(r.Problems) == 0)
}

func (r soakResult) print(w io.Writer) {
	fmt.Fprintf(w, "sent %d in %.1fs: succeeded %d, refused %d%s of which idempotent %d, cut with their server %d, lost %d%s\n", r.Sent, r.DurationS, r.Succeeded, r.Refused, list(r.Reasons), r.RefusedIdempotent, r.Cut, r.Lost, list(r.Errors))
	fmt.Fprintf(w, "duplicated %d, crossed %d, refused though delivered %d, succeeded though not delivered %d; repeated idempotent ones %d\n",
		r.Duplicated, r.Crossed, r.RefusedDelivered, r.Undelivered, r.Repeated)
	fmt.Fprintf(w, "latency p50 %.1f ms, p99 %.1f ms; seed %d; faults%s\n", r.P50, r.P99, r.Seed, list(r.Faults))
	for _, p := range r.Problems {
		fmt.Fprintf(w, "WRONG %s\n", p)
	}
}

type soakPlan struct {
	duration, every time.Duration
	faults          []string
	workers         int
	seed            uint64
}

// soak sends requests while faults happen, ends the target, and joins the books. It always stops the target.
func soak(ctx context.Context, t *target, p soakPlan, progress io.Writer) (soakResult, error) {
	r := soakResult{Seed: p.seed, Faults: map[string]int{}, Problems: []string{}}
	c, err := newClient(t.url, time.Minute)
	if err != nil {
		return r, errors.Join(err, t.stop())
	}
	book := &ledger{run: "soak" + strconv.FormatUint(p.seed, 36)}
	tally := newTally()
	begin := time.Now()
	end := begin.Add(p.duration)
	var wg sync.WaitGroup
	for i := range p.workers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(p.seed, uint64(i)))
			resp := fasthttp.AcquireResponse()
			defer fasthttp.ReleaseResponse(resp)
			for time.Now().Before(end) && ctx.Err() == nil {
				soakRequest(c, t, book, tally, rng, resp)
			}
		})
	}
	finished := make(chan struct{})
	go func() { wg.Wait(); close(finished) }()
	shown := startProgress(progress, &generator{client: c, tally: tally})
	rng := rand.New(rand.NewPCG(p.seed, 1<<63))
	tick := time.NewTicker(p.every)
	defer tick.Stop()
	for over := false; !over; {
		select {
		case <-finished:
			over = true
		case <-tick.C:
			if len(p.faults) == 0 || !time.Now().Before(end) {
				continue
			}
			name := p.faults[rng.IntN(len(p.faults))]
			if err := t.faults[name](ctx, rng); err != nil && ctx.Err() == nil {
				r.Problems = append(r.Problems, name+": "+err.Error())
				continue
			}
			r.Faults[name]++
		}
	}
	shown.stop()
	c.close()
	if err := t.calm(context.WithoutCancel(ctx)); err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	if err := t.stop(); err != nil {
		r.Problems = append(r.Problems, err.Error())
	}
	l := newLoadResult(tally, time.Since(begin))
	r.Reasons, r.Errors, r.P50, r.P99, r.DurationS = l.Reasons, l.Errors, l.P50, l.P99, l.DurationS
	f, err := os.Open(t.book)
	if err != nil {
		return r, err
	}
	defer f.Close()
	r.balance, err = book.join(f)
	return r, err
}

// soakRequest sends one request, of which about half are POSTs, some large and some answered with a stream of
// tokens, and enters what became of it.
func soakRequest(c *client, t *target, book *ledger, counted *tally, rng *rand.Rand, resp *fasthttp.Response) {
	kind := rng.IntN(20)
	method, path, size := "GET", "/echo?work=20ms", 0
	switch {
	case kind == 0:
		method, path = "POST", "/v1/chat/completions"
	case kind == 1:
		method, size = "POST", 100_000+rng.IntN(100_000)
	case kind < 10:
		method, size = "POST", 1+rng.IntN(8000)
	}
	n, id := book.open(method == "POST")
	m := message{}
	stream := path == "/v1/chat/completions"
	if stream {
		m.body = []byte(`{"stream":true,"max_tokens":5}`)
	} else if size > 0 {
		m.body = bytes.Repeat([]byte(id+" "), size/len(id)+1)[:size]
	}
	m.size = int64(len(m.body))
	m.head = fmt.Appendf(nil, "%s %s HTTP/1.1\r\nHost: %s\r\nX-Ledger-Id: %s\r\n", method, path, c.host, id)
	if method == "POST" {
		m.head = fmt.Appendf(m.head, "Content-Length: %d\r\n", m.size)
	}
	m.head = append(m.head, "\r\n"...)
	var body bytes.Buffer
	begin := time.Now()
	length, err := c.do(m, resp, &body)
	o := newOutcome(resp, length, err, time.Since(begin))
	counted.add(o)
	f := lost
	switch {
	case err != nil:
		// The fields of an answer that had begun are there; without one they are empty.
		if backend := string(resp.Header.Peek("X-Backend")); backend != "" && t.struck != nil && t.struck(backend) {
			f = cutByFault
		}
	case o.refused():
		f = refusedLate
		if notPassedOn[o.reason] {
			f = refusedEarly
		}
	case string(resp.Header.Peek("X-Ledger-Id")) != id:
		f = crossed
	case !o.ok():
	case stream && bytes.HasSuffix(body.Bytes(), []byte("data: [DONE]\n\n")), !stream && bytes.Equal(body.Bytes(), m.body):
		f = succeeded
	case stream: // ended properly, but early
	default:
		f = crossed
	}
	book.close(n, f)
}

// soakConfig is the configuration of a soak; two ports, the pid file and the servers' book are filled in.
const soakConfig = `# %[5]s
listen = ["127.0.0.1:%[1]d"]
pid = %[3]q

[admin]
listen = "127.0.0.1:%[2]d"

[log]
access = "off"

[engine]
kind = "none"

[[route]]
upstream = "soak"

[upstream.soak]
process = { command = ["$SLUICE", "demo-backend", "--port", "$PORT", "--concurrency", "0", "--token-time", "5ms", "--ledger", %[4]q] }
max_conns = 8
health_check = { path = "/healthz", interval = "1s" }
scale = { min = 2, max = 5, in_flight_per_replica = 6, cooldown_down = "5s" }
`

// startSoakGateway builds sluice and starts it with replicas that keep a book.
func startSoakGateway(ctx context.Context, w *workshop, screen io.Writer) (*target, error) {
	if err := w.build(ctx, screen); err != nil {
		return nil, err
	}
	ports, err := freePorts(2)
	if err != nil {
		return nil, err
	}
	port, adminPort := ports[0], ports[1]
	t := &target{url: fmt.Sprintf("http://127.0.0.1:%d/", port), book: filepath.Join(w.dir, "delivered")}
	if err := os.WriteFile(t.book, nil, 0o644); err != nil {
		return nil, err
	}
	configFile := filepath.Join(w.dir, "config.toml")
	generation := 0
	write := func() error {
		generation++
		text := fmt.Sprintf(soakConfig, port, adminPort, filepath.Join(w.dir, "sluice.pid"), t.book, fmt.Sprint("generation ", generation))
		return os.WriteFile(configFile, []byte(text), 0o644)
	}
	if err := write(); err != nil {
		return nil, err
	}
	s, err := readSettings(configFile)
	if err != nil {
		return nil, err
	}
	g, err := w.launch(ctx, configFile, s)
	if err != nil {
		return nil, err
	}
	f := &gatewayFaults{g: g, write: write}
	t.faults = map[string]func(context.Context, *rand.Rand) error{"reload": f.reload, "kill": f.kill, "scale": f.scale, "stop": f.stop}
	t.calm, t.struck = f.calm, f.hasStruck
	t.stop = func() error { return g.stop(stopGrace) }
	return t, nil
}
