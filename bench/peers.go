package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

func peersCommand(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("bench peers", flag.ContinueOnError)
	fs.SetOutput(stderr)
	rounds := fs.Int("rounds", 5, "how often each peer is measured; their order alternates")
	duration := fs.Duration("duration", 3*time.Second, "of each measurement")
	workloadNames := fs.String("workloads", "", "`names`, separated by commas (default all)")
	peerNames := fs.String("peers", "", "`names`, separated by commas (default all that are installed); sluice-large has 10,000 routes and servers besides")
	coresFlag := fs.String("cores", "one", "one: the proxy has a core, load and servers another; both: two cores for everything")
	binary := fs.String("sluice", "", "`path` of a sluice to measure (default: it is built from this module)")
	svg := fs.String("svg", "", "`file` for a picture of the ratios")
	asJSON := fs.Bool("json", false, "print one JSON object")
	if err := fs.Parse(args); errors.Is(err, flag.ErrHelp) {
		return 0
	} else if err != nil {
		return 2
	}
	fail := func(code int, err error) int {
		fmt.Fprintf(stderr, "bench peers: %v\n", err)
		return code
	}
	if fs.NArg() > 0 || *rounds < 1 || *rounds > 100 || *duration < 100*time.Millisecond || *duration > time.Minute || *coresFlag != "one" && *coresFlag != "both" {
		return fail(2, errors.New("want no arguments; --rounds is 1 to 100, --duration 100ms to 1m, --cores one or both"))
	}
	picked, err := pickWorkloads(*workloadNames)
	if err != nil {
		return fail(2, err)
	}
	ps, err := pickPeers(*peerNames)
	if err != nil {
		return fail(2, err)
	}
	b := &peersBench{duration: *duration, programs: map[string]string{}}
	if b.cores, err = chooseCores(*coresFlag == "both"); err != nil {
		return fail(1, err)
	}
	if picked, err = b.findLoad(picked, stderr); err != nil {
		return fail(1, err)
	}
	if b.descriptors, err = raiseDescriptors(descriptorsOf(picked)); err != nil {
		return fail(1, err)
	}
	if b.dir, err = os.MkdirTemp("", "sluice-bench-peers-"); err != nil {
		return fail(1, err)
	}
	defer os.RemoveAll(b.dir)
	if ps, err = b.findPrograms(ctx, ps, *binary, stderr); err != nil {
		return fail(1, err)
	}
	if b.certificate, err = makeCertificate(b.dir); err != nil {
		return fail(1, err)
	}
	if b.backend, err = startBackend(); err != nil {
		return fail(1, err)
	}
	defer b.backend.stop()
	undo, err := pinSelf(b.cores.load)
	if err != nil {
		return fail(1, err)
	}
	defer undo()
	// The load's thread waits in the kernel most of the time; the servers' need processors of Go's own meanwhile.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(4))

	failed := false
	var rows []peerRow
	for _, w := range picked {
		got := b.measure(ctx, w, ps, *rounds, stderr)
		if ctx.Err() != nil {
			break
		}
		failed = failed || slices.ContainsFunc(got, func(r peerRow) bool { return r.Error != "" })
		rows = append(rows, got...)
	}
	if *svg != "" && ctx.Err() == nil {
		if err := writePicture(*svg, rows, fmt.Sprintf("in units of %s's; median and least to most of %d rounds of %v; the proxy on %s", baseOf(ps), *rounds, *duration, map[string]string{"one": "one core", "both": "two cores with load and servers"}[*coresFlag])); err != nil {
			return fail(1, err)
		}
	}
	if *asJSON {
		err = json.NewEncoder(stdout).Encode(map[string]any{"rows": rows, "cores": *coresFlag, "duration_s": duration.Seconds()})
	} else {
		printRows(stdout, rows)
	}
	if err != nil || failed || ctx.Err() != nil {
		return 1
	}
	return 0
}

func writePicture(file string, rows []peerRow, subtitle string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(drawRows(f, rows, subtitle), f.Close())
}

// findPrograms leaves out peers that are not installed, and says how to get them. sluice is built when no binary is given.
func (b *peersBench) findPrograms(ctx context.Context, ps []peer, binary string, stderr io.Writer) (found []peer, err error) {
	for _, p := range ps {
		path := binary
		if p.program != "" {
			if path, err = p.find(); err != nil {
				fmt.Fprintf(stderr, "without %s: %v\n", p.name, err)
				continue
			}
		} else if path == "" {
			shop := workshop{dir: b.dir}
			if err := shop.build(ctx, stderr); err != nil {
				return nil, err
			}
			path = shop.binary
		}
		if p.name == "nginx" {
			b.http2Directive = hasHTTP2Directive(ctx, path)
		}
		b.programs[p.name] = path
		found = append(found, p)
	}
	if len(found) == 0 {
		return nil, errors.New("none of the peers is installed")
	}
	return found, nil
}

// findLoad leaves out workloads whose load is not installed, and says how to get it.
func (b *peersBench) findLoad(ws []workload, stderr io.Writer) (found []workload, err error) {
	for _, w := range ws {
		if w.kind == multiplexed && b.h2load == "" {
			path, err := findH2load()
			if err != nil {
				fmt.Fprintf(stderr, "without %s: %v\n", w.name, err)
				continue
			}
			b.h2load = path
		}
		found = append(found, w)
	}
	if len(found) == 0 {
		return nil, errors.New("the load for none of the workloads is installed")
	}
	return found, nil
}

// measure is all rounds of one workload. A peer that fails once is out, and its row says why.
func (b *peersBench) measure(ctx context.Context, w workload, ps []peer, rounds int, progress io.Writer) (rows []peerRow) {
	ps = slices.DeleteFunc(slices.Clone(ps), func(p peer) bool {
		without := p.plain && (w.tls || w.kind == multiplexed)
		if without {
			fmt.Fprintf(progress, "%s: without %s, whose configuration here has neither TLS nor HTTP/2\n", w.title, p.name)
		}
		return without
	})
	if n := streamsWithin(b.descriptors); w.kind == held && n < w.connections {
		fmt.Fprintf(progress, "%s: %d, as %d descriptors are allowed and all need %d (ulimit -Hn)\n", w.title, n, b.descriptors, descriptorsFor(w.connections))
	}
	samples := map[string][]peerSample{}
	broken := map[string]error{}
	each := func(what string, do func(p peer, round int) error) {
		for round := range rounds {
			order := slices.Clone(ps)
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, p := range order {
				if broken[p.name] != nil || ctx.Err() != nil {
					continue
				}
				if err := do(p, round); err != nil {
					broken[p.name] = err
				}
			}
			fmt.Fprintf(progress, "%s: %s, round %d of %d\n", w.title, what, round+1, rounds)
		}
	}
	measure, pace := b.saturate, b.pace
	switch w.kind {
	case events:
		measure = b.stream
	case idle:
		measure = b.rest
	case multiplexed:
		measure, pace = b.multiplex, b.paceMultiplexed
	case held:
		measure = b.hold
	}
	each("load", func(p peer, _ int) error {
		s, err := measure(ctx, p, w)
		samples[p.name] = append(samples[p.name], s)
		return err
	})
	rate := 0.0
	for _, p := range ps {
		if r := newPeerRow(w, p.name, samples[p.name], nil); broken[p.name] == nil && (rate == 0 || r.RPS < rate) {
			rate = r.RPS
		}
	}
	if rate *= shareOfSlowest; rate > 0 {
		each("latency", func(p peer, round int) error {
			s, err := pace(ctx, p, w, rate)
			at := &samples[p.name][round]
			at.p50, at.p99, at.p999 = s.p50, s.p99, s.p999
			return err
		})
	}
	base := baseOf(ps)
	for _, p := range ps {
		r := peerRow{Workload: w.name, Peer: p.name, title: w.title}
		if err := broken[p.name]; err != nil {
			r.Error = strings.ReplaceAll(err.Error(), "\n", "; ")
		} else {
			ofBase := samples[base]
			if broken[base] != nil {
				ofBase = nil
			}
			r = newPeerRow(w, p.name, samples[p.name], ofBase)
			r.Rate = rate
		}
		rows = append(rows, r)
	}
	return rows
}

// shareOfSlowest: latencies are measured at this share of what the slowest peer can do.
const shareOfSlowest = 0.7
