//go:build !linux

package main

import (
	"context"
	"crypto/tls"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// loader is Linux's: see peersload_linux.go. bench peers does not get here elsewhere.
type loader struct{ most int }

const answerTimeout = 15 * time.Second

type loadFigures struct {
	requests int64
	took     time.Duration
	latency  *hdrhistogram.Histogram
	errors   map[string]int64
}

func newLoader(int, []byte, int64, int, bool, *tls.Config) (*loader, error) { return nil, errNotLinux }
func (l *loader) run(context.Context, time.Duration, float64) loadFigures   { return loadFigures{} }
func (l *loader) close()                                                    {}
