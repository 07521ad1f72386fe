package proxy

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"time"
)

const (
	logFlushEvery = 500 * time.Millisecond
	logFlushAt    = 32 << 10
	logLargest    = 4 << 20     // what may wait for a writer that does not take it
	logPatience   = time.Second // for such a writer, by those who want all to be written
)

// LogWriter is a log that never holds up who writes to it: one goroutine hands on what was written, in its order. What
// finds 4 MiB waiting, as the writer behind takes nothing, is dropped and counted. All methods may be called
// concurrently.
type LogWriter struct {
	tell  func(lost int) []byte // the line that says so; nil says nothing
	at    int                   // bytes that are handed on at once; fewer may wait for logFlushEvery
	full  chan struct{}         // capacity 1
	asked chan chan struct{}    // by Flush: closed when all is written
	quit  chan struct{}
	done  chan struct{}

	mu     sync.Mutex // guards all below
	out    io.Writer
	buf    []byte
	lost   uint64 // lines
	untold int    // lines of them that tell has not told yet
	err    error  // the last one of out
}

// NewLogWriter writes to w, which stays open, without delay. tell makes the line that says how many lines were lost; it
// is written where they are missing.
func NewLogWriter(w io.Writer, tell func(lost int) []byte) *LogWriter {
	return newLogWriter(w, 1, tell)
}

func newLogWriter(w io.Writer, at int, tell func(lost int) []byte) *LogWriter {
	l := &LogWriter{
		tell: tell, at: at, out: w,
		full: make(chan struct{}, 1), asked: make(chan chan struct{}), quit: make(chan struct{}), done: make(chan struct{}),
	}
	go l.run()
	return l
}

// Write takes whole lines and never fails.
func (l *LogWriter) Write(lines []byte) (int, error) {
	l.add(lines, logLargest)
	return len(lines), nil
}

// Lesser is a writer of lines that are dropped first: what finds half of the room taken.
func (l *LogWriter) Lesser() io.Writer { return lesserLines{l} }

type lesserLines struct{ log *LogWriter }

func (l lesserLines) Write(lines []byte) (int, error) {
	l.log.add(lines, logLargest/2)
	return len(lines), nil
}

func (l *LogWriter) add(lines []byte, room int) {
	l.mu.Lock()
	if len(l.buf)+len(lines) > room {
		l.lose(lines)
		l.mu.Unlock()
		return
	}
	l.buf = append(l.buf, lines...)
	full := len(l.buf) >= l.at
	l.mu.Unlock()
	if full {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
}

// lose counts lines that are not written. The caller holds mu.
func (l *LogWriter) lose(lines []byte) {
	n := bytes.Count(lines, []byte{'\n'})
	l.lost += uint64(n)
	l.untold += n
}

// Lost is the number of lines that were dropped.
func (l *LogWriter) Lost() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// Flush returns when what was written before is with the writer behind, or after a second.
func (l *LogWriter) Flush() {
	late := time.NewTimer(logPatience)
	defer late.Stop()
	written := make(chan struct{})
	select {
	case l.asked <- written:
	case <-l.done:
		return
	case <-late.C:
		return
	}
	select {
	case <-written:
	case <-late.C:
	}
}

// Redirect writes to w from now on. The writer before may be closed then: what waits is written there first, if that takes
// it within a second.
func (l *LogWriter) Redirect(w io.Writer) {
	l.Flush()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.out, l.err = w, nil
}

// Close is Flush, and the end; it returns the last error of the writer behind. Lines that come later are lost.
func (l *LogWriter) Close() error {
	close(l.quit)
	select {
	case <-l.done:
	case <-time.After(logPatience):
		return errors.New("the log does not take what waits")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *LogWriter) run() {
	defer close(l.done)
	var due <-chan time.Time
	if l.at > 1 {
		tick := time.NewTicker(logFlushEvery)
		defer tick.Stop()
		due = tick.C
	}
	var spare []byte // the other buffer
	for {
		select {
		case <-due:
		case <-l.full:
		case written := <-l.asked:
			spare = l.hand(spare)
			close(written)
			continue
		case <-l.quit:
			l.hand(spare)
			return
		}
		spare = l.hand(spare)
	}
}

// hand swaps the buffers and writes. It returns the one that is free then.
func (l *LogWriter) hand(spare []byte) []byte {
	l.mu.Lock()
	ready, out, told := l.buf, l.out, 0
	l.buf = spare[:0]
	if l.tell != nil && l.untold > 0 {
		told, l.untold = l.untold, 0
	}
	l.mu.Unlock()
	lines := ready
	if told > 0 {
		ready = append(ready, l.tell(told)...)
	}
	if len(ready) == 0 {
		return ready
	}
	if _, err := out.Write(ready); err != nil {
		l.mu.Lock()
		l.err = err
		l.lose(lines)
		l.untold += told
		l.mu.Unlock()
	}
	return ready
}
