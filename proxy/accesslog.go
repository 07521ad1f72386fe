package proxy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// AccessLog writes one line a request. Lines are gathered and handed on at least once a second. All methods may be called
// concurrently; a nil AccessLog is off.
type AccessLog struct {
	format logFormat
	lines  *LogWriter
	open   func() (io.WriteCloser, error) // nil: cannot be reopened
	mu     sync.Mutex                     // guards file
	file   io.Closer
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
	return &AccessLog{format: f, lines: newLogWriter(w, logFlushAt, nil)}, nil
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
	l.open, l.file = open, w
	return l, nil
}

// Reopen writes what waits and opens the file anew, for a log that was rotated. When that fails the old
// one stays open. Without a file it does nothing but write.
func (l *AccessLog) Reopen() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open == nil {
		l.lines.Flush()
		return nil
	}
	w, err := l.open()
	if err != nil {
		return err
	}
	l.lines.Redirect(w)
	old := l.file
	l.file = w
	return old.Close()
}

// Close writes what waits and closes the file. Lines that come later are lost.
func (l *AccessLog) Close() error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.lines.Close()
	if l.file != nil {
		err = errors.Join(err, l.file.Close())
	}
	return err
}

// Flush writes what waits, if it is taken within a second.
func (l *AccessLog) Flush() {
	if l != nil {
		l.lines.Flush()
	}
}

// Lost is the number of lines that were dropped.
func (l *AccessLog) Lost() uint64 {
	if l == nil {
		return 0
	}
	return l.lines.Lost()
}

// add takes one line, which ends with a line feed.
func (l *AccessLog) add(line []byte) { l.lines.add(line, logLargest) }
