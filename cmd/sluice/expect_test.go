package main

import (
	"testing"
	"time"

	"sluice/balancer"
	"sluice/scaler"
)

func TestHope(t *testing.T) {
	now := time.Now()
	measured := balancer.HistogramReading{Count: 4, Sum: 40}
	for name, c := range map[string]struct {
		st       scaler.Status
		starting time.Time
		servers  int
		in       time.Duration
	}{
		"all there":            {scaler.Status{Max: 3, Ready: 3}, time.Time{}, 0, 0},
		"no start measured":    {scaler.Status{Max: 3, Ready: 1, StartTime: 10 * time.Second}, time.Time{}, -1, 0},
		"two may come":         {scaler.Status{Max: 3, Ready: 1, StartTime: 20 * time.Second, StartSeconds: measured}, time.Time{}, 2, 10 * time.Second},
		"quick lately":         {scaler.Status{Max: 3, Ready: 1, StartTime: 2 * time.Second, StartSeconds: measured}, time.Time{}, 2, 2 * time.Second},
		"one on its way":       {scaler.Status{Max: 3, Ready: 1, Starting: 1, StartTime: 20 * time.Second, StartSeconds: measured}, now.Add(-7 * time.Second), 2, 3 * time.Second},
		"one that is late":     {scaler.Status{Max: 3, Ready: 1, Starting: 1, StartTime: 20 * time.Second, StartSeconds: measured}, now.Add(-time.Minute), 2, 0},
		"pinned to what there": {scaler.Status{Max: 9, Ready: 2, Wanted: 2, Pinned: true, StartSeconds: measured}, time.Time{}, 0, 0},
	} {
		if servers, in := hope(c.st, c.starting, now); servers != c.servers || in != c.in {
			t.Errorf("%s: %d in %v, want %d in %v", name, servers, in, c.servers, c.in)
		}
	}
}
