package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

const (
	logFlushEvery = 500 * time.Millisecond
	logFlushAt    = 32 << 10
	logLargest    = 4 << 20 // what may wait for a writer that does not take it
)

// AccessLog writes one line a request. Lines are gathered and written by one goroutine at least once a
// second; a writer that takes nothing never holds up requests: lines that find 4 MiB waiting are dropped
// and counted. All methods may be called concurrently; a nil AccessLog is off.
type AccessLog struct {
	format logFormat
	open   func() (io.WriteCloser, error) // nil: cannot be reopened
	lost   atomic.Uint64
	full   chan struct{} // capacity 1
	quit   chan struct{}
	done   chan struct{}

	mu   sync.Mutex // guards buf
	buf  []byte
	wmu  sync.Mutex // guards out, back and err; taken before mu
	out  io.Writer
	back []byte // the other buffer
	err  error
}

type logFormat uint8

const (
	logJSON logFormat = iota
	logCombined
	logLogfmt
)

func parseLogFormat(s string) (f logFormat, off bool, err error) {
	switch s {
	case "", "json":
		return logJSON, false, nil
	case "combined":
		return logCombined, false, nil
	case "logfmt":
		return logLogfmt, false, nil
	case "off":
		return 0, true, nil
	}
	return 0, false, fmt.Errorf("unknown access log format %q: json, combined, logfmt or off", s)
}

// NewAccessLog writes to w, which stays open. format is json, combined, logfmt or off ("" is json); off gives nil.
func NewAccessLog(format string, w io.Writer) (*AccessLog, error) {
	f, off, err := parseLogFormat(format)
	if err != nil || off {
		return nil, err
	}
	l := &AccessLog{format: f, out: w, full: make(chan struct{}, 1), quit: make(chan struct{}), done: make(chan struct{})}
	go l.run()
	return l, nil
}

// OpenAccessLog appends to a file, or to standard output when file is "".
func OpenAccessLog(format, file string) (*AccessLog, error) {
	if file == "" {
		return NewAccessLog(format, os.Stdout)
	}
	if _, off, err := parseLogFormat(format); err != nil || off {
		return nil, err
	}
	open := func() (io.WriteCloser, error) {
		return os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
	}
	w, err := open()
	if err != nil {
		return nil, err
	}
	l, err := NewAccessLog(format, w)
	if err != nil {
		return nil, errors.Join(err, w.Close())
	}
	l.open = open
	return l, nil
}

// Reopen writes what waits and opens the file anew, for a log that was rotated. When that fails the old
// one stays open. Without a file it does nothing but write.
func (l *AccessLog) Reopen() error {
	if l == nil {
		return nil
	}
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.flush()
	if l.open == nil {
		return nil
	}
	w, err := l.open()
	if err != nil {
		return err
	}
	old := l.out
	l.out, l.err = w, nil
	return old.(io.Closer).Close()
}

// Close writes what waits and closes the file. Lines that come later are lost.
func (l *AccessLog) Close() error {
	if l == nil {
		return nil
	}
	close(l.quit)
	<-l.done
	l.wmu.Lock()
	defer l.wmu.Unlock()
	if l.open != nil {
		return errors.Join(l.err, l.out.(io.Closer).Close())
	}
	return l.err
}

// Flush writes what waits.
func (l *AccessLog) Flush() {
	if l == nil {
		return
	}
	l.wmu.Lock()
	defer l.wmu.Unlock()
	l.flush()
}

// Lost is the number of lines that were dropped.
func (l *AccessLog) Lost() uint64 {
	if l == nil {
		return 0
	}
	return l.lost.Load()
}

// add takes one line, which ends with a line feed.
func (l *AccessLog) add(line []byte) {
	l.mu.Lock()
	if len(l.buf)+len(line) > logLargest {
		l.mu.Unlock()
		l.lost.Add(1)
		return
	}
	l.buf = append(l.buf, line...)
	full := len(l.buf) >= logFlushAt
	l.mu.Unlock()
	if full {
		select {
		case l.full <- struct{}{}:
		default:
		}
	}
}

func (l *AccessLog) run() {
	defer close(l.done)
	tick := time.NewTicker(logFlushEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-l.full:
		case <-l.quit:
			l.Flush()
			return
		}
		l.Flush()
	}
}

// flush swaps the buffers and writes. The caller holds wmu.
func (l *AccessLog) flush() {
	l.mu.Lock()
	ready := l.buf
	l.buf = l.back[:0]
	l.mu.Unlock()
	l.back = ready
	if len(ready) == 0 {
		return
	}
	if _, err := l.out.Write(ready); err != nil {
		l.err = err
		l.lost.Add(1)
	}
}
