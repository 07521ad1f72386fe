package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// loadResult is what `load --json` prints. Latencies are those of requests that succeeded or timed out.
type loadResult struct {
	Sent        int64            `json:"sent"`
	OK          int64            `json:"ok"`      // 2xx and 3xx
	Refused     int64            `json:"refused"` // answers with X-Sluice-Reason
	Failed      int64            `json:"failed"`  // every other answer, and errors
	DurationS   float64          `json:"duration_s"`
	Rate        float64          `json:"rate"` // sent per second
	P50         float64          `json:"p50_ms"`
	P90         float64          `json:"p90_ms"`
	P99         float64          `json:"p99_ms"`
	P999        float64          `json:"p999_ms"`
	Max         float64          `json:"max_ms"`
	RefusedP99  float64          `json:"refused_p99_ms"`
	Status      map[string]int64 `json:"status"`
	Reasons     map[string]int64 `json:"reasons"` // refusals by reason
	Errors      map[string]int64 `json:"errors"`  // requests without a whole answer, by kind
	Bytes       int64            `json:"bytes"`   // of answer bodies
	Unsent      int64            `json:"unsent"`  // due, but there was no free connection for them until the end
	Interrupted bool             `json:"interrupted,omitempty"`
}

func loadCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	cmd := newCommand("load", "[--concurrency N | --rate R | --ramp FROM:TO | --steps R,R,…] [flags] URL", stdout, stderr)
	concurrency := cmd.Int("concurrency", 0, "closed loop: requests kept under way (default 10 when no rate is given)")
	rate := cmd.Float64("rate", 0, "open loop: requests per second")
	ramp := cmd.String("ramp", "", "open loop: rate that goes evenly `FROM:TO`")
	steps := cmd.String("steps", "", "open loop: `rates` of equally long steps, separated by commas")
	poisson := cmd.Bool("poisson", false, "open loop: random instead of even distances")
	connections := cmd.Int("connections", 1000, "open loop: most connections")
	duration := cmd.Duration("duration", 30*time.Second, "how long requests are sent")
	timeout := cmd.Duration("timeout", 60*time.Second, "longest time for one request")
	method := cmd.String("method", "", "method (default GET, or POST with a body)")
	bodySize := byteSize(0)
	cmd.Var(&bodySize, "body-size", "`size` of the request body, such as 512, 64KB or 2GB")
	var fields headerFields
	cmd.Var(&fields, "H", "header `field` \"Name: value\"; may be repeated")
	insecure := cmd.Bool("insecure", false, "do not check the server's certificate")
	quiet := cmd.Bool("quiet", false, "no progress")
	if code, ok := cmd.parse(args); !ok {
		return code
	}
	if cmd.NArg() != 1 {
		return cmd.wrong("want one URL, got %q", cmd.Args())
	}
	modes := 0
	for _, given := range []bool{*concurrency != 0, *rate != 0, *ramp != "", *steps != ""} {
		if given {
			modes++
		}
	}
	switch {
	case modes > 1:
		return cmd.wrong("--concurrency, --rate, --ramp and --steps exclude each other")
	case *concurrency < 0 || *connections < 1:
		return cmd.wrong("--concurrency and --connections are at least 1")
	case *duration <= 0 || *timeout <= 0:
		return cmd.wrong("--duration and --timeout are above 0")
	}
	if modes == 0 {
		*concurrency = 10
	}
	c, err := newClient(cmd.Arg(0), *timeout)
	if err != nil {
		return cmd.wrong("%w", err)
	}
	defer c.close()
	if c.tls != nil {
		c.tls.InsecureSkipVerify = *insecure
	}
	if *method == "" {
		*method = "GET"
		if bodySize > 0 {
			*method = "POST"
		}
	}
	g := &generator{client: c, message: c.newMessage(*method, int64(bodySize), fields), tally: newTally(), workers: *concurrency}
	var sched *schedule
	if *concurrency == 0 {
		sh, err := parseShape(*rate, *ramp, *steps, *duration)
		if err != nil {
			return cmd.wrong("%w", err)
		}
		sched = &schedule{shape: sh, poisson: *poisson}
		g.workers = *connections
	}

	var p *progress
	if !*quiet {
		p = startProgress(stderr, g)
	}
	begin := time.Now()
	var unsent int64
	if sched != nil {
		unsent = g.open(ctx, sched)
	} else {
		g.closed(ctx, *duration)
	}
	took := time.Since(begin)
	p.stop()
	r := newLoadResult(g.tally, took)
	r.Unsent, r.Interrupted = unsent, ctx.Err() != nil
	return cmd.report(r, r.Sent > 0)
}

func newLoadResult(t *tally, took time.Duration) loadResult {
	c, _ := t.look()
	r := loadResult{
		Sent: c.sent, OK: c.ok, Refused: c.refused, Failed: c.failed, Bytes: c.bytes,
		DurationS: took.Seconds(), Rate: float64(c.sent) / took.Seconds(),
		P50: milliseconds(t.percentile(50)), P90: milliseconds(t.percentile(90)), P99: milliseconds(t.percentile(99)), P999: milliseconds(t.percentile(99.9)),
		Max: milliseconds(t.percentile(100)), RefusedP99: milliseconds(t.refusedPercentile(99)),
		Status: map[string]int64{}, Reasons: c.reasons, Errors: c.errors,
	}
	for s, n := range c.status {
		r.Status[strconv.Itoa(s)] = n
	}
	if r.Reasons == nil {
		r.Reasons = map[string]int64{}
	}
	if r.Errors == nil {
		r.Errors = map[string]int64{}
	}
	return r
}

func (r loadResult) print(w io.Writer) {
	fmt.Fprintf(w, "sent      %d in %.1fs (%.1f/s)\n", r.Sent, r.DurationS, r.Rate)
	fmt.Fprintf(w, "ok        %d\nrefused   %d%s\nfailed    %d%s\n", r.OK, r.Refused, list(r.Reasons), r.Failed, list(r.Errors))
	fmt.Fprintf(w, "status   %s\n", list(r.Status))
	fmt.Fprintf(w, "latency   p50 %.1f ms, p90 %.1f ms, p99 %.1f ms, p99.9 %.1f ms, max %.1f ms\n", r.P50, r.P90, r.P99, r.P999, r.Max)
	if r.Unsent > 0 {
		fmt.Fprintf(w, "unsent    %d: every connection was waiting; the latencies above are too good (see --connections)\n", r.Unsent)
	}
}

// list writes counts as " (a 1, b 2)", sorted by name; "" when there are none.
func list[N int | int64](m map[string]N) string {
	if len(m) == 0 {
		return ""
	}
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, fmt.Sprintf("%s %d", k, m[k]))
	}
	return " (" + strings.Join(parts, ", ") + ")"
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// headerFields is a flag that may be repeated.
type headerFields []string

func (h *headerFields) String() string { return strings.Join(*h, ", ") }

func (h *headerFields) Set(s string) error {
	name, value, ok := strings.Cut(s, ":")
	if !ok || name == "" || strings.ContainsAny(s, "\r\n") || strings.ContainsAny(name, " \t") {
		return errors.New(`want "Name: value"`)
	}
	*h = append(*h, name+": "+strings.TrimSpace(value))
	return nil
}

// byteSize is a flag for sizes; KB, MB and GB are powers of 1024.
type byteSize int64

func (b *byteSize) String() string { return strconv.FormatInt(int64(*b), 10) }

func (b *byteSize) Set(s string) error {
	unit := int64(1)
	digits := strings.ToUpper(s)
	for i, suffix := range []string{"KB", "MB", "GB"} {
		if d, ok := strings.CutSuffix(digits, suffix); ok {
			digits, unit = d, 1<<(10*(i+1))
		}
	}
	n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return errors.New("want a size such as 512, 64KB or 2GB")
	}
	*b = byteSize(n * unit)
	return nil
}
