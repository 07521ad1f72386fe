package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"time"

	"sluice/proxy"
)

// logFile is the gateway's own log: a file, opened again by SIGUSR1 after it was rotated away, or its fallback. What
// reads it may be as slow as it likes.
type logFile struct {
	*proxy.LogWriter
	fallback io.Writer
	mu       sync.Mutex // guards the two below
	path     string
	file     *os.File
}

// open changes to path ("" is the fallback) or opens the same path anew. On an error the old file stays.
func (l *logFile) open(path string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if path == "" && l.file == nil {
		return nil
	}
	out, file := l.fallback, (*os.File)(nil)
	if path != "" {
		var err error
		if file, err = os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640); err != nil {
			return err
		}
		out = file
	}
	l.Redirect(out)
	if l.file != nil {
		l.file.Close()
	}
	l.path, l.file = path, file
	return nil
}

// reopen opens the present path again.
func (l *logFile) reopen() error {
	l.mu.Lock()
	path := l.path
	l.mu.Unlock()
	return l.open(path)
}

// logs are the gateway's two logs: its own words and the access log.
type logs struct {
	level  slog.LevelVar
	own    logFile
	log    *slog.Logger
	output *slog.Logger     // for what replicas write: into the same log, but there is less room for it
	access *proxy.AccessLog // nil is off
	cfg    proxy.LogConfig  // of access
}

func newLogs(stderr io.Writer) *logs {
	l := &logs{own: logFile{fallback: stderr}}
	l.own.LogWriter = proxy.NewLogWriter(stderr, tellLost)
	options := &slog.HandlerOptions{Level: &l.level}
	l.log = slog.New(slog.NewTextHandler(l.own.LogWriter, options))
	l.output = slog.New(slog.NewTextHandler(l.own.Lesser(), options))
	return l
}

// tellLost is the log's line about lines that are missing.
func tellLost(lines int) []byte {
	var line bytes.Buffer
	slog.New(slog.NewTextHandler(&line, nil)).Warn("lines of this log are lost, what reads it is too slow", "lines", lines)
	return line.Bytes()
}

// configure takes [log] and returns the access log, the same as before where nothing about it changed.
// errorLog, from the command line, stands over log.file for the gateway's own words.
func (l *logs) configure(cfg proxy.LogConfig, errorLog string) (*proxy.AccessLog, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(cfg.Level)); err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	access := l.access
	if l.cfg.Access != cfg.Access || l.cfg.File != cfg.File {
		var err error
		if access, err = proxy.OpenAccessLog(cfg.Access, cfg.File); err != nil {
			return nil, fmt.Errorf("log.file: %w", err) // the format is one that config knows
		}
	}
	flag := "-e"
	if errorLog == "" || errorLog == "stderr" {
		flag, errorLog = "log.file", cfg.File
	}
	if err := l.own.open(errorLog); err != nil {
		if access != l.access {
			_ = access.Close()
		}
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	if old := l.access; old != nil && old != access {
		time.AfterFunc(time.Minute, func() { _ = old.Close() }) // requests under way still write to it
	}
	l.access, l.cfg = access, cfg
	l.level.Set(level)
	return access, nil
}

// reopen is what SIGUSR1 asks for.
func (l *logs) reopen() error {
	return errors.Join(l.own.reopen(), l.access.Reopen())
}

// flush writes what waits, if it is taken within a second, or a tenth of one once ctx has ended.
func (l *logs) flush(ctx context.Context) {
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		var both sync.WaitGroup
		both.Go(l.access.Flush)
		both.Go(l.own.Flush)
		both.Wait()
	}()
	select {
	case <-flushed:
		return
	case <-ctx.Done():
	}
	select {
	case <-flushed:
	case <-time.After(100 * time.Millisecond):
	}
}
