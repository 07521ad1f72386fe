package main

import (
	"context"
	"fmt"
	"time"
)

// rest measures how much memory a peer holds for connections that do nothing, after requests on each, a few at a time. It is
// that of its processes; the kernel's for the sockets is the same for all.
func (b *peersBench) rest(ctx context.Context, p peer, w workload) (s peerSample, err error) {
	few := w
	few.connections = 64 // so that what the peer needs for any load at all is there before
	err = b.with(ctx, p, few, func(proc *peerProcess, _ *loader) error {
		before, err := readUsage(proc.cmd.Process.Pid)
		if err != nil {
			return err
		}
		l, err := newLoader(proc.front, w.request(), w.answer, w.connections, false, nil)
		if err != nil {
			return err
		}
		defer l.close()
		// The loader takes the longest idle connection, so after as many requests each has had one.
		l.most = 8
		done := int64(0)
		for range 30 {
			f := l.run(ctx, b.duration, 0)
			if err := f.check(); err != nil {
				return err
			}
			if done += f.requests; done >= int64(w.connections) {
				break
			}
		}
		if done < int64(w.connections) {
			return fmt.Errorf("only %d requests within %v on %d connections", done, 30*b.duration, w.connections)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(500 * time.Millisecond):
		}
		after, err := readUsage(proc.cmd.Process.Pid)
		if err != nil {
			return err
		}
		s = peerSample{rss: float64(after.rss) / 1024, idle: float64(after.rss-before.rss) / 1024 / float64(w.connections)}
		return nil
	})
	return s, err
}
