package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// stream measures how much later an event arrives through a peer than without one, and what the peer needs for it.
func (b *peersBench) stream(ctx context.Context, p peer, w workload) (s peerSample, err error) {
	_, port, err := net.SplitHostPort(b.backend.addrs[0])
	if err != nil {
		return s, err
	}
	direct, err := strconv.Atoi(port)
	if err != nil {
		return s, err
	}
	n := max(5, int(b.duration/eventInterval))
	alone, err := b.readEvents(ctx, direct, w.connections, n)
	if err != nil {
		return s, fmt.Errorf("without a proxy: %w", err)
	}
	proc, err := b.start(ctx, p, w)
	if err != nil {
		return s, err
	}
	defer proc.stop()
	before, err := readUsage(proc.cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	through, err := b.readEvents(ctx, proc.front, w.connections, n)
	if err != nil {
		return s, err
	}
	after, err := readUsage(proc.cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	count := float64(w.connections * n)
	ms := func(h *hdrhistogram.Histogram, p float64) float64 { return milliseconds(quantile(h, p)) }
	return peerSample{cpu: float64(after.cpu-before.cpu) / 1e3 / count, switches: float64(after.switches-before.switches) / count,
		rss: float64(after.rss) / 1024, p50: ms(through, 50), p99: ms(through, 99), p999: ms(through, 99.9),
		added: ms(through, 50) - ms(alone, 50)}, nil
}

// readEvents reads streams of n events each, all of which must come, in order. It returns how old they were, in µs.
func (b *peersBench) readEvents(ctx context.Context, port, streams, n int) (*hdrhistogram.Histogram, error) {
	ages := make([]*hdrhistogram.Histogram, streams)
	g, ctx := errgroup.WithContext(ctx)
	for i := range ages {
		ages[i] = newHistogram()
		g.Go(func() error { return b.readStream(ctx, port, n, ages[i]) })
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	for _, h := range ages[1:] {
		ages[0].Merge(h)
	}
	return ages[0], nil
}

func (b *peersBench) readStream(ctx context.Context, port, n int, ages *hdrhistogram.Histogram) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), 2*time.Second)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if err := conn.SetDeadline(time.Now().Add(time.Duration(n)*eventInterval + answerTimeout)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(conn, "GET /events?n=%d HTTP/1.1\r\nHost: www.example.com\r\nAccept: text/event-stream\r\n\r\n", n); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	body := bufio.NewReader(resp.Body)
	for i := 0; ; {
		line, err := body.ReadString('\n')
		if errors.Is(err, io.EOF) && line == "" && i == n {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d of %d events: %w", i, n, err)
		}
		if line == "\n" {
			continue
		}
		number, sent, _ := strings.Cut(strings.TrimSuffix(strings.TrimPrefix(line, "data: "), "\n"), " ")
		ns, err := strconv.ParseInt(sent, 10, 64)
		if err != nil || number != strconv.Itoa(i) {
			return fmt.Errorf("event %d is %q", i, line)
		}
		_ = ages.RecordValue(max(1, (time.Since(b.backend.epoch) - time.Duration(ns)).Microseconds()))
		i++
	}
}
