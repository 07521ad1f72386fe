package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// h2loadPackage is Debian's package with h2load, the load of HTTP/2.
const h2loadPackage = "nghttp2-client"

func findH2load() (string, error) {
	path, err := exec.LookPath("h2load")
	if err != nil {
		return "", fmt.Errorf("h2load is not installed: apt-get install --no-install-recommends %s", h2loadPackage)
	}
	return path, nil
}

// multiplex is saturate with HTTP/2.
func (b *peersBench) multiplex(ctx context.Context, p peer, w workload) (s peerSample, err error) {
	proc, err := b.start(ctx, p, w)
	if err != nil {
		return s, err
	}
	defer proc.stop()
	// h2load is told how many requests to send: as many as fit into the time, by what came out so far.
	count := 50 * w.connections * w.streams
	for range 2 {
		f, err := b.h2loadRun(ctx, proc, w, count, 0)
		if err != nil {
			return s, fmt.Errorf("warming up: %w", err)
		}
		count = max(w.connections*w.streams, int(float64(f.requests)/f.took.Seconds()*b.duration.Seconds()/5))
	}
	before, err := readUsage(proc.cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	f, err := b.h2loadRun(ctx, proc, w, 5*count, 0)
	if err != nil {
		return s, err
	}
	after, err := readUsage(proc.cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	n := float64(f.requests)
	return peerSample{cpu: float64(after.cpu-before.cpu) / 1e3 / n, switches: float64(after.switches-before.switches) / n,
		rps: n / f.took.Seconds(), busy: float64(after.cpu-before.cpu) / float64(f.took), rss: float64(after.rss) / 1024}, nil
}

// paceMultiplexed is pace with HTTP/2. h2load counts from when a request was sent, so what was sent late is not in it.
func (b *peersBench) paceMultiplexed(ctx context.Context, p peer, w workload, rate float64) (s peerSample, err error) {
	proc, err := b.start(ctx, p, w)
	if err != nil {
		return s, err
	}
	defer proc.stop()
	if _, err := b.h2loadRun(ctx, proc, w, 50*w.connections*w.streams, 0); err != nil {
		return s, fmt.Errorf("warming up: %w", err)
	}
	f, err := b.h2loadRun(ctx, proc, w, max(w.connections, int(rate*b.duration.Seconds())), rate)
	if err != nil {
		return s, err
	}
	return peerSample{p50: milliseconds(quantile(f.latency, 50)), p99: milliseconds(quantile(f.latency, 99)), p999: milliseconds(quantile(f.latency, 99.9))}, nil
}

// h2loadRun sends count requests, at rate or, when that is 0, each stream the next one as soon as it has its answer. Every answer must
// be there, of status 2xx and of the right length, over the protocol and the TLS that w names.
func (b *peersBench) h2loadRun(ctx context.Context, proc *peerProcess, w workload, count int, rate float64) (loadFigures, error) {
	// A run takes b.duration unless something is wrong or the machine very busy.
	ctx, cancel := context.WithTimeout(ctx, 10*b.duration+answerTimeout)
	defer cancel()
	scheme := "http"
	if w.tls {
		scheme = "https"
	}
	args := []string{"-n", strconv.Itoa(count), "-c", strconv.Itoa(w.connections), "-m", strconv.Itoa(w.streams), "-t", "1",
		"-H", ":authority: www.example.com", "--groups=X25519", "--tls13-ciphers=TLS_AES_128_GCM_SHA256", "--npn-list=h2"}
	log := filepath.Join(proc.dir, "h2load")
	if rate > 0 {
		args = append(args, fmt.Sprintf("--rps=%.3f", rate/float64(w.connections)), "--log-file="+log)
	}
	cmd := exec.CommandContext(ctx, b.h2load, append(args, scheme+"://"+net.JoinHostPort("127.0.0.1", strconv.Itoa(proc.front))+w.target)...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := startPinned(cmd, b.cores.load); err != nil {
		return loadFigures{}, err
	}
	if err := cmd.Wait(); err != nil {
		return loadFigures{}, fmt.Errorf("h2load: %w\n%s", errors.Join(ctx.Err(), err), out.Bytes()[:min(out.Len(), 2000)])
	}
	f, err := readH2load(out.String(), w, int64(count))
	if err == nil && rate > 0 {
		err = f.readLog(log)
	}
	return f, err
}

var h2loadReport = struct{ took, requests, statuses, data, version, protocol *regexp.Regexp }{
	regexp.MustCompile(`(?m)^finished in ([0-9.]+)(us|ms|s|m|h),`),
	regexp.MustCompile(`(?m)^requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout$`),
	regexp.MustCompile(`(?m)^status codes: (\d+) 2xx, (\d+) 3xx, (\d+) 4xx, (\d+) 5xx$`),
	regexp.MustCompile(`(?m)^traffic: .* \((\d+)\) data$`),
	regexp.MustCompile(`(?m)^TLS Protocol: (.*)$`),
	regexp.MustCompile(`(?m)^Application protocol: (.*)$`),
}

// readH2load takes what h2load reports of count requests, and tells what was wrong with any of them.
func readH2load(report string, w workload, count int64) (loadFigures, error) {
	find := func(r *regexp.Regexp) []string { return append(r.FindStringSubmatch(report), make([]string, 8)...)[1:] }
	number := func(s string) int64 {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return -1
		}
		return n
	}
	took, requests, statuses := find(h2loadReport.took), find(h2loadReport.requests), find(h2loadReport.statuses)
	protocol, version := "h2c", ""
	if w.tls {
		protocol, version = "h2", "TLSv1.3"
	}
	f := loadFigures{requests: number(statuses[0])}
	var err error
	if f.took, err = time.ParseDuration(took[0] + took[1]); err != nil {
		return f, fmt.Errorf("h2load reports no time: %q", report)
	}
	switch data := number(find(h2loadReport.data)[0]); {
	case number(requests[3]) != count || f.requests != count:
		return f, fmt.Errorf("of %d requests %s were answered with 2xx; %s done, %s failed, %s errored, %s timed out; statuses: %s 2xx, %s 3xx, %s 4xx, %s 5xx",
			count, requests[3], requests[2], requests[4], requests[5], requests[6], statuses[0], statuses[1], statuses[2], statuses[3])
	case data != count*w.answer:
		return f, fmt.Errorf("%d answers have %d bytes together instead of %d", count, data, count*w.answer)
	case find(h2loadReport.protocol)[0] != protocol:
		return f, fmt.Errorf("protocol %q instead of %s", find(h2loadReport.protocol)[0], protocol)
	case find(h2loadReport.version)[0] != version:
		return f, fmt.Errorf("version of TLS %q instead of %q", find(h2loadReport.version)[0], version)
	}
	return f, nil
}

// readLog takes the latencies, one line for each request: when it was sent, the status, µs until its answer was complete.
func (f *loadFigures) readLog(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	f.latency = newHistogram()
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		columns := strings.Split(lines.Text(), "\t")
		if len(columns) < 3 {
			return fmt.Errorf("h2load logs %q", lines.Text())
		}
		us, err := strconv.ParseInt(columns[2], 10, 64)
		if err != nil {
			return fmt.Errorf("h2load logs %q", lines.Text())
		}
		_ = f.latency.RecordValue(max(1, min(us, maxLatency.Microseconds())))
	}
	if n := f.latency.TotalCount(); n != f.requests {
		return fmt.Errorf("h2load logs %d of %d requests", n, f.requests)
	}
	return nil
}
