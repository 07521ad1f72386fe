package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// progress prints a line a second: over itself on a terminal, one below the other elsewhere.
type progress struct {
	done chan struct{}
	wg   sync.WaitGroup
}

func startProgress(w io.Writer, g *generator) *progress {
	p := &progress{done: make(chan struct{})}
	_, tty := terminalWidth(w)
	p.wg.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		begin := time.Now()
		var last counts
		at := begin
		for {
			select {
			case <-p.done:
				if tty {
					fmt.Fprint(w, "\r\x1b[K")
				}
				return
			case now := <-tick.C:
				c, p99 := g.tally.look()
				line := fmt.Sprintf("%4.0fs  %8.1f/s  in flight %d  p99 %s  ok %d  refused %d  failed %d", now.Sub(begin).Seconds(),
					float64(c.sent-last.sent)/now.Sub(at).Seconds(), g.client.inFlight.Load(), latency(p99), c.ok, c.refused, c.failed)
				last, at = c, now
				if tty {
					fmt.Fprintf(w, "\r\x1b[K%s", line)
				} else {
					fmt.Fprintln(w, line)
				}
			}
		}
	})
	return p
}

// stop may be called on nil.
func (p *progress) stop() {
	if p != nil {
		close(p.done)
		p.wg.Wait()
	}
}

// latency is a short text; 0 means that there is none.
func latency(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", milliseconds(d))
	case d < 10*time.Second:
		return fmt.Sprintf("%.0fms", milliseconds(d))
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}

// terminalWidth returns the columns of the terminal behind w; false when it is none.
func terminalWidth(w io.Writer) (int, bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	ws, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, false
	}
	return max(int(ws.Col), 40), true
}
