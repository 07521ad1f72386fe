package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// peerSample is what one measurement of one peer gave. What a workload does not measure is 0.
type peerSample struct {
	cpu      float64 // µs per request
	switches float64 // of context, per request
	rps      float64 // requests a second at saturation
	busy     float64 // processors that the peer used meanwhile, on average
	rss      float64 // KiB, at the end of the load
	idle     float64 // KiB per idle connection
	streams  float64 // that were held

	p50, p99, p999 float64 // ms
	added          float64 // ms: p50 beyond that without a proxy
}

// peersBench runs one measurement after the other.
type peersBench struct {
	dir      string
	backend  *backend
	cores    cores
	programs map[string]string // by peer
	duration time.Duration     // of a measurement

	certificate    certificate
	h2load         string // path of the program; "" when no workload needs it
	http2Directive bool   // of the nginx that is measured
	descriptors    int    // that a process may have open
}

// saturate measures what a peer needs for a request, and how many it can do.
func (b *peersBench) saturate(ctx context.Context, p peer, w workload) (s peerSample, err error) {
	err = b.with(ctx, p, w, func(proc *peerProcess, l *loader) error {
		before, err := readUsage(proc.cmd.Process.Pid)
		if err != nil {
			return err
		}
		f := l.run(ctx, b.duration, 0)
		after, err := readUsage(proc.cmd.Process.Pid)
		if err != nil {
			return err
		}
		if err := f.check(); err != nil {
			return err
		}
		n := float64(f.requests)
		s = peerSample{cpu: float64(after.cpu-before.cpu) / 1e3 / n, switches: float64(after.switches-before.switches) / n,
			rps: n / f.took.Seconds(), busy: float64(after.cpu-before.cpu) / float64(f.took), rss: float64(after.rss) / 1024}
		return nil
	})
	return s, err
}

// pace measures how long answers take at a rate that every peer can bear.
func (b *peersBench) pace(ctx context.Context, p peer, w workload, rate float64) (s peerSample, err error) {
	err = b.with(ctx, p, w, func(_ *peerProcess, l *loader) error {
		f := l.run(ctx, b.duration, rate)
		if err := f.check(); err != nil {
			return err
		}
		s.p50, s.p99, s.p999 = milliseconds(quantile(f.latency, 50)), milliseconds(quantile(f.latency, 99)), milliseconds(quantile(f.latency, 99.9))
		return nil
	})
	return s, err
}

// with starts the peer and connections to it, lets both warm up, and calls measure.
func (b *peersBench) with(ctx context.Context, p peer, w workload, measure func(*peerProcess, *loader) error) error {
	proc, err := b.start(ctx, p, w)
	if err != nil {
		return err
	}
	defer proc.stop()
	var secure *tls.Config
	if w.tls {
		secure = b.certificate.client()
	}
	l, err := newLoader(proc.front, w.request(), w.answer, w.connections, w.kind == single, secure)
	if err != nil {
		return err
	}
	defer l.close()
	if err := l.run(ctx, max(b.duration/5, 100*time.Millisecond), 0).check(); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	return measure(proc, l)
}

// check wants answers, and all of them right.
func (f loadFigures) check() error {
	if len(f.errors) > 0 {
		return fmt.Errorf("%d answers were right, but%s%s", f.requests, list(f.errors), fullTable("/proc/sys/net/netfilter"))
	}
	if f.requests == 0 {
		return errors.New("no request was answered")
	}
	return nil
}

// fullTable is a hint where the kernel follows about as many connections as it can, and drops the first packet of others: it remembers
// each for two minutes after its end, and a row with a connection for each request makes thousands a second. dir holds its figures.
func fullTable(dir string) string {
	var figures [2]int
	for i, name := range []string{"nf_conntrack_count", "nf_conntrack_max"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "" // it follows none
		}
		if figures[i], err = strconv.Atoi(strings.TrimSpace(string(text))); err != nil {
			return ""
		}
	}
	if now, most := figures[0], figures[1]; now > most*9/10 {
		return fmt.Sprintf("; the kernel's table of connections is full (%d of %d, sysctl net.netfilter.nf_conntrack_max): wait for two minutes", now, most)
	}
	return ""
}
