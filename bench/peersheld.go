package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// heldGoal is the most memory that sluice may hold for the 9,000 streams of sse-9000, in bytes.
const heldGoal = 200 << 20

// heldInterval is the time between two events of a stream that is held; shorter when the measurement is.
const heldInterval = 2 * time.Second

// hold measures the memory of a peer while streams of events are open through it, each with an event now and then. It is that of the
// peer's processes when every stream has been open for b.duration or longer and has had two events.
func (b *peersBench) hold(ctx context.Context, p peer, w workload) (s peerSample, err error) {
	w.connections = min(w.connections, streamsWithin(b.descriptors))
	every := min(heldInterval, b.duration)
	proc, err := b.start(ctx, p, w)
	if err != nil {
		return s, err
	}
	// The servers find out with the next event of each stream, and the next peer needs the descriptors.
	defer b.backend.waitSilent(every + answerTimeout)
	defer proc.stop()
	ctx, cancel := context.WithCancel(ctx)
	g, streams := errgroup.WithContext(ctx)
	defer func() { cancel(); _ = g.Wait() }() // every stream has gone before the peer is stopped
	var open, twice atomic.Int64
	opening := make(chan struct{}, 64) // no more than the backlog of any listener bears
	for range w.connections {
		g.Go(func() error {
			select {
			case opening <- struct{}{}:
			case <-streams.Done():
				return streams.Err()
			}
			return holdStream(streams, proc.front, every, func(event int) {
				switch event {
				case 0:
					open.Add(1)
					<-opening
				case 1:
					twice.Add(1)
				}
			})
		})
	}
	// Each stream needs its own time when the machine is busy; that all take this long means that some do not come at all.
	deadline := time.Now().Add(b.duration + every + 8*answerTimeout)
	wait := func(reached *atomic.Int64, what string) error {
		for reached.Load() < int64(w.connections) {
			if time.Now().After(deadline) {
				return fmt.Errorf("%d of %d streams %s", reached.Load(), w.connections, what)
			}
			select {
			case <-streams.Done():
				return fmt.Errorf("%d of %d streams %s: %w", reached.Load(), w.connections, what, errors.Join(context.Cause(streams), ctx.Err()))
			case <-time.After(10 * time.Millisecond):
			}
		}
		return nil
	}
	if err := wait(&open, "were opened"); err != nil {
		return s, err
	}
	select {
	case <-streams.Done():
	case <-time.After(b.duration):
	}
	if err := wait(&twice, "had a second event"); err != nil {
		return s, err
	}
	u, err := readUsage(proc.cmd.Process.Pid)
	if err != nil {
		return s, err
	}
	if streams.Err() != nil {
		return s, fmt.Errorf("a stream ended early: %w", context.Cause(streams))
	}
	return peerSample{rss: float64(u.rss) / 1024, streams: float64(w.connections)}, nil
}

// holdStream reads a stream until ctx ends, and tells of each event. Any other end is an error.
func holdStream(ctx context.Context, port int, every time.Duration, event func(number int)) error {
	conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), answerTimeout)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := fmt.Fprintf(conn, "GET /events?n=100000&every=%d HTTP/1.1\r\nHost: www.example.com\r\nAccept: text/event-stream\r\n\r\n", every.Milliseconds()); err != nil {
		return err
	}
	if err := conn.SetDeadline(time.Now().Add(every + 4*answerTimeout)); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 512), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	body := bufio.NewReaderSize(resp.Body, 128)
	for i := 0; ; {
		line, err := body.ReadString('\n')
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("after %d events: %w", i, err)
		}
		if line == "\n" {
			continue
		}
		if want := "data: " + strconv.Itoa(i) + " "; len(line) < len(want) || line[:len(want)] != want {
			return fmt.Errorf("event %d is %q", i, line)
		}
		event(i)
		i++
		if err := conn.SetDeadline(time.Now().Add(every + 4*answerTimeout)); err != nil {
			return err
		}
	}
}
